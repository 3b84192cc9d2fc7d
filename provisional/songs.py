"""Clips from the real stems of the CC0 songs that may train."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import sound as snd

LEFT_OUT = ("rubidium",)  # kept for validation
WITHOUT_BASS = ("hydrogen", "francium")  # their low end is in drums and other
SOURCES = ("drums", "bass", "other", "vocals")


def jobs(data: Path) -> list[tuple[str, str]]:
    names = sorted(p.name for p in (data / "cc0-songs" / "train").iterdir() if p.name not in LEFT_OUT)
    return [(name, source) for name in names for source in SOURCES if not (source == "bass" and name in WITHOUT_BASS)]


def write(data: Path, out: Path, name: str, source: str) -> float:
    """Cuts one stem of one song; returns the seconds written."""
    stem = snd.load.__wrapped__(data / "cc0-songs" / "train" / name / f"{source}.ogg")
    stem = snd.stereo(stem) if stem.shape[0] == 1 else stem
    kind = "song-lowend" if name in WITHOUT_BASS and source in ("drums", "other") else "song"
    total_s = 0.0
    for i, clip in enumerate(snd.cut_into_clips(snd.trim_silences(stem))):
        if snd.rms_db(clip) < -45:
            continue
        path = out / source / f"{kind}-{name}_{i:02d}.npy"
        total_s += snd.write_clip(path, clip, np.random.default_rng([i, len(name)]))
    return total_s
