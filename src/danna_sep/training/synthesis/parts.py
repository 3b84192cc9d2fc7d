"""What one accompanying instrument plays under a section: strummed, held, broken, comped chords, riffs, tunes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from danna_sep.training.synthesis.placing import Rng
from danna_sep.training.synthesis.plan import Chord, Note, Plan, Section, melody, near, voicing


@dataclass(frozen=True)
class Manner:
    """How an instrument plays all through a song.

    Attributes:
        style: strum, power, arpeggio, hold, comp, piano or lead.
        around: MIDI number near which its chords lie.
        size: Notes of a chord.
        order: In which a broken chord's six notes come, over eight steps.
        step: Beats of a step of it.
        low: Lowest note of a tune.
        rest: Share of a tune's notes that are left out.
    """

    style: str
    around: float
    size: int
    order: tuple[int, ...]
    step: float
    low: int
    rest: float


def random_manner(rng: Rng, style: str) -> Manner:
    """A manner of a style."""
    return Manner(
        style=style,
        around=float(rng.uniform(46, 66)),
        size=int(rng.integers(3, 5)),
        order=tuple(int(i) % 6 for i in rng.permutation(8)),
        step=float(rng.choice([0.25, 0.5, 0.5, 1 / 3])),
        low=int(rng.integers(55, 68)),
        rest=float(rng.uniform(0.05, 0.35)),
    )


def pattern_for(rng: Rng, plan: Plan) -> tuple[float, ...]:
    """Beats of a bar on which a chord is struck; the first is always."""
    return tuple(float(b) for b in np.arange(0, plan.beats_per_bar, 0.5) if b == 0 or rng.random() < 0.6)


def part(rng: Rng, plan: Plan, section: Section, manner: Manner, pattern: Sequence[float]) -> list[Note]:
    """The notes of one instrument in one section.

    Args:
        rng: Draws touch and tunes.
        plan: The song.
        section: The section.
        manner: How it is played.
        pattern: Beats of a bar, as `pattern_for` gives them.
    """
    chords = plan.chords_of(section)
    if manner.style == "lead":
        low = manner.low
        tune = melody(rng, chords, plan.beat_s * (2 if plan.beats_per_bar == 6 else 1), low, low + 17, manner.rest)
        return [Note(start_s, length_s, midi, float(rng.uniform(0.6, 1))) for start_s, length_s, midi in tune]
    notes: list[Note] = []
    for chord in chords:
        notes += _under(rng, plan, chord, manner, pattern)
    return notes


def _under(rng: Rng, plan: Plan, chord: Chord, manner: Manner, pattern: Sequence[float]) -> list[Note]:
    if manner.style == "hold":
        tones = voicing(chord, manner.around, manner.size)
        return [Note(chord.start_s, chord.length_s, midi, float(rng.uniform(0.7, 0.9))) for midi in tones]
    beats = chord.length_s / plan.beat_s
    if manner.style == "arpeggio":
        wide = voicing(chord, manner.around, 6)
        notes = []
        for i, beat in enumerate(np.arange(0, beats - 1e-6, manner.step)):
            midi = wide[manner.order[i % 8]]
            start_s = (
                plan.time_s(chord.start_s, float(beat)) if manner.step != 1 / 3 else chord.start_s + beat * plan.beat_s
            )
            notes.append(Note(float(start_s), plan.beat_s * manner.step * 1.8, midi, float(rng.uniform(0.6, 1))))
        return notes
    struck = [bar + b for bar in np.arange(0, beats, plan.beats_per_bar) for b in pattern if bar + b < beats - 0.05]
    notes = []
    for beat, until in pairwise([*struck, beats]):
        start_s = plan.time_s(chord.start_s, float(beat))
        length_s = float(until - beat) * plan.beat_s
        notes += _struck(rng, chord, manner, start_s, length_s, is_down=bool(beat % 1 < 0.25))
    if manner.style == "piano":
        low = near(chord.root, 42 if rng.random() < 0.5 else 34)
        notes.append(Note(chord.start_s, chord.length_s, low, 0.9))
        notes.append(Note(chord.start_s, chord.length_s, low + 12, 0.6))
    return notes


def _struck(rng: Rng, chord: Chord, manner: Manner, start_s: float, length_s: float, *, is_down: bool) -> list[Note]:
    """One chord, struck once."""
    if manner.style == "strum":
        shape = voicing(chord, 50, 5)
        lag_s = float(rng.uniform(0.004, 0.02))
        velocity = (0.9 if is_down else 0.6) * float(rng.uniform(0.8, 1.1))
        return [
            Note(start_s + k * lag_s, length_s, midi, velocity)
            for k, midi in enumerate(shape if is_down else shape[:1:-1])
        ]
    if manner.style == "power":
        root = near(chord.root, 45)
        return [Note(start_s, length_s, midi, 0.9) for midi in (root, root + 7, root + 12)]
    velocity = float(rng.uniform(0.6, 1))
    return [Note(start_s, length_s, midi, velocity) for midi in voicing(chord, manner.around, manner.size)]
