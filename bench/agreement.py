"""How near presets come to another separator's stems, on music of which nobody has the true ones.

    python bench/agreement.py MUSIC [MUSIC ...] --reference htdemucs [--preset danna --preset fast] [--seconds 15]
        [--at 0.5] [--precision f32]

MUSIC is a file, or a folder of which all files with a known suffix are taken; of each the seconds around the part
`--at` of its length. The reference is any preset or installed separator that is far better than those compared; it
hears that excerpt alone. Signal-to-distortion ratio in dB as in the Music Demixing Challenge 2021, in relation to its
stems; those that lie more than 18 dB below the mixture say nothing and do not count, nor do excerpts with less than
two others. Prints a table of the means of each stem over excerpts, and the mean over excerpts of the mean over their
stems. A quarter of the mixture is taken for comparison. The reference's licence may forbid that what is trained by it
ships; that it judges is another thing.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch import Tensor

from danna_sep import SOURCES, load, separate
from danna_sep.audio import AudioReader
from danna_sep.evaluation.metrics import mdx_sdr_db

LOUD_ENOUGH_DB = -18.0
SUFFIXES = {f".{name.lower()}" for name in soundfile.available_formats()} | {".mp3", ".opus"}


def files_of(places: Sequence[Path]) -> list[Path]:
    """The files given, and in place of folders those in them."""
    found = []
    for place in places:
        inside = sorted(place.rglob("*")) if place.is_dir() else [place]
        found += [path for path in inside if not place.is_dir() or path.suffix.lower() in SUFFIXES]
    return found


def excerpt(path: Path, seconds: float, at: float) -> tuple[np.ndarray, int]:
    """Two channels, the first of more and one twice, by samples, and their rate."""
    with AudioReader(path) as reader:
        samples, rate = np.concatenate(list(reader.blocks(2**20)), 1), reader.info.sample_rate
    length = round(seconds * rate)
    start = min(max(0, round(at * samples.shape[1]) - length // 2), max(0, samples.shape[1] - length))
    samples = samples[:2, start : start + length]
    return (samples if len(samples) > 1 else np.repeat(samples, 2, 0)), rate


def against(reference: Tensor, stems: Tensor, mixture: Tensor) -> Tensor:
    """SDR in dB of each stem, NaN where the reference has next to nothing."""
    level_db = 10 * torch.log10(reference.square().sum((1, 2)) / mixture.square().sum())
    return mdx_sdr_db(reference, stems).where(level_db > LOUD_ENOUGH_DB, torch.nan)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("music", nargs="+", type=Path)
    parser.add_argument("--reference", required=True, help="a preset or an installed separator")
    parser.add_argument("--preset", action="append", help="default: danna, fast")
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--at", type=float, default=0.5)
    parser.add_argument("--precision", default="auto", help="default: auto, the fastest of this processor")
    arguments = parser.parse_args()
    judge = load(arguments.reference, precision="f32")
    separators = {
        preset: load(preset, precision=arguments.precision) for preset in arguments.preset or ["danna", "fast"]
    }
    told: dict[str, list[Tensor]] = {name: [] for name in ("mixture / 4", *separators)}
    for path in files_of(arguments.music):
        samples, rate = excerpt(path, arguments.seconds, arguments.at)
        mixture = torch.from_numpy(samples)
        found = separate(samples, rate, judge)
        reference = torch.stack([torch.as_tensor(found[source]) for source in SOURCES])
        if against(reference, reference, mixture).isfinite().sum() < 2:
            print(f"{path}: all but one stem is silent, not counted", file=sys.stderr)
            continue
        told["mixture / 4"].append(against(reference, mixture.expand(4, -1, -1) / 4, mixture))
        for name, separator in separators.items():
            stems = separate(samples, rate, separator)
            told[name].append(
                against(reference, torch.stack([torch.as_tensor(stems[source]) for source in SOURCES]), mixture)
            )
    if not told["mixture / 4"]:
        raise SystemExit("nothing to compare on: no music, or none with two stems that are heard")
    print(f"| {len(told['mixture / 4'])} excerpts | {' | '.join(SOURCES)} | mean |\n|---|{'---|' * 5}")
    for name, rows in told.items():
        table = torch.stack(rows)
        means = " | ".join(f"{value:.2f}" for value in table.nanmean(0))
        print(f"| {name} | {means} | {table.nanmean(1).mean():.2f} |", flush=True)


if __name__ == "__main__":
    main()
