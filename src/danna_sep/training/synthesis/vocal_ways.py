"""Ways of singing a line with recordings: held syllables, words on a tune, sung phrases moved into the key, rap."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from danna_sep.training.synthesis.phrases import shortest_step
from danna_sep.training.synthesis.singing import (
    SEMITONE,
    Note,
    contour,
    hold,
    log_hz,
    stretch,
    syllables,
)
from danna_sep.training.synthesis.treatment import Rng, db
from danna_sep.training.synthesis.vocal_lines import Line
from danna_sep.training.synthesis.vocal_material import Material
from danna_sep.training.synthesis.vocal_singers import Singer
from danna_sep.training.synthesis.vocal_world import FRAME_S, Voice, bridged, join, silence, smooth

_LONGEST_STRETCH: Final = 3.5
_FEWEST_FRAMES: Final = 12
_FADE_FRAMES: Final = 10
_SILENT: Final = -25.0
"""Mean log power of a frame up to which nothing is heard."""

_STEPS: Final = 10
"""In which keys are compared, of a semitone."""

_AWAY: Final = 0.012
"""What a semitone away from the singer's range costs, against the share of the melody that is in the key."""


@dataclass(frozen=True)
class Part:
    """What one voice does in a line, by frames from the line's start.

    Attributes:
        voice: What is said.
        log_pitch: Natural log of the frequency, (frame,).
        gain: Factor on the amplitude, (frame,).
        notes: The tune; none where the recording brings its own.
    """

    voice: Voice
    log_pitch: npt.NDArray[np.float64]
    gain: npt.NDArray[np.float64]
    notes: tuple[Note, ...] = ()

    def until_silent(self) -> Part:
        """Without the rest at its end, which would take as long to sing as the tune."""
        sounding = np.flatnonzero((self.voice.pitch_hz > 0) | (self.voice.loudness() > _SILENT))
        n = min(len(self.voice), int(sounding[-1]) + 20 if len(sounding) else 20)
        return replace(self, voice=self.voice.take(np.arange(n)), log_pitch=self.log_pitch[:n], gain=self.gain[:n])


def held(rng: Rng, material: Material, line: Line, singer: Singer, notes: list[Note] | None = None) -> Part:
    """Held syllables on the line's tune, or on other `notes`; at times several notes on one syllable."""
    notes = line.in_frames() if notes is None else notes
    pieces: list[tuple[int, Voice]] = []
    syllable, last = material.any(rng), -1
    slurs = rng.uniform(0, 0.3)
    for note in notes:
        slurred = rng.random() < slurs and note.first - last <= 1
        syllable = syllable if slurred else material.any(rng)
        pieces.append((note.first, hold(rng, syllable, note.length, attacked=not slurred)))
        last = note.first + note.length
    return _on_notes(rng, line, singer, pieces, notes)


class Words:
    """Syllables of a song's recordings, one after the other, recording by recording."""

    def __init__(self, rng: Rng, material: Material) -> None:
        """Begin with a random recording."""
        self._stream = self._syllables(rng, material)

    def __next__(self) -> tuple[Voice, int, int]:
        """A recording, and its next syllable's first frame and the frame after its last."""
        return next(self._stream)

    @staticmethod
    def _syllables(rng: Rng, material: Material) -> Iterator[tuple[Voice, int, int]]:
        shortest = int(rng.uniform(0.12, 0.3) / FRAME_S)
        while True:
            voice = material.any(rng)
            for first, last in syllables(voice, shortest):
                yield voice, first, last


def words(rng: Rng, stream: Words, line: Line, singer: Singer) -> Part:
    """Words on the line's tune: a syllable a note, cut or stretched to it."""
    notes = line.in_frames()
    pieces = []
    for note in notes:
        voice, first, last = next(stream)
        n = min(note.length, int(_LONGEST_STRETCH * (last - first)))
        pieces.append((note.first, stretch(voice, first, last, n)))
    return _on_notes(rng, line, singer, pieces, notes)


