"""The vocal stem: what is sung follows the plan and the singer. Recordings are vowels made of pulses and formants."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
from scipy import signal

from danna_sep.errors import ConfigError
from danna_sep.training.synthesis import vocal_world, voices
from danna_sep.training.synthesis.phrases import BANKS, in_a_row, prepared
from danna_sep.training.synthesis.plan import Chord, Plan, Section
from danna_sep.training.synthesis.recordings import Recordings
from danna_sep.training.synthesis.treatment import RATE_HZ
from danna_sep.training.synthesis.vocal_lines import chord_part, second_voice, sung_lines, unison
from danna_sep.training.synthesis.vocal_singers import Sex, Singer, cast

SCALE = (2, 4, 6, 7, 9, 11, 1)  # D major
BEAT_S = 0.5
SINGS = (4.0, 12.0)
LENGTH_S = 14.0

needs_world = pytest.mark.skipif(not vocal_world.available(), reason="pyworld is not installed")


def vowel(pitch_hz: npt.ArrayLike, length_s: float, formants_hz: tuple[float, ...] = (700, 1200, 2600)) -> np.ndarray:
    """Pulses through resonances, mono (time,), peak 0.5; the pitch is constant or given by sample."""
    n = int(length_s * RATE_HZ)
    phase = np.cumsum(np.broadcast_to(np.asarray(pitch_hz, dtype=float), n)) / RATE_HZ
    sound = (np.diff(np.floor(phase), prepend=0.0) > 0).astype(float)
    sound = signal.lfilter([1.0], [1.0, -0.95], sound)
    for hz in formants_hz:
        radius = np.exp(-np.pi * 80 / RATE_HZ)
        sound = signal.lfilter([1 - radius], [1, -2 * radius * np.cos(2 * np.pi * hz / RATE_HZ), radius**2], sound)
    sound = sound + 1e-5 * np.random.default_rng(0).standard_normal(n)
    return 0.5 * sound / np.abs(sound).max()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two or three tiny recordings for each way of singing, below `voices`."""
    root = tmp_path_factory.mktemp("recordings")
    tune = 220 * 2 ** (np.repeat([0, 2, 4, 5, 7, 4, 2, 0], int(0.15 * RATE_HZ)) / 12)
    made = {
        "erithacus/a.wav": vowel(170.0, 0.8),
        "erithacus/o.wav": vowel(175.0, 0.8, (450, 800, 2500)),
        "yuki/one.wav": np.concatenate(
            [vowel(340.0, 0.25), vowel(340.0, 0.25, (300, 2300, 3000)), vowel(340.0, 0.3, (500, 900, 2500))]
        ),
        "producerspace/shv_c_126/SHV_1.wav": vowel(tune, 1.2),
        "producerspace/shv_c_126/SHV_2.wav": vowel(tune * 2 ** (2 / 12), 1.2),
        "speech_kerstin/one.wav": vowel(np.linspace(240, 180, int(0.9 * RATE_HZ)), 0.9),
    }
    for name, sound in made.items():
        path = root / "voices" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, sound, RATE_HZ)
    return root


@pytest.fixture
def plan() -> Plan:
    """An intro and an outro without vocals, a verse and a chorus with them; D, G, A, D."""
    roots = (2, 7, 9, 2)
    chords = tuple(
        Chord(2.0 * i, 2.0, roots[i % 4], tuple((roots[i % 4] + step) % 12 for step in (0, 4, 7)), SCALE)
        for i in range(7)
    )
    everyone, others = ("drums", "bass", "other", "vocals"), ("drums", "bass", "other")
    sections = (
        Section("intro", 0.0, 4.0, 2, 0.4, others, (0,)),
        Section("verse", 4.0, 4.0, 2, 0.6, everyone, (0,)),
        Section("chorus", 8.0, 4.0, 2, 0.95, everyone, (0,)),
        Section("outro", 12.0, 2.0, 1, 0.5, others, (0,)),
    )
    return Plan(BEAT_S, 4, 0.0, 0.5, chords, sections, everyone)


def song(folder: Path, plan: Plan, way: str, seed: int = 0, *, treated: bool = True) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return voices.vocal(Recordings(folder), plan, rng, int(LENGTH_S * RATE_HZ), way=way, treated=treated)  # type: ignore[arg-type]


