"""Keys, chord progressions and rhythms that the made-up music is built on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MAJOR = (0, 2, 4, 5, 7, 9, 11)
MINOR = (0, 2, 3, 5, 7, 8, 10)
# degrees of the scale, one a bar or half a bar
PROGRESSIONS = {
    MAJOR: [(0, 4, 5, 3), (0, 5, 3, 4), (5, 3, 0, 4), (0, 3, 4, 3), (0, 3, 0, 4), (1, 4, 0, 0), (0, 2, 3, 4),
            (0, 4, 3, 3), (3, 0, 4, 5), (0, 0, 3, 0, 4, 3, 0, 4), (0, 5, 1, 4), (0, 4, 5, 2, 3, 0, 3, 4)],
    MINOR: [(0, 5, 2, 6), (0, 6, 5, 6), (0, 3, 4, 0), (0, 5, 3, 4), (0, 2, 6, 3), (0, 0, 5, 6), (0, 3, 6, 2),
            (0, 6, 5, 4), (0, 0, 0, 0), (5, 6, 0, 0)],
}  # fmt: skip


@dataclass(frozen=True)
class Chord:
    """A chord in time: seconds, root as pitch class, its pitch classes, the scale's pitch classes."""

    start_s: float
    length_s: float
    root: int
    tones: tuple[int, ...]
    scale: tuple[int, ...]


@dataclass(frozen=True)
class Plan:
    """A tempo and the chords of a clip."""

    beat_s: float
    chords: tuple[Chord, ...]


def plan(rng: np.random.Generator, n_s: float) -> Plan:
    """A random tempo and key, with a progression that changes once."""
    beat_s = 60 / rng.uniform(62, 178)
    scale = MAJOR if rng.random() < 0.6 else MINOR
    key = int(rng.integers(12))
    chord_s = beat_s * (4 if beat_s < 0.75 or rng.random() < 0.6 else 2)
    chords: list[Chord] = []
    while len(chords) * chord_s < n_s:
        degrees = PROGRESSIONS[scale][rng.integers(len(PROGRESSIONS[scale]))]
        size = int(rng.choice([3, 3, 3, 4])) if rng.random() < 0.8 else 5
        for degree in degrees * int(rng.choice([2, 4])):
            pitches = tuple((key + scale[(degree + 2 * i) % 7]) % 12 for i in range(size))
            if rng.random() < 0.04:
                pitches = (pitches[0], (pitches[0] + 5) % 12, (pitches[0] + 7) % 12)
            start_s = len(chords) * chord_s
            chords.append(Chord(start_s, chord_s, pitches[0], pitches, tuple((key + s) % 12 for s in scale)))
    return Plan(beat_s, tuple(c for c in chords if c.start_s < n_s))


def near(pitch_class: int, around: float) -> int:
    """The note of a pitch class nearest to a MIDI number."""
    return int(pitch_class + 12 * round((around - pitch_class) / 12))


def voicing(chord: Chord, around: float, n: int) -> list[int]:
    """``n`` notes of a chord near a MIDI number, low to high."""
    notes = sorted(near(p, around) for p in chord.tones)
    while len(notes) < n:
        notes.append(notes[len(notes) - len(chord.tones)] + 12)
    return notes[:n]


def melody(
    rng: np.random.Generator, chords: tuple[Chord, ...], beat_s: float, low: int, high: int, rest: float = 0.2
) -> list[tuple[float, float, int]]:
    """A tune in the chords' scale: (start_s, length_s, MIDI note), stepwise for the most part."""
    end_s = chords[-1].start_s + chords[-1].length_s
    notes: list[tuple[float, float, int]] = []
    at_s, note = 0.0, (low + high) / 2 + rng.uniform(-3, 3)
    lengths = rng.choice([0.25, 0.5, 0.5, 0.5, 1, 1, 1.5, 2, 3], size=6)
    while at_s < end_s - 0.05:
        length_s = float(rng.choice(lengths)) * beat_s
        length_s = max(length_s, 0.09)
        chord = chords[min(int(at_s / chords[0].length_s), len(chords) - 1)]
        if rng.random() > rest:
            strong = length_s >= beat_s
            pool = chord.tones if strong and rng.random() < 0.75 else chord.scale
            wish = note + rng.normal(0, 2.8) + ((low + high) / 2 - note) * 0.12
            options = [near(p, wish) for p in pool]
            best = min(options, key=lambda o: abs(o - wish) + (100 if not low <= o <= high else 0))
            note = float(np.clip(best, low, high)) if low <= best <= high else float(best)
            notes.append((at_s, length_s, int(note)))
        at_s += length_s
    return notes
