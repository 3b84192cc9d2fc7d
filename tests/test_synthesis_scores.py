"""Songs that people wrote: MIDI files read, arranged and played."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path

import mido
import numpy as np
import pytest

from command_line import call
from danna_sep.errors import SongsError
from danna_sep.training.synthesis.arrange import arrange
from danna_sep.training.synthesis.harmony import Note
from danna_sep.training.synthesis.scores import find_scores, read_score
from danna_sep.training.synthesis.song import produce
from danna_sep.training.synthesis.soundfonts import Soundfonts
from danna_sep.training.synthesis.studio import Studio, open_studio

BEAT = 480
"""Ticks."""


def write_midi(
    path: Path, parts: dict[int, tuple[int, list[tuple[float, float, int]]]], beat_s: float = 0.5, **file: int
) -> Path:
    """A file with a track for each channel: its program, and (beat, beats, key) of its notes."""
    midi = mido.MidiFile(ticks_per_beat=BEAT, **file)
    midi.tracks.append(mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=round(beat_s * 1e6))]))
    for channel, (program, notes) in parts.items():
        events = [(0.0, mido.Message("program_change", channel=channel, program=program))]
        for beat, beats, key in notes:
            events.append((beat, mido.Message("note_on", channel=channel, note=key, velocity=100)))
            events.append((beat + beats, mido.Message("note_on", channel=channel, note=key, velocity=0)))
        track, now = mido.MidiTrack(), 0
        for beat, message in sorted(events, key=lambda event: event[0]):
            track.append(message.copy(time=round(beat * BEAT) - now))
            now = round(beat * BEAT)
        midi.tracks.append(track)
    midi.save(path)
    return path


def a_song(path: Path, n_bars: int = 16) -> Path:
    """C, F, G, C on strings over a bass, a bass drum on every beat and a tune."""
    roots = [0, 5, 7, 0] * (n_bars // 4)
    chords = [(4.0 * bar, 4.0, 60 + root + step) for bar, root in enumerate(roots) for step in (0, 4, 7)]
    bass = [(4.0 * bar + beat, 0.9, 36 + root) for bar, root in enumerate(roots) for beat in range(4)]
    tune = [(4.0 * bar + 1, 1.0, 72 + root) for bar, root in enumerate(roots)]
    drums = [(float(beat), 0.1, 36) for beat in range(4 * n_bars)] + [(1.5, 0.1, 42), (1.75, 0.1, 3)]
    return write_midi(path, {0: (48, chords), 1: (33, bass), 2: (30, tune), 9: (0, drums), 3: (122, tune)})


def test_a_score_is_read(tmp_path: Path) -> None:
    """Drums by their keys, basses by their programs, the rest instrument by instrument, noises left out."""
    score = read_score(a_song(tmp_path / "song.mid"))
    assert [hit.role for hit in score.hits[:3]] == ["kick", "kick", "hat"], "and a key that means nothing is left out"
    assert [hit.start_s for hit in score.hits[:3]] == pytest.approx([0, 0.5, 0.75])
    assert len(score.bass) == 64
    assert score.bass[1] == Note(0.5, pytest.approx(0.45), 36, pytest.approx(100 / 127))
    assert [(program, len(notes)) for program, notes in score.layers] == [(48, 48), (30, 16)]
    assert score.beats_per_bar == 4
    np.testing.assert_allclose(np.diff(score.beats_s), 0.5)
    assert score.length_s == pytest.approx(32)


def test_a_part_may_change_its_instrument(tmp_path: Path) -> None:
    path = write_midi(tmp_path / "song.mid", {0: (0, [(0, 1, 60), (20, 4, 62)])})
    midi = mido.MidiFile(path)
    midi.tracks[-1].insert(3, mido.Message("program_change", channel=0, program=34))
    midi.save(path)
    score = read_score(path)
    assert [(program, [note.midi for note in notes]) for program, notes in score.layers] == [(0, [60])]
    assert [note.midi for note in score.bass] == [62]


def test_tempo_changes_are_followed(tmp_path: Path) -> None:
    path = write_midi(tmp_path / "song.mid", {0: (0, [(beat, 1, 60) for beat in range(20)])})
    midi = mido.MidiFile(path)
    midi.tracks[0].append(mido.MetaMessage("set_tempo", tempo=1_000_000, time=8 * BEAT))
    midi.save(path)
    score = read_score(path)
    ((_, notes),) = score.layers
    assert [note.start_s for note in notes[7:10]] == pytest.approx([3.5, 4.0, 5.0])
    assert score.beats_s[7:10] == pytest.approx([3.5, 4.0, 5.0])


def test_a_tempo_may_change_within_a_beat(tmp_path: Path) -> None:
    path = write_midi(tmp_path / "song.mid", {0: (0, [(beat, 1, 60) for beat in range(20)])})
    midi = mido.MidiFile(path)
    for tempo, beats in ((1_000_000, 4.5), (400_000, 2.25), (2_000_000, 1.1)):
        midi.tracks[0].append(mido.MetaMessage("set_tempo", tempo=tempo, time=round(beats * BEAT)))
    midi.save(path)
    score = read_score(path)
    ((_, notes),) = score.layers
    np.testing.assert_allclose(score.beats_s[: len(notes)], [note.start_s for note in notes], atol=1e-6)


def test_a_note_without_an_end_ends_with_the_music(tmp_path: Path) -> None:
    path = a_song(tmp_path / "song.mid")
    midi = mido.MidiFile(path)
    midi.tracks[1].insert(1, mido.Message("note_on", channel=0, note=30, velocity=90))
    midi.tracks[1].append(mido.MetaMessage("text", text="", time=10**6))
    midi.save(path)
    score = read_score(path)
    assert score.length_s == pytest.approx(32)
    assert max(note.length_s for _, notes in score.layers for note in notes) == pytest.approx(32)


def test_what_sounds_already_is_heard(tmp_path: Path) -> None:
    """An excerpt cuts notes at both ends, lies where something begins, and holds keys that instruments have."""
    held = [(0.0, 240.0, key) for key in (3, 60, 125)] + [(200.0, 40.0, 64)]
    score = read_score(
        write_midi(tmp_path / "held.mid", {0: (48, held), 1: (33, [(float(b), 1.0, 23) for b in range(240)])})
    )
    for seed in range(12):
        made = arrange(np.random.default_rng(seed), score, 8.0)
        ((_, notes),) = made.layers
        assert len(notes) >= 3
        assert all(0 <= note.midi <= 127 for note in notes)
        assert all(note.start_s >= 0 and note.start_s + note.length_s <= 8.0 + 1e-6 for note in notes)
        assert min(note.midi for note in made.bass) >= 26
    rests = [(0.0, 1.0, 60), (120.0, 1.0, 60)]
    score = read_score(write_midi(tmp_path / "rests.mid", {0: (48, rests)}))
    assert all(arrange(np.random.default_rng(seed), score, 8.0).layers for seed in range(12))


def test_bars_begin_again_with_the_score(tmp_path: Path) -> None:
    """Of 30 beats, the last bar has two: the next round's first bar still begins with its first beat."""
    score = read_score(write_midi(tmp_path / "song.mid", {0: (0, [(float(beat), 1.0, 60) for beat in range(30)])}))
    made = arrange(np.random.default_rng(0), score, 40.0)
    beats = np.array([note.start_s for note in made.layers[0][1]])
    lengths = [round(chord.length_s / made.plan.beat_s) for chord in made.plan.chords]
    assert set(lengths[:-1]) == {2, 4}
    assert all(np.abs(beats - chord.start_s).min() < 0.01 for chord in made.plan.chords)


