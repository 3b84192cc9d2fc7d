"""Loudness over time: compression and saturation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from scipy import signal

from danna_sep.training.synthesis.placing import RATE_HZ, Rng, Sound

_HOP: Final = 441
"""Samples in which levels are followed: 10 ms."""


def compress(sound: Sound, rng: Rng, amount: float = 1.0) -> Sound:
    """Evens out levels: attack at once, random release (60 to 300 ms), threshold and ratio.

    Both channels get the same gain. The threshold lies 3 to 16 dB times `amount` below the level that the loudest
    twentieth reaches.
    """
    n = sound.shape[-1]
    power = np.square(sound).max(axis=0)
    frames = np.pad(power, (0, -n % _HOP)).reshape(-1, _HOP).max(axis=1)
    release = float(np.exp(-_HOP / RATE_HZ / rng.uniform(0.06, 0.3)))
    smooth = np.maximum(frames, signal.lfilter([1 - release], [1, -release], frames))
    level_db = 10 * np.log10(smooth + 1e-9)
    threshold_db = np.percentile(level_db, 95) - rng.uniform(3, 16) * amount
    slope = 1 - 1 / rng.uniform(1.5, 6)
    gain_db = -np.maximum(level_db - threshold_db, 0) * slope
    even: Sound = sound * spread(np.power(10, gain_db / 20), _HOP, n)
    return even


def duck(sound: Sound, starts_s: Sequence[float], rng: Rng) -> Sound:
    """Makes room for bass drums, as a compressor does that listens to them: down at once, back up over a random time.

    Args:
        sound: (channel, time).
        starts_s: When they strike.
        rng: Draws how far down (6 to 26 dB) and how long it takes back (0.1 to 0.4 s).
    """
    n = sound.shape[-1]
    depth_db, back_s = float(rng.uniform(6, 26)), float(rng.uniform(0.1, 0.4))
    hop = _HOP // 4
    struck = np.zeros(-(-n // hop))
    places = (np.asarray(starts_s) * RATE_HZ / hop).astype(np.int64)
    struck[places[(places >= 0) & (places < len(struck))]] = 1
    times = np.arange(len(struck))
    since_s = (times - np.maximum.accumulate(np.where(struck > 0, times, -len(struck) - 10**6))) * hop / RATE_HZ
    gain = np.power(10, -depth_db / 20 * np.clip(1 - since_s / back_s, 0, 1) ** 1.5)
    ducked: Sound = sound * spread(gain, hop, n)
    return ducked


def spread(values: np.ndarray, hop: int, n_samples: int) -> Sound:
    """Values at the middles of frames of `hop` samples, interpolated linearly: float32 (time)."""
    times = (np.arange(len(values)) + 0.5) * hop
    return np.asarray(np.interp(np.arange(n_samples), times, values), dtype=np.float32)


def saturate(sound: Sound, drive: float) -> Sound:
    """Soft clipping that keeps the peak; `drive` 1 is gentle, 20 is a distorted amplifier."""
    peak = float(np.abs(sound).max(initial=0.0)) + 1e-9
    return np.asarray(np.tanh(sound * (drive / peak)) * (peak / np.tanh(drive)), dtype=np.float32)
