"""What the precision of the networks' arithmetic costs: SDR, and how far stems are from those of single precision.

    python bench/precisions.py SEPARATOR... --data FOLDER [--data FOLDER ...]

SEPARATOR is a preset, a preset file or a weights file; FOLDER holds songs with stems, or is one. Differences are given
by frequency, because music is far louder at low ones than at high ones.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import soundfile
import torch

import danna_sep
from danna_sep.evaluation.metrics import mdx_sdr_db
from danna_sep.models.precision import has_fast_int8

PRECISIONS = ("f32", "bf16", "int8") if has_fast_int8() else ("f32", "bf16")
BANDS_HZ = ((0, 250), (250, 1000), (1000, 4000), (4000, 8000), (8000, 16000))


def songs(folders: list[Path]) -> list[Path]:
    found = [song for folder in folders for song in (folder, *sorted(folder.iterdir())) if list(song.glob("drums.*"))]
    if not found:
        raise SystemExit(f"{', '.join(map(str, folders))}: no songs with stems")
    return found


def stems_of(song: Path) -> tuple[torch.Tensor, int]:
    """(source, channel, time), and the rate."""
    paths = [next(song.glob(f"{source}.*")) for source in danna_sep.SOURCES]
    read = [soundfile.read(path, dtype="float32", always_2d=True) for path in paths]
    return torch.from_numpy(np.stack([samples.T for samples, _ in read])), read[0][1]


def preset(separator: str, folder: Path) -> str:
    if not separator.endswith(".safetensors"):
        return separator
    path = folder / "preset.json"
    content = {
        "format": "danna-sep-preset/1",
        "summary": "weights to measure",
        "separators": {"model": {"file": str(Path(separator).resolve())}},
        "blend": {"model": dict.fromkeys(danna_sep.SOURCES, 1)},
    }
    path.write_text(json.dumps(content))
    return str(path)


def differences_db(single: torch.Tensor, other: torch.Tensor, rate_hz: int) -> np.ndarray:
    """(band, source): level of the stems over that of the difference."""
    spectrum, error = torch.fft.rfft(single.double()), torch.fft.rfft((other - single).double())
    hz = torch.fft.rfftfreq(single.shape[-1], 1 / rate_hz)
    levels = []
    for low, high in BANDS_HZ:
        band = (hz >= low) & (hz < high)
        energy, lost = (part[..., band].abs().square().sum((1, 2)) for part in (spectrum, error))
        levels.append(10 * torch.log10(energy / lost))
    return torch.stack(levels).numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("separators", nargs="+", metavar="SEPARATOR")
    parser.add_argument("--data", type=Path, action="append", required=True, metavar="FOLDER")
    arguments = parser.parse_args()
    names = " | ".join(f"{low} to {high} Hz" for low, high in BANDS_HZ)
    print(f"| | precision | mean SDR, dB | its change | of the worst stem of a song | {names} |")
    print("|---|---|---|---|---|" + "---|" * len(BANDS_HZ))
    for separator in arguments.separators:
        with tempfile.TemporaryDirectory() as folder:
            file = preset(separator, Path(folder))
            loaded = {precision: danna_sep.load(file, precision=precision) for precision in PRECISIONS}
        scores: dict[str, list[np.ndarray]] = {precision: [] for precision in PRECISIONS}
        differences: dict[str, list[np.ndarray]] = {precision: [] for precision in PRECISIONS}
        for song in songs(arguments.data):
            references, rate_hz = stems_of(song)
            estimates = {}
            for precision, model in loaded.items():
                separated = danna_sep.separate(references.sum(0), rate_hz, model)
                estimates[precision] = torch.stack([separated[source] for source in danna_sep.SOURCES])
                scores[precision].append(mdx_sdr_db(references, estimates[precision]).numpy())
                if precision != "f32":
                    differences[precision].append(differences_db(estimates["f32"], estimates[precision], rate_hz))
        for precision in PRECISIONS:
            change = np.array(scores[precision]) - np.array(scores["f32"])
            cells = [f"{np.mean(scores[precision]):.3f}", f"{change.mean():+.4f}", f"{change.min():+.3f}"]
            if precision == "f32":
                cells += [""] * len(BANDS_HZ)
            else:
                cells += [f"{level:.0f}" for level in np.median(np.array(differences[precision]), (0, 2))]
            print(f"| {separator} | {precision} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
