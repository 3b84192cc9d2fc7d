"""Computed synthesisers: oscillators, envelopes and filters with random settings. They need no files."""

from __future__ import annotations

from typing import Final, Literal

import numpy as np

from danna_sep.training.synthesis.placing import RATE_HZ, Rng, Sound, fade, stereo
from danna_sep.training.synthesis.tone import cut

Role = Literal["bass", "lead", "pad", "pluck"]

_TABLE: Final = 4096
_WAVES: Final = ("saw", "square", "triangle", "pulse", "sine")
_PLUCK_S: Final = 0.15
_N_VARIANTS: Final = 2
"""Renderings of a note, with other phases, that are used in turn."""


def oscillator(wave: str, hz: float, n_samples: int, phase: float = 0.0) -> Sound:
    """A band-limited wave (time): harmonics up to 16 kHz, at most 60 of them.

    Args:
        wave: saw, square, triangle, pulse or sine.
        hz: Its frequency.
        n_samples: Its length.
        phase: Where it begins, in periods.
    """
    t = np.arange(n_samples) / RATE_HZ
    if wave == "sine":
        return np.sin(2 * np.pi * (hz * t + phase)).astype(np.float32)
    k = np.arange(1, max(2, int(min(60, 16_000 / hz)) + 1))
    size = {"saw": 1 / k, "square": (k % 2) / k, "triangle": (k % 2) / k**2, "pulse": np.sin(0.8 * k) / k}[wave]
    spectrum = np.zeros(_TABLE // 2 + 1, dtype=np.complex128)
    spectrum[k] = -0.5j * _TABLE * size
    one = np.fft.irfft(spectrum, _TABLE)
    where = ((hz * t + phase) % 1.0) * _TABLE
    return np.interp(where, np.arange(_TABLE + 1), np.r_[one, one[0]]).astype(np.float32)


class Patch:
    """A random subtractive synthesiser: detuned oscillators, envelopes, a filter that closes over time."""

    def __init__(self, rng: Rng, role: Role) -> None:
        """Draw its settings.

        Args:
            rng: Where they come from.
            role: What it is to play.
        """
        self._rng, self._role = rng, role
        self._waves = [str(w) for w in rng.choice(_WAVES, size=2, p=[0.4, 0.2, 0.15, 0.15, 0.1])]
        n_most = 2 if role == "bass" else 5
        self._cents = rng.normal(0, rng.uniform(0.5, 9), size=int(rng.integers(1, n_most + 1)))
        self._attack_s = float(rng.uniform(0.1, 0.6) if role == "pad" else rng.uniform(0.002, 0.03))
        self._decay = float(rng.uniform(0.0, 1.0) if role == "pad" else rng.uniform(0.5, 7))
        self._is_plucked_bass = role == "bass" and rng.random() < 0.35
        plucked = role == "pluck" or self._is_plucked_bass
        self._sustain = float(rng.uniform(0, 0.2) if plucked else rng.uniform(0.4, 1))
        self._dark_hz = float(rng.uniform(200, 1200) if role == "bass" else rng.uniform(400, 3000))
        self._bright_hz = min(self._dark_hz * float(rng.uniform(2, 10)), 18_000.0)
        self._sweep = float(rng.uniform(1, 15))
        self._sub = float(rng.uniform(0, 0.8)) if role == "bass" else 0.0
        self._vibrato = float(rng.uniform(0, 0.008)) if role == "lead" and rng.random() < 0.6 else 0.0
        self._noise = float(rng.uniform(0, 0.1)) if role in ("pad", "lead") and rng.random() < 0.2 else 0.0
        self._release_s = 0.4 if role == "pad" else 0.06
        self._rendered: dict[tuple[int, int, int], Sound] = {}

    def play(self, midi: int, length_s: float) -> Sound:
        """One note, stereo, let go after `length_s`; not to be written to.

        At an RMS of -20 dB, a plucked bass at its beginning.
        """
        n = int((length_s + self._release_s) * RATE_HZ)
        key = (midi, n, int(self._rng.integers(_N_VARIANTS)))
        if key not in self._rendered:
            self._rendered[key] = self._render(midi, n)
        return self._rendered[key]

    def _render(self, midi: int, n: int) -> Sound:
        rng = self._rng
        t = np.arange(n) / RATE_HZ
        hz = 440 * 2 ** ((midi - 69) / 12)
        out = np.zeros((2, n), dtype=np.float32)
        for i, cents in enumerate(self._cents):
            wave = oscillator(self._waves[i % 2], hz * 2 ** (cents / 1200), n, float(rng.random()))
            pan = 0.0 if self._role == "bass" or len(self._cents) < 2 else 1.6 * i / (len(self._cents) - 1) - 0.8
            out += stereo(wave, pan)
        if self._sub:
            out += np.float32(self._sub) * oscillator("sine", hz / (2 if midi > 40 else 1), n)
        if self._noise:
            out += np.float32(self._noise) * rng.standard_normal((2, n)).astype(np.float32)
        dark, bright = cut(out, 20, self._dark_hz), cut(out, 20, self._bright_hz)
        mix = np.exp(-t * self._sweep).astype(np.float32)
        out = dark * (1 - mix) + bright * mix
        rise = np.minimum(t / self._attack_s, 1.0)
        body = self._sustain + (1 - self._sustain) * np.exp(-t * self._decay)
        body *= 1 + self._vibrato * 20 * np.sin(2 * np.pi * 5.3 * t)
        out = out * (rise * body).astype(np.float32)
        # A long note would be much louder than a short one if all that rings on counted.
        heard = out[:, : round(_PLUCK_S * RATE_HZ)] if self._is_plucked_bass else out
        level = float(np.sqrt(np.mean(np.square(heard)))) + 1e-6
        return fade(out * np.float32(0.1 / level), 0.001, self._release_s)
