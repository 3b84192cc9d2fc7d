"""Vocal clips joined from free recordings of singers, syllables and a little speech."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import sound as snd

# bank: (files below samples/voices, weight)
BANKS = {
    "etv": ("producerspace/etv_*/*.ogg", 4.0),
    "shv": ("producerspace/shv_*/*.ogg", 4.0),
    "shout": ("producerspace/dvs*/*.ogg", 0.8),
    "whisper": ("producerspace/whisper/*.ogg", 0.25),
    "yuki": ("yuki/*.ogg", 1.2),
    "iona": ("iona/*.ogg", 1.0),
    "torone": ("torone_rei/*.ogg", 0.8),
    "erithacus": ("erithacus/*.ogg", 0.8),
    "women": ("olpc_berklee/female*.ogg", 0.8),
    "men": ("olpc_berklee/male*.ogg", 1.6),
    "hum": ("olpc_berklee/vocal*.ogg", 0.2),
    "speech": ("speech_kerstin/*.ogg", 0.3),
}
HELD = ("women", "men", "hum", "iona", "torone")  # single held notes: a clip takes them in a row


@functools.cache
def files(data: Path, bank: str) -> list[Path]:
    found = sorted((data / "samples" / "voices").glob(BANKS[bank][0]))
    if bank == "shv":
        found = [p for p in found if "Percussion" not in p.name]
    return found


@functools.lru_cache(maxsize=600)
def phrase(path: Path) -> np.ndarray:
    """A recording without its silent edges, its loud parts at -20 dB."""
    voice = snd.load(path)
    loud = np.abs(voice).max(axis=0)
    where = np.flatnonzero(loud > loud.max() * 0.01)
    voice = snd.cut(voice[:, max(0, where[0] - 1000) : where[-1] + 3000], 60)
    power = np.square(voice).mean(axis=0)
    blocks = np.sort(power[: len(power) // 2205 * 2205].reshape(-1, 2205).mean(axis=1))
    level = np.sqrt(blocks[int(len(blocks) * 0.7) :].mean() + 1e-12) if len(blocks) else 1.0
    return (voice * (0.1 / level)).astype(np.float32)


def row(data: Path, rng: np.random.Generator, bank: str, n_s: float) -> np.ndarray:
    """Recordings of one bank one after the other with small gaps, stereo."""
    out = np.zeros((2, int(n_s * snd.RATE_HZ)), dtype=np.float32)
    speed = float(np.exp(rng.normal(-0.05, 0.11)).clip(0.78, 1.26))
    wander = 0.1 if bank in HELD else 0.02
    gap_s = rng.uniform(0.0, 0.6)
    spread = rng.uniform(0.5, 4)
    shortest_s = rng.uniform(0.15, 0.8)
    at_s = rng.uniform(0, 0.5)
    while at_s < n_s - 0.3:
        path = files(data, bank)[rng.integers(len(files(data, bank)))]
        cents = 10 * round(120 * np.log2(speed * np.exp(rng.normal(0, wander))))
        voice = snd.respeed(phrase(path), 2 ** (cents / 1200))
        if bank in HELD and rng.random() < 0.8:
            voice = voice[:, : int(rng.uniform(shortest_s, 1.8) * snd.RATE_HZ)]
        voice = snd.stereo(snd.fade(voice, 0.004, 0.05))
        times = 2 if bank in ("shv", "shout") and rng.random() < 0.25 else 1
        for _ in range(times):
            snd.add(out, voice, at_s, snd.db(rng.normal(0, spread)))
            at_s += voice.shape[1] / snd.RATE_HZ + rng.exponential(gap_s) * 0.6 - (0.03 if bank in HELD else 0)
    return out


def produce(voice: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What a mixing desk does to a lead vocal: equaliser, compressor, doubling, delay, room."""
    voice = snd.colour(voice, rng, float(rng.uniform(60, 180)), float(rng.choice([9e3, 14e3, 2e4, 2e4])), 3.5)
    if rng.random() < 0.7:
        voice = snd.compress(voice, rng)
    if rng.random() < 0.12:
        voice = snd.saturate(voice, rng.uniform(1.5, 8))
    if rng.random() < 0.22:
        voice = snd.widen(voice, rng)
    if rng.random() < 0.2:
        voice = snd.echo(voice, rng)
    voice = snd.maybe_reverberate(voice, rng, 0.75, 3.0, 0.7)
    if rng.random() < 0.12:
        voice = snd.stereo(voice.mean(axis=0), rng.uniform(-0.7, 0.7))
    return voice


def clip(data: Path, rng: np.random.Generator, n_s: float) -> np.ndarray:
    names = list(BANKS)
    weights = np.array([BANKS[name][1] for name in names])
    bank = names[rng.choice(len(names), p=weights / weights.sum())]
    voice = row(data, rng, bank, n_s)
    if rng.random() < 0.25:  # a second singer behind the first
        second = names[rng.choice(len(names), p=weights / weights.sum())]
        behind = snd.stereo(row(data, rng, second, n_s).mean(axis=0), rng.uniform(-0.8, 0.8))
        voice = voice + behind * snd.db(rng.uniform(-14, -3))
    return produce(voice, rng)
