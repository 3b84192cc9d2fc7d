"""Reverberation and echoes.

Half of the shorter reverberations are rooms, simulated from their walls by pyroomacoustics; the rest is decaying noise,
as plates and halls of effect units are.
"""

from __future__ import annotations

import importlib
from typing import Any, Final

import numpy as np
from scipy import signal

from danna_sep.training.synthesis.placing import RATE_HZ, Rng, Sound
from danna_sep.training.synthesis.tone import cut

_LONGEST_ROOM_S: Final = 1.0
_MOST_REFLECTIONS: Final = 40
"""Of a path from a source to a microphone: more are heard in large halls alone."""


def response(decay_s: float, rng: Rng) -> Sound:
    """A stereo impulse response (2, time) of unit mean power: of a room, or of noise where it is long."""
    make = room if decay_s < _LONGEST_ROOM_S and rng.random() < 0.5 else plate
    heard = make(decay_s, rng)
    even: Sound = heard / np.sqrt(np.square(heard).sum() / 2)
    return even


def room(decay_s: float, rng: Rng) -> Sound:
    """What two microphones hear of a click in a box of random size, with walls that make it decay by 60 dB.

    Simulated by image sources (Allen and Berkley, 1979).

    Args:
        decay_s: Of a room of at most 200 cubic metres: from about 0.15 to 1 s.
        rng: Where chance comes from.
    """
    acoustics: Any = importlib.import_module("pyroomacoustics")
    acoustics.constants.set("num_threads", 1)  # their sums would differ in order
    # By Sabine's formula small rooms cannot ring for long, nor large ones be dry.
    size = np.clip(np.array([9.0, 7.0, 3.4]) * decay_s**0.5 * np.exp(rng.normal(0, 0.15, 3)), 2.0, 12.0)
    absorption, n_reflections = acoustics.inverse_sabine(decay_s, size)
    box = acoustics.ShoeBox(
        size,
        fs=RATE_HZ,
        materials=acoustics.Material(absorption),
        max_order=min(n_reflections, _MOST_REFLECTIONS),
    )
    box.add_source(size * rng.uniform(0.2, 0.8, 3))
    middle, half = size * rng.uniform(0.3, 0.7, 3), np.array([rng.uniform(0.05, 0.4), 0.0, 0.0])
    box.add_microphone_array(np.stack([middle - half, middle + half], 1))
    box.compute_rir()
    left, right = (np.asarray(box.rir[channel][0], np.float32) for channel in (0, 1))
    n_samples = min(len(left), len(right), round(1.5 * decay_s * RATE_HZ))
    return np.stack([left[:n_samples], right[:n_samples]])


def plate(decay_s: float, rng: Rng) -> Sound:
    """Noise that decays by 60 dB and darkens, with early echoes, (2, time)."""
    n = int(decay_s * RATE_HZ)
    t = np.arange(n) / RATE_HZ
    noise = rng.standard_normal((2, n)).astype(np.float32)
    width = rng.uniform(0.3, 1.0)
    noise[1] = width * noise[1] + np.sqrt(1 - width**2) * noise[0]
    dark = cut(noise, 150, rng.uniform(1200, 4000), 1)
    mix = np.exp(-t * rng.uniform(2, 8) / decay_s).astype(np.float32)
    tail = (noise * mix * np.float32(0.5) + dark * (1 - mix)) * np.exp(-6.9 * t / decay_s).astype(np.float32)
    tail = cut(tail, rng.uniform(80, 400), rng.uniform(4000, 15_000), 1)
    for _ in range(int(rng.integers(2, 9))):
        at = int(rng.uniform(0.002, 0.06) * RATE_HZ)
        if at < n:
            tail[rng.integers(2), at] += rng.uniform(-1, 1) * 3
    tail = np.pad(tail, ((0, 0), (int(rng.uniform(0, 0.04) * RATE_HZ), 0)))
    return np.asarray(tail, np.float32)


def reverberate(sound: Sound, rng: Rng, decay_s: float, wet: float) -> Sound:
    """A stereo sound in a random room; `wet` is the room's level over the dry level."""
    wet_sound = signal.oaconvolve(sound, response(decay_s, rng), axes=-1)[:, : sound.shape[1]]
    scale = wet * np.sqrt(np.mean(np.square(sound)) / (np.mean(np.square(wet_sound)) + 1e-12))
    return np.asarray(sound + scale * wet_sound, dtype=np.float32)


def maybe_reverberate(sound: Sound, rng: Rng, likely: float, longest_s: float, wettest: float) -> Sound:
    """`reverberate` with a probability, a decay from 0.2 to `longest_s`, a wet level from 0.05 to `wettest`."""
    if rng.random() > likely:
        return sound
    decay_s = float(np.exp(rng.uniform(np.log(0.2), np.log(longest_s))))
    return reverberate(sound, rng, decay_s, float(rng.uniform(0.05, wettest)))


def echo(sound: Sound, rng: Rng, beat_s: float | None = None) -> Sound:
    """A stereo sound with a repeating delay of a half to a whole beat, darker each time, at times from side to side."""
    step_s = (beat_s or rng.uniform(0.3, 0.8)) * float(rng.choice([0.5, 0.75, 1.0]))
    feedback, wet, bounce = rng.uniform(0.15, 0.55), rng.uniform(0.1, 0.45), rng.random() < 0.5
    step = int(step_s * RATE_HZ)
    out: Sound = sound.copy()
    tap = sound
    for i in range(1, 6):
        if step * i >= sound.shape[1]:
            break
        tap = cut(tap, 120, 5500, 1)
        if bounce:
            tap = tap[::-1] * np.array([[1.0], [0.8]], dtype=np.float32)
        out[:, step * i :] += np.float32(wet * feedback ** (i - 1)) * tap[:, : -step * i]
    return out
