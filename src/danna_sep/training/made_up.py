"""Songs that are made up: small, quick, in MUSDB18-HQ's layout, for trying the whole chain."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from danna_sep import audio
from danna_sep.types import SAMPLE_RATE, SOURCES

_SONGS = ("train/One", "train/Two", "train/Three", "train/Meaxic - Take A Step", "test/Four", "test/Five")
"""The fourth has the name of one of MUSDB18's validation songs."""


def write_songs(folder: Path, seconds: float = 3.0) -> None:
    """Six songs: noise bursts, a low tone, a chord, and a tone with vibrato that comes and goes.

    Args:
        folder: Gets `train` and `test`; songs that are there already are left.
        seconds: Length of each.

    Raises:
        WriteFailed: The folder cannot be written, or the disk is full.
    """
    clock = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    for index, name in enumerate(_SONGS):
        rng = np.random.default_rng(index)
        pitch_hz = 220 * 2 ** (rng.integers(-6, 7) / 12)
        beat_s = rng.uniform(0.3, 0.6)
        stems: dict[str, npt.NDArray[np.float64]] = {
            "drums": rng.standard_normal(len(clock)) * np.exp(-30 * (clock % beat_s)),
            "bass": np.sin(2 * np.pi * pitch_hz / 4 * clock),
            "other": np.sin(2 * np.pi * pitch_hz * np.outer((1, 1.25, 1.5), clock)).sum(0) / 2,
            "vocals": np.sin(2 * np.pi * 2 * pitch_hz * clock + 2 * np.sin(2 * np.pi * 5.5 * clock))
            * (np.sin(2 * np.pi * clock / 1.7 + index) > 0),
        }
        if (folder / name).exists():
            continue
        paths = {source: folder / name / f"{source}.wav" for source in SOURCES}
        pans = rng.uniform(0.3, 0.7, len(SOURCES))
        with audio.StemWriter(paths, sample_rate=SAMPLE_RATE, n_channels=2) as writer:
            writer.write(
                {
                    source: (0.15 * np.stack([stems[source] * (1 - pan), stems[source] * pan])).astype(np.float32)
                    for source, pan in zip(SOURCES, pans, strict=True)
                }
            )
            writer.commit()
