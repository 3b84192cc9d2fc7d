"""Decode an archive of `pack.py` into plain samples: as a program of its own, for which no training has to wait.

    python bundle/unpacking.py packed/part-00.tar FOLDER

FOLDER then has `songs.json`, a list with each song's "odds", "n_frames", and "stems" by source: how many samples, or
null where it is silent; `N-SOURCE.raw`, int16 in steps of 1 / STEP, all of the left channel and then all of the right;
and `N-SOURCE.npy`, the energy up to each hop of LEVEL_HOP samples. Imports no torch.
"""

from __future__ import annotations

import io
import json
import sys
import tarfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

LEVEL_HOP = 4410
STEP = 2**14
"""Of int16, for full scale."""
MANIFEST = "manifest.json"
NAMES = frozenset({MANIFEST, *(f"{stem}.opus" for stem in ("drums", "bass", "other", "vocals", "mixture"))})
"""What a song in an archive is made of."""
LOUDEST = 1.99
"""What `pack.py` keeps within full scale, coding may leave a little above it."""


def unpacked(out: Path, number: int, files: Mapping[str, bytes]) -> dict[str, Any]:
    """Decode a song; what `songs.json` says of it."""
    about = json.loads(files[MANIFEST])
    stems: dict[str, int | None] = dict.fromkeys(about["silent"])
    for name, content in files.items():
        source, _, kind = name.partition(".")
        if kind != "opus":
            continue  # the manifest
        samples, _ = soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)
        whole = samples[: len(samples) // LEVEL_HOP * LEVEL_HOP].reshape(-1, 2 * LEVEL_HOP)
        energy = np.concatenate(([0.0], np.square(whole, dtype=np.float64).mean(1).cumsum()))
        np.save(out / f"{number}-{source}.npy", energy)
        (samples.T.clip(-LOUDEST, LOUDEST) * STEP).astype(np.int16).tofile(out / f"{number}-{source}.raw")
        stems[source] = len(samples)
    return {"odds": about["odds"], "n_frames": about["n_frames"], "stems": stems}


def main() -> None:
    path, out = map(Path, sys.argv[1:])
    folders: dict[str, dict[str, bytes]] = {}
    with tarfile.open(path) as archive:
        for entry in archive:
            folder, _, name = entry.name.partition("/")
            if entry.isdir():
                continue
            if name not in NAMES:
                raise SystemExit(f"{path}: {entry.name}: nothing that pack.py writes")
            content = archive.extractfile(entry)
            folders.setdefault(folder, {})[name] = content.read() if content else b""
    for folder, files in folders.items():
        if MANIFEST not in files:
            raise SystemExit(f"{path}: {folder}: has no {MANIFEST}")
    with ThreadPoolExecutor() as executor:
        songs = list(executor.map(partial(unpacked, out), range(len(folders)), folders.values()))
    (out / "songs.json").write_text(json.dumps(songs), "utf-8")


if __name__ == "__main__":
    main()
