"""Our networks under PyTorch and under OpenVINO, at full size, by turns: time, agreement, time to compile.

    pip install openvino && python bench/backends.py [--frames 384] [--rounds 5]

Prints seconds of computing for a second of audio, median of the rounds, for segments of the default length on two
threads, and how far each result lies below PyTorch's in single precision, dB. PyTorch is what `danna-sep` uses: framed
networks, channels last, memory that stays; Demucs' time has standardising and padding in it. The graphs are written
operation by operation, with static shapes.
"""

from __future__ import annotations

import argparse
import copy
import importlib
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import openvino
import torch
import torch.nn.functional as F
from torch import Tensor

from danna_sep.allocator import keep_freed_memory
from danna_sep.models import Demucs, build, demucs_framed, unet_framed
from danna_sep.models.demucs import standardised, valid_lengths
from danna_sep.models.precision import lower

sys.path.insert(0, str(Path(__file__).parent))
N_THREADS = 2


def contestants(name: str, n_frames: int) -> tuple[dict[str, Callable[[], Tensor]], dict[str, float]]:
    """Functions that compute one segment, the first in PyTorch's single precision; seconds that compiling took."""
    torch.manual_seed(0)
    model = build(name, {}).eval().requires_grad_(False)
    lowered = copy.deepcopy(model)
    lower(lowered)
    if isinstance(model, Demucs):
        given = torch.randn(1, 2, n_frames * 1024)
        n_heard, n_given = valid_lengths(model.config, n_frames * 1024)
        before = (n_heard - n_given) // 2
        standard, mean, deviation = (part[:, None] for part in standardised(given))
        heard = F.pad(standard[:, 0], (before, n_heard - before - n_frames * 1024)).numpy()

        def whole(stems: Tensor) -> Tensor:
            return torch.addcmul(mean, stems[..., : n_frames * 1024], deviation)

        frame = demucs_framed.framed
    else:
        given = 3 * torch.rand(1, 2, 2049, n_frames)
        heard, whole, frame = given.numpy(), Tensor.detach, unet_framed.framed
    graph = importlib.import_module(f"openvino_graphs.{name}").graph(model, heard.shape)
    core, compiling = openvino.Core(), {}
    ours = {"PyTorch f32": frame(model), "PyTorch bf16": frame(lowered)}
    computes = {who: lambda model=model: model(given) for who, model in ours.items()}
    for precision in ("f32", "bf16"):
        hints = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": N_THREADS}
        began = time.perf_counter()
        request = core.compile_model(graph, "CPU", {**hints, "PERFORMANCE_HINT": "LATENCY"}).create_infer_request()
        compiling[f"OpenVINO {precision}"] = time.perf_counter() - began
        computes[f"OpenVINO {precision}"] = lambda request=request: whole(
            torch.from_numpy(request.infer([heard], share_outputs=True)[0])
        )
    return computes, compiling


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=384)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(N_THREADS)
    audio_s = arguments.frames * 1024 / 44100
    print("| network | | s per s of audio | below PyTorch f32, dB | compiled in, s |\n|---|---|---|---|---|")
    for name in ("xumx", "unet", "demucs"):
        computes, compiling = contestants(name, arguments.frames)
        with torch.no_grad():
            results = {who: compute().clone() for who, compute in computes.items()}
            spent: dict[str, list[float]] = {who: [] for who in computes}
            for _ in range(arguments.rounds):
                for who, compute in computes.items():
                    began = time.perf_counter()
                    compute()
                    spent[who].append((time.perf_counter() - began) / audio_s)
        reference = results["PyTorch f32"]
        for who, result in results.items():
            error = (result - reference).double().square().sum()
            below = f"{10 * torch.log10(reference.double().square().sum() / error):.0f}" if error else ""
            took = f"{compiling[who]:.1f}" if who in compiling else ""
            print(f"| {name} | {who} | {median(spent[who]):.3f} | {below} | {took} |", flush=True)


if __name__ == "__main__":
    main()
