"""Speed of our BSS Eval v4 against museval's, on the same arrays in one run, by turns.

    python bench/bss_eval.py [--song examples/caesium-excerpt] [--seconds 30] [--runs 3]

The estimates are the song's stems with some of the mixture and some distortion. Prints the medians, their ratio, and
the largest difference of a value, in dB. Needs museval, of whose package only the module `metrics` is used.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import torch

from danna_sep import SAMPLE_RATE
from danna_sep.evaluation.bss_eval import bss_eval
from danna_sep.songs import find_songs

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from independent import museval_metrics


def timed(compute: Callable[[], np.ndarray]) -> tuple[float, np.ndarray]:
    start_s = time.perf_counter()
    values = compute()
    return time.perf_counter() - start_s, values


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--song", type=Path, default=Path(__file__).parent.parent / "examples" / "caesium-excerpt")
    parser.add_argument("--seconds", type=int, default=30)
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    (song,) = (song for song in find_songs(arguments.song.parent) if song.name == arguments.song.name)
    stems = song.read(0, min(song.n_frames, arguments.seconds * SAMPLE_RATE)).stems
    references = np.rint(stems * 2**15) / 2**15
    estimates = np.tanh(4 * (0.8 * references + 0.1 * references.sum(0))) / 4
    theirs = [np.ascontiguousarray(each.transpose(0, 2, 1), dtype=np.float64) for each in (references, estimates)]
    ours = [torch.from_numpy(np.ascontiguousarray(each, dtype=np.float32)) for each in (references, estimates)]
    theirs[1] = ours[1].numpy().transpose(0, 2, 1).astype(np.float64)
    metrics = museval_metrics()
    spent: dict[str, list[float]] = {"museval": [], "ours": []}
    worst = 0.0
    for run in range(arguments.runs):
        their_s, their_values = timed(
            lambda: np.array(metrics.bss_eval(*theirs, window=SAMPLE_RATE, hop=SAMPLE_RATE)[:4])
        )
        our_s, our_values = timed(lambda: bss_eval(*ours).numpy())
        spent["museval"].append(their_s)
        spent["ours"].append(our_s)
        worst = max(worst, float(np.nanmax(np.abs(their_values - our_values))))
        print(f"run {run + 1}: museval {their_s:.2f} s, ours {our_s:.2f} s", file=sys.stderr, flush=True)
    medians = {name: median(seconds) for name, seconds in spent.items()}
    print(f"{song.name}, {stems.shape[-1] / SAMPLE_RATE:.0f} s, {torch.get_num_threads()} threads")
    ratio = medians["museval"] / medians["ours"]
    print(f"museval {medians['museval']:.2f} s, ours {medians['ours']:.2f} s: {ratio:.1f} times as fast")
    print(f"largest difference {worst:.1e} dB")


if __name__ == "__main__":
    main()
