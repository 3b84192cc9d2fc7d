"""Equalisers: smooth curves over frequency, low and high cuts.

Libraries of effects such as audiomentations draw their settings from global random states; a song here is a function of
its own generator, so the effects are written out on SciPy.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
from scipy import fft, signal

from danna_sep.training.synthesis.placing import RATE_HZ, Rng, Sound

_N_TAPS: Final = 8191
"""Of the filter that follows a curve: resolves about 10 Hz."""


def shape_spectrum(sound: Sound, gain_of_hz: Mapping[float, float]) -> Sound:
    """Scales frequencies without moving anything in time (zero phase).

    Args:
        sound: (channel, time).
        gain_of_hz: Decibels at frequencies in Hz, interpolated over the logarithm of frequency, constant outside.
    """
    points = sorted(gain_of_hz.items())
    hz = np.maximum(np.fft.rfftfreq(_N_TAPS + 1, 1 / RATE_HZ), 1.0)
    gain_db = np.interp(np.log2(hz), np.log2([p[0] for p in points]), [p[1] for p in points])
    taps = fft.irfft(np.power(10, gain_db / 20), _N_TAPS + 1)
    taps = np.roll(taps, _N_TAPS // 2)[:_N_TAPS] * np.hanning(_N_TAPS + 2)[1:-1]
    shaped = signal.oaconvolve(sound, taps[None].astype(np.float32), axes=-1)
    return np.ascontiguousarray(shaped[:, _N_TAPS // 2 :][:, : sound.shape[1]], dtype=np.float32)


def cut(sound: Sound, low_cut_hz: float = 20.0, high_cut_hz: float = 20_000.0, order: int = 2) -> Sound:
    """Butterworth low cut and, below 19.5 kHz, high cut; 6 dB an octave for each `order`."""
    bands = [signal.butter(order, low_cut_hz, "high", fs=RATE_HZ, output="sos")]
    if high_cut_hz < 19_500:
        bands.append(signal.butter(order, high_cut_hz, "low", fs=RATE_HZ, output="sos"))
    return np.asarray(signal.sosfilt(np.concatenate(bands), sound, axis=-1), dtype=np.float32)


def colour(
    sound: Sound, rng: Rng, low_cut_hz: float = 20.0, high_cut_hz: float = 20_000.0, depth_db: float = 4.0
) -> Sound:
    """A random smooth equaliser, deviations and tilt about `depth_db` / 2 each, between a low and a high cut."""
    centres = np.geomspace(40, 18_000, 8) * np.exp(rng.normal(0, 0.15, 8))
    tilt = rng.normal(0, depth_db / 2)
    gains = rng.normal(0, depth_db / 2, 8) + np.linspace(-tilt, tilt, 8)
    curve = dict(zip(centres.tolist(), gains.tolist(), strict=True))
    return cut(shape_spectrum(sound, curve), low_cut_hz, high_cut_hz)
