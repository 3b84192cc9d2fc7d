"""A song's plan: everything in it fits together, whatever the seed and the length."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from danna_sep.training.synthesis.bass import LOWEST, line
from danna_sep.training.synthesis.drum_patterns import IN_SIX, IN_THREE, STYLES, bar
from danna_sep.training.synthesis.grooves import LOOSEST_S, Hit, groove
from danna_sep.training.synthesis.harmony import Chord, loosened, melody, near, voicing
from danna_sep.training.synthesis.parts import part, pattern_for, random_manner
from danna_sep.training.synthesis.plan import Plan, random_plan
from danna_sep.types import SOURCES

seeds = st.integers(0, 10**6)
lengths = st.floats(4, 200)
several = settings(max_examples=12, deadline=None)


def plan_of(seed: int, length_s: float = 60.0) -> Plan:
    return random_plan(np.random.default_rng(seed), length_s)


def chord_at(plan: Plan, at_s: float) -> Chord:
    return max((chord for chord in plan.chords if chord.start_s <= at_s + 1e-6), key=lambda chord: chord.start_s)


@several
@given(seeds, lengths)
def test_sections_and_chords_tile_the_song(seed: int, length_s: float) -> None:
    plan = plan_of(seed, length_s)
    assert plan.length_s == pytest.approx(length_s)
    for parts in (plan.sections, plan.chords):
        assert parts[0].start_s == 0
        assert all(part.length_s > 0 for part in parts)
        for first, second in itertools.pairwise(parts):
            assert first.start_s + first.length_s == pytest.approx(second.start_s)
        assert parts[-1].start_s + parts[-1].length_s == pytest.approx(length_s)
    assert sum(len(plan.chords_of(section)) for section in plan.sections) == len(plan.chords)


@several
@given(seeds)
def test_who_plays(seed: int) -> None:
    """Only sources that the song has; layers exactly where the accompaniment plays; spans say the same."""
    plan = plan_of(seed)
    assert len(plan.sources) >= 2
    for section in plan.sections:
        assert section.plays
        assert set(section.plays) <= set(plan.sources)
        assert bool(section.layers) == ("other" in section.plays)
        assert 0 <= section.intensity <= 1
    for source in SOURCES:
        played_s = sum(section.length_s for section in plan.sections if source in section.plays)
        spans = plan.spans(source)
        assert sum(end_s - start_s for start_s, end_s in spans) == pytest.approx(played_s)
        assert all(first[1] < second[0] for first, second in itertools.pairwise(spans))


@several
@given(seeds)
def test_chords_belong_to_their_scale_and_come_back(seed: int) -> None:
    plan = plan_of(seed)
    of_name: dict[str, list[tuple[int, ...]]] = {}
    for section in plan.sections:
        chords = plan.chords_of(section)
        for chord in chords:
            assert set(chord.tones) <= set(chord.scale)
            assert chord.root == chord.tones[0]
            assert len(set(chord.scale)) == 7
        tonic = chords[0].scale[0]
        shapes = [tuple((tone - tonic) % 12 for tone in chord.tones) for chord in chords]
        known = of_name.setdefault(section.name, shapes)
        n = min(len(known), len(shapes))
        assert known[:n] == shapes[:n]


def test_tempo_meter_and_key_vary() -> None:
    plans = [plan_of(seed) for seed in range(300)]
    assert {plan.beats_per_bar for plan in plans} == {3, 4, 6}
    assert {plan.chords[0].scale[0] for plan in plans} == set(range(12))
    per_minute = [60 / plan.beat_s for plan in plans if plan.beats_per_bar != 6]
    assert min(per_minute) >= 60
    assert max(per_minute) <= 180 + 1e-9
    assert any(plan.sources != SOURCES for plan in plans)
    assert any(plan.swing for plan in plans)
    assert len({tuple(section.name for section in plan.sections) for plan in plans}) > 50


@several
@given(seeds)
def test_swing_keeps_beats_and_order(seed: int) -> None:
    plan = plan_of(seed)
    times = [plan.time_s(3.0, k / 8) for k in range(64)]
    assert all(later > earlier for earlier, later in itertools.pairwise(times))
    for beat in range(8):
        assert plan.time_s(3.0, beat) == pytest.approx(3.0 + beat * plan.beat_s)


@several
@given(seeds, st.booleans())
def test_drums_strike_on_the_grid(seed: int, electronic: bool) -> None:
    """Every stroke but rolls of hats lies within what a hand is off from a sixteenth; in sections with drums only."""
    plan = plan_of(seed)
    hits = groove(np.random.default_rng(seed), plan, electronic)
    per_beat = 2 if plan.beats_per_bar == 6 else 4
    n_steps = per_beat * plan.beats_per_bar
    furthest_s = 3 * (0.0005 if electronic else LOOSEST_S) + 1e-6
    with_drums = [section for section in plan.sections if "drums" in section.plays]
    for hit in hits:
        assert 0 < hit.velocity <= 1
        homes = [s for s in with_drums if s.start_s - furthest_s <= hit.start_s < s.end_s + furthest_s]
        assert homes
        if hit.role == "hat":
            continue
        off_s = []
        for section in homes:
            first = section.start_s + max(0, int((hit.start_s - section.start_s) / plan.bar_s)) * plan.bar_s
            off_s += [abs(plan.time_s(first, step / per_beat) - hit.start_s) for step in range(n_steps + 1)]
        assert min(off_s) <= furthest_s
    if with_drums:
        assert hits


def test_a_groove_comes_back_with_its_section() -> None:
    """Most of a verse's strokes are those of the verse before: fills and crashes differ."""
    n_common = n_all = 0
    for seed in range(15):
        plan = plan_of(seed, 120.0)
        hits = groove(np.random.default_rng(seed), plan, True)
        of_name: dict[str, set[tuple[str, int]]] = {}
        for section in plan.sections:
            if "drums" not in section.plays or section.name == "build":
                continue
            strokes = {
                (hit.role, round((hit.start_s - section.start_s) / plan.beat_s * 8))
                for hit in hits
                if section.start_s - 0.002 <= hit.start_s < section.end_s - 0.002
            }
            if section.name in of_name:
                n_common += len(strokes & of_name[section.name])
                n_all += len(strokes)
            of_name.setdefault(section.name, strokes)
    assert n_common > 0.75 * n_all


