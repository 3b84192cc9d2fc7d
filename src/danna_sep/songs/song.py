"""One song: which files hold which stem, and their samples, whole or in part."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from danna_sep import audio
from danna_sep.errors import SongsError
from danna_sep.types import SAMPLE_RATE, SOURCES

Samples = npt.NDArray[np.float32]

MIXTURE: Final = "mixture"


@dataclass(frozen=True)
class StemFile:
    """A file, and which of its audio streams."""

    path: Path
    stream: int = 0


@dataclass(frozen=True)
class SongExcerpt:
    """A part of a song, or all of it.

    Attributes:
        mixture: Axes channel, time.
        stems: Axes source, channel, time; zeros where a source is not annotated.
        annotated: Sources whose stems are known, in the order of SOURCES.
    """

    mixture: Samples
    stems: Samples
    annotated: tuple[str, ...]


@dataclass(frozen=True)
class Song:
    """A song's files. Nothing is read before it is asked for.

    Attributes:
        name: As the folder or the manifest calls it.
        files: For a source, the files whose sum is its stem; a source that is not a key, and not in `silent`, is not
            annotated. Under "mixture" the mixture, if there is a file of it: else it is the sum of the stems, which is
            all of the song only where all sources are annotated (`knows_mixture`).
        silent: Sources that are annotated as not being in the song.
        split: "train", "valid" or "test"; None where nothing tells.
        odds: How often training with mixed stems draws it, in relation to other songs.
    """

    name: str
    files: Mapping[str, tuple[StemFile, ...]]
    silent: frozenset[str] = field(default_factory=frozenset)
    split: str | None = None
    odds: float = 1.0

    @property
    def annotated(self) -> tuple[str, ...]:
        """Sources whose stems are known, in the order of SOURCES."""
        return tuple(source for source in SOURCES if source in self.files or source in self.silent)

    @property
    def knows_mixture(self) -> bool:
        """Whether there is a file of the mixture, or all sources are annotated, whose sum it then is."""
        return MIXTURE in self.files or len(self.annotated) == len(SOURCES)

    def check_mixture(self) -> None:
        """Raise SongsError where the mixture is not known."""
        if not self.knows_mixture:
            missing = [source for source in SOURCES if source not in self.annotated]
            raise SongsError(
                f"{self.name}: {', '.join(missing)} not annotated and no mixture file; add mixture.wav, or list "
                f"{'it' if len(missing) == 1 else 'them'} as silent in songs.json"
            )

    @cached_property
    def n_frames(self) -> int:
        """Length at 44.1 kHz: the shortest file's.

        Raises:
            AudioError: A file that cannot be read.
            SongsError: A file that does not tell its length.
        """
        return min(_length(file) for files in self.files.values() for file in files)

    def read(self, start: int = 0, n_frames: int | None = None) -> SongExcerpt:
        """Frames from `start` on, at 44.1 kHz; zeros beyond the end.

        Args:
            start: First frame.
            n_frames: How many; None for all to the end.

        Raises:
            AudioError: A file that cannot be read.
        """
        length = max(0, self.n_frames - start) if n_frames is None else n_frames
        return self._excerpt({name: self.read_stem(name, start, length) for name in self.files}, length)

    def read_stem(self, name: str, start: int, n_frames: int) -> Samples:
        """One stem's frames, or the mixture's file's; zeros where there is no such file, and beyond the end.

        Args:
            name: A source or "mixture".
            start: First frame, at 44.1 kHz.
            n_frames: How many.
        """
        total = np.zeros((2, n_frames), dtype=np.float32)
        for file in self.files.get(name, ()):
            excerpt = audio.read_excerpt(file.path, start, n_frames, SAMPLE_RATE, stream=file.stream)
            total += _stereo(excerpt, file)
        n_left = max(0, self.n_frames - start)
        total[:, n_left:] = 0
        return total

    def blocks(self, n_frames: int) -> Iterator[SongExcerpt]:
        """All of the song from first to last, every file decoded once.

        Args:
            n_frames: Frames of every block but the last, which may be shorter.
        """
        streams = {
            name: [_blocks_of(file, n_frames, self.n_frames) for file in files] for name, files in self.files.items()
        }
        for start in range(0, self.n_frames, n_frames):
            length = min(n_frames, self.n_frames - start)
            parts = {name: np.sum([next(each) for each in many], 0) for name, many in streams.items()}
            yield self._excerpt(parts, length)

    def _excerpt(self, parts: Mapping[str, Samples], n_frames: int) -> SongExcerpt:
        silence = np.zeros((2, n_frames), dtype=np.float32)
        stems = np.stack([parts.get(source, silence) for source in SOURCES])
        return SongExcerpt(parts[MIXTURE] if MIXTURE in parts else stems.sum(0), stems, self.annotated)


def _length(file: StemFile) -> int:
    info = audio.probe(file.path, stream=file.stream)
    if info.n_frames is None:
        raise SongsError(f"{file.path}: does not tell its length; convert it to WAV or FLAC first")
    return audio.resampled_length(info.n_frames, info.sample_rate, SAMPLE_RATE)


def _stereo(samples: Samples, file: StemFile) -> Samples:
    if samples.shape[0] > 2:
        raise SongsError(f"{file.path}: has {samples.shape[0]} channels; stems must be mono or stereo")
    return np.broadcast_to(samples, (2, samples.shape[1]))


def _blocks_of(file: StemFile, n_frames: int, total: int) -> Iterator[Samples]:
    """A file's samples in blocks (2, time) of just n_frames, at 44.1 kHz, `total` in all: zeros where it is shorter."""
    held: list[Samples] = []
    n_held = n_given = 0
    for piece in _converted(file, n_frames):
        held.append(_stereo(piece, file))
        n_held += piece.shape[1]
        while n_held >= n_frames and n_given + n_frames <= total:
            joined = np.concatenate(held, 1)
            yield joined[:, :n_frames]
            held, n_held, n_given = [joined[:, n_frames:]], n_held - n_frames, n_given + n_frames
    rest = np.concatenate(held, 1) if held else np.zeros((2, 0), np.float32)
    while n_given < total:
        length = min(n_frames, total - n_given)
        block = rest[:, :length]
        yield np.pad(block, ((0, 0), (0, length - block.shape[1])))
        rest, n_given = rest[:, length:], n_given + length


def _converted(file: StemFile, n_frames: int) -> Iterator[Samples]:
    with audio.AudioReader(file.path, stream=file.stream) as reader:
        resampler = audio.StreamResampler(reader.info.sample_rate, SAMPLE_RATE, reader.info.n_channels)
        for block in reader.blocks(n_frames):
            yield resampler.push(block)
        yield resampler.finish()
