"""Where estimates of stems come from: separators, or folders of finished stems; in blocks that keep step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import tee
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from danna_sep.errors import SongsError
from danna_sep.separators import Separator, only
from danna_sep.shapes import Mixture
from danna_sep.songs import Song, SongExcerpt, find_songs
from danna_sep.streaming import default_segment_s, segment_grid, stream
from danna_sep.types import SAMPLE_RATE, SOURCES

Samples: TypeAlias = npt.NDArray[np.float32]

_BLOCK_FRAMES = 1 << 17
"""About three seconds are read at once."""


@dataclass(frozen=True)
class StemFolder:
    """Finished stems, as other programs leave them: FOLDER/SONG/drums.wav and so on, in any layout that songs have.

    Attributes:
        folder: Where they lie.
        songs: By name.
    """

    folder: Path
    songs: Mapping[str, Song]

    @property
    def sources(self) -> tuple[str, ...]:
        """What there are stems of in any of the songs."""
        return tuple(source for source in SOURCES if any(source in song.annotated for song in self.songs.values()))


Estimator: TypeAlias = Separator | StemFolder
"""What estimates stems."""


@dataclass(frozen=True)
class Span:
    """Which part of every song.

    Attributes:
        length_s: Seconds; None for all. A song that is shorter is taken whole.
        place: "middle" or "start": where in the song they lie.
    """

    length_s: float | None = None
    place: str = "middle"

    def of(self, song: Song) -> tuple[int, int]:
        """First frame, and how many."""
        if self.length_s is None:
            return 0, song.n_frames
        n_frames = min(song.n_frames, round(self.length_s * SAMPLE_RATE))
        return (0 if self.place == "start" else (song.n_frames - n_frames) // 2), n_frames


WHOLE = Span()
"""All of every song."""


def stem_folder(folder: Path) -> StemFolder:
    """The finished stems in a folder.

    Raises:
        SongsError: No songs in it, or two of one name.
    """
    songs: dict[str, Song] = {}
    for song in find_songs(folder):
        if song.name in songs:
            raise SongsError(f"{folder}: two songs are called {song.name!r}")
        songs[song.name] = song
    return StemFolder(folder, songs)


def check_stems(estimators: Mapping[str, Estimator], songs: Sequence[Song]) -> None:
    """Raise SongsError where a folder of finished stems lacks a song, a stem of it, or its last samples."""
    for estimator in estimators.values():
        if isinstance(estimator, StemFolder):
            for song in songs:
                _check_song(estimator, song)


def _check_song(stems: StemFolder, song: Song) -> None:
    found = stems.songs.get(song.name)
    if found is None:
        raise SongsError(f"{stems.folder}: no stems of {song.name!r}; put them into its folder {song.name}")
    for source in song.annotated:
        if source in stems.sources and source not in found.annotated:
            raise SongsError(f"{stems.folder}: no {source} of {song.name!r}, but of other songs")
    if found.n_frames < song.n_frames:
        raise SongsError(
            f"{stems.folder}: the stems of {song.name!r} are {found.n_frames} frames long, the song {song.n_frames}"
        )


def aligned(
    song: Song,
    estimators: Mapping[str, Estimator],
    span: Span = WHOLE,
    *,
    block_frames: int = _BLOCK_FRAMES,
    cancelled: Callable[[], bool] = lambda: False,
) -> Iterator[tuple[SongExcerpt, dict[str, Samples]]]:
    """The song in blocks, and what every estimator makes of them; the song is decoded once.

    Separators hear the segments that `danna-sep separate` would cut from the span.

    Yields:
        A part of the song, and each estimator's stems of it with axes source (its own `sources`), channel, time.
    """
    start, n_frames = span.of(song)
    # A copy that nobody reads would be held in full, so there is one for each separator and no more.
    n_separators = sum(not isinstance(estimator, StemFolder) for estimator in estimators.values())
    reference, *mixtures = tee(_blocks(song, start, n_frames, block_frames), 1 + n_separators)
    streams: dict[str, _Steps] = {}
    for name, estimator in estimators.items():
        if isinstance(estimator, StemFolder):
            streams[name] = _Steps(_finished(estimator, song, start, n_frames, block_frames))
        else:
            streams[name] = _Steps(_separated(estimator, mixtures.pop(), cancelled))
    for excerpt in reference:
        length = excerpt.mixture.shape[-1]
        yield excerpt, {name: steps.take(length) for name, steps in streams.items()}


def narrowed(estimator: Estimator, sources: Sequence[str]) -> Estimator:
    """The estimator for those of the sources that it has; a folder, and one that has none, as they are."""
    if isinstance(estimator, StemFolder):
        return estimator
    shared = [source for source in SOURCES if source in sources and source in estimator.sources]
    return only(estimator, shared) if shared else estimator


def _separated(separator: Separator, blocks: Iterator[SongExcerpt], cancelled: Callable[[], bool]) -> Iterator[Samples]:
    def mixtures() -> Iterator[Mixture]:
        for excerpt in blocks:
            yield torch.from_numpy(excerpt.mixture)

    grid = None if getattr(separator, "hears_whole_tracks", False) else segment_grid(default_segment_s(separator))
    for stems in stream(mixtures(), separator, grid, cancelled=cancelled):
        yield stems.numpy()


def _finished(folder: StemFolder, song: Song, start: int, n_frames: int, block_frames: int) -> Iterator[Samples]:
    places = [SOURCES.index(source) for source in folder.sources]
    for begin in range(start, start + n_frames, block_frames):
        yield folder.songs[song.name].read(begin, min(block_frames, start + n_frames - begin)).stems[places]


def _blocks(song: Song, start: int, n_frames: int, block_frames: int) -> Iterator[SongExcerpt]:
    if (start, n_frames) == (0, song.n_frames):
        yield from song.blocks(block_frames)
        return
    for begin in range(start, start + n_frames, block_frames):
        yield song.read(begin, min(block_frames, start + n_frames - begin))


class _Steps:
    """Pieces of any length, given in steps of the lengths asked for."""

    def __init__(self, pieces: Iterator[Samples]) -> None:
        self.pieces = pieces
        self.held: Samples | None = None

    def take(self, n_frames: int) -> Samples:
        while self.held is None or self.held.shape[-1] < n_frames:
            piece = next(self.pieces)
            self.held = piece if self.held is None else np.concatenate((self.held, piece), -1)
        taken, self.held = self.held[..., :n_frames], self.held[..., n_frames:]
        return taken
