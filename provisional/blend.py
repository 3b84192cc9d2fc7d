"""Fit one blend weight per model and source on a song that training left out.

    python provisional/blend.py work/train SONG_FOLDER --excerpt 20 40 --excerpt 190 40

The weights of a source are not negative, sum to one, and minimise the squared error over the song; they are found on a
grid in steps of 0.05. Sources that are silent in the song get the mean of the others' weights. Prints the SDR of each
model and of the blend, and the rows for `danna_sep/presets.py`, for all three models and for the two fast ones.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import numpy as np
import soundfile
import torch

from danna_sep import SOURCES, separate, weights
from danna_sep.evaluation.metrics import mdx_sdr_db
from danna_sep.models import build
from danna_sep.separators import MaskSeparator, WaveformSeparator

STEP = 0.05
SILENT_DB = -60.0


def load(path: Path, n_iterations: int) -> MaskSeparator | WaveformSeparator:
    file = weights.read(path)
    model = build(file.model, file.config)
    model.load_state_dict(file.entries)
    model.requires_grad_(False).eval()
    return WaveformSeparator(model) if file.model == "demucs" else MaskSeparator(model, n_iterations)


def best_row(references: torch.Tensor, estimates: list[torch.Tensor]) -> tuple[float, ...]:
    """Weights on the simplex that minimise the squared error, from the Gram matrix of the models' errors."""
    errors = torch.stack([(estimate - references).double().flatten() for estimate in estimates])
    gram = errors @ errors.T
    ticks = range(round(1 / STEP) + 1)
    rows = [row for row in itertools.product(ticks, repeat=len(estimates)) if sum(row) == round(1 / STEP)]
    candidates = torch.tensor(rows, dtype=torch.float64) * STEP
    return tuple(candidates[((candidates @ gram) * candidates).sum(1).argmin()].tolist())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path)
    parser.add_argument("song", type=Path, help="folder with drums, bass, other and vocals")
    parser.add_argument("--excerpt", type=int, nargs=2, action="append", help="start and length, s; default: all")
    parser.add_argument("--iterations", type=int, default=1, help="of the Wiener filter")
    arguments = parser.parse_args()
    stems = [soundfile.read(next(arguments.song.glob(f"{source}.*")), dtype="float32")[0].T for source in SOURCES]
    length = min(stem.shape[1] for stem in stems)
    references = torch.from_numpy(np.stack([stem[:, :length] for stem in stems]))
    if arguments.excerpt:
        cuts = [references[..., start * 44100 : (start + length) * 44100] for start, length in arguments.excerpt]
        references = torch.cat(cuts, -1)
    mixture = references.sum(0)
    estimates = {}
    for name in ("xumx", "unet", "demucs"):
        separated = separate(mixture, 44100, load(arguments.models / f"{name}.safetensors", arguments.iterations))
        estimates[name] = torch.stack([separated[source] for source in SOURCES])
        sdr = mdx_sdr_db(references, estimates[name])
        print(name, " ".join(f"{value:6.2f}" for value in sdr), flush=True)
    level_db = 10 * torch.log10(references.square().mean((1, 2)) + 1e-20)
    for names in (("xumx", "unet", "demucs"), ("unet", "demucs")):
        rows = [best_row(references[s], [estimates[name][s] for name in names]) for s in range(len(SOURCES))]
        heard = [row for row, level in zip(rows, level_db, strict=True) if level > SILENT_DB]
        rows = [
            row if level > SILENT_DB else tuple(np.mean(heard, 0)) for row, level in zip(rows, level_db, strict=True)
        ]
        matrix = torch.tensor(rows).T
        blended = sum(estimates[name] * row[:, None, None] for name, row in zip(names, matrix.float(), strict=True))
        print("blend", " ".join(f"{value:6.2f}" for value in mdx_sdr_db(references, blended)))
        for name, row in zip(names, matrix.tolist(), strict=True):
            print(f'    "{name}": ({", ".join(f"{weight:.2f}" for weight in row)}),')


if __name__ == "__main__":
    main()