def test_an_arrangement_keeps_the_music(tmp_path: Path) -> None:
    """All parts moved alike in time and pitch; chords as they are written, in a scale that holds them."""
    score = read_score(a_song(tmp_path / "song.mid"))
    for seed in range(8):
        made = arrange(np.random.default_rng(seed), score, 20.0)
        gaps = np.diff([note.start_s for note in made.bass])
        beat_s = float(np.median(gaps))
        assert 0.5 / 1.18 < beat_s < 0.5 / 0.84
        np.testing.assert_allclose(gaps, beat_s, rtol=1e-6)
        kicks = [hit.start_s for hit in made.hits if hit.role == "kick"]
        np.testing.assert_allclose([note.start_s for note in made.bass], kicks[: len(made.bass)], atol=1e-9)
        assert max(kicks) < 20.0 <= max(kicks) + 1.5 * beat_s
        assert made.plan.beat_s == pytest.approx(beat_s)
        for note in made.bass:
            if note.start_s > 19.99:
                continue
            chord = next(c for c in reversed(made.plan.chords) if c.start_s <= note.start_s + 1e-6)
            assert note.midi % 12 == chord.root
            assert len(chord.tones) == 3
            assert set(chord.tones) <= set(chord.scale)
        assert made.plan.chords[-1].start_s + made.plan.chords[-1].length_s == pytest.approx(20.0, abs=0.05)
        assert {"drums", "bass", "other"} <= set(made.plan.sources)
        assert made.plan.spans("bass") == [(0.0, pytest.approx(20.0, abs=0.05))]


def test_a_short_score_begins_again_and_a_bass_is_found(tmp_path: Path) -> None:
    power = [(float(beat), 1.0, key) for beat in range(24) for key in (40 + beat % 5, 47 + beat % 5)]
    score = read_score(write_midi(tmp_path / "song.mid", {0: (30, power)}))
    assert not score.bass
    found = 0
    for seed in range(10):
        made = arrange(np.random.default_rng(seed), score, 40.0)
        ((_, notes),) = made.layers
        assert max(note.start_s for note in notes) > 38
        if made.bass:
            found += 1
            lowest = sorted({note.start_s: note.midi for note in sorted(notes, reverse=True)}.items())
            assert [note.start_s for note in made.bass] == [start_s for start_s, _ in lowest]
            assert all((note.midi - midi) % 12 == 0 for note, (_, midi) in zip(made.bass, lowest, strict=True))
            assert max(note.midi for note in made.bass) <= 48
    assert 5 <= found <= 10


