"""Finding songs under a folder, whatever the layout."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

from danna_sep.errors import SongsError
from danna_sep.songs.manifest import MANIFEST_NAME, read_manifest
from danna_sep.songs.moisesdb import is_moisesdb_song, read_moisesdb_song
from danna_sep.songs.song import MIXTURE, Song, StemFile
from danna_sep.types import SOURCES

SPLITS: Final = ("train", "valid", "test", "train+valid")
"""What `find_songs` can be asked for."""

VALIDATION_SONGS: Final = frozenset(
    {
        "ANiMAL - Rockshow",
        "Actions - One Minute Smile",
        "Alexander Ross - Goodbye Bolero",
        "Clara Berry And Wooldog - Waltz For My Victims",
        "Fergessen - Nos Palpitants",
        "James May - On The Line",
        "Johnny Lokke - Promises & Lies",
        "Leaf - Summerghost",
        "Meaxic - Take A Step",
        "Patrick Talbot - A Reason To Leave",
        "Skelpolu - Human Mistakes",
        "Traffic Experiment - Sirens",
        "Triviul - Angelsaint",
        "Young Griffo - Pennies",
    }
)
"""The official validation songs of MUSDB18, out of its training folder."""

_SPLIT_FOLDERS: Final = ("train", "valid", "test")
_STEM_MP4: Final = ".stem.mp4"
_STEM_MP4_STREAMS: Final = (MIXTURE, "drums", "bass", "other", "vocals")
_AUDIO_SUFFIXES: Final = frozenset(
    [
        ".wav",
        ".flac",
        ".ogg",
        ".oga",
        ".opus",
        ".mp3",
        ".aif",
        ".aiff",
        ".aifc",
        ".caf",
        ".w64",
        ".rf64",
        ".m4a",
        ".mp4",
        ".aac",
        ".wma",
        ".mka",
        ".mkv",
        ".webm",
    ]
)


def find_songs(folder: Path | str, split: str | None = None) -> list[Song]:
    """Songs with stems under a folder, sorted by split and name.

    Taken as songs are: a folder with drums, bass, other or vocals in any audio format (MUSDB18-HQ's layout; the mixture
    is optional), a file NAME.stem.mp4 (MUSDB18), a folder with MoisesDB's data.json. They may lie in the folder itself
    or in its `train`, `valid` and `test`. A file songs.json, or given instead of the folder, is a manifest and
    tells all.

    Args:
        folder: Folder or manifest.
        split: One of SPLITS: the songs of that split only. MUSDB18's official validation songs count as "valid"
            wherever they lie and whatever a manifest says, unless that is "test". None for all.

    Raises:
        SongsError: No such folder, one that is a song itself, no songs in it or none in that split, two files for one
            stem, a bad manifest.
    """
    folder = Path(folder)
    if split is not None and split not in SPLITS:
        raise SongsError(f"no split {split!r}; there are {', '.join(SPLITS)}")
    songs = [_in_its_split(song) for song in _all_songs(folder)]
    if not songs:
        if _is_song(folder):
            raise SongsError(f"{folder}: is a song itself; give the folder that holds it, {folder.resolve().parent}")
        raise SongsError(
            f"{folder}: no songs in it; a song is a folder with drums, bass, other or vocals as audio files"
        )
    if split is not None:
        wanted = split.split("+")
        songs = [song for song in songs if song.split in wanted]
        if not songs:
            raise SongsError(f"{folder}: no songs of the split {split!r}; songs for it lie in its folder {wanted[0]!r}")
    return sorted(songs, key=lambda song: (song.split or "", song.name))


def _all_songs(folder: Path) -> list[Song]:
    if folder.suffix == ".json":
        return read_manifest(folder)
    if not folder.is_dir():
        raise SongsError(f"{folder}: no such folder; give the folder that holds the songs")
    if (folder / MANIFEST_NAME).is_file():
        return read_manifest(folder / MANIFEST_NAME)
    songs = _songs_in(folder, None)
    for split in _SPLIT_FOLDERS:
        if (folder / split).is_dir():
            songs += _songs_in(folder / split, split)
    return songs


def _songs_in(folder: Path, split: str | None) -> list[Song]:
    """Songs in a folder, and one level deeper where that is MoisesDB's."""
    songs: list[Song] = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_file() and path.name.lower().endswith(_STEM_MP4):
            name = path.name[: -len(_STEM_MP4)]
            files = {part: (StemFile(path, index),) for index, part in enumerate(_STEM_MP4_STREAMS)}
            songs.append(Song(name, files, split=split))
        elif path.is_dir():
            if is_moisesdb_song(path):
                songs.append(read_moisesdb_song(path, split))
            elif song := _song_of_folder(path, split):
                songs.append(song)
            else:
                songs += [read_moisesdb_song(each, split) for each in sorted(path.iterdir()) if is_moisesdb_song(each)]
    return songs


def _is_song(folder: Path) -> bool:
    return folder.is_dir() and (is_moisesdb_song(folder) or _song_of_folder(folder, None) is not None)


def _song_of_folder(folder: Path, split: str | None) -> Song | None:
    files: dict[str, tuple[StemFile, ...]] = {}
    for path in sorted(folder.iterdir()):
        part = path.stem.lower()
        if part in (*SOURCES, MIXTURE) and path.suffix.lower() in _AUDIO_SUFFIXES and path.is_file():
            if part in files:
                raise SongsError(f"{folder}: {files[part][0].path.name} and {path.name} are both its {part}; keep one")
            files[part] = (StemFile(path),)
    if not set(files) - {MIXTURE}:
        return None
    return Song(folder.name, files, split=split)


def _in_its_split(song: Song) -> Song:
    return replace(song, split="valid") if song.split != "test" and song.name in VALIDATION_SONGS else song
