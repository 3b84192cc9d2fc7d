"""Notes from soundfonts, played by FluidSynth; both are optional."""

from __future__ import annotations

import contextlib
import ctypes
import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from danna_sep.errors import SongsError
from danna_sep.training.synthesis import origins
from danna_sep.training.synthesis.harmony import Note
from danna_sep.training.synthesis.origins import Origin
from danna_sep.training.synthesis.placing import RATE_HZ, Rng, Sound

PLACES: Final = (Path("/usr/share/sounds/sf2"), Path("/usr/share/sounds/sf3"), Path("/usr/share/soundfonts"))
"""Where Linux distributions keep soundfonts."""

DRUM_BANK: Final = 128
_DRUM_CHANNEL: Final = 9
_SETTINGS: Final = {"synth.dynamic-sample-loading": 1, "synth.reverb.active": 0, "synth.chorus.active": 0}


def installed() -> tuple[Path, ...]:
    """The soundfonts in the usual places that are known to be free; none without FluidSynth."""
    if _fluidsynth() is None:
        return ()
    paths = (place / name for name in origins.known_soundfonts() for place in PLACES)
    return tuple(path for path in paths if path.is_file())


class Soundfonts:
    """Soundfonts to play on.

    Attributes:
        paths: Their files.
        used: Origins of those that were played since it was last cleared.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        """Look whether they are there.

        Raises:
            SongsError: A file is missing, or FluidSynth or its package is not installed.
        """
        if paths and _fluidsynth() is None:
            raise SongsError(
                f"{paths[0]}: soundfonts need FluidSynth: install its library (Debian: fluidsynth) and the extra "
                "`synthesis`"
            )
        for path in paths:
            if not path.is_file():
                raise SongsError(f"{path}: no such soundfont")
        self.paths = tuple(paths)
        self.used: set[Origin] = set()

    def __bool__(self) -> bool:
        return bool(self.paths)

    def play(self, rng: Rng, bank: int, program: int, notes: Sequence[Note], n_samples: int) -> Sound:
        """Notes on one preset of a random soundfont, stereo.

        The synthesiser is a new one each time, and its output not dithered: the same notes give the same samples.

        Args:
            rng: Chooses the soundfont.
            bank: 0, or DRUM_BANK.
            program: General MIDI number from 0; where a soundfont lacks it, its first one plays.
            notes: In any order; velocities 0 to 1 become 30 to 127.
            n_samples: Length of the result.

        Raises:
            SongsError: The soundfont cannot be read.
        """
        path = self.paths[int(rng.integers(len(self.paths)))]
        library: Any = _fluidsynth()
        with _stderr_closed():
            synth = library.Synth(gain=0.3, samplerate=float(RATE_HZ), **_SETTINGS)
            number = synth.sfload(str(path))
        try:
            if number < 0:
                raise SongsError(f"{path}: not a soundfont that FluidSynth can read")
            channel = _DRUM_CHANNEL if bank else 0
            with _stderr_closed():
                if synth.program_select(channel, number, bank, program) != 0:
                    synth.program_select(channel, number, bank, 0)
            out = _perform(library, synth, channel, notes, n_samples)
        finally:
            synth.delete()
        self.used.add(origins.of_soundfont(path))
        return out


def _perform(library: Any, synth: Any, channel: int, notes: Sequence[Note], n_samples: int) -> Sound:
    queue: list[tuple[int, int, int, int]] = []
    for note in notes:
        start = max(0, int(note.start_s * RATE_HZ))
        stop = start + max(int(note.length_s * RATE_HZ), 400)
        velocity = int(np.clip(round(30 + 97 * note.velocity), 1, 127))
        queue += [(start, 1, note.midi, velocity), (stop, 0, note.midi, 0)]
    out = np.zeros((2, n_samples), dtype=np.float32)
    now = 0
    for at, is_on, midi, velocity in sorted(queue):
        if at >= n_samples:
            break
        if at > now:
            _write(library, synth, out, now, at)
            now = at
        if is_on:
            synth.noteon(channel, midi, velocity)
        else:
            synth.noteoff(channel, midi)
    _write(library, synth, out, now, n_samples)
    return out


def _write(library: Any, synth: Any, out: Sound, start: int, stop: int) -> None:
    """Lets FluidSynth render into both channels of `out`, from `start` to `stop`."""
    left, right = (channel.ctypes.data_as(ctypes.c_void_p) for channel in out)
    library._fl.fluid_synth_write_float(ctypes.c_void_p(synth.synth), stop - start, left, start, 1, right, start, 1)


def _fluidsynth() -> Any:
    """The package pyfluidsynth, or None where it or the library is missing."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # with CI in the environment it tells where it looks
            import fluidsynth
    except (ImportError, OSError):
        return None
    return fluidsynth


@contextlib.contextmanager
def _stderr_closed() -> Iterator[None]:
    """FluidSynth's own remarks on audio drivers and soundfonts go nowhere."""
    nothing, stderr = os.open(os.devnull, os.O_WRONLY), os.dup(2)
    os.dup2(nothing, 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(nothing)
        os.close(stderr)