@needs_world
@pytest.mark.parametrize("way", list(voices.WAYS))
def test_every_way_sounds_where_the_plan_says_and_only_there(folder: Path, plan: Plan, way: str) -> None:
    dry = song(folder, plan, way, treated=False)
    assert dry.shape == (2, int(LENGTH_S * RATE_HZ))
    assert dry.dtype == np.float32
    first, last = (int(t * RATE_HZ) for t in SINGS)
    assert not dry[:, :first].any()
    assert not dry[:, last:].any()
    for begin in (first, (first + last) // 2):  # the verse, the chorus
        assert np.sqrt(np.mean(np.square(dry[:, begin : begin + 4 * RATE_HZ]))) > 0.01


@needs_world
@pytest.mark.parametrize("way", ["held", "as they are"])
def test_treatment_keeps_shape_and_level(folder: Path, plan: Plan, way: str) -> None:
    for seed in range(2):
        stem = song(folder, plan, way, seed)
        assert stem.shape == (2, int(LENGTH_S * RATE_HZ))
        assert stem.dtype == np.float32
        assert np.isfinite(stem).all()
        assert np.abs(stem[:, : 3 * RATE_HZ]).max() < 1e-3
        assert 0.01 < np.sqrt(np.mean(np.square(stem))) < 0.2


@needs_world
def test_equal_seeds_give_equal_stems_whatever_was_made_before(folder: Path, plan: Plan) -> None:
    n = int(LENGTH_S * RATE_HZ)
    recordings = Recordings(folder)
    other = voices.vocal(recordings, plan, np.random.default_rng(4), n, way="held")
    after = voices.vocal(recordings, plan, np.random.default_rng(3), n, way="words")
    anew = voices.vocal(Recordings(folder), plan, np.random.default_rng(3), n, way="words")
    np.testing.assert_array_equal(after, anew)
    assert not np.array_equal(after, other)


def test_without_pyworld_recordings_serve_as_they_are(
    folder: Path, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vocal_world, "available", lambda: False)
    n = int(LENGTH_S * RATE_HZ)
    for seed in range(4):
        stem = voices.vocal(Recordings(folder), plan, np.random.default_rng(seed), n, treated=False)
        assert np.isfinite(stem).all()
        assert not stem[:, : int(SINGS[0] * RATE_HZ)].any()
        assert np.abs(stem).max() > 0.05
    with pytest.raises(ConfigError, match="pyworld"):
        song(folder, plan, "held")


def test_pyworld_that_is_not_there_is_not_available(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    vocal_world._pyworld.cache_clear()
    try:
        assert not vocal_world.available()
        with pytest.raises(ConfigError, match="pip install pyworld"):
            vocal_world.analyse(np.zeros(RATE_HZ, dtype=np.float32))
    finally:
        monkeypatch.undo()
        vocal_world._pyworld.cache_clear()


def test_an_instrumental_is_silent(folder: Path, plan: Plan) -> None:
    silent = Plan(
        plan.beat_s, 4, 0.0, 0.5, plan.chords, (Section("intro", 0.0, 14.0, 7, 0.4, ("drums",), ()),), ("drums",)
    )
    stem = voices.vocal(Recordings(folder), silent, np.random.default_rng(0), 10_000)
    assert stem.shape == (2, 10_000)
    assert not stem.any()


@pytest.mark.parametrize("sex", ["male", "female"])
def test_tunes_belong_to_the_key_and_the_singer(plan: Plan, sex: Sex) -> None:
    for seed in range(25):
        rng = np.random.default_rng(seed)
        singer = cast(rng, 3.0, sex)
        for line in sung_lines(rng, plan, singer):
            assert SINGS[0] <= line.start_s < SINGS[1]
            assert line.start_s + line.room_s <= SINGS[1] + 1e-6
            for start_s, length_s, midi in line.notes:
                assert midi % 12 in SCALE
                assert singer.low <= midi <= singer.high
                assert 0 <= start_s < start_s + length_s <= line.sung_s + 1e-6
            notes = line.in_frames()
            for direction in (1, -1):
                for note, other in zip(notes, second_voice(notes, line, direction), strict=True):
                    assert other.midi % 12 in line.chord_at(note.first).tones
                    assert direction * (other.midi - note.midi) >= 3
            for note in chord_part(notes, line, 60.0):
                assert note.midi % 12 in line.chord_at(note.first).tones
            for note, other in zip(notes, unison(notes, cast(rng, 3.0)), strict=True):
                assert (note.midi - other.midi) % 12 == 0


def test_choruses_lie_above_verses_and_sections_of_one_name_are_alike(plan: Plan) -> None:
    singer = Singer("male", 1.0, 45, 57)
    higher = []
    for seed in range(30):
        lines = sung_lines(np.random.default_rng(seed), plan, singer)
        middle_s = sum(SINGS) / 2
        verse, chorus = (
            [n[2] for line in lines if (line.start_s >= middle_s) == late for n in line.notes] for late in (0, 1)
        )
        higher.append(np.mean(chorus) - np.mean(verse))
    assert np.mean(higher) > 1
    twice = Plan(
        BEAT_S,
        4,
        0.0,
        0.5,
        tuple(Chord(2.0 * i, 2.0, 2, (2, 6, 9), SCALE) for i in range(4)),
        tuple(Section("verse", 4.0 * i, 4.0, 2, 0.5 + 0.1 * i, ("vocals",), ()) for i in range(2)),
        ("vocals",),
    )
    lines = sung_lines(np.random.default_rng(1), twice, singer)
    half = len(lines) // 2
    for line, other in zip(lines[:half], lines[half:], strict=True):
        np.testing.assert_allclose(line.notes, other.notes, atol=1e-9)


def test_most_singers_are_men_and_their_throats_follow_the_recordings() -> None:
    rng = np.random.default_rng(0)
    singers = [cast(rng, 4.0) for _ in range(1000)]
    men = [singer for singer in singers if singer.sex == "male"]
    assert 0.5 < len(men) / 1000 < 0.7
    women = [singer for singer in singers if singer.sex == "female"]
    assert np.median([s.formants for s in men]) < 0.85 < 0.9 < np.median([s.formants for s in women])
    assert all(80 <= 440 * 2 ** ((s.middle - 69) / 12) <= 260 for s in men)
    assert all(160 <= 440 * 2 ** ((s.middle - 69) / 12) <= 600 for s in women)


def test_banks_leave_out_what_is_not_free(tmp_path: Path) -> None:
    for name in ("alys/a.ogg", "ibuki/a.ogg", "solfege_samples/a.ogg"):
        assert not any(Path("voices", name).with_suffix("").match(f"voices/{bank.pattern}") for bank in BANKS.values())


def test_prepared_recordings_have_one_level_and_no_silent_edges() -> None:
    sound = np.zeros((1, 2 * RATE_HZ), dtype=np.float32)
    sound[0, RATE_HZ // 2 : RATE_HZ] = 0.9 * np.sin(2 * np.pi * 300 * np.arange(RATE_HZ // 2) / RATE_HZ)
    for gain in (1e-3, 1.0, 100.0):
        result = prepared(sound * np.float32(gain))
        assert RATE_HZ // 2 <= result.shape[1] < RATE_HZ
        assert np.sqrt(np.mean(np.square(result[:, 3000:-5000]))) == pytest.approx(0.1, rel=0.1)
    assert prepared(np.zeros((2, 1000), dtype=np.float32)).shape == (2, 0)


def test_a_row_begins_recordings_on_steps() -> None:
    click = np.zeros((1, 4000), dtype=np.float32)
    click[:, 300] = 1.0
    row = in_a_row(np.random.default_rng(0), [click], 5.0, 1.0, 0.25, rhythmic=True)
    assert row.shape == (2, 5 * RATE_HZ)
    hits = np.flatnonzero(row[0] > 0.3) - 300
    assert len(hits) > 8
    again = hits[1:][np.diff(hits) > 5000]  # not a second one right after the first
    assert np.abs(again / (0.25 * RATE_HZ) - np.round(again / (0.25 * RATE_HZ))).max() < 1e-3
    assert in_a_row(np.random.default_rng(0), [click[:, :0]], 1.0, 1.0, 0.25).max() == 0
