"""A score for the band: an excerpt in another key and tempo, with chords to sing to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from danna_sep.training.synthesis.bass import LOWEST
from danna_sep.training.synthesis.form import Section
from danna_sep.training.synthesis.grooves import Hit
from danna_sep.training.synthesis.harmony import MAJOR, MINOR, Chord, Note
from danna_sep.training.synthesis.placing import Rng
from danna_sep.training.synthesis.plan import Plan
from danna_sep.training.synthesis.scores import Score
from danna_sep.types import SOURCES

_SECTIONS: Final = (("verse", 0.6), ("prechorus", 0.7), ("chorus", 0.95), ("solo", 0.8))
_BARS: Final = 8
"""Of a section."""

_SUNG: Final = 0.7
"""Share of the songs in which somebody sings, if there are voices; in those, how likely in a section."""

_EARLY_S: Final = 0.001
"""Before a bar, from where on its notes belong to an excerpt that begins with it."""

_SHORTEST_S: Final = 0.01
"""Of what is left of a note that an excerpt cuts."""

_ADDED_BASS: Final = 0.8
"""How often a bass doubles the lowest part of a score without one."""

_BASS_HIGHEST: Final = 48
_TRIADS: Final = ((0, 4, 7), (0, 3, 7), (0, 7))


@dataclass(frozen=True)
class Arrangement:
    """What each plays, in seconds of the song.

    Attributes:
        plan: Tempo, chords and sections.
        hits: The drums'.
        bass: The bass's notes.
        layers: (General MIDI's program from 0, notes) of each accompanying instrument.
    """

    plan: Plan
    hits: list[Hit]
    bass: list[Note]
    layers: list[tuple[int, list[Note]]]


def arrange(rng: Rng, score: Score, length_s: float) -> Arrangement:
    """A random excerpt of a score, at most a sixth faster or slower, up to six semitones higher or lower.

    Where a score is shorter than the song, it begins again.

    Args:
        rng: Chooses.
        score: What is played.
        length_s: Length of the song in seconds.
    """
    speed = float(np.exp(rng.normal(0, 0.08)).clip(0.85, 1.17))
    shift = int(rng.integers(-6, 7))
    wanted_s = length_s * speed
    first_s = _first_s(rng, score, wanted_s)
    turns_s = [-first_s]
    while turns_s[-1] + score.length_s < wanted_s:
        turns_s.append(turns_s[-1] + score.length_s)

    def moved(notes: Iterable[Note], semitones: int) -> list[Note]:
        """Those that sound in the excerpt, cut to it."""
        spans = (
            (n, max(0.0, n.start_s + at_s), min(wanted_s, n.start_s + n.length_s + at_s))
            for at_s in turns_s
            for n in notes
        )
        return [
            Note(start_s / speed, (end_s - start_s) / speed, n.midi + semitones, n.velocity)
            for n, start_s, end_s in spans
            if end_s - start_s > _SHORTEST_S
        ]

    hits = [
        Hit((hit.start_s + at_s) / speed, hit.role, hit.velocity)
        for at_s in turns_s
        for hit in score.hits
        if 0 <= hit.start_s + at_s < wanted_s
    ]
    layers = [(program, _folded(moved(notes, shift), 0, 127)) for program, notes in score.layers]
    layers = [(program, notes) for program, notes in layers if notes]
    bass = _folded(moved(score.bass, shift), LOWEST, _BASS_HIGHEST + 7)
    if not score.bass and layers and rng.random() < _ADDED_BASS:
        bass = _folded(_doubling(layers), LOWEST, _BASS_HIGHEST)
    bars_s = [
        (s + at_s) / speed
        for at_s in turns_s
        for s in score.beats_s[:-1][:: score.beats_per_bar]
        if 0 <= s + at_s < wanted_s and s < score.length_s
    ]
    beat_s = float(np.median(np.diff(score.beats_s))) / speed
    always = [source for source, part in (("drums", hits), ("bass", bass), ("other", layers)) if part]
    notes = [*bass, *(note for _, part in layers for note in part)]
    plan = _plan(rng, score.beats_per_bar, beat_s, bars_s, length_s, notes, always)
    return Arrangement(plan, hits, bass, layers)


def _first_s(rng: Rng, score: Score, wanted_s: float) -> float:
    """Where an excerpt begins: with a bar, and so that something begins to sound in its first half."""
    starts = np.sort([hit.start_s for hit in score.hits] + [n.start_s for n in (*score.bass, *_all_of(score))])
    bars = np.array(score.beats_s[:-1][:: score.beats_per_bar])
    bars = bars[bars <= max(0.0, score.length_s - wanted_s)]
    n_begin = np.searchsorted(starts, bars + wanted_s / 2) - np.searchsorted(starts, bars - _EARLY_S)
    bars = bars[n_begin > 0]
    return float(rng.choice(bars) if len(bars) else starts[0]) - _EARLY_S


def _all_of(score: Score) -> list[Note]:
    return [note for _, notes in score.layers for note in notes]


def _folded(notes: Iterable[Note], low: int, high: int) -> list[Note]:
    """Notes moved by octaves to between two MIDI numbers, which lie an octave apart at least."""
    return [
        n._replace(midi=n.midi + 12 * (max(0, -(-(low - n.midi) // 12)) - max(0, -(-(n.midi - high) // 12))))
        for n in notes
    ]


def _doubling(layers: Sequence[tuple[int, list[Note]]]) -> list[Note]:
    """The lowest part's lowest notes."""
    lowest = min((notes for _, notes in layers), key=lambda notes: float(np.median([n.midi for n in notes])))
    line: list[Note] = []
    for note in sorted(lowest):
        if line and note.start_s - line[-1].start_s < 0.04:  # of one chord
            if note.midi < line[-1].midi:
                line[-1] = note
        else:
            line.append(note)
    return line


def _plan(
    rng: Rng,
    per_bar: int,
    beat_s: float,
    bars_s: Sequence[float],
    length_s: float,
    notes: Sequence[Note],
    always: Sequence[str],
) -> Plan:
    """Chords as the notes are, sections of eight bars: some sources play all through, and in some there is singing."""
    starts = [0.0, *(s for s in bars_s if s > 0.3)]
    bars = [(a, b - a) for a, b in zip(starts, [*starts[1:], length_s], strict=True) if b - a > 0.05]
    is_sung = rng.random() < _SUNG
    sections = []
    for i in range(0, len(bars), _BARS):
        part = bars[i : i + _BARS]
        name, intensity = _SECTIONS[int(rng.integers(len(_SECTIONS)))]
        sung = is_sung and name != "solo" and rng.random() < _SUNG + 0.15
        plays = (*always, "vocals") if sung else tuple(always)
        end_s = part[-1][0] + part[-1][1]
        sections.append(Section(name, part[0][0], end_s - part[0][0], len(part), intensity, plays, ()))
    sources = tuple(source for source in SOURCES if any(source in section.plays for section in sections))
    return Plan(beat_s, per_bar, 0.0, 0.5, _chords(bars, notes), tuple(sections), sources)


def _chords(bars: Sequence[tuple[float, float]], notes: Sequence[Note]) -> tuple[Chord, ...]:
    """The triad or fifth nearest to what sounds in each bar, in the scale nearest to what sounds in nine."""
    heard = np.zeros((len(bars), 12))
    lows = np.full(len(bars), 128)
    starts = np.array([start_s for start_s, _ in bars])
    for note in notes:
        at = int(np.searchsorted(starts, note.start_s + 1e-3, side="right")) - 1
        left_s = sum(bars[at]) - note.start_s
        if at < 0 or left_s < 1e-2:
            continue
        heard[at, note.midi % 12] += min(note.length_s, left_s)
        lows[at] = min(lows[at], note.midi)
    chords: list[Chord] = []
    for i, (start_s, bar_s) in enumerate(bars):
        around = heard[max(0, i - 4) : i + 5].sum(axis=0)
        scale = _scale(around)
        if heard[i].sum() == 0 and chords:
            root, tones = chords[-1].root, chords[-1].tones
        else:
            root, tones = _triad(heard[i] + 1e-3 * around, int(lows[i]) % 12)
        chords.append(Chord(start_s, bar_s, root, tones, tuple(sorted({*scale, *tones}))))
    return tuple(chords)


def _scale(heard: np.ndarray) -> tuple[int, ...]:
    """The major or minor scale that holds most of what is heard."""
    scales = [tuple((tonic + step) % 12 for step in steps) for steps in (MAJOR, MINOR) for tonic in range(12)]
    held = [float(heard[list(scale)].sum()) + 0.2 * float(heard[scale[0]]) for scale in scales]
    return scales[int(np.argmax(held))]


def _triad(heard: np.ndarray, low: int) -> tuple[int, tuple[int, ...]]:
    """Root and tones of the chord nearest to what is heard over a lowest note."""
    heard = np.sqrt(heard)  # a third counts that sounds once, where the root sounds in three parts

    def fit(root: int, steps: tuple[int, ...]) -> float:
        tones = [(root + step) % 12 for step in steps]
        return float(heard[tones].sum()) / float(np.sqrt(len(steps))) + (
            0.25 * float(heard.sum()) if root == low else 0.0
        )

    root, steps = max(((r, s) for r in range(12) for s in _TRIADS), key=lambda choice: fit(*choice))
    return root, tuple((root + step) % 12 for step in steps)
