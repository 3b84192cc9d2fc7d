"""A manifest: songs whose files lie anywhere, in a JSON file.

    {"format": "danna-sep songs", "version": 1, "songs": [
      {"name": "One", "split": "train", "mixture": "one/mix.flac",
       "stems": {"drums": ["one/kick.wav", "one/snare.wav"], "bass": "one/bass.wav"}, "silent": ["vocals"]}]}

Paths are relative to the manifest; several files of a stem are summed; a source that is in neither `stems` nor `silent`
is not annotated.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from danna_sep.errors import SongsError
from danna_sep.songs.song import MIXTURE, Song, StemFile
from danna_sep.types import SOURCES

MANIFEST_NAME: Final = "songs.json"
_FORMAT: Final = "danna-sep songs"
_FIELDS: Final = frozenset({"name", "split", "mixture", "stems", "silent"})


def read_manifest(path: Path) -> list[Song]:
    """The songs of a manifest.

    Raises:
        SongsError: Not a manifest, a field that is unknown or wrong, a file that is missing, two songs of one name.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SongsError(f"{path}: cannot be read as a manifest of songs ({error})") from error
    if not isinstance(content, dict) or content.get("format") != _FORMAT or content.get("version") != 1:
        raise SongsError(f'{path}: not a manifest of songs; it begins with "format": "{_FORMAT}", "version": 1')
    songs = content.get("songs")
    if not isinstance(songs, list):
        raise SongsError(f'{path}: "songs" must be a list')
    found = [_song(path, entry) for entry in songs]
    names = [(song.split, song.name) for song in found]
    for split, name in names:
        if names.count((split, name)) > 1:
            raise SongsError(f"{path}: two songs are called {name!r}")
    return found


def _song(manifest: Path, entry: Any) -> Song:
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str) or not entry["name"]:
        raise SongsError(f'{manifest}: every song must have a "name"')
    where = f"{manifest}: {entry['name']}"
    if unknown := sorted(set(entry) - _FIELDS):
        raise SongsError(f"{where}: no field {unknown[0]!r}; there are {', '.join(sorted(_FIELDS))}")
    stems, silent, split = entry.get("stems", {}), entry.get("silent", []), entry.get("split")
    if split not in (None, "train", "valid", "test"):
        raise SongsError(f"{where}: split must be train, valid or test, not {split!r}")
    if not isinstance(stems, dict) or not set(stems) <= set(SOURCES):
        raise SongsError(f'{where}: "stems" must map some of {", ".join(SOURCES)} to files')
    if not isinstance(silent, list) or any(source not in SOURCES or source in stems for source in silent):
        raise SongsError(f'{where}: "silent" must list sources that have no files')
    files = {source: _files(where, manifest.parent, named) for source, named in stems.items()}
    if entry.get(MIXTURE) is not None:
        files[MIXTURE] = _files(where, manifest.parent, entry[MIXTURE])
    if not files:
        raise SongsError(f"{where}: has no files")
    return Song(entry["name"], files, frozenset(silent), split)


def _files(where: str, folder: Path, named: Any) -> tuple[StemFile, ...]:
    names = [named] if isinstance(named, str) else named
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise SongsError(f"{where}: files must be a path or a list of paths, not {named!r}")
    paths = [folder / name for name in names]
    for path in paths:
        if not path.is_file():
            raise SongsError(f"{where}: {path} is missing")
    return tuple(StemFile(path) for path in paths)
