"""The commands: what they show, where, and which exit code they end with."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from command_line import COMMAND, STEMS, call, run, song, stems_of
from danna_sep import audio
from danna_sep.cli.failures import exit_code, message, one_line
from danna_sep.errors import (
    AudioError,
    Cancelled,
    ConfigError,
    DannaSepError,
    DownloadFailed,
    MissingWeights,
    OutputCollision,
    UnreadableAudio,
    WriteFailed,
)
from danna_sep.models.precision import resolve_precision


def test_start_is_light() -> None:
    """`--help` would be slow if the command line imported torch or NumPy before a command needs them."""
    heavy = "{'torch', 'numpy', 'soundfile', 'soxr', 'rich'}"
    program = f"import sys, danna_sep.cli; sys.exit(', '.join({heavy} & set(sys.modules)) or None)"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_help_and_version(capfd: pytest.CaptureFixture[str]) -> None:
    """Options of the group must not be taken for songs, and help must say how to begin and what the codes mean."""
    shown = call(capfd, "--help")
    assert shown.code == 0
    for text in ("separate", "presets", "doctor", "weights", "danna-sep song.mp3", "130"):
        assert text in shown.out
    assert call(capfd, "-h").out == shown.out
    assert call(capfd, "--version").out.startswith("danna-sep ")
    shown = call(capfd, "separate", "--help")
    for text in ("--two-stems", "--name-template", "--repair", "Exit codes"):
        assert text in shown.out
    assert "import" in call(capfd, "weights", "--help").out


def test_wrong_usage(capfd: pytest.CaptureFixture[str], tiny: Path, tmp_path: Path) -> None:
    """Options that contradict each other or are out of range must be refused before anything is written."""
    path, out = song(tmp_path / "a.wav"), tmp_path / "out"
    wrong = {
        "--frobnicate": "--frobnicate",
        "--preset no-such": "no preset",
        "--stems vocals,kazoo": "kazoo",
        "--stems vocals,vocals": "different",
        "--two-stems kazoo": "kazoo",
        "--stems drums --two-stems drums": "contradict",
        "--whole --segment 5": "contradict",
        "--segment 0.1": "segment",
        "--overlap 0.7": "overlap",
        "--shifts 0": "shifts",
        "--threads 0": "threads",
        "--threads 100000": "threads",
        "--device tpu": "device",
        "--format wma": "wav, flac",
        "--bits 12": "bits",
        "--format mp3 --bits 24": "bit depth",
        "--channels some": "pairs",
        "--name-template {artist}": "artist",
        "--name-template ../{stem}": "outside",
    }
    for options, said in wrong.items():
        preset = () if "--preset" in options else ("--preset", "unet")
        outcome = call(capfd, *options.split(), *preset, "--out", out, path)
        assert outcome.code == 2, options
        assert said in outcome.err, options
        assert "Traceback" not in outcome.err
        assert not out.exists()
    assert call(capfd, "separate", "--out", out).code == 2


def test_word_separate_can_be_left_out(
    capfd: pytest.CaptureFixture[str], tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commonest call must be the shortest; and stdout must list just what was written, in the source order."""
    path = song(tmp_path / "a.wav")
    monkeypatch.chdir(tmp_path)
    for arguments in (["a.wav", "--preset", "unet"], ["--preset", "unet", "--overwrite", path], ["separate", path]):
        outcome = call(capfd, *arguments, "--overwrite")
        assert outcome.code == 0, outcome.err
        assert outcome.out.splitlines() == [os.path.join("separated", "a", f"{stem}.wav") for stem in STEMS]  # noqa: PTH118
        assert outcome.err == ""
    stems_of(tmp_path / "separated" / "a")


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX shell")
def test_closed_streams(tiny: Path, tmp_path: Path) -> None:
    """Daemons start programs without stdout or stderr: the songs are separated all the same."""
    song(tmp_path / "a.wav")
    for number, closed in enumerate((">&-", "2>&-", ">&- 2>&-")):
        command = f"{shlex.join(COMMAND)} --preset unet --out out{number} a.wav {closed}"
        done = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True, timeout=300)
        assert (done.returncode, done.stderr) == (0, "")
        stems_of(tmp_path / f"out{number}" / "a")


