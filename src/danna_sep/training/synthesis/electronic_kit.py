"""Computed drums: swept sines, noise bursts, metallic squares."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from danna_sep.training.synthesis.placing import RATE_HZ, Rng, Sound, fade, stereo
from danna_sep.training.synthesis.tone import cut

Kit: TypeAlias = dict[str, list[Sound]]
"""By role, hits from soft to hard, stereo, with a peak of 1."""
_Wave: TypeAlias = npt.NDArray[np.floating]


def electronic_kit(rng: Rng) -> Kit:
    """A random kit with kick, snare, clap, hats, crash, ride, rim, toms, and shakers, all of one hit each."""
    noise = rng.standard_normal(int(1.5 * RATE_HZ)).astype(np.float32)
    fall = float(np.exp(rng.uniform(np.log(2.5), np.log(18))))
    body = _sweep(rng.uniform(38, 62), rng.uniform(120, 600), rng.uniform(15, 60), min(1.5, max(0.8, 5 / fall)), fall)
    click = cut(noise[None, : len(body)], float(rng.uniform(1000, 4000)))[0] * np.exp(-np.arange(len(body)) / 120)
    kick = np.tanh(rng.uniform(0.8, 5) * (body + rng.uniform(0, 0.25) * click))
    t = _clock(0.5)
    hiss = cut(noise[None, : len(t)], float(rng.uniform(500, 2000)), float(rng.uniform(6000, 16_000)))[0]
    snare = hiss * np.exp(-t * rng.uniform(10, 30))
    snare = snare + rng.uniform(0.1, 1) * _sweep(rng.uniform(150, 220), 330, 40, 0.5, 25)
    bursts = sum((np.roll(np.exp(-t * 120), int(d * RATE_HZ)) for d in (0, 0.011, 0.022)), np.zeros(len(t)))
    clap = cut(noise[None, : len(t)], 700, 5000)[0] * (bursts + 0.5 * np.exp(-t * rng.uniform(12, 30)))
    t = _clock(1.2)
    base = rng.uniform(300, 600)
    squares = sum(
        (np.sign(np.sin(2 * np.pi * base * r * t)) for r in (1, 1.34, 1.53, 1.81, 2.6, 2.74)), np.zeros(len(t))
    )
    blend = rng.uniform(0, 1)
    metal = ((1 - blend) * squares / 3 + blend * noise[: len(t)]).astype(np.float32)
    metal = cut(metal[None], float(rng.uniform(5000, 8500)))[0]
    short = int(0.25 * RATE_HZ)
    kit = {
        "kick": kick,
        "snare": snare,
        "clap": clap,
        "hat": (metal * np.exp(-t * rng.uniform(30, 90)))[:short],
        "open": (metal * np.exp(-t * rng.uniform(5, 12)))[: int(0.7 * RATE_HZ)],
        "crash": metal * np.exp(-t * rng.uniform(2.5, 4)),
        "ride": metal * np.exp(-t * rng.uniform(4, 8)) + 0.2 * _sweep(base * 4, base * 4.2, 10, 1.2, 9),
        "rim": _sweep(rng.uniform(800, 1700), 2500, 200, 0.08, 60),
        "shaker": (noise[: len(t)] * np.exp(-t * 25) * np.minimum(t / 0.02, 1))[:short],
    }
    for i, hz in enumerate((190, 140, 95), 1):
        kit[f"tom{i}"] = _sweep(hz * rng.uniform(0.8, 1.1), hz * rng.uniform(1.2, 2), 12, 0.6, rng.uniform(5, 12))
    return {role: [_hit(wave)] for role, wave in kit.items()}


def _clock(length_s: float) -> _Wave:
    return np.arange(int(length_s * RATE_HZ)) / RATE_HZ


def _sweep(low_hz: float, high_hz: float, fall: float, length_s: float, rate: float) -> _Wave:
    """A sine that falls from one frequency towards another, and decays; rates in 1/s."""
    t = _clock(length_s)
    hz = low_hz + (high_hz - low_hz) * np.exp(-t * fall)
    wave: _Wave = np.sin(2 * np.pi * np.cumsum(hz) / RATE_HZ) * np.exp(-t * rate)
    return wave


def _hit(wave: _Wave) -> Sound:
    sound = fade(stereo(wave.astype(np.float32)), 0.0005, 0.02)
    hit: Sound = sound / (np.abs(sound).max() + np.float32(1e-9))
    return hit
