"""Which files of songs are the same."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from danna_sep.songs import Song


def identical_files(songs: Sequence[Song]) -> dict[Path, list[str]]:
    """For each file that has copies, where these are; only files of one size are read."""
    by_size: dict[int, set[Path]] = defaultdict(set)
    for song in songs:
        for files in song.files.values():
            for file in files:
                if file.path.is_file():
                    by_size[file.path.stat().st_size].add(file.path)
    by_content: dict[bytes, list[Path]] = defaultdict(list)
    for paths in by_size.values():
        for path in sorted(paths) if len(paths) > 1 else ():
            by_content[_digest(path)].append(path)
    return {
        path: [str(other) for other in paths if other != path]
        for paths in by_content.values()
        if len(paths) > 1
        for path in paths
    }


def _digest(path: Path) -> bytes:
    digest = hashlib.sha256()
    with path.open("rb") as content:
        while chunk := content.read(2**20):
            digest.update(chunk)
    return digest.digest()
