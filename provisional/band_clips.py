"""Cut songs of the synthetic band into clips of the pool, without their silences.

python provisional/band_clips.py work/band work/pool
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import sound as snd
import soundfile

QUIETEST_DB = -35


def main() -> None:
    band, pool = map(Path, sys.argv[1:])
    for folder in sorted(band.glob("synthetic-*")):
        seed_and_number = folder.name.removeprefix("synthetic-")
        for source in ("drums", "bass", "other", "vocals"):
            stem = soundfile.read(folder / f"{source}.flac", dtype="float32")[0].T
            if np.abs(stem).max() < 1e-4:
                continue
            for index, clip in enumerate(snd.cut_into_clips(snd.trim_silences(stem))):
                if snd.rms_db(clip / np.abs(clip).max()) >= QUIETEST_DB:
                    path = pool / source / f"band-{seed_and_number}_{index:02d}.npy"
                    snd.write_clip(path, clip, np.random.default_rng([index, int(seed_and_number[-6:])]))


if __name__ == "__main__":
    main()
