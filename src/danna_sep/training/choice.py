"""Which songs are trained on, how often, and which are validated on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from danna_sep.errors import ConfigError, SongsError
from danna_sep.songs import Song, StemFile, find_songs


@dataclass(frozen=True)
class Choice:
    """Songs for a training.

    Attributes:
        songs: To train on, with their odds.
        valid_songs: To validate on.
        held_out: Whether these are taken out of those to train on, for want of others.
    """

    songs: list[Song]
    valid_songs: list[Song]
    held_out: bool = False


def choose_songs(
    folders: Sequence[Path], shares: Sequence[float] = (), split: str | None = None, valid: Path | None = None
) -> Choice:
    """Songs to train on, and to validate on.

    Args:
        folders: Of songs, or manifests. Songs of which nothing tells the split are of "train".
        shares: How often stems of each folder are drawn, however many songs it has; none: of each alike.
        split: To train on; None: "train".
        valid: Folder of the songs to validate on: of its split "valid", if it has splits. None: those of the folders'
            split "valid"; if there are none, songs are held out. Where there are too few for that, validation is on
            the songs that are trained on. In both cases on none whose mixture is not known, if there are others.

    Raises:
        ConfigError: Shares that are not one for each folder, or not more than 0.
        SongsError: No songs, or of `valid` one that is trained on.
    """
    shares = shares or [1.0] * len(folders)
    if len(shares) != len(folders):
        raise ConfigError(f"{len(shares)} --share for {len(folders)} --data; give one for each, in their order")
    if not all(0 < share < math.inf for share in shares):
        raise ConfigError("a --share must be more than 0")
    groups = [_to_train_on(folder, split) for folder in folders]
    valid_songs = _valid_songs(folders) if valid is None else _to_validate_on(valid)
    held: list[Song] = []
    if not valid_songs:
        groups, held = hold_out(groups)
    songs = [song for group, share in zip(groups, shares, strict=True) for song in _drawn_by(share, group, len(groups))]
    if valid is not None:
        trained_on = {file for song in songs for file in _files(song)}
        for song in valid_songs:
            if trained_on & _files(song):
                raise SongsError(f"{song.name}: is to be trained on and in {valid}; give other songs as --valid")
    valid_songs = valid_songs or held or [song for song in songs if song.knows_mixture] or songs
    return Choice(songs, valid_songs, held_out=bool(held))


def hold_out(groups: Sequence[list[Song]]) -> tuple[list[list[Song]], list[Song]]:
    """What is left of each group, and songs to validate on: of each group every tenth whose mixture is known.

    A group of fewer than three songs keeps them all: nothing takes the place of what only it has.
    """
    held = [[song for song in group if song.knows_mixture][::10] if len(group) >= 3 else [] for group in groups]
    kept = [[song for song in group if song not in some] for group, some in zip(groups, held, strict=True)]
    return kept, [song for some in held for song in some]


def _to_train_on(folder: Path, split: str | None) -> list[Song]:
    wanted = (split or "train").split("+")
    songs = [song for song in find_songs(folder) if (song.split or "train") in wanted]
    return songs or find_songs(folder, split or "train")  # which tells what is missing


def _valid_songs(folders: Sequence[Path]) -> list[Song]:
    return [song for folder in folders for song in find_songs(folder) if song.split == "valid"]


def _to_validate_on(folder: Path) -> list[Song]:
    songs = find_songs(folder)
    return find_songs(folder, "valid") if any(song.split for song in songs) else songs


def _drawn_by(share: float, songs: Sequence[Song], n_groups: int) -> list[Song]:
    return [replace(song, odds=share / len(songs)) if n_groups > 1 else song for song in songs]


def _files(song: Song) -> set[StemFile]:
    return {StemFile(file.path.resolve(), file.stream) for files in song.files.values() for file in files}
