"""How near presets come to another separator's stems, on music of which nobody has the true ones.

    python bench/agreement.py FILE [FILE ...] --reference htdemucs [--preset danna --preset fast] [--seconds 15]
        [--at 0.5] [--precision f32]

Of each file counts an excerpt, so many seconds around the part `--at` of its length. The reference is any preset or
installed separator that is far better than those compared; it hears that excerpt alone. Signal-to-distortion ratio in
dB as in the Music Demixing Challenge 2021, in relation to its stems; those that lie more than 18 dB below the mixture
say nothing and do not count, nor do excerpts with less than two others. Prints a table of the means of each stem over
excerpts, and the mean over excerpts of the mean over their stems. A quarter of the mixture is taken for comparison.
The reference's licence may forbid that what is trained by it ships; that it judges is another thing.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from torch import Tensor

from danna_sep import SOURCES, load, separate
from danna_sep.audio import probe, read_excerpt
from danna_sep.evaluation.metrics import mdx_sdr_db
from danna_sep.separators import Separator
from danna_sep.types import SAMPLE_RATE

LOUD_ENOUGH_DB = -18.0


def excerpt(path: Path, seconds: float, at: float) -> Tensor:
    """Axes channel, time, at the models' rate."""
    length_s = probe(path).duration_s
    if length_s is None:
        raise SystemExit(f"{path}: does not say how long it is; convert it to WAV or FLAC")
    start_s = min(max(0.0, at * length_s - seconds / 2), max(0.0, length_s - seconds))
    n_frames = round(min(seconds, length_s) * SAMPLE_RATE)
    return torch.from_numpy(read_excerpt(path, round(start_s * SAMPLE_RATE), n_frames, SAMPLE_RATE))


def stems_of(mixture: Tensor, separator: Separator) -> Tensor:
    """Axes source, channel, time."""
    stems = separate(mixture, SAMPLE_RATE, separator)
    return torch.stack([torch.as_tensor(stems[source]) for source in SOURCES])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--reference", required=True, help="a preset or an installed separator")
    parser.add_argument("--preset", action="append", help="default: danna, fast")
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--at", type=float, default=0.5)
    parser.add_argument("--precision", default="auto", help="default: auto, the fastest of this processor")
    arguments = parser.parse_args()
    judge = load(arguments.reference)
    presets = arguments.preset or ["danna", "fast"]
    separators = {preset: load(preset, precision=arguments.precision) for preset in presets}
    told: dict[str, list[Tensor]] = {name: [] for name in ("mixture / 4", *separators)}
    for path in arguments.files:
        mixture = excerpt(path, arguments.seconds, arguments.at)
        reference = stems_of(mixture, judge)
        level_db = 10 * torch.log10(reference.square().sum((1, 2)) / mixture.square().sum())
        counts = level_db > LOUD_ENOUGH_DB
        if counts.sum() < 2:
            print(f"{path}: less than two stems are heard: not counted", file=sys.stderr)
            continue
        estimates = {"mixture / 4": mixture.expand(4, -1, -1) / 4}
        estimates |= {name: stems_of(mixture, separator) for name, separator in separators.items()}
        for name, estimate in estimates.items():
            told[name].append(mdx_sdr_db(reference, estimate).where(counts, torch.nan))
    n_excerpts = len(told["mixture / 4"])
    if not n_excerpts:
        raise SystemExit("in none of the files are two stems heard")
    print(f"| {n_excerpts} excerpts | {' | '.join(SOURCES)} | mean |\n|---|{'---|' * 5}")
    for name, rows in told.items():
        table = torch.stack(rows)
        means = " | ".join(f"{value:.2f}" for value in table.nanmean(0))
        print(f"| {name} | {means} | {table.nanmean(1).mean():.2f} |", flush=True)


if __name__ == "__main__":
    main()
