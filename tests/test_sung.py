"""Vocals of real songs over instrumental music: mixtures of which the voices, and nothing else, are known."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from danna_sep.songs import find_songs

PROGRAM = Path(__file__).parent.parent / "bundle" / "sung.py"
pytestmark = pytest.mark.skipif(not PROGRAM.exists(), reason="the package without its sources")

RATE = 44100


def noise(path: Path, seconds: float, gain: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, gain * np.random.default_rng(0).standard_normal((round(RATE * seconds), 2)), RATE)


def put_over(folder: Path, *options: object) -> subprocess.CompletedProcess[str]:
    places = {"--vocals": folder / "songs", "--over": folder / "music", "--out": folder / "out"}
    command = [sys.executable, PROGRAM, *(part for option in places.items() for part in option)]
    return subprocess.run([*map(str, command), *map(str, options)], capture_output=True, text=True)


def write_music(folder: Path, seconds: float) -> None:
    noise(folder / "piece.flac", seconds, 0.1)
    entry = {"name": "box/piece.flac", "silent": ["vocals"], "mixture": [str(folder / "piece.flac")]}
    (folder / "music").mkdir()
    (folder / "music" / "songs.json").write_text(
        json.dumps({"format": "danna-sep songs", "version": 1, "songs": [entry]})
    )


def test_what_is_sung_is_the_loudest_and_lies_below_the_music(tmp_path: Path) -> None:
    write_music(tmp_path, 40)
    time_s = np.arange(RATE * 60) / RATE
    voice = (
        np.where(time_s < 30, 0.01, 0.3)[:, None] * np.sin(np.where(time_s < 30, 500, 700) * 6.2832 * time_s)[:, None]
    )
    (tmp_path / "songs" / "one").mkdir(parents=True)
    soundfile.write(tmp_path / "songs" / "one" / "vocals.flac", np.repeat(voice, 2, 1), RATE)
    done = put_over(tmp_path, "--pieces", 1)
    assert done.returncode == 0, done.stderr
    (song,) = find_songs(tmp_path / "out")
    assert song.annotated == ("vocals",)
    excerpt = song.read()
    assert excerpt.mixture.shape == (2, 30 * RATE)
    vocals, music = excerpt.stems[3], excerpt.mixture - excerpt.stems[3]
    powers_db = [10 * np.log10(np.square(samples).mean()) for samples in (music, vocals)]
    assert powers_db[0] - powers_db[1] == pytest.approx(3, abs=0.01)
    assert np.abs(np.fft.rfft(vocals[0, :RATE])).argmax() == 700
    assert np.abs(excerpt.mixture).max() == pytest.approx(0.9, abs=1e-3)


def test_the_middle_of_a_piece_is_taken(tmp_path: Path) -> None:
    write_music(tmp_path, 40)
    music = np.zeros((40 * RATE, 2))
    music[20 * RATE] = 0.5
    music[5 * RATE + 1 : 35 * RATE : 1000] = 0.1
    soundfile.write(tmp_path / "piece.flac", music, RATE)
    noise(tmp_path / "songs" / "one" / "vocals.flac", 40, 1e-3)
    done = put_over(tmp_path, "--pieces", 1)
    assert done.returncode == 0, done.stderr
    excerpt = next(iter(find_songs(tmp_path / "out"))).read()
    assert np.abs(excerpt.mixture - excerpt.stems[3])[0].argmax() == 15 * RATE


def test_what_cannot_be_put_together_is_said_and_nothing_written(tmp_path: Path) -> None:
    write_music(tmp_path, 10)
    vocals = tmp_path / "songs" / "one" / "vocals.flac"
    noise(vocals, 40, 0.1)
    refused(put_over(tmp_path), "has 0 pieces of 30 s")
    noise(tmp_path / "piece.flac", 40, 0.1)
    refused(put_over(tmp_path), "has 1 pieces of 30 s, not 14")
    refused(put_over(tmp_path, "--pieces", 0), "--pieces")
    refused(put_over(tmp_path, "--over", tmp_path / "songs"), "not said to be without vocals")
    (tmp_path / "piece.flac").write_bytes((tmp_path / "piece.flac").read_bytes()[:20])
    refused(put_over(tmp_path, "--pieces", 1), "piece.flac")
    noise(tmp_path / "piece.flac", 40, 0)
    refused(put_over(tmp_path, "--pieces", 1), "is silent in its middle")
    noise(vocals, 40, 0)
    refused(put_over(tmp_path, "--pieces", 1), "nothing sung")
    assert not (tmp_path / "out").exists()
    (tmp_path / "out" / "earlier").mkdir(parents=True)
    refused(put_over(tmp_path, "--pieces", 1), "something in it already")


def refused(done: subprocess.CompletedProcess[str], said: str) -> None:
    assert said in done.stderr.splitlines()[-1], done.stderr
    assert done.returncode == 2
