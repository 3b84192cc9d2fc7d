"""Singers: a range, a throat, and ways of moving from note to note; men more often than women.

Any recorded voice sings as any of them: its pitch and its formants are moved.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np

Sex = Literal["male", "female"]

_MEN: Final = 0.58
"""How many singers are men: male singing is the thinnest in free recordings."""

# kind: (sex, how often among its sex, semitones that formants lie above a man's, lowest and highest bottom note)
_KINDS: Final[dict[str, tuple[Sex, float, float, int, int]]] = {
    "bass": ("male", 0.25, -1.0, 39, 42),
    "baritone": ("male", 0.4, -0.2, 42, 46),
    "tenor": ("male", 0.35, 0.5, 46, 49),
    "alto": ("female", 0.45, 2.6, 54, 57),
    "mezzo": ("female", 0.3, 3.2, 56, 59),
    "soprano": ("female", 0.17, 3.7, 58, 61),
    "child": ("female", 0.08, 5.3, 59, 62),
}
_LEAST_FORMANTS: Final = 0.72
_MOST_FORMANTS: Final = 1.35


@dataclass(frozen=True)
class Singer:
    """One person's voice and habits.

    Attributes:
        sex: Which pitches and formants to expect.
        formants: Factor by which a recording's formants are moved.
        low: Lowest comfortable note, MIDI.
        high: Highest, MIDI.
        vibrato_hz: Its rate.
        vibrato_cents: Its depth, from the middle to the top; 0 for none.
        glide_s: Time from one note to the next.
        rough: Deviation of the pitch from frame to frame, as a fraction of a frequency.
        airy: From 0 to 1: breath in the highs.
        tilt_db: Brightness, dB per octave around 1 kHz.
        scoops: Probability that a note begins below itself.
    """

    sex: Sex
    formants: float
    low: int
    high: int
    vibrato_hz: float = 5.5
    vibrato_cents: float = 0.0
    glide_s: float = 0.06
    rough: float = 0.0
    airy: float = 0.0
    tilt_db: float = 0.0
    scoops: float = 0.25

    @property
    def middle(self) -> float:
        """The middle of the range, MIDI."""
        return (self.low + self.high) / 2


def cast(rng: np.random.Generator, above_man: float, sex: Sex | None = None) -> Singer:
    """A random singer.

    Args:
        rng: Where chance comes from.
        above_man: Semitones by which the formants of the recordings that are to be sung with lie above a man's.
        sex: Of the singer; by default a man's in more than half of the cases.
    """
    if sex is None:
        sex = "male" if rng.random() < _MEN else "female"
    kinds = [name for name, kind in _KINDS.items() if kind[0] == sex]
    weights = np.array([_KINDS[name][1] for name in kinds])
    _, _, above, least, most = _KINDS[kinds[int(rng.choice(len(kinds), p=weights / weights.sum()))]]
    formants = 2 ** ((above - above_man + rng.normal(0, 0.6)) / 12)
    low = int(rng.integers(least, most + 1))
    return Singer(
        sex=sex,
        formants=float(np.clip(formants, _LEAST_FORMANTS, _MOST_FORMANTS)),
        low=low,
        high=low + int(rng.integers(10, 15)),
        vibrato_hz=float(rng.uniform(4.5, 6.5)),
        vibrato_cents=float(rng.uniform(12, 65) if rng.random() < 0.75 else 0.0),
        glide_s=float(rng.uniform(0.02, 0.12)),
        rough=float(rng.exponential(0.002) if rng.random() < 0.7 else rng.uniform(0.004, 0.012)),
        airy=float(rng.uniform(0, 0.25) if rng.random() < 0.7 else rng.uniform(0.25, 0.45)),
        tilt_db=float(rng.normal(0, 1.5)),
        scoops=float(rng.uniform(0.0, 0.5)),
    )


def neighbour(rng: np.random.Generator, singer: Singer) -> Singer:
    """Someone who stands next to a singer in a choir: the same range, another throat."""
    return replace(
        singer,
        formants=float(np.clip(singer.formants * 2 ** (rng.normal(0, 0.8) / 12), _LEAST_FORMANTS, _MOST_FORMANTS)),
        vibrato_hz=float(rng.uniform(4.5, 6.5)),
        vibrato_cents=float(rng.uniform(5, 45)),
        glide_s=float(rng.uniform(0.03, 0.12)),
        airy=float(rng.uniform(0, 0.3)),
        tilt_db=float(singer.tilt_db + rng.normal(0, 1.0)),
    )
