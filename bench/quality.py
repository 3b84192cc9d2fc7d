"""SDR of presets on folders that hold a song's stems (drums, bass, other, vocals in any format soundfile reads).

    python bench/quality.py examples/caesium-excerpt [FOLDER ...] [--preset danna --preset fast]

The mixture is the sum of the stems. Prints a table per folder: signal-to-distortion ratio in dB as in the Music
Demixing Challenge 2021, over the whole track; for comparison, the mixture itself and a quarter of it taken for every
stem.
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
    arguments = parser.parse_args()
    presets = arguments.preset or ["danna", "fast", "xumx", "unet", "demucs"]
    for folder in arguments.folders:
        references, rate = read_stems(folder)
        mixture = references.sum(0)
        rows = {
            "mixture": mixture.expand(4, -1, -1),
            "mixture / 4": mixture.expand(4, -1, -1) / 4,
        }
        for preset in presets:
            stems = separate(mixture, rate, load(preset))
            rows[preset] = torch.stack([stems[source] for source in SOURCES])
        print(f"\n{folder} ({mixture.shape[1] / rate:.0f} s)\n")
        print(f"| | {' | '.join(SOURCES)} | mean |\n|---|{'---|' * 5}")
        for name, estimate in rows.items():
            sdr = mdx_sdr_db(references, estimate)
            print(f"| {name} | {' | '.join(f'{value:.2f}' for value in sdr)} | {sdr.mean():.2f} |", flush=True)


if __name__ == "__main__":
    main()
