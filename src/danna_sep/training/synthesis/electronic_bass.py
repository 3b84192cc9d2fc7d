"""Computed basses that are no filtered oscillators: tuned bass drums, and frequency modulation."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from danna_sep.training.synthesis.placing import RATE_HZ, Rng, Sound, fade, stereo

_LEVEL: Final = 0.1


class ElectronicBass:
    """A random one of either kind; each note of a pitch and length sounds the same."""

    def __init__(self, rng: Rng) -> None:
        """Draw its settings.

        Args:
            rng: Where they come from.
        """
        self._is_boom = rng.random() < 0.6
        self._drive = float(np.exp(rng.uniform(-1.5, 2.0)))
        self._fall = float(rng.uniform(0.4, 4.0) if self._is_boom else rng.uniform(0.3, 8.0))
        self._swoop, self._swoop_rate = float(rng.uniform(0.0, 2.5)), float(rng.uniform(20, 120))
        self._ratio = float(rng.choice([0.5, 1.0, 1.0, 2.0, 3.0]))
        self._depth, self._depth_fall = float(rng.uniform(0.5, 5)), float(rng.uniform(1, 15))
        self._wide = float(rng.uniform(0, 0.3)) if rng.random() < 0.3 else 0.0
        self._release_s = float(rng.uniform(0.03, 0.15))
        self._rendered: dict[tuple[int, int], Sound] = {}

    def play(self, midi: int, length_s: float) -> Sound:
        """One note, stereo, let go after `length_s`; its loudest 50 ms at an RMS of -20 dB; not to be written to."""
        n = int((length_s + self._release_s) * RATE_HZ)
        if (midi, n) not in self._rendered:
            self._rendered[midi, n] = self._render(440 * 2 ** ((midi - 69) / 12), n)
        return self._rendered[midi, n]

    def _render(self, hz: float, n: int) -> Sound:
        t = np.arange(n) / RATE_HZ
        wave = self._boom(hz, t) if self._is_boom else self._modulated(hz, t)
        wave = np.tanh(self._drive * wave) * np.exp(-t * self._fall)
        loudest = np.sqrt(np.convolve(np.square(wave), np.ones(2205) / 2205, "same").max())
        both = stereo((wave * (_LEVEL / (loudest + 1e-9))).astype(np.float32))
        late = round(self._wide * 0.002 * RATE_HZ)
        if late:
            both[1, late:] = both[0, : n - late]
            both[1, :late] = 0
        return fade(both, 0.002, self._release_s)

    def _boom(self, hz: float, t: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """A sine that swoops down to its pitch."""
        swooping = hz * (1 + self._swoop * np.exp(-t * self._swoop_rate))
        return np.asarray(np.sin(2 * np.pi * np.cumsum(swooping) / RATE_HZ))

    def _modulated(self, hz: float, t: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """A sine whose phase another one moves, less and less."""
        moved = self._depth * np.exp(-t * self._depth_fall) * np.sin(2 * np.pi * self._ratio * hz * t)
        return np.asarray(np.sin(2 * np.pi * hz * t + moved))
