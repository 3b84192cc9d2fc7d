"""The stem `other` of a song: one to five instruments, each in the sections that the plan gives it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from danna_sep.training.synthesis import instruments, treatment
from danna_sep.training.synthesis.instruments import Instrument
from danna_sep.training.synthesis.parts import part, pattern_for, random_manner
from danna_sep.training.synthesis.patches import Patch
from danna_sep.training.synthesis.placing import RATE_HZ, Rng, Sound
from danna_sep.training.synthesis.plan import Note, Plan, loosened
from danna_sep.training.synthesis.sampler import Sampler, tone
from danna_sep.training.synthesis.studio import Studio

ODD = tuple(
    f"instruments/olpc_berklee/{name}*"
    for name in ("guitar_riff", "synth", "Longsynth", "Analogsynth", "Shortsynth", "FM")
)
"""Recorded riffs and noises of synthesisers, without a known pitch."""


def play(studio: Studio, rng: Rng, plan: Plan, n_samples: int, check: Callable[[], None]) -> Sound:
    """The accompaniment of a song, stereo.

    Args:
        studio: Instruments to choose from.
        rng: Chooses, and treats.
        plan: The song.
        n_samples: Length of the result.
        check: Called between instruments; may raise.
    """
    out = np.zeros((2, n_samples), dtype=np.float32)
    n_layers = 1 + max((max(section.layers, default=0) for section in plan.sections), default=0)
    for index in range(n_layers):
        check()
        instrument = instruments.random_instrument(studio, rng)
        written = partial(notes_of, rng, plan, index, instrument.style)
        _mix(out, _layer(studio, rng, instrument, written, plan.beat_s, n_samples), rng)
    if rng.random() < 0.12 and studio.recordings is not None:
        check()
        out += _ornaments(studio, rng, plan, n_samples)
    if rng.random() < 0.3:
        out = treatment.compress(out, rng, 0.6)
    return out


def perform(
    studio: Studio,
    rng: Rng,
    layers: Sequence[tuple[int, Sequence[Note]]],
    beat_s: float,
    n_samples: int,
    check: Callable[[], None],
) -> Sound:
    """The accompaniment of a song that is written down, stereo.

    Args:
        studio: Instruments to choose from.
        rng: Chooses, and treats.
        layers: General MIDI's program and the notes of each instrument; mostly one of that kind plays them.
        beat_s: Seconds of a beat.
        n_samples: Length of the result.
        check: Called between instruments; may raise.
    """
    out = np.zeros((2, n_samples), dtype=np.float32)
    for program, notes in layers:
        check()
        instrument = instruments.instrument_for(studio, rng, program)
        _mix(out, _layer(studio, rng, instrument, partial(list, notes), beat_s, n_samples), rng)
    if rng.random() < 0.3:
        out = treatment.compress(out, rng, 0.6)
    return out


def notes_of(rng: Rng, plan: Plan, index: int, style: str) -> list[Note]:
    """All that one instrument plays; wherever a section comes back, it plays in the same rhythm.

    Args:
        rng: Where it comes from.
        plan: The song.
        index: Which of the plan's layers it is.
        style: See `parts.Manner`.
    """
    manner = random_manner(rng, style)
    seed = int(rng.integers(2**32))
    notes: list[Note] = []
    for section in plan.sections:
        if index in section.layers:
            # The section's own generator: a chorus is the same each time.
            own = np.random.default_rng([seed, *section.name.encode()])
            notes += part(own, plan, section, manner, pattern_for(own, plan))
    return notes


def _mix(out: Sound, layer: Sound, rng: Rng) -> None:
    """Adds an instrument to `out` at a level of its own."""
    level_db = treatment.rms_db(layer)
    if level_db > -100:
        out += layer * np.float32(0.1 * treatment.db(float(rng.normal(0, 3)) - level_db))


def _layer(
    studio: Studio, rng: Rng, instrument: Instrument, written: Callable[[], list[Note]], beat_s: float, n_samples: int
) -> Sound:
    loose_s, soft = float(rng.uniform(0.001, 0.012)), float(rng.uniform(0.6, 1.0))
    notes = [
        note._replace(velocity=float(np.clip(note.velocity * soft * rng.uniform(0.85, 1.1), 0.05, 1.0)))
        for note in loosened(rng, written(), loose_s)
    ]
    if not notes:
        return np.zeros((2, n_samples), dtype=np.float32)
    return instruments.dress(_sound(studio, rng, instrument, notes, n_samples), rng, instrument, beat_s)


def _sound(studio: Studio, rng: Rng, instrument: Instrument, notes: list[Note], n_samples: int) -> Sound:
    if instrument.program is not None:
        return studio.soundfonts.play(rng, 0, instrument.program, notes, n_samples)
    out = np.zeros((2, n_samples), dtype=np.float32)
    if instrument.bank is not None and studio.recordings is not None:
        sampler = Sampler(studio.recordings, instrument.bank)
        for note in notes:
            treatment.add(out, sampler.play(rng, note.midi, note.length_s), note.start_s, note.velocity)
        return out
    patch = Patch(rng, instrument.role or "lead")
    for note in notes:
        treatment.add(out, patch.play(note.midi, note.length_s), note.start_s, note.velocity)
    return out


def _ornaments(studio: Studio, rng: Rng, plan: Plan, n_samples: int) -> Sound:
    """Riffs and noises on the beat, here and there where the accompaniment plays."""
    out = np.zeros((2, n_samples), dtype=np.float32)
    recordings = studio.recordings
    paths = [] if recordings is None else [path for pattern in ODD for path in recordings.files(pattern)]
    if recordings is None or not paths:
        return out
    some = [paths[int(i)] for i in rng.integers(len(paths), size=3)]
    shift = int(rng.integers(-5, 6))
    for section in plan.sections:
        if "other" not in section.plays or rng.random() < 0.5:
            continue
        for i in range(0, section.n_bars, int(rng.choice([1, 2, 4]))):
            n_beats = float(rng.choice([1, 2, 4]))
            sound = tone(recordings, some[int(rng.integers(3))], shift)[:, : int(n_beats * plan.beat_s * RATE_HZ)]
            at_s = section.start_s + i * plan.bar_s
            treatment.add(out, treatment.stereo(treatment.fade(sound, 0.002, 0.05)), at_s, float(rng.uniform(0.3, 0.7)))
    return treatment.maybe_reverberate(treatment.colour(out, rng, 60), rng, 0.6, 2.5, 0.5)
