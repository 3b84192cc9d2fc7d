"""Chords and tunes: notes are MIDI numbers (C4 is 60), pitch classes 0 to 11 from C."""

from __future__ import annotations

import bisect
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

MAJOR: Final = (0, 2, 4, 5, 7, 9, 11)
MINOR: Final = (0, 2, 3, 5, 7, 8, 10)
DORIAN: Final = (0, 2, 3, 5, 7, 9, 10)
MIXOLYDIAN: Final = (0, 2, 4, 5, 7, 9, 10)

# Degrees of the scale.
PROGRESSIONS: Final[dict[tuple[int, ...], tuple[tuple[int, ...], ...]]] = {
    MAJOR: ((0, 4, 5, 3), (0, 5, 3, 4), (5, 3, 0, 4), (0, 3, 4, 3), (0, 3, 0, 4), (1, 4, 0, 0), (0, 2, 3, 4),
            (0, 4, 3, 3), (3, 0, 4, 5), (0, 0, 3, 0, 4, 3, 0, 4), (0, 5, 1, 4), (0, 4, 5, 2, 3, 0, 3, 4),
            (3, 4, 5, 0), (3, 3, 0, 0), (0, 0, 0, 0), (1, 4, 0, 5)),
    MINOR: ((0, 5, 2, 6), (0, 6, 5, 6), (0, 3, 4, 0), (0, 5, 3, 4), (0, 2, 6, 3), (0, 0, 5, 6), (0, 3, 6, 2),
            (0, 6, 5, 4), (0, 0, 0, 0), (5, 6, 0, 0), (0, 6, 3, 5), (3, 0, 6, 2)),
    DORIAN: ((0, 3, 0, 3), (0, 0, 3, 3), (0, 6, 3, 0), (0, 2, 3, 6)),
    MIXOLYDIAN: ((0, 6, 3, 0), (0, 0, 6, 3), (0, 3, 6, 3), (0, 0, 0, 6)),
}  # fmt: skip


class Note(NamedTuple):
    """What an instrument plays: seconds, MIDI number, velocity from 0 to 1."""

    start_s: float
    length_s: float
    midi: int
    velocity: float


@dataclass(frozen=True)
class Chord:
    """A chord in time.

    Attributes:
        start_s, length_s: Seconds.
        root: Pitch class.
        tones: Its pitch classes, the root first.
        scale: The key's pitch classes there; the tones are among them.
    """

    start_s: float
    length_s: float
    root: int
    tones: tuple[int, ...]
    scale: tuple[int, ...]


def near(pitch_class: int, around: float) -> int:
    """The note of a pitch class nearest to a MIDI number."""
    return int(pitch_class + 12 * round((around - pitch_class) / 12))


def voicing(chord: Chord, around: float, n: int) -> list[int]:
    """`n` notes of a chord near a MIDI number, low to high."""
    notes = sorted(near(p, around) for p in chord.tones)
    while len(notes) < n:
        notes.append(notes[len(notes) - len(chord.tones)] + 12)
    return notes[:n]


def melody(
    rng: np.random.Generator, chords: tuple[Chord, ...], beat_s: float, low: int, high: int, rest: float = 0.2
) -> list[tuple[float, float, int]]:
    """A tune in the chords' scales, stepwise for the most part.

    Args:
        rng: Where it comes from.
        chords: One after the other; the tune begins with the first and ends with the last.
        beat_s: Seconds of a beat.
        low: MIDI number that no note lies below.
        high: The same, above.
        rest: Share of the notes that are left out.

    Returns:
        start_s, length_s, MIDI number of each note.
    """
    starts = [chord.start_s for chord in chords]
    end_s = chords[-1].start_s + chords[-1].length_s
    middle = (low + high) / 2
    notes: list[tuple[float, float, int]] = []
    at_s, note = chords[0].start_s, middle + rng.uniform(-3, 3)
    lengths = rng.choice([0.25, 0.5, 0.5, 0.5, 1, 1, 1.5, 2, 3], size=6)
    while at_s < end_s - 0.05:
        length_s = float(rng.choice(lengths)) * beat_s
        while length_s < 0.1:
            length_s *= 2
        chord = chords[max(0, bisect.bisect_right(starts, at_s + 1e-6) - 1)]
        if rng.random() > rest:
            strong = length_s >= beat_s
            pool = chord.tones if strong and rng.random() < 0.75 else chord.scale
            wish = note + rng.normal(0, 2.8) + (middle - note) * 0.12
            options = [near(p, w) for p in pool for w in (wish, wish - 12, wish + 12)]
            note = min(options, key=lambda o: abs(o - wish) + (0 if low <= o <= high else 100))
            notes.append((at_s, min(length_s, end_s - at_s), int(note)))
        at_s += length_s
    return notes


def loosened(rng: np.random.Generator, notes: list[Note], deviation_s: float) -> list[Note]:
    """Notes as a human times them: off by so much in the standard deviation, by no more than three times that."""
    off_s = np.clip(rng.normal(0, deviation_s, len(notes)), -3 * deviation_s, 3 * deviation_s)
    return [note._replace(start_s=max(0.0, note.start_s + float(s))) for note, s in zip(notes, off_s, strict=True)]
