"""Singing: a voice on a new pitch contour, from another throat."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from danna_sep.training.synthesis.vocal_singers import Singer
from danna_sep.training.synthesis.vocal_world import FRAME_S, N_BINS, Voice, silence, smooth, synthesise
from danna_sep.types import SAMPLE_RATE

_LOWEST_HZ: Final = 60.0
_HIGHEST_HZ: Final = 1200.0
_SHORTEST_VIBRATO_S: Final = 0.3
_BIN_HZ: Final = SAMPLE_RATE / 2 / (N_BINS - 1)
SEMITONE: Final = float(np.log(2) / 12)
"""In natural log of a frequency."""


class Note(NamedTuple):
    """A note by frames of 5 ms: the first, how many, and its MIDI number."""

    first: int
    length: int
    midi: float


def log_hz(midi: float) -> float:
    """Natural log of a MIDI note's frequency."""
    return float(np.log(440.0) + (midi - 69) * SEMITONE)


def contour(rng: np.random.Generator, singer: Singer, n: int, notes: list[Note]) -> npt.NDArray[np.float64]:
    """The pitch of a sung tune: notes with glides, scoops, vibrato that grows on long ones, drift, roughness.

    Args:
        rng: Where chance comes from.
        singer: Whose habits.
        n: Frames.
        notes: In order; at least one.

    Returns:
        Natural log of the frequency, (frame,), also where nothing is sung.
    """
    steps = np.full(n, float(notes[0].midi))
    swing = np.zeros(n)
    for first, length, midi in notes:
        steps[first:] = midi
        t = np.arange(max(0, min(length, n - first))) * FRAME_S
        grows_s, hz, scoop = rng.uniform(0.1, 0.3), singer.vibrato_hz * rng.uniform(0.96, 1.04), rng.random()
        depth, fall_s = rng.uniform(0.5, 2.0), rng.uniform(0.02, 0.06)
        if singer.vibrato_cents and length * FRAME_S > _SHORTEST_VIBRATO_S:
            grown = np.clip((t - grows_s) / 0.25, 0, 1)
            swing[first : first + len(t)] = grown * np.sin(2 * np.pi * hz * t) * singer.vibrato_cents / 100
        if scoop < singer.scoops:
            swing[first : first + len(t)] -= depth * np.exp(-t / fall_s)
    width = max(3, int(singer.glide_s / FRAME_S))
    steps = smooth(smooth(steps, width), width)
    drift = smooth(rng.standard_normal(n), 60) * 0.4
    jitter = smooth(rng.standard_normal(n), 2) * singer.rough * 17
    return log_hz(0) + (steps + swing + drift + jitter) * SEMITONE


def sing(
    voice: Voice, log_pitch: npt.NDArray[np.float64], singer: Singer, gain: npt.NDArray[np.float64]
) -> npt.NDArray[np.float32]:
    """A voice on a pitch contour; what was unvoiced stays so.

    Args:
        voice: What is said, by frames.
        log_pitch: Natural log of the frequency, (frame,).
        singer: Whose throat: formants, breath, brightness.
        gain: Factor on the amplitude by frame, (frame,).

    Returns:
        Mono (time,) at 44.1 kHz, 5 ms for each frame.
    """
    pitch_hz = np.where(voice.pitch_hz > 0, np.clip(np.exp(log_pitch), _LOWEST_HZ, _HIGHEST_HZ), 0.0)
    octaves = np.log2(np.maximum(np.arange(N_BINS), 1) * _BIN_HZ * singer.formants / 1000).clip(-3, 4)
    colour = (singer.tilt_db * octaves * np.log(10) / 10).astype(np.float32)
    louder = (2 * np.log(np.maximum(gain, 1e-4))).astype(np.float32)
    log_power = voice.envelope.astype(np.float32) + colour + louder[:, None]
    return synthesise(pitch_hz, log_power, voice.bands, singer.formants, singer.airy)


def hold(rng: np.random.Generator, voice: Voice, n: int, *, attacked: bool = True) -> Voice:
    """A syllable cut or drawn out: its onset as it is, its vowel to and fro.

    Args:
        rng: Where chance comes from.
        voice: A recording of one syllable.
        n: Frames wanted.
        attacked: With its onset; otherwise the vowel alone.

    Returns:
        `n` frames; silent ones for a recording without a vowel.
    """
    speed = rng.uniform(0.5, 1.0)
    voiced = np.flatnonzero(voice.pitch_hz > 0)
    if len(voiced) < 12:
        return silence(n)
    loud = voice.loudness()
    settled = int(min(voiced[0] + 24, voiced[-1]))
    middle = loud[settled : voiced[-1] + 1]
    last = settled + int(np.flatnonzero(middle > np.median(middle) - 2.0)[-1])
    onset = np.arange(max(0, voiced[0] - 16), settled) if attacked else np.arange(0)
    span = max(2, int((last - settled) * 0.85))
    walk = (np.arange(max(0, n - len(onset))) * speed) % (2 * span)
    vowel = settled + np.where(walk < span, walk, 2 * span - walk).astype(np.int64)
    return voice.take(np.concatenate([onset, vowel])[:n].clip(0, len(voice) - 1))


def stretch(voice: Voice, first: int, last: int, n: int) -> Voice:
    """Frames `first` to `last` (not included) over `n` frames: the edge keeps its time, what follows is stretched."""
    edge = min(10, (last - first) // 3, n)
    inner = np.linspace(first + edge, last - 1, max(0, n - edge)).astype(np.int64)
    return voice.take(np.concatenate([np.arange(first, first + edge), inner]))


def syllables(voice: Voice, shortest: int) -> list[tuple[int, int]]:
    """Where a voice's syllables begin and end: cuts at the greatest changes of its spectrum.

    Args:
        voice: Words.
        shortest: Frames that a syllable has at least.

    Returns:
        First frame and the frame after the last, in order, without gaps; at least one.
    """
    n = len(voice)
    some = voice.envelope[:, :500:4].astype(np.float64)
    change = smooth(np.abs(np.diff(some, axis=0, prepend=some[:1])).mean(axis=1), 7)
    marks = [0]
    for at in np.argsort(-change, kind="stable").tolist():
        if len(marks) > n / (2.2 * shortest):
            break
        if n - at > shortest and min(abs(at - mark) for mark in marks) > shortest:
            marks.append(at)
    marks.sort()
    return list(zip(marks, [*marks[1:], n], strict=True))
