"""What is sung and when: lines of one to four bars with rests between them, on tunes in the song's chords.

Sections of one name have the same lines and, as long as their chords are the same, the same tunes.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from danna_sep.training.synthesis.form import INTENSITIES
from danna_sep.training.synthesis.plan import Chord, Plan, Section, melody, near
from danna_sep.training.synthesis.singing import Note
from danna_sep.training.synthesis.vocal_singers import Singer
from danna_sep.training.synthesis.vocal_world import FRAME_S

_BARS: Final = (1, 2, 2, 4)
_SHORTEST_S: Final = 0.3
_SHORTEST_NOTE_S: Final = 0.08
_LEAST_HARMONY: Final = 3
"""Semitones between a note and the second voice's."""


@dataclass(frozen=True)
class Line:
    """A phrase of the song.

    Attributes:
        start_s: When it begins, seconds from the song's start.
        room_s: Seconds until the next line or the end of the section.
        sung_s: Seconds that its tune lasts; a rest follows.
        intensity: Of its section, from 0 to 1.
        notes: Its tune, start and length in seconds from the line's start, MIDI.
        chords: Under it, times from the song's start.
        bar_s: Seconds of a bar.
    """

    start_s: float
    room_s: float
    sung_s: float
    intensity: float
    notes: tuple[tuple[float, float, int], ...]
    chords: tuple[Chord, ...]
    bar_s: float

    @property
    def n_frames(self) -> int:
        """Frames of 5 ms until the next line."""
        return int(self.room_s / FRAME_S)

    def in_frames(self) -> list[Note]:
        """The tune by frames, each note within the line's room and at least 60 ms long."""
        notes = []
        for start_s, length_s, midi in self.notes:
            first = int(start_s / FRAME_S)
            length = min(int(length_s / FRAME_S), self.n_frames - first)
            if length >= 12:
                notes.append(Note(first, length, float(midi)))
        return notes

    def chord_at(self, frame: int) -> Chord:
        """The chord under a frame."""
        at_s = self.start_s + frame * FRAME_S + 1e-6
        return next((c for c in reversed(self.chords) if c.start_s <= at_s), self.chords[0])


def sung_lines(rng: np.random.Generator, plan: Plan, singer: Singer) -> list[Line]:
    """All lines of a song, in order: in the sections that have vocals, within the singer's range.

    The more intense a section, the higher in the range its tunes lie.
    """
    seed = int(rng.integers(2**32))
    lines: list[Line] = []
    for section in plan.sections:
        if "vocals" in section.plays:
            own = np.random.default_rng([seed, zlib.crc32(section.name.encode())])
            lines += _lines_of(own, plan, section, singer)
    return lines


def _lines_of(rng: np.random.Generator, plan: Plan, section: Section, singer: Singer) -> list[Line]:
    width = singer.high - singer.low
    usual = INTENSITIES.get(section.name, section.intensity)  # its own differs a little each time
    centre = singer.low + width * (0.3 + 0.4 * usual)
    low = max(singer.low, round(centre - 0.4 * width))
    high = min(singer.high, round(centre + 0.4 * width))
    n_bars = int(rng.choice(_BARS))
    share, rest, pickup = rng.uniform(0.68, 0.95), rng.uniform(0.0, 0.1), plan.beat_s * float(rng.choice([0, 0, 0.5]))
    lines: list[Line] = []
    start_s = section.start_s + pickup
    while section.end_s - start_s > _SHORTEST_S:
        end_s = min(start_s + n_bars * plan.bar_s, section.end_s)
        own = np.random.default_rng(rng.integers(2**32))  # so that a cut last line does not change what follows
        left_out = own.random() < 0.05 and len(lines) > 0
        chords = _chords_between(plan.chords, start_s, end_s)
        if not left_out and chords:
            sung_s = (end_s - start_s) * share
            tune = melody(own, chords, plan.beat_s, low, high, rest)
            notes = _until([(at_s - start_s, length_s, midi) for at_s, length_s, midi in tune], sung_s)
            lines.append(Line(start_s, end_s - start_s, sung_s, section.intensity, notes, chords, plan.bar_s))
        start_s = end_s
    return lines


def _chords_between(chords: tuple[Chord, ...], start_s: float, end_s: float) -> tuple[Chord, ...]:
    cut = []
    for chord in chords:
        first, last = max(chord.start_s, start_s), min(chord.start_s + chord.length_s, end_s)
        if last - first > 0.01:
            cut.append(replace(chord, start_s=first, length_s=last - first))
    return tuple(cut)


def _until(notes: list[tuple[float, float, int]], sung_s: float) -> tuple[tuple[float, float, int], ...]:
    """The notes that begin before `sung_s`, the last one cut there; the line's last note held till then."""
    kept = [note for note in notes if note[0] < sung_s - _SHORTEST_NOTE_S]
    if kept:
        start_s, _, midi = kept[-1]
        kept[-1] = (start_s, sung_s - start_s, midi)
    return tuple(kept)


def second_voice(notes: list[Note], line: Line, direction: int) -> list[Note]:
    """A harmony: each note's nearest chord tone at least a minor third above (`direction` 1) or below (-1).

    Follows the tune: where the tune stays, so does the harmony under the same chord.
    """
    found = []
    for note in notes:
        middle = note.midi + direction * (_LEAST_HARMONY + 1.5)
        options = [near(tone, middle + shift) for tone in line.chord_at(note.first).tones for shift in (-12, 0, 12)]
        far_enough = [o for o in options if direction * (o - note.midi) >= _LEAST_HARMONY]
        best = min(far_enough, key=lambda o: abs(o - note.midi))
        found.append(Note(note.first, note.length, float(best)))
    return found


def chord_part(notes: list[Note], line: Line, middle: float, first: float | None = None) -> list[Note]:
    """A choir's part: to each note's chord the tone nearest to the part's last one, drawn back to `middle`."""
    found = []
    last = middle if first is None else first
    for note in notes:
        wish = 0.6 * last + 0.4 * middle
        last = float(min((near(tone, wish) for tone in line.chord_at(note.first).tones), key=lambda o: abs(o - wish)))
        found.append(Note(note.first, note.length, last))
    return found


def unison(notes: list[Note], singer: Singer) -> list[Note]:
    """The tune in the octave nearest to another singer's middle."""
    if not notes:
        return []
    shift = 12 * round((singer.middle - float(np.median([note.midi for note in notes]))) / 12)
    return [Note(note.first, note.length, note.midi + shift) for note in notes]