def test_what_nobody_foresaw_stops_one_file_only(
    capfd: pytest.CaptureFixture[str], tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A library that fails on one file in some way of its own must not keep the others from being separated."""
    probe = audio.probe

    def fails_on_one(path: Path) -> audio.AudioInfo:
        if path.name == "bad.wav":
            raise OSError("Invalid argument")
        return probe(path)

    monkeypatch.setattr(audio, "probe", fails_on_one)
    good, bad = song(tmp_path / "good.wav"), song(tmp_path / "bad.wav")
    outcome = call(capfd, "--preset", "unet", "--out", tmp_path / "out", bad, good)
    assert outcome.code == 1
    assert outcome.complaint().startswith(f"danna-sep: {bad}: ")
    stems_of(tmp_path / "out" / "good")


@pytest.mark.parametrize(("typed", "meant"), [("doctro", "doctor"), ("preset", "presets"), ("evalute", "evaluate")])
def test_a_mistyped_command(capfd: pytest.CaptureFixture[str], typed: str, meant: str) -> None:
    """It is no song, and to say that there is no such file would send its user looking for one."""
    outcome = call(capfd, typed)
    assert outcome.code == 2
    assert f"did you mean {meant}?" in outcome.err
    assert typed in outcome.err


def test_options_reach_the_result(capfd: pytest.CaptureFixture[str], tiny: Path, tmp_path: Path) -> None:
    """Each option of the output must do what its help says."""
    path, out = song(tmp_path / "a.wav", n_frames=5000, subtype="PCM_24"), tmp_path / "out"
    base = ("--out", out, "--preset", "unet", "--overwrite", "--quiet", path)
    assert call(capfd, *base).out == ""
    assert soundfile.info(out / "a" / "bass.wav").subtype == "PCM_24"
    call(capfd, *base, "--bits", "float", "--two-stems", "vocals", "--name-template", "{preset}_{track}.{stem}.{ext}")
    parts = [soundfile.read(out / f"unet_a.{name}.wav")[0] for name in ("vocals", "accompaniment")]
    np.testing.assert_allclose(sum(parts), soundfile.read(path)[0], atol=1e-6)
    call(capfd, *base, "--format", "flac", "--stems", "vocals, drums", "--out", tmp_path / "two", "--threads", "1")
    stems = stems_of(tmp_path / "two" / "a", "flac", ("drums", "vocals"))
    assert stems["drums"].shape == (5000, 2)
    assert call(capfd, *base, "--whole", "--shifts", "2", "--preset", "fast").code == 0


def test_json_tells_everything(capfd: pytest.CaptureFixture[str], tiny: Path, tmp_path: Path) -> None:
    """A program must be able to follow by stdout alone: nothing but JSON there, and nothing left out."""
    good, missing, out = song(tmp_path / "good.wav", 600000), tmp_path / "missing.wav", tmp_path / "out"
    outcome = call(capfd, "--json", "--preset", "unet", "--segment", "4", "--out", out, missing, good)
    assert outcome.code == 2
    assert outcome.err == ""
    events = outcome.events
    assert [event["event"] for event in events[:2]] == ["error", "start"]
    assert events[0] | {"message": ""} == {
        "event": "error", "file": str(missing), "kind": "UnreadableAudio", "message": "",
    }  # fmt: skip
    properties = {"file": str(good), "sample_rate": 44100, "channels": 2, "duration_s": 600000 / 44100}
    assert events[1] == {"event": "start", **properties}
    progress = [event for event in events if event["event"] == "progress"]
    assert len(progress) > 2
    assert progress[-1]["done_s"] == progress[-1]["total_s"] == pytest.approx(600000 / 44100, abs=1e-3)
    assert progress[-1]["left_s"] == 0
    done = events[-2]
    assert done["event"] == "done"
    assert done["stems"] == {stem: str(out / "good" / f"{stem}.wav") for stem in STEMS}
    assert done["gain"] > 0
    assert done["elapsed_s"] > 0
    assert events[-1] == {"event": "end", "n_done": 1, "n_failed": 1, "exit_code": 2}


def test_outputs_that_exist(capfd: pytest.CaptureFixture[str], tiny: Path, tmp_path: Path) -> None:
    """Results of an earlier call must not be lost without --overwrite, nor keep other files from being done."""
    first, second, out = song(tmp_path / "a.wav"), song(tmp_path / "b.wav"), tmp_path / "out"
    (out / "a").mkdir(parents=True)
    (out / "a" / "bass.wav").write_text("precious")
    outcome = call(capfd, "--preset", "unet", "--out", out, first, second)
    assert outcome.code == 3
    assert outcome.complaint().startswith(f"danna-sep: {first}: ")
    assert "--overwrite" in outcome.err
    assert (out / "a" / "bass.wav").read_text() == "precious"
    stems_of(out / "b")
    assert call(capfd, "--preset", "unet", "--out", out, tmp_path / "missing.wav", first).code == 2
    assert call(capfd, "--preset", "unet", "--out", out, first, second, "--overwrite").code == 0
    stems_of(out / "a")


def test_presets_without_weights(capfd: pytest.CaptureFixture[str]) -> None:
    """A preset must not be called ready when its weights are not on this machine."""
    lines = {line.split()[0]: line for line in call(capfd, "presets").out.splitlines()}
    assert " ready " in lines["danna"]
    assert " ready " not in lines["original"]


def test_missing_weights(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Without weights one line must say how to get them, before any audio is read: the file does not even exist."""
    outcome = call(capfd, tmp_path / "missing.wav", "--preset", "original")
    assert outcome.code == 4
    assert "danna-sep weights fetch original" in outcome.complaint()
    assert "weights import" in outcome.complaint()


def test_damaged_weights(
    capfd: pytest.CaptureFixture[str], tiny_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights with a flipped bit must not be used, and `verify`, `list` and `presets` must tell."""
    home = tmp_path / "home"
    (home / "weights").mkdir(parents=True)
    for file in (tiny_home / "weights").iterdir():
        (home / "weights" / file.name).write_bytes(file.read_bytes())
    monkeypatch.setenv("DANNA_SEP_HOME", str(home))
    assert call(capfd, "weights", "verify").code == 0
    damaged = home / "weights" / "provisional-unet.safetensors"
    content = bytearray(damaged.read_bytes())
    content[-1] ^= 1
    damaged.write_bytes(content)
    outcome = call(capfd, "weights", "verify")
    assert outcome.code == 4
    others = {line for line in outcome.out.splitlines() if line.startswith("provisional")}
    assert others == {f"provisional-{name}: ok" for name in ("demucs", "wide-unet", "xumx")}
    assert str(damaged) in outcome.complaint()
    assert call(capfd, "weights", "verify", "provisional-xumx").code == 0
    assert call(capfd, "weights", "verify", "provisional-kazoo").code == 4
    outcome = call(capfd, song(tmp_path / "a.wav"), "--preset", "unet", "--out", tmp_path / "out")
    assert outcome.code == 4
    assert str(damaged) in outcome.complaint()
    assert not (tmp_path / "out").exists()
    listed = {line.split()[0]: line for line in call(capfd, "weights", "list").out.splitlines()[1:]}
    assert " wrong " in listed["provisional-unet"]
    assert " ok " in listed["provisional-xumx"]
    assert "own" in listed["provisional-xumx"]
    assert "random numbers" in listed["provisional-xumx"]
    lines = {line.split()[0]: line for line in call(capfd, "presets").out.splitlines()}
    assert " ready " in lines["xumx"]
    assert " ready " not in lines["unet"]
    assert " ready " in lines["original"]


def test_doctor(capfd: pytest.CaptureFixture[str], tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Doctor must find a working installation healthy, and a damaged one not."""
    outcome = call(capfd, "doctor", "--out", tmp_path / "new" / "folder", "--json")
    report = json.loads(outcome.out)
    checks = {check["name"]: check for check in report["checks"]}
    assert outcome.code == 0, report
    assert report["ok"]
    for name in ("torch", "soundfile", "devices", "codec wav", "codec mp3", "codec opus", "codec m4a", "self-test"):
        assert name in checks
    assert checks["codec wav"]["state"] == "ok"
    assert "4 stems" in checks["self-test"]["text"]
    assert resolve_precision("auto", "cpu") in checks["precision"]["text"]
    assert "VNNI" in checks["precision"]["text"]
    assert str(tiny) in checks["weights provisional-unet"]["text"]
    assert not (tmp_path / "new").exists()
    home = tmp_path / "home"
    (home / "weights").mkdir(parents=True)
    (home / "weights" / "registry.json").write_text("{}")
    monkeypatch.setenv("DANNA_SEP_HOME", str(home))
    outcome = call(capfd, "doctor")
    assert outcome.code == 1
    assert "broken  weights" in outcome.out
    assert "ok      numpy" in outcome.out
    assert "registry.json" in outcome.out
    monkeypatch.setenv("DANNA_SEP_HOME", str(home / "weights" / "registry.json" / "none"))
    outcome = call(capfd, "doctor")
    assert outcome.code == 0, "what ships separates without a folder of one's own"
    assert "note    own data" in outcome.out


def test_failures_are_one_line_and_have_codes() -> None:
    """Scripts rely on the codes, people on lines; no name of a file may break the line or the terminal."""
    codes = {
        AudioError: 2, UnreadableAudio: 2, ConfigError: 2, OutputCollision: 3, WriteFailed: 3, MissingWeights: 4,
        DownloadFailed: 4, Cancelled: 130, DannaSepError: 1, ValueError: 1,
    }  # fmt: skip
    assert {kind: exit_code(kind("x")) for kind in codes} == codes
    path = Path("a\nb.wav")
    assert message(AudioError(f"{path}: bad"), path) == "a\\nb.wav: bad"
    assert message(ConfigError("no"), Path("a.wav")) == "a.wav: no"
    assert "--segment" in message(MemoryError(), Path("a.wav"))
    assert "--verbose" in message(ValueError("why"), Path("a.wav"))
    assert one_line("\x1b[31m日本 \udcff") == "\\x1b[31m日本 \\udcff"


def test_verbose_shows_where_it_failed(capfd: pytest.CaptureFixture[str], tiny: Path, tmp_path: Path) -> None:
    """A report of a fault needs the traceback; everybody else needs to be spared it."""
    path, out = song(tmp_path / "a.wav"), tmp_path / "out"
    arguments = ("--preset", "unet", "--out", out, tmp_path / "missing.wav", path)
    assert "Traceback" not in call(capfd, *arguments).err
    outcome = call(capfd, *arguments, "--verbose", "--overwrite")
    assert "Traceback" in outcome.err
    assert "unet on cpu" in outcome.err


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_bar_is_on_the_terminal_only(tiny: Path, tmp_path: Path) -> None:
    """The bar must be on stderr when that is a terminal, and never reach stdout."""
    import pty
    import threading

    song(tmp_path / "[a].wav", 300000)
    song(tmp_path / "b.wav")
    ours, theirs = pty.openpty()
    shown = bytearray()

    def read() -> None:
        while True:
            try:
                block = os.read(ours, 4096)
            except OSError:  # the other side is closed
                return
            shown.extend(block)

    reader = threading.Thread(target=read)
    reader.start()
    command = [*COMMAND, "[a].wav", "missing.wav", "b.wav", "--preset", "unet", "--out", "out", "--segment", "2"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=theirs, cwd=tmp_path, timeout=300, check=False)
    os.close(theirs)
    reader.join(10)
    os.close(ours)
    text = shown.decode()
    assert done.returncode == 2, text
    assert done.stdout.decode().split() == [f"out/{track}/{stem}.wav" for track in ("[a]", "b") for stem in STEMS]
    for expected in ("[1/2] [a].wav", "[2/2] b.wav", "%", "real time", "missing.wav: no such file", "2 done, 1 failed"):
        assert expected in text


@pytest.mark.skipif(sys.platform == "win32", reason="needs a shell")
def test_reader_of_stdout_goes_away(tiny: Path, tmp_path: Path) -> None:
    """`danna-sep ... | head` must end quietly, with nothing half-written."""
    for name in "ab":
        song(tmp_path / f"{name}.wav")
    command = [*COMMAND, "--json", "--preset", "unet", "--out", "out", "a.wav", "b.wav"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    assert process.wait(300) == 141
    assert err == b""
    assert not [
        path
        for path in (tmp_path / "out").rglob("*")
        if path.is_file() and path.name not in map("{}.wav".format, STEMS)
    ]


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names there must be text")
def test_names_that_are_no_text(tiny: Path, tmp_path: Path) -> None:
    """Names of files are bytes on Linux; each must be read, written and listed as it is."""
    name = os.fsdecode(b"b\xffd.wav")
    song(tmp_path / "x.wav").rename(tmp_path / name)
    outcome = run("--preset", "unet", name, "--stems", "drums", "missing\n.wav", cwd=tmp_path)
    assert outcome.code == 2
    assert outcome.out == f"separated/{name[:-4]}/drums.wav\n"
    assert outcome.complaint() == "danna-sep: missing\\n.wav: no such file; check the name"
    assert (tmp_path / "separated" / name[:-4] / "drums.wav").exists()


def test_segments_of_the_unet_have_no_seams(tmp_path: Path) -> None:
    """The command hears a file's segments as one track: nearly the samples that it gives for the whole at once."""
    song(tmp_path / "song.wav", 25 * 44100)
    options = ("--preset", "unet", "--precision", "f32", "--bits", "float", "--stems", "drums,vocals")
    for name, how in (("segments", ("--segment", "4", "--overlap", "0.25")), ("whole", ("--whole",))):
        done = run("separate", tmp_path / "song.wav", *options, *how, "--out", tmp_path / name)
        assert done.code == 0, done.err
    names = ("drums", "vocals")
    segments, whole = (stems_of(tmp_path / name / "song", names=names) for name in ("segments", "whole"))
    for name in names:
        difference = segments[name] - whole[name]
        assert np.square(difference).sum() < 1e-9 * np.square(whole[name]).sum()


@pytest.mark.parametrize(
    ("said", "is_ours"), [({}, True), ({"OMP_WAIT_POLICY": "active"}, False), ({"GOMP_SPINCOUNT": "7"}, False)]
)
def test_threads_soon_sleep_while_they_wait(said: dict[str, str], is_ours: bool) -> None:
    """OpenMP itself tells what it was given: it must be said before PyTorch is imported, and the user comes first."""
    others = {name: value for name, value in os.environ.items() if name not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    told = run("doctor", env={**others, "OMP_DISPLAY_ENV": "verbose", **said}).err
    if "GOMP_SPINCOUNT" not in told:
        pytest.skip("PyTorch has another OpenMP than GNU's")
    assert ("GOMP_SPINCOUNT = '10000'" in told) == is_ours
    assert all(f"{name} = '{value.upper()}'" in told for name, value in said.items())
