"""A song's plan, which all four stems follow: tempo, meter, key, chords, sections."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from danna_sep.training.synthesis.form import Section, random_sections, random_sources
from danna_sep.training.synthesis.harmony import (
    DORIAN,
    MAJOR,
    MINOR,
    MIXOLYDIAN,
    PROGRESSIONS,
    Chord,
    Note,
    loosened,
    melody,
    near,
    voicing,
)

__all__ = ["Chord", "Note", "Plan", "Section", "loosened", "melody", "near", "random_plan", "voicing"]

_METERS: Final = (4, 3, 6)
_SCALES: Final = (MAJOR, MINOR, DORIAN, MIXOLYDIAN)


@dataclass(frozen=True)
class Plan:
    """What a song is built on.

    Attributes:
        beat_s: Seconds of a beat: a quarter in 4/4 and 3/4, an eighth in 6/8.
        beats_per_bar: 4, 3 or 6.
        swing: How much later than halfway the second of two notes comes, as a share of half the pair; 1/3 is triplets.
        swing_beats: Beats of the notes that swing: 0.5 or 0.25.
        chords: One after the other, from 0 to the end.
        sections: Likewise.
        sources: Which of the four the song has at all.
    """

    beat_s: float
    beats_per_bar: int
    swing: float
    swing_beats: float
    chords: tuple[Chord, ...]
    sections: tuple[Section, ...]
    sources: tuple[str, ...]

    @property
    def length_s(self) -> float:
        """Seconds of the song."""
        return self.sections[-1].end_s

    @property
    def bar_s(self) -> float:
        """Seconds of a bar."""
        return self.beat_s * self.beats_per_bar

    def chords_of(self, section: Section) -> tuple[Chord, ...]:
        """The chords that begin in a section."""
        return tuple(c for c in self.chords if section.start_s - 1e-6 <= c.start_s < section.end_s - 1e-6)

    def time_s(self, start_s: float, beat: float) -> float:
        """When a beat comes, counted from the start of a bar or half a bar, with the song's swing."""
        pair = 2 * self.swing_beats
        whole, share = divmod(beat / pair, 1.0)
        late = share * (1 + self.swing) if share < 0.5 else 0.5 * (1 + self.swing) + (share - 0.5) * (1 - self.swing)
        return start_s + (whole + late) * pair * self.beat_s

    def spans(self, source: str) -> list[tuple[float, float]]:
        """When a source plays: starts and ends in seconds, adjacent sections joined."""
        spans: list[tuple[float, float]] = []
        for section in self.sections:
            if source not in section.plays:
                continue
            if spans and abs(spans[-1][1] - section.start_s) < 1e-6:
                spans[-1] = (spans[-1][0], section.end_s)
            else:
                spans.append((section.start_s, section.end_s))
        return spans


def random_plan(rng: np.random.Generator, length_s: float) -> Plan:
    """A random song of `length_s`: 60 to 180 beats a minute (6/8: 130 to 210 eighths), 4/4 in four of five."""
    meter = int(rng.choice(_METERS, p=[0.82, 0.08, 0.10]))
    per_minute = rng.uniform(130, 210) if meter == 6 else np.clip(112 * np.exp(rng.normal(0, 0.25)), 60, 180)
    beat_s = float(60 / per_minute)
    swing, swing_beats = 0.0, 0.5
    if meter != 6 and rng.random() < 0.25:
        swing_beats = 0.5 if per_minute > 110 and rng.random() < 0.6 else 0.25
        swing = float(rng.uniform(0.08, 0.36))
    sources = random_sources(rng)
    sections = random_sections(rng, length_s, beat_s * meter, sources)
    chords = _chords(rng, sections, beat_s, meter)
    return Plan(beat_s, meter, swing, swing_beats, chords, sections, sources)


def _chords(rng: np.random.Generator, sections: tuple[Section, ...], beat_s: float, meter: int) -> tuple[Chord, ...]:
    scale = _SCALES[rng.choice(len(_SCALES), p=[0.52, 0.36, 0.07, 0.05])]
    key = int(rng.integers(12))
    lift_from = len(sections) - int(rng.integers(1, 3)) if rng.random() < 0.08 and len(sections) > 4 else len(sections)
    lift = int(rng.integers(1, 3))
    size = int(rng.choice([3, 3, 3, 4])) if rng.random() < 0.85 else 5
    bars_per_chord = float(rng.choice([0.5, 1, 2], p=[0.15, 0.7, 0.15] if meter == 4 else [0.0, 0.8, 0.2]))
    home = _progression(rng, scale)
    progressions: dict[str, tuple[int, ...]] = {}
    suspended = rng.random() < 0.2
    chords: list[Chord] = []
    for i, section in enumerate(sections):
        if section.name not in progressions:
            progressions[section.name] = home if rng.random() < 0.4 else _progression(rng, scale)
        tonic = key + (lift if i >= lift_from else 0)
        chord_s = bars_per_chord * meter * beat_s
        start_s, degrees = section.start_s, progressions[section.name]
        for k in range(int(np.ceil(section.n_bars / bars_per_chord))):
            if start_s > section.end_s - 1e-6:
                break
            degree = degrees[k % len(degrees)]
            tones = tuple((tonic + scale[(degree + 2 * t) % 7]) % 12 for t in range(size))
            if suspended and k % 8 == 7:
                tones = (tones[0], (tonic + scale[(degree + 3) % 7]) % 12, *tones[2:])
            length_s = min(chord_s, section.end_s - start_s)
            chords.append(Chord(start_s, length_s, tones[0], tones, tuple((tonic + s) % 12 for s in scale)))
            start_s += chord_s
    return tuple(chords)


def _progression(rng: np.random.Generator, scale: tuple[int, ...]) -> tuple[int, ...]:
    choices = PROGRESSIONS[scale]
    return choices[int(rng.integers(len(choices)))]