def test_songs_are_played_from_scores_in_turn(tmp_path: Path) -> None:
    """Each as often as the others; the same for the same number; without voices nobody sings."""
    for name in ("one", "two", "three"):
        a_song(tmp_path / f"{name}.mid", 8)
    (tmp_path / "origin.json").write_text(json.dumps({"bank": "B", "licence": "CC0-1.0", "attribution": "A"}))
    studio = Studio(None, Soundfonts(()), find_scores(tmp_path))
    songs = [produce(studio, 3, index, (6.0, 7.0)) for index in range(6)]
    names = {"one.mid", "two.mid", "three.mid"}
    assert {song.score for song in songs[:3]} == {song.score for song in songs[3:]} == names
    for song in songs:
        assert [origin.bank for origin in song.credits][-1] == "B"
        assert not song.stems["vocals"].any()
        for source in ("drums", "bass", "other"):
            assert 0.001 < np.sqrt(np.mean(song.stems[source] ** 2)) < 0.5
    again = produce(studio, 3, 4, (6.0, 7.0))
    assert all(np.array_equal(stem, again.stems[source]) for source, stem in songs[4].stems.items())


def test_the_command_plays_scores(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """And says from which, and that their licence is not known if nothing says it."""
    scores, out = tmp_path / "scores", tmp_path / "out"
    scores.mkdir()
    a_song(scores / "song.mid", 8)
    arguments = ("--songs", "1", "--shortest", "4", "--longest", "4")
    assert call(capfd, "synthesise", "--out", out, "--scores", scores, *arguments).code == 0
    sheet = json.loads((out / "synthetic-0-000000" / "song.json").read_text())
    assert sheet["score"] == "song.mid"
    origins = json.loads((out / "origins.json").read_text())["origins"]
    assert {"bank": "scores scores", "licence": "unknown"}.items() <= origins[-1].items()


def test_scores_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(SongsError, match="nowhere: no such folder"):
        open_studio(None, (), tmp_path / "nowhere")
    with pytest.raises(SongsError, match="no MIDI files"):
        open_studio(None, (), tmp_path)
    broken = tmp_path / "broken.mid"
    for content in (b"", b"RIFF1234", b"MThd" + bytes(30)):
        broken.write_bytes(content)
        with pytest.raises(SongsError, match=r"broken\.mid: not a MIDI file that can be played \(\w"):
            read_score(broken)
    whole = a_song(tmp_path / "whole.mid", 8)
    for change in (b"\0\2", b"\0\1"):  # of another type; then with another division of time
        content = bytearray(whole.read_bytes())
        content[8:10] = change
        content[12:14] = b"\x01\xe0" if change == b"\0\2" else b"\xe7\x28"
        broken.write_bytes(content)
        with pytest.raises(SongsError, match=r"broken\.mid: .*(type 2|not in beats)"):
            read_score(broken)
    noises = write_midi(broken, {0: (122, [(0, 40, 60)]), 1: (47, [(0, 40, 40)])})
    with pytest.raises(SongsError, match=r"what can be played of it lasts 0\.0 s"):
        read_score(noises)
    (tmp_path / "origin.json").write_text('{"bank": "B",}')
    with pytest.raises(SongsError, match=r"origin\.json: has no bank"):
        read_score(whole)
    with pytest.raises(SongsError, match=r"short\.mid: what can be played of it lasts 2\.0 s"):
        read_score(write_midi(tmp_path / "short.mid", {0: (0, [(0, 4, 60)])}))


def test_scores_come_out_of_a_game(tmp_path: Path) -> None:
    """Each piece once, whatever has the same name; `bundle/scores.py` says what is no such file."""
    pieces = [a_song(tmp_path / f"{n}.mid", n).read_bytes() for n in (8, 12)]
    lumps = [(b"D_ONE", pieces[0]), (b"TITLE", b"picture"), (b"D_ONE", pieces[1]), (b"D_TWO", pieces[0])]
    body = b"".join(content for _, content in lumps)
    directory, at = b"", 12
    for name, content in lumps:
        directory += struct.pack("<ii8s", at, len(content), name)
        at += len(content)
    wad, out = tmp_path / "game.wad", tmp_path / "out"
    wad.write_bytes(struct.pack("<4sii", b"IWAD", len(lumps), at) + body + directory)
    program = [sys.executable, str(Path(__file__).parents[1] / "bundle" / "scores.py")]
    subprocess.run([*program, str(wad), "--out", str(out)], check=True, capture_output=True)
    assert sorted(path.read_bytes() for path in out.glob("*.mid")) == sorted(pieces)
    assert {read_score(path).origin.licence for path in find_scores(out)} == {"BSD-3-Clause"}
    for content in (b"PNG", wad.read_bytes()[:100]):
        wad.write_bytes(content)
        done = subprocess.run([*program, str(wad), "--out", str(out)], check=False, capture_output=True, text=True)
        assert done.returncode == 1
        assert f"{wad}: not a " in done.stderr
