"""`danna-sep evaluate` and `danna-sep compare`: what they show, write and refuse."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from command_line import call, run
from danna_sep.evaluation import report

SOURCES = ("drums", "bass", "other", "vocals")


def write_song(folder: Path, seed: int, sources: tuple[str, ...] = SOURCES, gain: float = 1) -> None:
    """A second and a half of noise for each stem."""
    folder.mkdir(parents=True, exist_ok=True)
    for place, source in enumerate(sources):
        noise = np.random.default_rng(10 * seed + place).standard_normal((66150, 2))
        soundfile.write(folder / f"{source}.wav", 0.1 * gain * noise, 44100)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_song(tmp_path / "data" / "test" / "One", 1, ("bass", "vocals", "mixture"))
    write_song(tmp_path / "data" / "test" / "Two", 2, ("bass", "vocals", "mixture"))
    write_song(tmp_path / "data" / "train" / "Three", 3, ("bass", "vocals", "mixture"))
    return tmp_path / "data"


def test_a_preset_from_end_to_end(capfd: pytest.CaptureFixture[str], tiny: Path, data: Path, tmp_path: Path) -> None:
    """In a process of its own, with others that it starts: figures on stdout, and the report where it says."""
    out = tmp_path / "out"
    outcome = run("evaluate", "unet", "--data", data, "--split", "test", "--out", out, "--jobs", 2, "--segment", 1.2)
    assert outcome.code == 0, outcome.err
    assert outcome.err == ""
    written = [out / name for name in ("results.json", "report.html", "boxplot.png")]
    assert outcome.out.splitlines()[-3:] == [str(path) for path in written]
    assert all(path.stat().st_size for path in written)
    content = json.loads(written[0].read_text())
    assert [song["name"] for song in content["songs"]] == ["One", "Two"]
    assert content["data"] == {"name": "data", "split": "test"}
    assert content["system"]["options"]["segment_s"] == 1.2
    assert content["aggregate"]["mdx_sdr_db"]["bass"] is not None
    assert content["aggregate"]["mdx_sdr_db"]["drums"] is None
    assert f"{content['aggregate']['bss_eval_db']['SDR']['bass']:.2f}" in outcome.out
    before = written[0].read_bytes()
    refused = call(capfd, "evaluate", "unet", "--data", data, "--out", out)
    assert refused.code == 3
    assert "--overwrite" in refused.complaint()
    assert written[0].read_bytes() == before


def test_a_song_without_a_mixture_fails_alone(
    capfd: pytest.CaptureFixture[str], tiny: Path, data: Path, tmp_path: Path
) -> None:
    """The sum of two stems is no song: figures of it would look like any others."""
    (data / "test" / "Two" / "mixture.wav").unlink()
    command = ("--data", data, "--split", "test", "--out", tmp_path / "out", "--only-mdx")
    outcome = call(capfd, "evaluate", "unet", *command, "--segment", "1.2")
    assert outcome.code == 2
    assert outcome.err.splitlines() == [
        "danna-sep: Two: drums, other not annotated and no mixture file; "
        "add mixture.wav, or list them as silent in songs.json",
        "danna-sep: 1 evaluated, 1 failed: these are not in the figures",
    ]
    content = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [song["name"] for song in content["songs"]] == ["One"]
    for name, seed in (("One", 1), ("Two", 2)):
        write_song(tmp_path / "stems" / name, seed, ("bass", "vocals"), gain=0.5)
    assert call(capfd, "evaluate", tmp_path / "stems", *command, "--overwrite").code == 0


def test_stems_of_any_separator(capfd: pytest.CaptureFixture[str], data: Path, tmp_path: Path) -> None:
    """Half of the right signal is 6.02 dB; one song that cannot be judged fails alone, and is not passed over."""
    for name, seed in (("One", 1), ("Two", 2)):
        write_song(tmp_path / "stems" / name, seed, ("bass", "vocals"), gain=0.5)
    command = ("evaluate", tmp_path / "stems", "--data", data, "--out", tmp_path / "out")
    outcome = call(capfd, *command, "--only-mdx")
    assert outcome.code == 2
    lines = outcome.err.splitlines()
    assert len(lines) == 2
    assert "Three: no stems of this song" in lines[0]
    assert "2 evaluated, 1 failed" in lines[1]
    content = json.loads((tmp_path / "out" / "results.json").read_text())
    assert content["aggregate"]["mdx_sdr_db"]["vocals"] == pytest.approx(6.02, abs=0.01)
    assert "bss_eval_db" not in content["aggregate"]
    assert [failed["name"] for failed in content["failed"]] == ["Three"]
    assert "Three" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    write_song(tmp_path / "stems" / "Three", 3, ("bass", "vocals"), gain=0.5)
    outcome = call(capfd, *command, "--overwrite", "--json")
    assert outcome.code == 0
    events = outcome.events
    assert [event["event"] for event in events] == ["start", "song", "song", "song", "end"]
    assert events[1]["bss_eval_db"]["bass"]["SDR"] == pytest.approx(6.02, abs=0.01)
    assert events[-1]["aggregate"]["bss_eval_db"]["ISR"]["bass"] == pytest.approx(6.02, abs=0.05)
    assert events[-1]["written"] == [str(tmp_path / "out" / "results.json"), *events[-1]["written"][1:]]


def test_what_is_nearly_silent_is_said(capfd: pytest.CaptureFixture[str], data: Path, tmp_path: Path) -> None:
    for name, seed in (("One", 1), ("Two", 2)):
        write_song(tmp_path / "stems" / name, seed, ("bass", "vocals"), gain=0.5)
    write_song(data / "test" / "Two", 2, ("bass",), gain=0.001)
    command = ("evaluate", tmp_path / "stems", "--data", data, "--split", "test", "--only-mdx", "--overwrite")
    outcome = call(capfd, *command, "--out", tmp_path / "out")
    assert outcome.code == 0
    said = "bass below -60 dB, not counted in the SDR of MDX 2021: Two"
    assert outcome.complaint() == f"danna-sep: warning: {said}"
    content = json.loads((tmp_path / "out" / "results.json").read_text())
    assert content["aggregate"]["mdx_sdr_db"]["bass"] == pytest.approx(6.02, abs=0.01)
    assert content["aggregate"]["n_songs"]["bass"] == 1
    events = call(capfd, *command, "--out", tmp_path / "out", "--json").events
    assert {"event": "warning", "message": said} in events


def test_wrong_usage(capfd: pytest.CaptureFixture[str], tiny: Path, data: Path, tmp_path: Path) -> None:
    """Refused before anything is computed or written."""
    out = tmp_path / "out"
    wrong = {
        ("evaluate", "no-such", "--data", data): (2, "neither a preset nor a folder"),
        ("evaluate", "unet", "--data", tmp_path / "nowhere"): (2, "no such folder"),
        ("evaluate", "unet", "--data", data, "--split", "valid"): (2, "valid"),
        ("evaluate", tmp_path / "danna-sep-home", "--data", data): (2, "neither"),
        ("evaluate", "unet", "--data", data, "--overlap", "0.9"): (2, "overlap"),
        ("evaluate", "unet", "--data", data, "--whole", "--segment", "5"): (2, "contradict"),
        ("evaluate", "unet", "--data", data, "--jobs", "0"): (2, "jobs"),
        ("evaluate", "unet"): (2, "--data"),
    }
    for arguments, (code, said) in wrong.items():
        outcome = call(capfd, *arguments, "--out", out)
        assert (outcome.code, said in outcome.err) == (code, True), (arguments, outcome.err)
        assert "Traceback" not in outcome.err
        assert not out.exists()


@pytest.mark.parametrize(
    "option",
    [("--shifts", 2), ("--segment", 3), ("--overlap", 0.2), ("--whole",), ("--device", "cpu"), ("--precision", "bf16")],
)
def test_finished_stems_are_not_separated(
    capfd: pytest.CaptureFixture[str], data: Path, tmp_path: Path, option: tuple[object, ...]
) -> None:
    """Figures in another precision, say, would be believed to be such."""
    write_song(tmp_path / "stems" / "One", 1, ("bass", "vocals"), gain=0.5)
    outcome = call(capfd, "evaluate", tmp_path / "stems", "--data", data, "--out", tmp_path / "out", *option)
    assert outcome.code == 2
    assert f"holds finished stems, to which {option[0]} cannot apply; leave it away" in outcome.complaint()
    assert not (tmp_path / "out").exists()


def test_weights_and_preset_files(capfd: pytest.CaptureFixture[str], tiny: Path, data: Path, tmp_path: Path) -> None:
    """A training's result is judged as what it is: by its file, a preset file, and its preset."""
    (weights_file,) = tiny.rglob("provisional-unet.safetensors")
    preset_file = tmp_path / "mine.json"
    part = {"weights": "provisional-unet"}
    ones = {"unet": dict.fromkeys(SOURCES, 1)}
    preset_file.write_text(json.dumps({"format": "danna-sep-preset/1", "separators": {"unet": part}, "blend": ones}))
    found = []
    for place, system in enumerate(("unet", weights_file, preset_file)):
        out = tmp_path / f"out-{place}"
        options = ("--data", data, "--split", "train", "--only-mdx", "--segment", "1.2")
        outcome = call(capfd, "evaluate", system, *options, "--out", out)
        assert outcome.code == 0, outcome.err
        found.append(json.loads((out / "results.json").read_text()))
    assert found[0]["songs"][0]["mdx_sdr_db"]["bass"] == pytest.approx(found[1]["songs"][0]["mdx_sdr_db"]["bass"])
    assert found[0]["songs"][0]["mdx_sdr_db"] == found[2]["songs"][0]["mdx_sdr_db"]
    hashes = [sorted(result["system"]["weights"].values()) for result in found]
    assert hashes[0] == hashes[1] == hashes[2]


