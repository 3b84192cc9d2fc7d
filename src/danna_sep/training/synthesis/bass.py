"""The bass of a song: a line under its chords, on a recorded, computed or soundfont's bass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

import numpy as np

from danna_sep.training.synthesis import treatment
from danna_sep.training.synthesis.electronic_bass import ElectronicBass
from danna_sep.training.synthesis.grooves import Hit
from danna_sep.training.synthesis.patches import Patch
from danna_sep.training.synthesis.placing import Rng, Sound
from danna_sep.training.synthesis.plan import Chord, Note, Plan, loosened, near
from danna_sep.training.synthesis.sampler import BASSES, Sampler
from danna_sep.training.synthesis.studio import Studio

LOWEST: Final = 26
"""D1, the lowest note that is played."""

_STYLES: Final = {
    "eighths": 0.24, "quarters": 0.12, "whole": 0.11, "pushed": 0.14, "funk": 0.1, "dotted": 0.08, "offbeat": 0.05,
    "locked": 0.16,
}  # fmt: skip
_PROGRAMS: Final = ((32, 0.12), (33, 0.22), (34, 0.22), (35, 0.1), (36, 0.05), (37, 0.05), (38, 0.12), (39, 0.12))
"""General MIDI's basses."""

_BEYOND_PATCHES: Final = 0.4
"""Share of the computed basses that are no filtered oscillators."""


class Player(Protocol):
    """Anything that plays single notes."""

    def __call__(self, midi: int, length_s: float) -> Sound:
        """One note, stereo."""


def line(rng: Rng, plan: Plan, hits: Sequence[Hit]) -> list[Note]:
    """A bass line in the sections that have bass; every note is in its chord's scale.

    Args:
        rng: Where it comes from.
        plan: Chords, tempo, swing.
        hits: The drums; some lines follow the bass drum.
    """
    kicks = np.array([hit.start_s for hit in hits if hit.role == "kick"])
    centre = float(rng.uniform(32, 43))
    busy, short = float(rng.uniform(0, 0.5)), float(rng.uniform(0.5, 1.05))
    rhythms: dict[str, tuple[str, str]] = {}
    notes: list[Note] = []
    for section in plan.sections:
        if "bass" not in section.plays:
            continue
        if section.name not in rhythms:
            first = str(rng.choice(list(_STYLES), p=list(_STYLES.values())))
            rhythms[section.name] = (first, first if rng.random() < 0.7 else "funk")
        chords = plan.chords_of(section)
        for i, chord in enumerate(chords):
            style = rhythms[section.name][i % 4 == 3]
            following = chords[(i + 1) % len(chords)]
            loud = 0.75 + 0.25 * section.intensity
            notes += _under(rng, plan, chord, following, style, kicks, (centre, busy, short, loud))
    return notes


def _under(
    rng: Rng,
    plan: Plan,
    chord: Chord,
    following: Chord,
    style: str,
    kicks: np.ndarray,
    character: tuple[float, float, float, float],
) -> list[Note]:
    """The notes under one chord."""
    centre, busy, short, loud = character
    root = near(chord.root, centre)
    root += 12 if root < LOWEST + 2 else 0
    beats = chord.length_s / plan.beat_s
    rhythm = _rhythm(rng, style, beats)
    if style == "locked" and len(kicks):
        inside = kicks[(kicks >= chord.start_s - 0.03) & (kicks < chord.start_s + chord.length_s - 0.05)]
        steps = sorted({max(0.0, round(float(k - chord.start_s) / plan.beat_s * 4) / 4) for k in inside} | {0.0})
        rhythm = list(zip(steps, np.diff([*steps, beats]).clip(0.2, 2.0).tolist(), strict=True))
    notes = []
    for j, (beat, length) in enumerate(rhythm):
        midi = root
        if j and rng.random() < busy:
            tones = [near(tone, root + 3) for tone in chord.tones[1:3]]
            midi = int(rng.choice([root + 12, *tones]))
        if j == len(rhythm) - 1 and j and rng.random() < busy:
            goal = near(following.root, root)
            steps_to_goal = [near(tone, goal + side) for tone in chord.scale for side in (-2, 2)]
            midi = min(steps_to_goal, key=lambda m: (abs(abs(m - goal) - 1.5), m))
        while midi < LOWEST:
            midi += 12
        start_s = plan.time_s(chord.start_s, beat)
        length_s = min(length * plan.beat_s * short, chord.start_s + chord.length_s - start_s)
        if length_s > 0.03:
            notes.append(Note(start_s, length_s, midi, loud * float(rng.uniform(0.75, 1))))
    return notes