def _on_notes(rng: Rng, line: Line, singer: Singer, pieces: list[tuple[int, Voice]], notes: list[Note]) -> Part:
    n = line.n_frames
    gain = np.ones(n)
    for note in notes:
        last = note.first + note.length
        gain[note.first : last] *= db(rng.normal(0, 1.2) + 0.25 * (note.midi - singer.middle))
        gain[note.first : note.first + 5] *= np.linspace(0.2, 1, 5)
        n_release = min(note.length // 3, 20)
        gain[last - n_release : last] *= np.linspace(1, 0.15, n_release)
    log_pitch = contour(rng, singer, n, notes) if notes else np.full(n, log_hz(singer.middle))
    return Part(_placed(pieces, n), log_pitch, smooth(gain, 3), tuple(notes)).until_silent()


def _placed(pieces: list[tuple[int, Voice]], n: int) -> Voice:
    """Voices from given frames on, silence in between, `n` frames; pieces are in order and do not overlap."""
    row: list[Voice] = []
    now = 0
    for first, voice in pieces:
        if first > now:
            row.append(silence(first - now))
        row.append(voice)
        now = first + len(voice)
    row.append(silence(max(1, n - now)))
    return join(row).take(np.arange(n))


def transposed(rng: Rng, material: Material, line: Line, singer: Singer, shift: float, tuning: float) -> Part:
    """Sung phrases with their own tune and timing, each beginning on a beat.

    Args:
        rng: Where chance comes from.
        material: Sung phrases.
        line: Where they go.
        singer: Whose roughness.
        shift: Semitones by which they are moved.
        tuning: From 0 (as sung) to 1 (on the scale's notes).
    """
    n = line.n_frames
    step = max(1, int(line.bar_s / 8 / FRAME_S))
    speed = rng.uniform(0.85, 1.15)
    row: list[tuple[int, Voice]] = []
    log_pitch = np.full(n, log_hz(singer.middle))
    gain = np.ones(n)
    at = 0
    n_sung = int(line.sung_s / FRAME_S)
    while at < n_sung - int(0.25 / FRAME_S):
        voice = material.any(rng)
        voice = voice.take(np.arange(0, len(voice) - 1, speed).astype(np.int64))
        last = min(at + len(voice), n)
        voice = voice.take(np.arange(last - at))
        moved = bridged(voice.pitch_hz) + shift * SEMITONE
        if tuning:
            moved = in_tune(moved, line.chord_at(at).scale, tuning)
        log_pitch[at:last] = moved
        n_fade = min(_FADE_FRAMES, last - at)
        gain[last - n_fade : last] *= np.linspace(1, 0.1, n_fade)
        row.append((at, voice))
        at = -(-(last + 1 + int(rng.exponential(0.2) / FRAME_S)) // step) * step
    jitter = smooth(rng.standard_normal(n), 2) * singer.rough * 17 * SEMITONE
    return Part(_placed(row, n), log_pitch + jitter, gain).until_silent()


def in_tune(log_pitch: npt.NDArray[np.float64], scale: tuple[int, ...], strength: float) -> npt.NDArray[np.float64]:
    """A pitch drawn to the nearest notes of a scale, glides and vibrato kept.

    Args:
        log_pitch: Natural log of the frequency, (frame,).
        scale: Pitch classes.
        strength: From 0, as it was, to 1: its mean over 0.1 s on the notes.
    """
    steady = smooth(log_pitch, 21)
    midi = 69 + (steady - np.log(440.0)) / SEMITONE
    away = (np.array(scale)[:, None] - midi + 6) % 12 - 6
    nearest = away[np.abs(away).argmin(axis=0), np.arange(len(midi))]
    return log_pitch + strength * smooth(nearest, 15) * SEMITONE


def into_key(
    log_pitches: npt.NDArray[np.float64], scale: tuple[int, ...], root: int, around: float, *, within: int = 6
) -> float:
    """The shift that brings a melody into a key.

    Args:
        log_pitches: Natural logs of the melody's frequencies, (frame,).
        scale: The key's pitch classes.
        root: The tonic's, which counts a little more.
        around: Semitones; shifts nearer to this are preferred a little.
        within: Semitones on either side of it that are tried.

    Returns:
        Semitones, in tenths.
    """
    midi = 69 + (log_pitches - np.log(440.0)) / SEMITONE
    n = 12 * _STEPS
    places = np.round(midi * _STEPS).astype(np.int64) % n
    heard = np.bincount(places, minlength=n) / max(1, len(places))
    classes = np.arange(n) / _STEPS
    fits = np.zeros(n)
    for tone in scale:
        away = (classes - tone + 6) % 12 - 6
        fits = np.maximum(fits, np.exp(-np.square(away / 0.35)) * (1.15 if tone == root else 1.0))
    best, most = 0.0, -np.inf
    for step in range(-within * _STEPS, within * _STEPS + 1):
        shift = round(around * _STEPS) + step
        score = float(heard @ np.roll(fits, -shift)) - _AWAY * abs(step) / _STEPS
        if score > most:
            best, most = shift / _STEPS, score
    return best


def spoken(rng: Rng, stream: Words, line: Line, singer: Singer, beat_s: float, flat: float) -> Part:
    """Words in rhythm: each syllable begins on a half or a quarter of a beat.

    Args:
        rng: Where chance comes from.
        stream: Words.
        line: Where they go.
        singer: Whose range: spoken a little below its middle.
        beat_s: A beat.
        flat: From 0, the recordings' own rise and fall, to 1: monotone.
    """
    n, n_sung = line.n_frames, int(line.sung_s / FRAME_S)
    step = shortest_step(beat_s) / FRAME_S
    level = log_hz(singer.low + 0.3 * (singer.high - singer.low))
    row: list[tuple[int, Voice]] = []
    log_pitch = np.full(n, level)
    gain = np.ones(n)
    grid = 0
    while grid * step < n_sung - _FEWEST_FRAMES:
        voice, first, last = next(stream)
        at = int(grid * step)
        n_steps = max(1, round((last - first) / step + rng.uniform(-0.3, 0.3)))
        end = min(int((grid + n_steps) * step), n)
        piece = stretch(voice, first, last, min(end - at, int(_LONGEST_STRETCH * (last - first))))
        own = bridged(voice.pitch_hz)
        middle = float(np.median(own))
        log_pitch[at : at + len(piece)] = level + (1 - flat) * (
            np.interp(np.linspace(first, last - 1, len(piece)), np.arange(len(own)), own) - middle
        )
        gain[at:end] *= db(rng.normal(1.0 if grid % 4 == 0 else 0.0, 1.0))
        row.append((at, piece))
        grid += n_steps + int(rng.random() < 0.12)
    return Part(_placed(row, n), smooth(log_pitch, 5), smooth(gain, 5)).until_silent()
