"""Levels of the stems, and the limiting of their sum: all that makes a mix of four tracks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from scipy import ndimage

from danna_sep.training.synthesis.dynamics import spread
from danna_sep.training.synthesis.placing import RATE_HZ, Rng, Sound, db

LEVELS_DB: Final = {"drums": -19.0, "bass": -20.0, "other": -19.0, "vocals": -19.0}
"""RMS of each stem where it plays, before the mix is brought to its peak."""

_HOP: Final = 44
"""Samples in which a limiter looks for peaks: 1 ms."""

_BLOCK: Final = RATE_HZ // 10
"""Samples in which it is measured how loud a stem is where it sounds."""

_AHEAD: Final = 5
"""Hops by which it knows a peak before it comes."""


def gate(sound: Sound, spans: Sequence[tuple[float, float]], early_s: float = 0.05, tail_s: float = 2.0) -> Sound:
    """Silence outside some spans, but for what comes just before and what rings on.

    Args:
        sound: (channel, time).
        spans: Starts and ends in seconds.
        early_s: Length of the fade before a start.
        tail_s: Length of the fade after an end.
    """
    t = np.arange(sound.shape[1]) / RATE_HZ
    gain = np.zeros(sound.shape[1], dtype=np.float32)
    for start_s, end_s in spans:
        corners = [start_s - early_s, start_s - early_s / 2, end_s, end_s + tail_s]
        first, last = (int(max(0.0, s) * RATE_HZ) for s in (corners[0], corners[3] + 0.001))
        part = np.interp(t[first:last], corners, [0, 1, 1, 0])
        gain[first:last] = np.maximum(gain[first:last], part**2)
    gated: Sound = sound * gain
    return gated


def level_db(sound: Sound, spans: Sequence[tuple[float, float]]) -> float:
    """RMS within some spans where it sounds, dB below full scale; -120 for silence.

    It sounds in those tenths of a second that are not 25 dB below the loudest of them.
    """
    if not spans:
        return -120.0
    power = np.square(sound).mean(axis=0)
    inside = np.concatenate([power[int(start_s * RATE_HZ) : int(end_s * RATE_HZ)] for start_s, end_s in spans])
    blocks = np.pad(inside, (0, -len(inside) % _BLOCK)).reshape(-1, _BLOCK).mean(axis=1, dtype=np.float64)
    loud = blocks[blocks >= blocks.max(initial=0.0) * db(-50)]
    return float(10 * np.log10((loud.mean() if len(loud) else 0.0) + 1e-12))


def limiter_gain(mixture: Sound, ceiling: float, release_db_s: float) -> Sound:
    """The gain (time) that keeps a mixture's samples within a ceiling, the same for all channels.

    It falls ahead of a peak, over 5 ms, and comes back so many decibels a second.

    Args:
        mixture: (channel, time).
        ceiling: Largest sample that is left; full scale is 1.
        release_db_s: How fast the gain comes back.
    """
    n = mixture.shape[1]
    peaks = np.pad(np.abs(mixture).max(axis=0), (0, -n % _HOP)).reshape(-1, _HOP).max(axis=1)
    over_db = np.maximum(20 * np.log10(np.maximum(peaks, 1e-9) / ceiling), 0.0)
    slope = release_db_s * _HOP / RATE_HZ
    ramp = slope * np.arange(len(over_db))
    held = np.maximum.accumulate(over_db + ramp) - ramp  # falls by `slope` a hop from each peak on
    # The largest of a window, then its mean over the same window: never less than what a hop needs.
    size = 2 * _AHEAD + 1
    smooth_db = ndimage.uniform_filter1d(ndimage.maximum_filter1d(held, size), size)
    smooth_db = ndimage.maximum_filter1d(smooth_db, 3)  # between two hops, too
    return spread(np.power(10, -np.maximum(smooth_db, 0.0) / 20), _HOP, n)


def limit(stems: Mapping[str, Sound], ceiling: float, release_db_s: float = 60.0) -> dict[str, Sound]:
    """Stems under the gain that a limiter would put on their sum: they add up to the limited mixture."""
    gain = limiter_gain(total(stems), ceiling, release_db_s)
    return {source: stem * gain for source, stem in stems.items()}


def master(stems: Mapping[str, Sound], rng: Rng) -> dict[str, Sound]:
    """A mix brought to a random peak, between 0.35 and 0.975; two of five are made loud by a limiter first.

    The peak is that of the mixture, or of a stem where that is higher.
    """
    peak = float(np.abs(total(stems)).max(initial=0.0))
    if peak == 0:
        return dict(stems)
    done = {source: stem * np.float32(1 / peak) for source, stem in stems.items()}
    if rng.random() < 0.4:
        done = limit(done, db(-float(rng.uniform(2, 10))), float(rng.uniform(20, 200)))
    peak = max(float(np.abs(sound).max()) for sound in (total(done), *done.values()))
    wanted = float(rng.uniform(0.35, 0.975)) if rng.random() < 0.5 else float(rng.uniform(0.85, 0.975))
    return {source: stem * np.float32(wanted / peak) for source, stem in done.items()}


def total(stems: Mapping[str, Sound]) -> Sound:
    """The mixture."""
    first, *others = stems.values()
    mixture: Sound = first.copy()
    for stem in others:
        mixture += stem
    return mixture
