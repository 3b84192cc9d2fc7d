"""Moving delays: chorus and doubled tracks."""

from __future__ import annotations

from typing import Final

import numpy as np

from danna_sep.training.synthesis.placing import RATE_HZ, Rng, Sound, stereo

_BLOCK: Final = 2**18
"""Samples that are delayed at once, for the memory's sake."""


def sway(sound: Sound, depth_s: float, rate_hz: float, phase: float, base_s: float) -> Sound:
    """The sound (channel, time) delayed by a slowly moving time, from `base_s` to `base_s` + 2 `depth_s`.

    Interpolated linearly between samples; `phase` in radians.
    """
    n = sound.shape[-1]
    padded = np.pad(sound, ((0, 0), (2, 1)))  # zeros before the start
    out = np.empty(sound.shape, dtype=np.float32)
    for first in range(0, n, _BLOCK):
        t = np.arange(first, min(first + _BLOCK, n), dtype=np.float64)
        where = t - RATE_HZ * (base_s + depth_s * (1 + np.sin(2 * np.pi * rate_hz * t / RATE_HZ + phase)))
        before = np.floor(where).astype(np.int64)
        share = (where - before).astype(np.float32)
        at = np.clip(before + 2, 0, n + 1)
        out[:, first : first + _BLOCK] = padded[:, at] * (1 - share) + padded[:, at + 1] * share
    return out


def chorus(sound: Sound, rng: Rng) -> Sound:
    """A stereo sound with a moving copy of each channel."""
    depth_s, rate_hz, wet = rng.uniform(0.0008, 0.004), rng.uniform(0.2, 1.5), rng.uniform(0.3, 0.9)
    left = sway(sound[:1], depth_s, rate_hz, 0.0, 0.008)
    right = sway(sound[1:], depth_s, rate_hz, rng.uniform(1, 3), 0.010)
    out: Sound = sound + np.float32(wet) * np.concatenate([left, right])
    return out


def widen(sound: Sound, rng: Rng, detune_s: float = 0.0006) -> Sound:
    """Doubles a stereo sound: slightly late and moving copies of its middle at the left and at the right."""
    out: Sound = sound * np.float32(rng.uniform(0.0, 1.0))
    middle = sound.mean(axis=0, keepdims=True)
    for pan in (-rng.uniform(0.5, 1), rng.uniform(0.5, 1)):
        rate_hz = rng.uniform(0.15, 0.8)
        copy = sway(middle, detune_s / rate_hz * 0.5, rate_hz, rng.uniform(0, 6.3), rng.uniform(0.008, 0.03))
        out = out + stereo(copy, pan) * np.float32(0.7)
    return out
