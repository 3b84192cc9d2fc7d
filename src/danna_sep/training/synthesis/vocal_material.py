"""The recordings that one song is sung with: a few of one bank, analysed when they are first needed."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from danna_sep.training.synthesis.phrases import BANKS, Way, prepared
from danna_sep.training.synthesis.recordings import Recordings
from danna_sep.training.synthesis.treatment import RATE_HZ, Rng, Sound
from danna_sep.training.synthesis.vocal_world import Voice, analyse, bridged

_MOST_S: Final = 60.0
"""Seconds of recordings that a song is sung with; a second of analysis takes half a megabyte."""


class Material:
    """Recordings of one bank, of one singer in one key.

    Attributes:
        bank: Its name in `BANKS`.
        paths: Chosen among its files; at least one.
    """

    def __init__(self, recordings: Recordings, bank: str, rng: Rng, n: int) -> None:
        """Choose `n` recordings at most, of `_MOST_S` seconds together."""
        self.bank = bank
        self._recordings = recordings
        self._voices: dict[Path, Voice] = {}
        paths = files(recordings, bank)
        if bank in ("shv", "etv"):  # one key at a time
            key = _key(paths[int(rng.integers(len(paths)))])
            paths = [path for path in paths if _key(path) == key]
        chosen = [paths[int(i)] for i in rng.permutation(len(paths))[:n]]
        self.paths: list[Path] = []
        left = _MOST_S * RATE_HZ
        for path in chosen:
            left -= self.sound(path).shape[1]
            if left > 0 or not self.paths:
                self.paths.append(path)

    @property
    def above_man(self) -> float:
        """Semitones by which the recordings' formants lie above a man's."""
        return BANKS[self.bank].above_man

    def sound(self, path: Path) -> Sound:
        """One of the recordings (channel, time), prepared, at most as long as its bank's recordings are used."""
        n = int(BANKS[self.bank].longest_s * RATE_HZ)
        return self._recordings.prepared(path, "voice", prepared)[:, :n]

    def voice(self, path: Path) -> Voice:
        """One of the recordings as WORLD hears it."""
        if path not in self._voices:
            sound = self.sound(path)
            if sound.shape[1] < 0.05 * RATE_HZ:
                sound = np.zeros((1, RATE_HZ // 10), dtype=np.float32)
            self._voices[path] = analyse(np.ascontiguousarray(sound.mean(axis=0, dtype=np.float32)))
        return self._voices[path]

    def any(self, rng: Rng) -> Voice:
        """A random one, as WORLD hears it."""
        return self.voice(self.paths[int(rng.integers(len(self.paths)))])

    def log_pitches(self) -> npt.NDArray[np.float64]:
        """Natural logs of the pitch of all voiced frames of all recordings, (frame,); of 200 Hz if there are none."""
        pitches = [bridged(voice.pitch_hz)[voice.pitch_hz > 0] for voice in map(self.voice, self.paths)]
        whole = np.concatenate(pitches)
        return whole if len(whole) else np.array([np.log(200.0)])


def files(recordings: Recordings, bank: str) -> list[Path]:
    """The files of a bank, sorted."""
    without = BANKS[bank].without
    found = recordings.files(f"voices/{BANKS[bank].pattern}")
    return [path for path in found if without is None or without not in path.name]


def banks_for(recordings: Recordings, way: Way, among: Collection[str] = BANKS) -> dict[str, float]:
    """Which of some banks can serve for a way of singing, as far as their recordings are there, with their weights."""
    return {
        name: bank.weights[way]
        for name, bank in BANKS.items()
        if name in among and way in bank.weights and files(recordings, name)
    }


def _key(path: Path) -> str:
    """What recordings in one key have in common: their folder's name without its kind of phrase."""
    return path.parent.name.removesuffix("_adlib").removesuffix("_phrase")
