"""Songs in MoisesDB's layout: a folder with data.json and the tracks of each instrument group.

Reference: Pereira et al., "MoisesDB: A dataset for source separation beyond 4-stems", ISMIR 2023.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from danna_sep.errors import SongsError
from danna_sep.songs.song import Song, StemFile
from danna_sep.types import SOURCES

_NAME: Final = "data.json"


def is_moisesdb_song(folder: Path) -> bool:
    """Whether it is such a folder."""
    return (folder / _NAME).is_file()


def read_moisesdb_song(folder: Path, split: str | None) -> Song:
    """The song; all groups but drums, bass and vocals are "other", and a group that is missing is silent.

    Raises:
        SongsError: The description cannot be understood, or a file that it names is missing.
    """
    path = folder / _NAME
    files: dict[str, list[StemFile]] = {source: [] for source in SOURCES}
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
        name = f"{description['artist']} - {description['song']}"
        for group in description["stems"]:
            stem = str(group["stemName"])
            source = stem if stem in ("drums", "bass", "vocals") else "other"
            for track in group["tracks"]:
                file = folder / stem / f"{track['id']}.{track.get('extension', 'wav')}"
                if not file.is_file():
                    raise SongsError(f"{path}: names {file}, which is missing")
                files[source].append(StemFile(file))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SongsError(f"{path}: not a description of a song as MoisesDB has them ({error!r})") from error
    present = {source: tuple(each) for source, each in files.items() if each}
    if not present:
        raise SongsError(f"{path}: names no tracks")
    return Song(name, present, frozenset(SOURCES) - set(present), split)
