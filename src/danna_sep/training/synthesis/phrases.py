"""Recorded voices: banks of them, brought to one level; used as they are; and what a mixing desk does to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from danna_sep.training.synthesis.treatment import (
    RATE_HZ,
    Rng,
    Sound,
    colour,
    compress,
    cut,
    db,
    echo,
    fade,
    maybe_reverberate,
    respeed,
    saturate,
    stereo,
    widen,
)

Way = Literal["held", "words", "transposed", "as they are", "spoken", "choir"]


@dataclass(frozen=True)
class Bank:
    """Recordings of one kind.

    Attributes:
        pattern: Of their places below the folder `voices`, without endings.
        above_man: Semitones by which their formants lie above a man's.
        longest_s: How much of a recording is used.
        weights: How often the bank serves for each way of singing.
        without: Names that contain this are left out.
    """

    pattern: str
    above_man: float
    longest_s: float
    weights: dict[Way, float]
    without: str | None = None


BANKS: Final[dict[str, Bank]] = {
    "etv": Bank("producerspace/etv_*/*", 4.0, 8.0, {"transposed": 2.0, "words": 0.6, "as they are": 3.0}),
    "shv": Bank("producerspace/shv_*/*", 3.5, 8.0, {"transposed": 4.5, "words": 1.2, "as they are": 3.0}, "Percussion"),
    "shout": Bank("producerspace/dvs*/*", 3.0, 3.0, {"words": 0.8, "spoken": 2.0, "as they are": 0.8}),
    "whisper": Bank("producerspace/whisper/*", 3.0, 3.0, {"spoken": 0.4, "as they are": 0.25}),
    "yuki": Bank("yuki/*", 4.5, 7.0, {"words": 3.0, "spoken": 0.5, "as they are": 0.5}),
    "iona": Bank("iona/*", 5.0, 1.6, {"held": 2.0, "choir": 1.0}, "breath"),
    "torone": Bank("torone_rei/*", 4.0, 1.6, {"held": 1.5, "choir": 1.0}),
    "erithacus": Bank("erithacus/*", 0.0, 1.6, {"held": 2.5, "choir": 1.5}),
    "women": Bank("olpc_berklee/female*", 4.0, 1.6, {"held": 0.5, "choir": 1.0, "as they are": 0.2}),
    "men": Bank("olpc_berklee/male*", 0.0, 1.6, {"held": 1.0, "choir": 1.5, "as they are": 0.5}),
    "hum": Bank("olpc_berklee/vocal*", 2.0, 1.6, {"held": 0.1, "choir": 0.2}),
    "speech": Bank("speech_kerstin/*", 3.5, 7.0, {"words": 1.0, "spoken": 2.5, "as they are": 0.3}),
    "rms": Bank("flite/rms/*", 0.0, 7.0, {"words": 1.2, "spoken": 0.8}),
    "awb": Bank("flite/awb/*", 0.5, 7.0, {"words": 0.8, "spoken": 0.5}),
    "kal": Bank("flite/kal16/*", 0.0, 7.0, {"words": 0.4, "spoken": 0.3}),
    "slt": Bank("flite/slt/*", 3.5, 7.0, {"words": 0.6, "spoken": 0.4}),
}
"""Nothing else: alys, ibuki and solfege, which lie in the same folder, are not free enough."""

_LEVEL: Final = 0.1
"""Root mean square of a prepared recording's loud parts."""

_BLOCK: Final = 2205


def prepared(sound: Sound) -> Sound:
    """A recording (channel, time) without silent edges and rumble, its loudest 30 % at -20 dB; silence stays so."""
    loud = np.abs(sound).max(axis=0)
    where = np.flatnonzero(loud > loud.max(initial=0.0) * 0.01)
    if not len(where):
        return sound[:, :0]
    sound = cut(sound[:, max(0, int(where[0]) - 1000) : int(where[-1]) + 3000], 60)
    power = np.square(sound).mean(axis=0)
    power = np.pad(power, (0, -len(power) % _BLOCK))
    blocks = np.sort(power.reshape(-1, _BLOCK).mean(axis=1))
    level = float(np.sqrt(blocks[int(len(blocks) * 0.7) :].mean() + 1e-12))
    levelled: Sound = sound * np.float32(_LEVEL / level)
    return levelled


def in_a_row(
    rng: Rng, sounds: list[Sound], room_s: float, speed: float, step_s: float, *, rhythmic: bool = False
) -> Sound:
    """Recordings one after the other, each beginning on a step.

    Args:
        rng: Where chance comes from.
        sounds: What to choose from, prepared.
        room_s: Seconds that there are; the last recording is faded out there.
        speed: Playback speed; pitch goes with it.
        step_s: Recordings begin at multiples of this.
        rhythmic: Recordings begin without pauses, the shorter ones at times twice.

    Returns:
        Stereo (2, time), `room_s` long.
    """
    n = int(room_s * RATE_HZ)
    out = np.zeros((2, n), dtype=np.float32)
    at_s = 0.0 if rhythmic else step_s * int(rng.integers(3))
    while at_s < room_s - 0.25:
        sound = sounds[int(rng.integers(len(sounds)))]
        gain, pause_s, again = db(rng.normal(0, 1.5)), rng.exponential(0.25), rng.random() < 0.25
        if sound.shape[1] < 0.05 * RATE_HZ:
            at_s += step_s
            continue
        played = respeed(sound, speed)
        for _ in range(2 if again and played.shape[1] < RATE_HZ else 1):
            at = int(at_s * RATE_HZ)
            piece = fade(stereo(played[:, : max(0, n - at)]), 0.004, 0.05)
            out[:, at : at + piece.shape[1]] += np.float32(gain) * piece
            ends_s = at_s + played.shape[1] / RATE_HZ + (0.0 if rhythmic else pause_s)
            at_s = step_s * np.ceil(ends_s / step_s - 0.1)
    return out


def shortest_step(beat_s: float) -> float:
    """The step on which spoken phrases begin: a half or quarter beat of at least 0.12 s."""
    return beat_s / 4 if beat_s / 4 >= 0.12 else beat_s / 2


def produce(voice: Sound, rng: Rng, beat_s: float | None = None) -> Sound:
    """What a mixing desk does to a lead vocal: equaliser, compressor, saturation, doubling, delay, room.

    Args:
        voice: (2, time).
        rng: Where chance comes from.
        beat_s: A beat, which delays follow.
    """
    voice = colour(voice, rng, float(rng.uniform(60, 180)), float(rng.choice([9e3, 14e3, 2e4, 2e4])), 3.5)
    if rng.random() < 0.7:
        voice = compress(voice, rng)
    if rng.random() < 0.12:
        voice = saturate(voice, float(rng.uniform(1.5, 8)))
    if rng.random() < 0.22:
        voice = widen(voice, rng)
    if rng.random() < 0.2:
        voice = echo(voice, rng, beat_s)
    voice = maybe_reverberate(voice, rng, 0.75, 3.0, 0.7)
    if rng.random() < 0.12:
        voice = stereo(voice.mean(axis=0, keepdims=True), float(rng.uniform(-0.7, 0.7)))
    return voice
