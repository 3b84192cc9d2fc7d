"""Which stem an instrument of a tracker's module belongs to, by its name or by what it plays and sounds like alone.

Modules do not say it, and where names stand there are often greetings. The rule below was written for the modules of a
few games and then compared with the names of others' (`docs/training-data.md`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

RATE_HZ: Final = 22050
"""At which an instrument is listened to."""
_WINDOW: Final = 2048
_HOP: Final = 1024
_MOST_FRAMES: Final = 4000
_AUDIBLE: Final = 1e-3
"""Energy of a frame, of the loudest one's."""
_LOW_HZ: Final = 180.0
_HIGH_HZ: Final = 4000.0
_LOWEST_PITCH_HZ: Final = 35.0
_HIGHEST_PITCH_HZ: Final = 2750.0
_TINY: Final = 1e-20

_NAMES: Final[Sequence[tuple[str, str]]] = (
    (
        "drums",
        r"kick|\bbd|bass ?dr|snare|\bsd|hi-?hat|\bhat|\bhh\b|clap|cymbal|crash|\bride|\btoms?\b|tom-tom"
        r"|drum|perc|shaker|tambour|bongo|conga|cowbell|break ?beat",
    ),
    ("bass", r"bass(?!oon)"),
    ("other", r"string|piano|organ|guitar|\bpad|lead|flute|brass|synth|chord|trumpet|\bsax|violin|\bharp"),
)


class Sound(NamedTuple):
    """What an instrument sounds like alone.

    Attributes:
        low: Share of its energy below 180 Hz.
        high: Share above 4 kHz.
        pitch_hz: Median over frames, by energy.
        periodic: How alike the sound is one period later, 1 of a tone, by energy.
        active: Share of the frames in which it is heard.
    """

    low: float
    high: float
    pitch_hz: float
    periodic: float
    active: float


def sound_of(samples: NDArray[np.float32]) -> Sound:
    """Of an instrument alone, at 22.05 kHz. Axes channel, time; not all silent."""
    mono = samples.mean(0)
    if np.square(mono).sum() < 0.01 * np.square(samples).sum():
        mono = samples[0]
    mono = np.pad(mono, (0, max(0, 4 * _WINDOW - len(mono))))
    frames = np.lib.stride_tricks.sliding_window_view(mono, _WINDOW)[::_HOP] * np.hanning(_WINDOW)
    energy = np.square(frames).sum(1)
    heard = energy >= _AUDIBLE * energy.max()
    power = np.square(np.abs(np.fft.rfft(frames[heard][:_MOST_FRAMES])))
    hz = np.fft.rfftfreq(_WINDOW, 1 / RATE_HZ)
    total = power.sum(0) + _TINY
    weight = power.sum(1)
    n_lags = int(RATE_HZ / _LOWEST_PITCH_HZ)
    correlation = np.fft.irfft(power, axis=1)[:, :n_lags]
    first = correlation[:, :1] + _TINY
    # A period is looked for behind the first fall, so that it is not found in how slowly a low sound changes.
    fallen = correlation < 0.3 * first
    begin = np.where(fallen.any(1), fallen.argmax(1), n_lags // 3)
    lags = np.arange(n_lags)
    again = np.where(lags >= begin[:, None], correlation / (1 - lags / _WINDOW), -np.inf)
    period = np.maximum(again.argmax(1), int(RATE_HZ / _HIGHEST_PITCH_HZ))
    order = np.argsort(-period)
    below = np.cumsum(weight[order])
    return Sound(
        low=float(total[hz < _LOW_HZ].sum() / total.sum()),
        high=float(total[hz > _HIGH_HZ].sum() / total.sum()),
        pitch_hz=float(RATE_HZ / period[order][np.searchsorted(below, below[-1] / 2)]),
        periodic=float((again.max(1) / first[:, 0] * weight).sum() / weight.sum()),
        active=float(heard.mean()),
    )


def role_by_name(name: str) -> str | None:
    """The stem that a name tells, if it does."""
    return next((source for source, pattern in _NAMES if re.search(pattern, name.lower())), None)


def role_by_sound(sound: Sound, notes: Sequence[int]) -> str:
    """The stem of an instrument that sounds so and plays these notes.

    Drums play few notes, and are noise, or low and short; a bass is low and plays several.
    """
    n_notes = len(set(notes))
    noisy, is_low = sound.periodic < 0.45, sound.low > 0.7
    if noisy and (n_notes < 6 or sound.high >= 0.05) and not (is_low and n_notes >= 5):
        return "drums"
    if is_low and ((n_notes <= 2 and sound.active < 0.6) or (n_notes <= 4 and sound.periodic < 0.68)):
        return "drums"
    if is_low and n_notes >= 5:
        return "bass"
    if n_notes >= 2 and sound.periodic >= 0.6:
        deep = sound.pitch_hz < 100 and sound.low > 0.3 and n_notes >= 3
        if sound.low > 0.55 or deep:
            return "bass"
    struck = sound.high >= 0.05 or sound.low > 0.5
    if struck and (
        (n_notes <= 2 and sound.periodic < 0.78 and sound.active < 0.5) or (n_notes <= 3 and sound.periodic < 0.62)
    ):
        return "drums"
    return "other"
