"""`danna-sep data check`: every fault is found and named, and none where there is none."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from command_line import call
from danna_sep.songs import find_songs
from danna_sep.training.check import SongReport, check_songs, hours_per_stem
from danna_sep.types import SOURCES

N_FRAMES = 44100


def stems(n_frames: int = N_FRAMES, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {source: 0.1 * rng.standard_normal((n_frames, 2)) for source in SOURCES}


def write(folder: Path, parts: dict[str, np.ndarray], rate_hz: int = 44100, subtype: str = "FLOAT") -> Path:
    """A song; its mixture, unless given, is the sum."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = {"mixture": sum(parts.values()), **parts} if len(parts) == 4 else parts
    for name, samples in parts.items():
        soundfile.write(folder / f"{name}.wav", samples, rate_hz, subtype)
    return folder


def report_of(folder: Path) -> SongReport:
    (report,) = check_songs(find_songs(folder))
    return report


def kinds(report: SongReport) -> list[str]:
    return [finding.kind for finding in report.findings]


def text_of(report: SongReport, kind: str) -> str:
    (text,) = [finding.text for finding in report.findings if finding.kind == kind]
    return text


@pytest.mark.parametrize("subtype", ["FLOAT", "PCM_16"])
def test_a_sound_song_has_no_findings(tmp_path: Path, subtype: str) -> None:
    write(tmp_path / "song", stems(), subtype=subtype)
    report = report_of(tmp_path)
    assert report.usable
    assert not report.findings
    assert report.duration_s == 1
    assert report.active_s == dict.fromkeys(SOURCES, 1.0)
    assert report.residual_db is not None
    assert report.residual_db < -70


def test_what_is_missing_is_told_and_does_not_count(tmp_path: Path) -> None:
    parts = stems()
    parts.pop("bass")
    write(tmp_path / "song", parts)
    report = report_of(tmp_path)
    assert report.usable
    assert kinds(report) == ["missing"]
    assert "bass" in text_of(report, "missing")
    assert report.residual_db is None
    hours = hours_per_stem([report])
    assert hours["bass"] == (0, 0)
    assert hours["drums"] == pytest.approx((1 / 3600, 1 / 3600))


def test_activity_is_measured(tmp_path: Path) -> None:
    """Vocals in a quarter of the song, and bass that is there but 80 dB below full scale."""
    parts = stems(8 * 4096)
    parts["vocals"][2 * 4096 :] = 0
    parts["bass"] *= 1e-3
    write(tmp_path / "song", parts)
    report = report_of(tmp_path)
    assert report.active_s["vocals"] == pytest.approx(report.duration_s / 4)
    assert report.active_s["bass"] == 0
    assert kinds(report) == ["silent"]
    assert "bass.wav" in text_of(report, "silent")


def test_rates_and_lengths(tmp_path: Path) -> None:
    write(tmp_path / "all at 48 kHz" / "song", stems(), rate_hz=48000)
    report = report_of(tmp_path / "all at 48 kHz")
    assert kinds(report) == ["rate"]
    assert "48000 Hz" in text_of(report, "rate")

    folder = write(tmp_path / "mixed" / "song", stems())
    soundfile.write(folder / "vocals.wav", 0.1 * np.ones((48000, 2)), 48000)
    soundfile.write(folder / "drums.wav", 0.1 * np.ones((N_FRAMES + 123, 2)), 44100)
    report = report_of(tmp_path / "mixed")
    assert kinds(report)[:2] == ["rate", "length"]
    assert "drums.wav 123 frames more" in text_of(report, "length")
    assert "vocals.wav 48000 Hz" in text_of(report, "rate")
    assert report.usable


def test_clipping_is_found_where_it_is(tmp_path: Path) -> None:
    parts = stems(30000)
    parts["drums"][20000:20005, 1] = -1.0
    parts["drums"][25000:25002, 0] = 1.0  # two samples at full scale are no plateau
    parts["bass"][500] = [1.0, -1.0]
    write(tmp_path / "song", parts)
    report = report_of(tmp_path)
    clipping = [finding.text for finding in report.findings if finding.kind == "clipping"]
    assert len(clipping) == 1
    assert "drums.wav" in clipping[0]
    assert "1 places, the first at 0.45 s" in clipping[0]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_every_broken_file_is_named_and_the_song_is_unusable(tmp_path: Path, value: float) -> None:
    parts = stems()
    parts["drums"][3000, 0] = parts["vocals"][4000, 1] = value
    folder = write(tmp_path / "song", {**parts, "mixture": np.zeros((N_FRAMES, 2))})
    report = report_of(tmp_path)
    assert not report.usable
    assert kinds(report) == ["unreadable"] * 2
    assert {str(folder / "drums.wav"), str(folder / "vocals.wav")} == {
        finding.text.split(": ")[0] for finding in report.findings
    }
    assert hours_per_stem([report])["bass"] == (0, 0)


