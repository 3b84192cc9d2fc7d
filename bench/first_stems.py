"""How long after its start a program has the first stems to play, and whether the next ones come in time.

    python bench/first_stems.py [--minutes 3] [--rounds 3] [--preset danna fast] [--precision auto]

Each measurement is a process of its own that streams the song of `examples/`, repeated to that length; by turns, as
often as `--rounds` says. "first stems" is from the start of the process, imports and weights included, to the first
block. "least lead" is how far ahead of a player that began then, and has never waited, the stems are when they are
least so; negative: by how much it had to wait.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from statistics import median

N_THREADS = 2


def play(preset: str, precision: str, seconds: float) -> None:
    """In a process of its own: prints when the first block came, how long it is, and the least lead."""
    from speed import song

    import danna_sep

    separator = danna_sep.load(preset, precision=precision)
    lengths: list[float] = []
    first, least = 0.0, float("inf")
    for block in danna_sep.stream(song(seconds), 44100, separator):
        now = time.time()
        if lengths:
            least = min(least, sum(lengths) - (now - first))
        else:
            first = now
        lengths.append(block["vocals"].shape[-1] / 44100)
    print(first, lengths[0], least)


def measured(preset: str, precision: str, seconds: float) -> tuple[float, float, float]:
    """Seconds to the first block, of it, and the least lead."""
    command = [sys.executable, __file__, "--child", "--preset", preset, "--precision", precision]
    environment = {**os.environ, "OMP_NUM_THREADS": str(N_THREADS), "MKL_NUM_THREADS": str(N_THREADS)}
    began = time.time()
    done = subprocess.run(
        [*command, "--minutes", str(seconds / 60)], check=True, stdout=subprocess.PIPE, text=True, env=environment
    )
    first, length, least = (float(word) for word in done.stdout.split())
    return first - began, length, least


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
    figures: dict[str, list[tuple[float, float, float]]] = {preset: [] for preset in arguments.preset}
    for _ in range(arguments.rounds):
        for preset, known in figures.items():
            known.append(measured(preset, arguments.precision, seconds))
    print("| | first stems, s | at most | seconds of them | least lead, s |\n|---|---|---|---|---|")
    for preset, known in figures.items():
        firsts, lengths, leads = zip(*known, strict=True)
        print(f"| {preset} | {median(firsts):.2f} | {max(firsts):.2f} | {median(lengths):.2f} | {min(leads):.2f} |")


if __name__ == "__main__":
    main()
