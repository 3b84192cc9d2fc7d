"""List instrumental music for `pack.py`: finished music in which nobody sings, of which no stems are known.

    python bundle/instrumentals.py naev-data edgar-data --out instrumentals --except choir

Writes a manifest of the audio files in the folders (Ogg, MP3, Opus, FLAC, WAV): each a mixture without vocals. Songs
whose name, the path from its folder's name on, holds a word of `--except` are left out. `guitar.ogg` and `song.ogg`
beside each other, as in the game Frets on Fire, are one song, with `rhythm.ogg` if there is one. A manifest says
nothing of licences: an `origin.json` in each folder does, with `bank`, `licence` and `attribution`; `origins.json` gets
them all.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

SUFFIXES = frozenset({".ogg", ".oga", ".mp3", ".opus", ".flac", ".wav"})
GAME = ("song.ogg", "guitar.ogg", "rhythm.ogg")
"""Of a song of the game: the rest, the player's part, and maybe that of a second player."""


def songs_of(folder: Path) -> list[dict[str, Any]]:
    """Entries of a manifest, in the order of their paths.

    Raises:
        SystemExit: No audio files there.
    """
    paths = {path.relative_to(folder): path for path in sorted(folder.rglob("*")) if path.suffix.lower() in SUFFIXES}
    if not paths:
        raise SystemExit(f"{folder}: no such folder, or no audio files in it")
    entries = []
    for name, path in paths.items():
        parts = [path.with_name(part) for part in GAME if path.with_name(part).is_file()]
        is_game = path.name in GAME and len(parts) > 1
        if is_game and path != parts[0]:
            continue
        entry = {"name": f"{folder.name}/{name.parent if is_game else name}", "silent": ["vocals"]}
        entries.append({**entry, "mixture": [str(file.resolve()) for file in (parts if is_game else [path])]})
    return entries


def origin_of(folder: Path) -> Any:
    """What its `origin.json` says.

    Raises:
        SystemExit: There is none, or it cannot be read.
    """
    path = folder / "origin.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SystemExit(f"{path}: must say whose the music is, and cannot be read ({error})") from None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--except", action="append", default=[], dest="left_out", metavar="WORD")
    arguments = parser.parse_args()
    songs = [song for folder in arguments.folders for song in songs_of(folder)]
    for word in arguments.left_out:
        if not any(word in song["name"] for song in songs):
            parser.error(f"--except {word}: no song has that in its name")
    songs = [song for song in songs if not any(word in song["name"] for word in arguments.left_out)]
    origins = [origin_of(folder) for folder in arguments.folders]
    arguments.out.mkdir(parents=True, exist_ok=True)
    manifest = {"format": "danna-sep songs", "version": 1, "songs": songs}
    (arguments.out / "songs.json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    (arguments.out / "origins.json").write_text(json.dumps(origins, indent=1) + "\n", encoding="utf-8")
    print(f"{len(songs)} songs in {arguments.out}")


if __name__ == "__main__":
    main()