@pytest.mark.parametrize("style", [*STYLES, *IN_THREE, *IN_SIX])
def test_bars_of_every_style(style: str) -> None:
    n_steps = 16 if style in STYLES else 12
    for seed in range(10):
        strokes = bar(np.random.default_rng(seed), style, "hat")
        assert strokes
        assert all(0 <= step < n_steps and 0 < velocity <= 1 for step, _, velocity in strokes)
        assert all(step == int(step) for step, role, _ in strokes if role != "hat")


@several
@given(seeds)
def test_bass_notes_are_in_their_chords_scale(seed: int) -> None:
    plan = plan_of(seed)
    hits = groove(np.random.default_rng(seed), plan, False)
    notes = line(np.random.default_rng(seed), plan, hits)
    spans = plan.spans("bass")
    assert bool(notes) == bool(spans)
    for note in notes:
        chord = chord_at(plan, note.start_s)
        assert note.midi % 12 in chord.scale
        assert LOWEST <= note.midi < 72
        assert note.start_s + note.length_s <= chord.start_s + chord.length_s + 1e-6
        assert any(start_s - 1e-6 <= note.start_s < end_s for start_s, end_s in spans)
        assert 0 < note.velocity <= 1


def test_some_bass_lines_follow_the_bass_drum() -> None:
    """With the same generator, another bass drum changes some lines and leaves the others."""
    n_changed = 0
    for seed in range(40):
        plan = plan_of(seed)
        quarters = [Hit(k * plan.beat_s, "kick", 1.0) for k in range(int(60 / plan.beat_s))]
        lines = [line(np.random.default_rng(seed), plan, hits) for hits in ([], quarters)]
        n_changed += lines[0] != lines[1]
    assert 2 < n_changed < 38


@pytest.mark.parametrize("style", ["strum", "power", "arpeggio", "hold", "comp", "piano", "lead"])
def test_accompaniment_stays_in_its_section(style: str) -> None:
    for seed in range(20):
        plan, rng = plan_of(seed), np.random.default_rng(seed)
        for section in plan.sections:
            for note in part(rng, plan, section, random_manner(rng, style), pattern_for(rng, plan)):
                assert section.start_s - 1e-6 <= note.start_s < section.end_s + 0.15
                assert 12 <= note.midi <= 110
                if style != "power":
                    assert note.midi % 12 in chord_at(plan, note.start_s).scale or style == "strum"


@pytest.mark.parametrize("style", ["strum", "power", "arpeggio", "hold", "comp", "piano", "lead"])
def test_a_song_may_end_just_after_a_chord_begins(style: str) -> None:
    """Where the last section is cut short; a strummed chord then has no beat to be struck on."""
    plan, rng = plan_of(3), np.random.default_rng(0)
    section, chord = plan.sections[-1], plan.chords[-1]
    cut = replace(plan, chords=(*plan.chords[:-1], replace(chord, length_s=0.02 * plan.beat_s)))
    for note in part(rng, cut, section, random_manner(rng, style), pattern_for(rng, cut)):
        assert section.start_s - 1e-6 <= note.start_s < section.end_s + 0.15


@several
@given(seeds, st.integers(30, 80), st.integers(10, 24))
def test_tunes_keep_their_range_and_scale(seed: int, low: int, width: int) -> None:
    plan = plan_of(seed, 20.0)
    tune = melody(np.random.default_rng(seed), plan.chords, plan.beat_s, low, low + width)
    for start_s, length_s, midi in tune:
        assert low <= midi <= low + width
        assert midi % 12 in chord_at(plan, start_s).scale
        assert start_s + length_s <= 20.0 + 1e-6


@given(st.integers(0, 11), st.floats(20, 100))
def test_near(pitch_class: int, around: float) -> None:
    midi = near(pitch_class, around)
    assert midi % 12 == pitch_class
    assert abs(midi - around) <= 6


def test_voicing_rises() -> None:
    chord = plan_of(3).chords[0]
    notes = voicing(chord, 55, 7)
    assert len(notes) == 7
    assert all(later >= earlier for earlier, later in itertools.pairwise(notes))
    assert {note % 12 for note in notes} == set(chord.tones)


def test_loosened_notes_are_not_far_off() -> None:
    plan = plan_of(1)
    notes = line(np.random.default_rng(0), plan_of(1), [])
    moved = loosened(np.random.default_rng(1), notes, 0.01)
    off_s = np.array([a.start_s - b.start_s for a, b in zip(notes, moved, strict=True)])
    assert np.abs(off_s).max() <= 0.03
    assert 0.005 < off_s.std() < 0.015
    assert plan == plan_of(1)
