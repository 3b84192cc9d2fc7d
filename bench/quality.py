"""SDR of presets on folders that hold a song's stems (drums, bass, other, vocals in any format soundfile reads).

    python bench/quality.py examples/caesium-excerpt [FOLDER ...] [--together] [--preset danna --preset fast]
        [--precision bf16]

The mixture is the sum of the stems. Prints a table per folder, or one of the means over all: signal-to-distortion
ratio in dB as in the Music Demixing Challenge 2021, over the whole track; for comparison, the mixture itself and a
quarter of it taken for every stem.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import soundfile
import torch

from danna_sep import SOURCES, load, separate
from danna_sep.evaluation.metrics import mdx_sdr_db


def read_stems(folder: Path) -> tuple[torch.Tensor, int]:
    """Stems (source, channel, time), cut to the shortest, and their rate."""
    stems, rates = [], set()
    for source in SOURCES:
        path = next(iter(sorted(folder.glob(f"{source}.*"))), None)
        if path is None:
            raise SystemExit(f"{folder}: no {source}.* in it")
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
        stems.append(samples.T)
        rates.add(rate)
    if len(rates) > 1:
        raise SystemExit(f"{folder}: stems of different rates")
    length = min(stem.shape[1] for stem in stems)
    return torch.from_numpy(np.stack([stem[:, :length] for stem in stems])), rates.pop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--preset", action="append", help="default: danna, fast, xumx, unet, demucs")
    parser.add_argument("--together", action="store_true", help="one table, of the means over all folders")
    parser.add_argument("--precision", default="auto", help="default: auto, the fastest of this processor")
    arguments = parser.parse_args()
    presets = arguments.preset or ["danna", "fast", "xumx", "unet", "demucs"]
    separators = {preset: load(preset, precision=arguments.precision) for preset in presets}
    tables = []
    for folder in arguments.folders:
        references, rate = read_stems(folder)
        mixture = references.sum(0)
        table = {
            "mixture": mdx_sdr_db(references, mixture.expand(4, -1, -1)),
            "mixture / 4": mdx_sdr_db(references, mixture.expand(4, -1, -1) / 4),
        }
        for preset, separator in separators.items():
            stems = separate(mixture, rate, separator)
            table[preset] = mdx_sdr_db(references, torch.stack([stems[source] for source in SOURCES]))
        tables.append(table)
        if not arguments.together:
            show(f"{folder} ({mixture.shape[1] / rate:.0f} s)", table)
    if arguments.together:
        means = {name: torch.stack([table[name] for table in tables]).mean(0) for name in tables[0]}
        show(f"mean of {len(tables)}", means)


def show(title: str, table: dict[str, torch.Tensor]) -> None:
    print(f"\n{title}\n\n| | {' | '.join(SOURCES)} | mean |\n|---|{'---|' * 5}")
    for name, sdr in table.items():
        print(f"| {name} | {' | '.join(f'{value:.2f}' for value in sdr)} | {sdr.mean():.2f} |", flush=True)


if __name__ == "__main__":
    main()