def test_files_that_are_no_stems(tmp_path: Path) -> None:
    folder = write(tmp_path / "song", stems())
    (folder / "bass.wav").write_bytes(b"no audio")
    soundfile.write(folder / "other.wav", np.zeros((N_FRAMES, 6)), 44100)
    report = report_of(tmp_path)
    assert not report.usable
    assert kinds(report) == ["unreadable"] * 2
    assert any("6 channels" in finding.text for finding in report.findings)


def test_a_truncated_file_is_told(tmp_path: Path) -> None:
    folder = write(tmp_path / "song", stems())
    path = folder / "drums.wav"
    path.write_bytes(path.read_bytes()[:-80000])
    report = report_of(tmp_path)
    assert "damaged" in kinds(report)
    assert "drums.wav" in text_of(report, "damaged")


@pytest.mark.parametrize("offset", [-700, 64, 20000])
@pytest.mark.parametrize("late", ["mixture", "vocals"])
def test_a_constant_offset_is_found(tmp_path: Path, offset: int, late: str) -> None:
    parts = stems(3 * N_FRAMES)
    parts["mixture"] = sum(parts.values())
    parts[late] = np.roll(parts[late], offset, 0)
    write(tmp_path / "song", parts)
    report = report_of(tmp_path)
    name = "the mixture" if late == "mixture" else late
    assert f"{name} is {abs(offset)} samples too {'late' if offset > 0 else 'early'}" in text_of(report, "residual")
    assert report.usable


def test_another_level_of_the_mixture_is_found(tmp_path: Path) -> None:
    parts = stems()
    write(tmp_path / "song", {**parts, "mixture": 0.5 * sum(parts.values())})
    assert "another level, -6.0 dB" in text_of(report_of(tmp_path), "residual")


@pytest.mark.parametrize(("level_db", "reported"), [(-35, True), (-45, False)])
def test_what_is_left_over_is_reported_from_minus_forty_db(tmp_path: Path, level_db: float, reported: bool) -> None:
    parts = stems()
    total = sum(parts.values())
    rest = np.random.default_rng(9).standard_normal(total.shape)
    rest *= 10 ** (level_db / 20) * np.sqrt(np.mean(total**2) / np.mean(rest**2))
    write(tmp_path / "song", {**parts, "mixture": total + rest})
    report = report_of(tmp_path)
    assert report.residual_db == pytest.approx(level_db, abs=0.2)
    assert ("residual" in kinds(report)) == reported
    if reported:
        assert ";" not in text_of(report, "residual"), "neither a delay nor a level explains it"


def test_copies_are_found_but_not_of_silence(tmp_path: Path) -> None:
    first, second = stems(seed=1), stems(seed=2)
    for parts in (first, second):
        parts["bass"] = np.zeros((N_FRAMES, 2))
    write(tmp_path / "train" / "one", first)
    write(tmp_path / "test" / "two", second)
    shutil.copy(tmp_path / "train" / "one" / "drums.wav", tmp_path / "test" / "two" / "drums.wav")
    for report in check_songs(find_songs(tmp_path)):
        identical = [finding.text for finding in report.findings if finding.kind == "identical"]
        assert len(identical) == 1
        assert str(tmp_path / "train" / "one" / "drums.wav") in identical[0]
        assert str(tmp_path / "test" / "two" / "drums.wav") in identical[0]


def test_silence_has_no_residual(tmp_path: Path) -> None:
    write(tmp_path / "song", {source: np.zeros((N_FRAMES, 2)) for source in SOURCES})
    assert set(kinds(report_of(tmp_path))) == {"silent"}


def test_the_command_shows_songs_and_hours(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "train" / "good", stems(seed=1))
    parts = stems(seed=2)
    parts["vocals"][:] = 0
    write(tmp_path / "train" / "quiet", parts)
    outcome = call(capfd, "data", "check", tmp_path)
    assert outcome.code == 0
    assert not outcome.err
    lines = outcome.out.splitlines()
    assert lines[0].startswith("ok        train/good  0:01, drums 100 %")
    assert lines[1].startswith("look      train/quiet")
    assert "silent" in lines[2]
    assert "2 songs: 0 cannot be used, 1 others with findings" in outcome.out


def test_the_command_fails_if_a_song_cannot_be_used(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "train" / "good", stems(seed=1))
    bad = write(tmp_path / "valid" / "bad", stems(seed=2))
    (bad / "bass.wav").write_bytes(b"")
    outcome = call(capfd, "data", "check", tmp_path, "--json")
    assert outcome.code == 2
    events: list[dict[str, Any]] = [json.loads(line) for line in outcome.out.splitlines()]
    assert [event["event"] for event in events] == ["song", "song", "summary"]
    assert [event["usable"] for event in events[:2]] == [True, False]
    assert "bass.wav" in events[1]["findings"][0]["message"]
    assert events[2]["n_unusable"] == 1
    assert events[2]["stems"]["drums"]["annotated_h"] == pytest.approx(1 / 3600)
    assert call(capfd, "data", "check", tmp_path, "--split", "train").code == 0


def test_the_command_without_songs(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    outcome = call(capfd, "data", "check", tmp_path / "nowhere")
    assert outcome.code == 2
    assert "nowhere" in outcome.complaint()
    assert call(capfd, "data", "check", tmp_path).code == 2
