"""List instrumental music for `pack.py`: finished music in which nobody sings, of which no stems are known.

    python bundle/instrumentals.py naev-data edgar-data --out instrumentals --except choir

Writes a manifest of all audio files in the folders: each a mixture without vocals. Files whose path holds a word of
`--except` are left out. A folder whose files lie as `guitar.ogg` and `song.ogg` beside each other is one song, of both.
A manifest says nothing of licences: an `origin.json` in each folder does, with `bank`, `licence` and `attribution`,
and is copied into `origins.json` beside it.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

SUFFIXES = frozenset({".ogg", ".mp3", ".opus", ".flac", ".wav"})
GAME = ("guitar.ogg", "song.ogg")
"""Of a song of the game Frets on Fire: the player's part, and the rest."""


def songs_of(folder: Path, left_out: list[str]) -> list[dict[str, Any]]:
    """Entries of a manifest, in the order of their paths."""
    entries = []
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in SUFFIXES or any(word in str(path) for word in left_out):
            continue
        files = [path.with_name(name) for name in GAME]
        is_game = path.name in GAME and all(file.is_file() for file in files)
        if is_game and path.name != GAME[0]:
            continue
        name = path.parent if is_game else path.relative_to(folder).with_suffix("")
        entries.append(
            {
                "name": f"{folder.name}-{name.name}",
                "mixture": [str(file.resolve()) for file in (files if is_game else [path])],
                "silent": ["vocals"],
            }
        )
    return entries


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--except", action="append", default=[], dest="left_out", metavar="WORD")
    arguments = parser.parse_args()
    songs, origins = [], []
    for folder in arguments.folders:
        found = songs_of(folder, arguments.left_out)
        if not found:
            parser.error(f"{folder}: no audio files in it")
        songs += found
        if (folder / "origin.json").is_file():
            origins.append(json.loads((folder / "origin.json").read_text(encoding="utf-8")))
        else:
            print(f"{folder}: no origin.json, so origins.json will not say whose it is")
    arguments.out.mkdir(parents=True, exist_ok=True)
    manifest = {"format": "danna-sep songs", "version": 1, "songs": songs}
    (arguments.out / "songs.json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    (arguments.out / "origins.json").write_text(json.dumps(origins, indent=1) + "\n", encoding="utf-8")
    print(f"{len(songs)} songs in {arguments.out}")


if __name__ == "__main__":
    main()
