"""A folder of free recordings: which files of it may be used, read once and kept for a while."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Final

import numpy as np

from danna_sep import audio
from danna_sep.errors import SongsError
from danna_sep.training.synthesis import origins, speakers
from danna_sep.training.synthesis.origins import Origin
from danna_sep.training.synthesis.placing import RATE_HZ, Sound, fade

SONIC_PI: Final = Path("/usr/share/sonic-pi/samples")
"""Where Debian's package sonic-pi-samples lies; its files appear as `sonic-pi/...`."""

_SPOKEN: Final = PurePosixPath("voices/flite")
"""Where the sentences of speech synthesisers appear to lie, a folder for each speaker."""

_ENDINGS: Final = frozenset({".ogg", ".wav", ".flac"})
_KEPT_BYTES: Final = 200 * 2**20
_BLOCK: Final = 2**20


class Recordings:
    """The recordings of a folder, as far as their licences let them train weights.

    Files that `origins.json` does not name are as if they did not exist: they are neither listed nor opened.

    Attributes:
        folder: With `instruments` and `voices`; docs/synthesis.md draws it.
        used: Origins of all that was taken since it was last cleared.
    """

    def __init__(self, folder: Path, sonic_pi: Path = SONIC_PI, spoken_by: tuple[str, ...] | None = None) -> None:
        """Find the files.

        Args:
            folder: Of recordings.
            sonic_pi: More of them.
            spoken_by: Speech synthesisers that take part; None for those that are installed.

        Raises:
            SongsError: Not a folder, or none of the known recordings is in it.
        """
        if not folder.is_dir():
            raise SongsError(f"{folder}: no such folder; give one with `instruments` and `voices` (docs/synthesis.md)")
        self.folder = folder
        self.used: set[Origin] = set()
        self._shelf: OrderedDict[tuple[Path, str], Sound] = OrderedDict()
        self._measures: dict[tuple[Path, str], float] = {}
        self._n_bytes = 0
        self._found: dict[str, tuple[Path, ...]] = {}
        self._places: dict[Path, tuple[PurePosixPath, Origin]] = {}
        for top, place in (("instruments", folder), ("voices", folder), ("sonic-pi", sonic_pi.parent)):
            real = place / (sonic_pi.name if top == "sonic-pi" else top)
            for path in sorted(real.rglob("*")):
                relative = PurePosixPath(top, *path.relative_to(real).parts)
                if path.suffix.lower() in _ENDINGS and (origin := _origin(relative)):
                    self._places[path] = (relative, origin)
        if not any(relative.parts[0] != "sonic-pi" for relative, _ in self._places.values()):
            raise SongsError(f"{folder}: no recordings in it that are known to be free; docs/synthesis.md lists them")
        for speaker in speakers.installed() if spoken_by is None else spoken_by:
            for number in range(speakers.N_SENTENCES):
                relative = _SPOKEN / speaker / str(number)
                if origin := _origin(relative):
                    self._places[Path(relative)] = (relative, origin)

    def files(self, pattern: str) -> tuple[Path, ...]:
        """Files by a pattern of their place below the folder, sorted; none if there are none.

        Args:
            pattern: Such as `voices/yuki/*`; the ending (.ogg, .wav, .flac) may be left out.
        """
        if pattern not in self._found:
            self._found[pattern] = tuple(
                path for path, (relative, _) in self._places.items() if origins.matches(relative, pattern)
            )
        return self._found[pattern]

    def load(self, path: Path) -> Sound:
        """A recording at 44.1 kHz with its own channels, without its mean, its edges faded; not to be written to.

        Raises:
            SongsError: The file is not one that may be used.
            AudioError: It cannot be read.
        """
        return self.prepared(path, "", lambda sound: sound)

    def prepared(self, path: Path, how: str, prepare: Callable[[Sound], Sound]) -> Sound:
        """A recording after a preparation; the result is remembered, as far as memory for it goes.

        Args:
            path: One of `files`.
            how: Name of the preparation, its parameters included.
            prepare: From what `load` gives to what is wanted.
        """
        self._take(path)
        key = (path, how)
        if key in self._shelf:
            self._shelf.move_to_end(key)
            return self._shelf[key]
        sound = prepare(self._read(path))
        sound.flags.writeable = False
        self._shelf[key] = sound
        self._n_bytes += sound.nbytes
        while self._n_bytes > _KEPT_BYTES and len(self._shelf) > 1:
            self._n_bytes -= self._shelf.popitem(last=False)[1].nbytes
        return sound

    def measured(self, path: Path, how: str, measure: Callable[[Sound], float]) -> float:
        """A number that tells something of a recording, remembered.

        Args:
            path: One of `files`.
            how: Name of the measure.
            measure: From what `load` gives to the number.
        """
        self._take(path)
        if (path, how) not in self._measures:
            self._measures[path, how] = measure(self._read(path))
        return self._measures[path, how]

    def _take(self, path: Path) -> None:
        if path not in self._places:
            raise SongsError(f"{path}: not a recording that is known to be free")
        self.used.add(self._places[path][1])

    def _read(self, path: Path) -> Sound:
        relative, _ = self._places[path]
        sound = speakers.say(path.parent.name, int(path.name)) if relative.is_relative_to(_SPOKEN) else _decoded(path)
        return fade(np.ascontiguousarray(sound - sound.mean(axis=1, keepdims=True), dtype=np.float32), 0.001, 0.01)


def _origin(relative: PurePosixPath) -> Origin | None:
    return next((origin for origin in origins.recorded() if origin.has(relative)), None)


def _decoded(path: Path) -> Sound:
    with audio.AudioReader(path) as reader:
        resampler = audio.StreamResampler(reader.info.sample_rate, RATE_HZ, reader.info.n_channels)
        pieces = [resampler.push(block) for block in reader.blocks(_BLOCK)]
    return np.concatenate([*pieces, resampler.finish()], axis=1)
