"""Sounds on a timeline: levels, edges, panning, speed, and adding one into another.

A `Sound` is float32 (channel, time) at 44.1 kHz; full scale is 1.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
import soxr  # type: ignore[import-untyped]

from danna_sep.types import SAMPLE_RATE

Sound: TypeAlias = npt.NDArray[np.float32]
Rng: TypeAlias = np.random.Generator
RATE_HZ: Final = SAMPLE_RATE

_SILENCE_FRAME: Final = 2205
"""Samples in which `trim_silences` measures levels: 50 ms."""


def db(level_db: float) -> float:
    """The factor that decibels stand for."""
    return float(10 ** (level_db / 20))


def rms_db(sound: Sound) -> float:
    """Mean level in decibels below full scale; -120 for silence."""
    return float(10 * np.log10(np.mean(np.square(sound, dtype=np.float64)) + 1e-12))


def fade(sound: Sound, in_s: float = 0.003, out_s: float = 0.02) -> Sound:
    """A copy with raised-cosine edges of so many seconds, each at most half the sound."""
    sound = sound.copy()
    n_in, n_out = (min(int(t * RATE_HZ), sound.shape[-1] // 2) for t in (in_s, out_s))
    if n_in:
        sound[..., :n_in] *= 0.5 - 0.5 * np.cos(np.pi * np.arange(n_in) / n_in)
    if n_out:
        sound[..., -n_out:] *= 0.5 + 0.5 * np.cos(np.pi * np.arange(n_out) / n_out)
    return sound


def stereo(sound: Sound, pan: float = 0.0) -> Sound:
    """Two channels of a sound with one, two or no axis of channels.

    Args:
        sound: (time), (1, time) or (2, time).
        pan: From -1 (left) to 1 (right), with equal power; at 0 a mono sound stands in both channels as it is.
    """
    if sound.ndim == 1:
        sound = sound[None]
    angle = (pan + 1) * np.pi / 4
    gains = np.sqrt(2) * np.array([[np.cos(angle)], [np.sin(angle)]])
    panned: Sound = sound[:2] * gains.astype(np.float32)
    return panned


def add(out: Sound, sound: Sound, start_s: float, gain: float = 1.0) -> None:
    """Adds a sound into `out`, in place, at a time in seconds; what passes the end is cut with a fade."""
    at = int(start_s * RATE_HZ)
    if at < 0:
        sound, at = fade(sound[:, -at:]), 0
    n_room = out.shape[1] - at
    if n_room <= 64 or sound.shape[1] == 0:
        return
    if sound.shape[1] > n_room:
        sound = fade(sound[:, :n_room], 0.0, 0.01)
    out[:, at : at + sound.shape[1]] += np.float32(gain) * sound


def respeed(sound: Sound, factor: float) -> Sound:
    """The sound played `factor` times as fast; pitch and length change together."""
    if abs(factor - 1) < 1e-4:
        return sound
    played = soxr.resample(sound.T, RATE_HZ * factor, RATE_HZ, quality="HQ")
    return np.ascontiguousarray(played.T, dtype=np.float32)


def trim_silences(sound: Sound, longest_s: float = 1.5, keep_s: float = 0.5) -> Sound:
    """Shortens silences longer than `longest_s` to `keep_s`, with fades at each cut; nothing is left of silence.

    Silent is what lies 48 dB below the loud parts, or below -60 dB.
    """
    n_frames = sound.shape[1] // _SILENCE_FRAME
    if not n_frames:
        return sound[:, :0]
    squares = np.square(sound[:, : n_frames * _SILENCE_FRAME]).reshape(sound.shape[0], n_frames, -1)
    level_db = 10 * np.log10(squares.mean(axis=(0, 2)) + 1e-12)
    where = np.flatnonzero(level_db > max(float(np.percentile(level_db, 98)) - 48, -60))
    if not len(where):
        return sound[:, :0]
    pad = max(1, int(keep_s / 2 * RATE_HZ / _SILENCE_FRAME))
    breaks = np.flatnonzero(np.diff(where) * _SILENCE_FRAME > longest_s * RATE_HZ)
    firsts = np.r_[where[0], where[breaks + 1]]
    lasts = np.r_[where[breaks], where[-1]]
    pieces = [
        fade(sound[:, max(0, first - pad) * _SILENCE_FRAME : (last + 1 + pad) * _SILENCE_FRAME], 0.02, 0.05)
        for first, last in zip(firsts, lasts, strict=True)
    ]
    return np.concatenate(pieces, axis=1)
