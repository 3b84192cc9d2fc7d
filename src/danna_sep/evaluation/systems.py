"""What can be evaluated: a preset, run as users run it, or stems that any separator wrote."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt

from danna_sep import api, atomic, audio, preset_file, presets
from danna_sep.errors import ConfigError, SongsError
from danna_sep.models.precision import lowers, rounds_for_memory
from danna_sep.options import DEFAULTS, Options
from danna_sep.pipeline import stems_of_blocks
from danna_sep.separators import Separator
from danna_sep.songs import MANIFEST_NAME, Song, StemFile, find_songs
from danna_sep.types import SAMPLE_RATE, SOURCES

Samples: TypeAlias = npt.NDArray[np.float32]

_BLOCK = 2**16


@runtime_checkable
class System(Protocol):
    """Gives stems of songs, each of which belongs to one source. Goes to other processes before it is first used."""

    def describe(self) -> dict[str, Any]:
        """What it is, for the results: a JSON object."""
        ...

    def stems(
        self, song: Song, mixture: Iterator[Samples], cancelled: Callable[[], bool]
    ) -> Iterator[Mapping[str, Samples]]:
        """Estimates of some sources of a song, in blocks (channel, time); the same sources in each block.

        Args:
            song: Which.
            mixture: Its mixture in blocks (channel, time) at 44.1 kHz; need not be read.
            cancelled: Asked before long steps.
        """
        ...


@dataclass(frozen=True)
class PresetSystem:
    """A preset, in segments or whole as `danna-sep separate` runs it.

    Attributes:
        preset: Its name, or its file's path.
        options: How; all stems that the preset has are separated.
    """

    preset: str
    options: Options = DEFAULTS

    @cached_property
    def separator(self) -> Separator:
        """Loaded when first asked for."""
        return api.load(self.preset, self._used)

    @cached_property
    def _used(self) -> Options:
        return self.options.changed({"stems": presets.sources_of(self.preset)})

    def describe(self) -> dict[str, Any]:
        """See `System`.

        Raises:
            ConfigError: No such preset.
            WeightsError: Weights that are missing or damaged.
        """
        options, weights = self.options, presets.weights_files(self.preset)
        precision = api.resolve_precision(options.precision, api.resolve_device(options.device), options.whole)
        return {
            "kind": "preset",
            "name": presets.label(self.preset),
            "weights": {
                model: {"name": path.stem, "sha256": atomic.sha256_of(path)} for model, path in weights.items()
            },
            "blend": presets.rows(self.preset),
            "preset_files": {name: atomic.sha256_of(path) for name, path in presets.preset_files(self.preset).items()},
            "options": {
                "segment_s": options.segment_s,
                "overlap": options.overlap,
                "shifts": options.shifts,
                "whole": options.whole,
                "precision": precision,
                "bfloat16": lowers(precision),
                "rounds_for_memory": rounds_for_memory(options.precision, options.whole),
            },
        }

    def stems(
        self, song: Song, mixture: Iterator[Samples], cancelled: Callable[[], bool]
    ) -> Iterator[Mapping[str, Samples]]:
        """See `System`.

        Raises:
            SongsError: The song's mixture is not known; some of its stems would be separated in its place.
        """
        song.check_mixture()
        plan = audio.channel_plan(2, "error", song.name)
        return stems_of_blocks(mixture, SAMPLE_RATE, plan, self.separator, self._used, cancelled=cancelled)


@dataclass(frozen=True)
class StemFolder:
    """Stems as files: FOLDER/SONG/drums.wav and so on, in any layout and format that songs can have.

    Attributes:
        folder: The folder, or a manifest.
    """

    folder: Path

    @cached_property
    def songs(self) -> dict[str, Song]:
        """What is in it, by name.

        Raises:
            SongsError: Nothing, or two songs of one name.
        """
        return by_name(find_songs(self.folder), self.folder)

    def describe(self) -> dict[str, Any]:
        """See `System`.

        Raises:
            SongsError: No stems in the folder.
        """
        return {"kind": "stems", "name": self.folder.name, "n_songs": len(self.songs)}

    def stems(
        self, song: Song, mixture: Iterator[Samples], cancelled: Callable[[], bool]
    ) -> Iterator[Mapping[str, Samples]]:
        """See `System`.

        Raises:
            SongsError: No stems of this song, or of another length, rate or number of channels than can be compared.
        """
        estimates = self.songs.get(song.name)
        files = (
            {} if estimates is None else {name: estimates.files[name] for name in SOURCES if name in estimates.files}
        )
        if not files:
            raise SongsError(f"{self.folder / song.name}: no stems of this song there; separate it first")
        for name, several in files.items():
            if len(several) > 1:
                raise SongsError(f"{several[0].path}: is one of several files for {name}; mix them to one first")
        return _together({name: _blocks(several[0], song.n_frames) for name, several in files.items()})


def choose(name: str, options: Options) -> System:
    """The preset or weights file of that name, or else the folder of stems.

    Raises:
        ConfigError: None of them.
    """
    if name in presets.PRESETS:
        return PresetSystem(name, options)
    path = Path(name)
    if not path.exists():
        raise ConfigError(f"{name}: neither a preset nor a folder of stems; presets are {', '.join(presets.PRESETS)}")
    if path.is_file() and preset_file.is_file_name(name) and path.name != MANIFEST_NAME:
        return PresetSystem(name, options)
    return StemFolder(Path(name))


def by_name(songs: list[Song], folder: Path) -> dict[str, Song]:
    """The songs by their names.

    Raises:
        SongsError: Two have one.
    """
    named: dict[str, Song] = {}
    for song in songs:
        if song.name in named:
            raise SongsError(f"{folder}: two songs are called {song.name!r}; choose one --split, or rename one")
        named[song.name] = song
    return named


def _together(streams: Mapping[str, Iterator[Samples]]) -> Iterator[dict[str, Samples]]:
    for blocks in zip(*streams.values(), strict=True):
        yield dict(zip(streams, blocks, strict=True))


def _blocks(file: StemFile, n_frames: int) -> Iterator[Samples]:
    """A stem's samples (channel, time), stereo, in blocks of the same lengths for every stem of `n_frames`."""
    with audio.AudioReader(file.path, stream=file.stream) as reader:
        info = reader.info
        if info.sample_rate != SAMPLE_RATE:
            raise SongsError(
                f"{file.path}: is at {info.sample_rate} Hz, songs are evaluated at {SAMPLE_RATE}; convert it first"
            )
        if info.n_channels > 2:
            raise SongsError(f"{file.path}: has {info.n_channels} channels; stems must be mono or stereo")
        n_read = 0
        for block in reader.blocks(_BLOCK):
            n_read += block.shape[1]
            is_short = block.shape[1] < _BLOCK and n_read < n_frames
            if n_read <= n_frames and not is_short:
                yield np.broadcast_to(block, (2, block.shape[1]))
        if n_read != n_frames:
            raise SongsError(
                f"{file.path}: has {n_read} frames, the song {n_frames}; stems must be as long as the song they are of"
            )
