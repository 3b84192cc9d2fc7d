"""Time and memory of the spectrogram losses, forward and backward, against 14 sums one after the other.

    python bench/losses.py [--batch 4] [--seconds 6]

On one thread of the CPU, each in a process of its own; memory is what it needed beyond its inputs, as the
operating system counts it.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import time
from typing import Any

KINDS: dict[str, dict[str, Any] | None] = {
    "14 sums": None,
    "complex": {"kind": "complex"},
    "complex, Wiener": {"kind": "complex", "n_wiener_iterations": 1},
    "real": {"kind": "real"},
    "l1": {"kind": "l1"},
}


def naive(mask: Any, stems: Any) -> Any:
    """The complex loss as it is written in the paper."""
    from danna_sep.signal.stft import istft, stft
    from danna_sep.training.combinations import COMBINATIONS

    mixture = stems.sum(1)
    references = stft(stems)
    estimates = mask * references.sum(1)[:, None]
    signals = istft(estimates, stems.shape[-1])
    total = 0
    for members in COMBINATIONS:
        some = list(members)
        error = (estimates[:, some].sum(1) - references[:, some].sum(1)).abs().square().mean()
        y, y_hat = stems[:, some].sum(1), signals[:, some].sum(1)
        n, n_hat = mixture - y, mixture - y_hat
        share = y.square().sum(-1) / (y.square().sum(-1) + n.square().sum(-1))
        ours = (y * y_hat).sum(-1) / (y.norm(dim=-1) * y_hat.norm(dim=-1))
        rest = (n * n_hat).sum(-1) / (n.norm(dim=-1) * n_hat.norm(dim=-1))
        total = total + error + 10 * (1 - share * ours - (1 - share) * rest).mean()
    return total / len(COMBINATIONS)


def measure(name: str, batch: int, seconds: float) -> None:
    import torch

    from danna_sep.signal.stft import stft
    from danna_sep.training.losses import spectrogram_loss

    torch.set_num_threads(1)
    torch.manual_seed(0)
    stems = 0.1 * torch.randn(batch, 4, 2, round(seconds * 44100))
    mask = torch.rand(stft(stems).shape).requires_grad_()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    options = KINDS[name]
    loss = naive(mask, stems) if options is None else spectrogram_loss(mask, stems, **options).loss
    loss.backward()
    spent = time.perf_counter() - began
    n_mib = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(f"{name:<16}  {spent:5.1f} s  {n_mib:6.0f} MiB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=6)
    arguments = parser.parse_args()
    for name in KINDS:
        process = multiprocessing.get_context("spawn").Process(
            target=measure, args=(name, arguments.batch, arguments.seconds)
        )
        process.start()
        process.join()


if __name__ == "__main__":
    main()