def test_missing_weights_are_said_at_once(capfd: pytest.CaptureFixture[str], data: Path, tmp_path: Path) -> None:
    outcome = call(capfd, "evaluate", "original", "--data", data, "--out", tmp_path / "out")
    assert outcome.code == 4
    assert "fetch" in outcome.complaint()


def test_nothing_is_written_when_all_songs_fail(capfd: pytest.CaptureFixture[str], data: Path, tmp_path: Path) -> None:
    write_song(tmp_path / "stems" / "Another", 1)
    outcome = call(capfd, "evaluate", tmp_path / "stems", "--data", data, "--out", tmp_path / "out")
    assert outcome.code == 2
    assert "nothing was written" in outcome.err
    assert not (tmp_path / "out").exists()


def test_without_matplotlib(
    capfd: pytest.CaptureFixture[str], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lack of a picture must be said, with what brings it."""
    write_song(tmp_path / "stems" / "One", 1, ("bass", "vocals"), gain=0.5)
    monkeypatch.setattr(report, "can_plot", lambda: False)
    command = ("evaluate", tmp_path / "stems", "--data", data, "--split", "test", "--only-mdx")
    outcome = call(capfd, *command, "--out", tmp_path / "out")
    assert 'pip install "matplotlib>=3.8"' in outcome.err
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["report.html", "results.json"]


def test_compare(capfd: pytest.CaptureFixture[str], data: Path, tmp_path: Path) -> None:
    """A gain of 0.5 is 6.02 dB, of 0.75 it is 12.04."""
    for name, gain in (("a", 0.5), ("b", 0.75)):
        for song, seed in (("One", 1), ("Two", 2)):
            write_song(tmp_path / name / song, seed, ("bass", "vocals"), gain)
        command = ("evaluate", tmp_path / name, "--data", data, "--split", "test", "--only-mdx")
        assert call(capfd, *command, "--out", tmp_path / f"out-{name}").code == 0
    shown = call(capfd, "compare", tmp_path / "out-a", tmp_path / "out-b" / "results.json")
    assert shown.code == 0
    assert shown.err == ""
    assert "+6.02" in next(line for line in shown.out.splitlines() if "vocals" in line)
    assert "too few" in shown.out
    content = json.loads(call(capfd, "compare", tmp_path / "out-b", tmp_path / "out-a", "--json").out)
    assert content["songs"] == ["One", "Two"]
    assert content["differences"][1]["mean"] == pytest.approx(-6.02, abs=0.01)
    refused = call(capfd, "compare", tmp_path / "out-a", tmp_path / "nothing.json")
    assert refused.code == 2
    assert "no such file" in refused.complaint()
