"""How long after its start a program has the first stems to play, and whether the next ones come in time.

    python bench/first_stems.py [--minutes 3] [--rounds 3] [--preset danna fast] [--precision auto]

Each measurement is a process of its own that streams the song of `examples/`, repeated to that length; by turns, as
often as `--rounds` says. "first stems" is from the start of the process, imports and weights included, to the first
block; "before stream" is what of it had passed when `stream` was called. "least lead" is how far ahead of a player
that began then, and has never waited, the stems are when they are least so; negative: by how much it had to wait.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from statistics import median

N_THREADS = 2
RATE_HZ = 44100


def play(preset: str, precision: str, seconds: float) -> None:
    """In a process of its own: prints when it called, when the first block came, how long it is, and the least lead."""
    from speed import song

    import danna_sep

    mixture, separator = song(seconds), danna_sep.load(preset, precision=precision)
    called = time.time()
    lengths: list[float] = []
    first, least = 0.0, float("inf")
    for block in danna_sep.stream(mixture, RATE_HZ, separator):
        now = time.time()
        if lengths:
            least = min(least, sum(lengths) - (now - first))
        else:
            first = now
        lengths.append(block["vocals"].shape[-1] / RATE_HZ)
    print(called, first, lengths[0], least)


def measured(preset: str, precision: str, seconds: float) -> tuple[float, float, float, float]:
    """Seconds to the call, to the first block, of that block, and the least lead."""
    command = [sys.executable, __file__, "--child", "--preset", preset, "--precision", precision]
    environment = {**os.environ, "OMP_NUM_THREADS": str(N_THREADS), "MKL_NUM_THREADS": str(N_THREADS)}
    began = time.time()
    done = subprocess.run(
        [*command, "--minutes", str(seconds / 60)], check=True, stdout=subprocess.PIPE, text=True, env=environment
    )
    called, first, length, least = (float(word) for word in done.stdout.split())
    return called - began, first - began, length, least


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--preset", nargs="+", default=["danna", "fast"])
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    seconds = 60 * arguments.minutes
    if arguments.child:
        play(arguments.preset[0], arguments.precision, seconds)
        return
    figures: dict[str, list[tuple[float, float, float, float]]] = {preset: [] for preset in arguments.preset}
    for _ in range(arguments.rounds):
        for preset, known in figures.items():
            known.append(measured(preset, arguments.precision, seconds))
    print("| | before stream, s | first stems, s | at most | seconds of them | least lead, s |\n|" + 6 * "---|")
    for preset, known in figures.items():
        calls, firsts, lengths, leads = zip(*known, strict=True)
        cells = (median(calls), median(firsts), max(firsts), median(lengths), min(leads))
        print(f"| {preset} | {' | '.join(f'{cell:.2f}' for cell in cells)} |")


if __name__ == "__main__":
    main()