def _rhythm(rng: Rng, style: str, beats: float) -> list[tuple[float, float]]:
    """(beat, length in beats) of the notes on a chord of so many beats."""
    if style == "eighths":
        return [(float(b), 0.5) for b in np.arange(0, beats - 0.1, 0.5)]
    if style == "quarters":
        return [(float(b), 1.0) for b in np.arange(0, beats - 0.1, 1.0)]
    if style == "whole":
        return [(0.0, beats)]
    if style == "dotted":
        return [(float(b), 0.75) for b in np.arange(0, max(beats - 0.5, 0.1), 1.5)]
    if style == "offbeat":
        return [(float(b) + 0.5, 0.5) for b in np.arange(0, beats - 0.6, 1.0)] or [(0.0, beats)]
    if style in ("pushed", "locked"):
        bars = [(0.0, 1.5), (1.5, 0.5), (2.0, 1.0), (3.0, 0.5), (3.5, 0.5)]
        return [(4 * i + b, n) for i in range(int(np.ceil(beats / 4))) for b, n in bars if 4 * i + b < beats - 0.1]
    steps = [0.0, *(float(s) for s in np.arange(0.25, beats - 0.1, 0.25) if rng.random() < 0.35)]
    return list(zip(steps, np.diff([*steps, beats]).clip(0.2, 1.0).tolist(), strict=True))


def play(studio: Studio, rng: Rng, notes: list[Note], electronic: bool, n_samples: int) -> Sound:
    """A bass line, stereo; most are the same in both channels.

    Args:
        studio: Basses to choose from.
        rng: Chooses, and treats.
        notes: The line.
        electronic: On a computed bass, mostly.
        n_samples: Length of the result.
    """
    recorded = []
    if studio.recordings is not None:
        recorded = [(bank, weight) for bank, weight in BASSES.values() if studio.recordings.files(bank.where)]
    computed = 0.25 if not electronic else 1.5
    weights = {"recorded": 0.5 * bool(recorded), "computed": computed, "soundfont": 0.25 * bool(studio.soundfonts)}
    total = sum(weights.values())
    kind = str(rng.choice(list(weights), p=[w / total for w in weights.values()]))
    loose_s = 0.001 if kind == "computed" else float(rng.uniform(0.001, 0.012))
    spread = float(rng.uniform(0.05, 0.25))
    notes = loosened(rng, notes, loose_s)
    if kind == "soundfont":
        odds = [weight for _, weight in _PROGRAMS]
        program = _PROGRAMS[rng.choice(len(odds), p=np.array(odds) / sum(odds))][0]
        return finish(studio.soundfonts.play(rng, 0, program, notes, n_samples), rng, rng.random() < 0.85)
    player: Player
    if kind == "recorded" and studio.recordings is not None:
        odds = [weight for _, weight in recorded]
        sampler = Sampler(studio.recordings, recorded[rng.choice(len(odds), p=np.array(odds) / sum(odds))][0])

        def player(midi: int, length_s: float) -> Sound:
            return sampler.play(rng, midi, length_s)
    else:
        player = (ElectronicBass(rng) if rng.random() < _BEYOND_PATCHES else Patch(rng, "bass")).play
    out = np.zeros((2, n_samples), dtype=np.float32)
    for note in notes:
        gain = note.velocity * float(np.exp(rng.normal(0, spread)))
        treatment.add(out, player(note.midi, note.length_s), note.start_s, gain)
    return finish(out, rng, rng.random() < 0.75 or kind == "recorded")


def finish(out: Sound, rng: Rng, mono: bool) -> Sound:
    """A bass track's usual treatment: middle, dirt, equaliser, compressor."""
    if mono:
        out = np.repeat(out.mean(axis=0, keepdims=True), 2, axis=0)
    if rng.random() < 0.3:
        dirty = treatment.saturate(out, float(np.exp(rng.uniform(0.3, 3))))
        out = treatment.cut(out * np.float32(rng.uniform(0, 1)) + dirty, 25, float(rng.uniform(2500, 8000)))
    lift_db = float(rng.normal(3, 3))
    curve = {40.0: lift_db, 110.0: lift_db, 300.0: 0.0, 700.0: float(rng.normal(0, 2)), 3000.0: float(rng.normal(3, 4))}
    out = treatment.shape_spectrum(out, curve)
    out = treatment.colour(out, rng, float(rng.uniform(20, 40)), float(np.exp(rng.uniform(7.0, 10))), 4.0)
    if rng.random() < 0.7:
        out = treatment.compress(out, rng)
    if rng.random() < 0.1:
        out = treatment.chorus(out, rng)
    return treatment.maybe_reverberate(out, rng, 0.15, 0.8, 0.15)
