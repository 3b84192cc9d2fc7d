"""The weights that ship can be made from nothing by one command: here on seconds of made-up sound."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from command_line import STEMS, run, song
from danna_sep import weights
from danna_sep.models import XUMX, XUMXConfig, build
from made_up_recordings import write_recordings

PROGRAM = Path(__file__).parent.parent / "bundle" / "make.py"
from_sources = pytest.mark.skipif(not PROGRAM.exists(), reason="the package without its sources")


def write_song(folder: Path) -> None:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for source in STEMS:
        soundfile.write(folder / f"{source}.flac", 0.1 * rng.standard_normal((2 * 44100, 2)), 44100)


@from_sources
def test_from_recordings_to_a_preset_that_separates(tmp_path: Path) -> None:
    write_recordings(tmp_path / "recordings")
    for name in ("songs/one", "songs/two", "valid/three"):
        write_song(tmp_path / name)
    options = {"band": 2, "held-out": 2, "longest": 5, "steps": 2, "epochs": 1, "processes": 1, "device": "cpu"}
    command = [sys.executable, str(PROGRAM), "--set", "data.excerpt_s=1.0", "--set", "augment.p_pitch=0.0"]
    command += [part for name, value in options.items() for part in (f"--{name}", str(value))]
    soundfile.write(tmp_path / "voice.wav", 0.1 * np.random.default_rng(1).standard_normal(22050), 22050)
    (tmp_path / "voices").mkdir()
    (tmp_path / "voice.wav").rename(tmp_path / "voices" / "ah.wav")
    for option in ("recordings", "songs", "valid", "voices"):
        command += [f"--{option}", str(tmp_path / option)]
    command += ["--out", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

    judged = [path.name for path in sorted((tmp_path / "out" / "judge").iterdir())]
    excerpts = [f"three-{place}-{how}" for place in (38, 51, 81) for how in ("as-it-is", "levelled")]
    assert judged == ["synthetic-999-000000", "synthetic-999-000001", *excerpts]
    band, real = (tmp_path / "out" / "judge" / judged[index] for index in (0, 3))
    sung = soundfile.read(band / "vocals.flac")[0]
    original = soundfile.read(tmp_path / "out" / "held-out" / judged[0] / "vocals.flac")[0]
    assert not np.allclose(sung / np.abs(sung).max(), original[: len(sung)] / max(1e-9, np.abs(original).max()))
    levels_db = [10 * np.log10(np.square(soundfile.read(real / f"{stem}.flac")[0]).mean()) for stem in STEMS]
    assert np.subtract(levels_db, levels_db[0]) == pytest.approx([0, -2, -1, 0], abs=0.1)

    preset = json.loads((tmp_path / "out" / "blend.json").read_text())
    rows = preset["blend"].values()
    for source in STEMS:
        assert sum(row.get(source, 0) for row in rows) == pytest.approx(1, abs=1e-3)
    for model, n_steps in (("xumx", 2), ("unet", 2), ("demucs", 2)):
        assert weights.read(tmp_path / "out" / model / "best.safetensors").model == model
        log = (tmp_path / "out" / model / "log.jsonl").read_text().splitlines()
        assert sum(json.loads(line)["event"] == "stepped" for line in log) == n_steps
        told = json.loads((tmp_path / "out" / model / "run.json").read_text())
        assert told["songs"]["names"] == ["one", "two", "synthetic-1-000000", "synthetic-1-000001"]

    song(tmp_path / "new.wav")
    done = run("separate", tmp_path / "new.wav", "--preset", tmp_path / "out" / "blend.json", "--out", tmp_path)
    assert done.code == 0, done.err
    assert all((tmp_path / "new" / f"{source}.wav").exists() for source in STEMS)


@from_sources
def test_what_ships_is_the_mean_in_eight_bits_and_says_where_it_is_from(tmp_path: Path) -> None:
    config = XUMXConfig(hidden=4, n_lstm_layers=1)
    models = []
    for seed in range(2):
        torch.manual_seed(seed)
        models.append(XUMX(config))
        notes = {"made_by": f"training {seed}", "licence": "none"}
        path = tmp_path / f"{seed}.safetensors"
        weights.write(path, model="xumx", config=asdict(config), entries=models[-1].state_dict(), metadata=notes)
    options = ["--training", "two of one step", "--sdr", "0 dB of nothing", "--to", str(tmp_path / "mean.safetensors")]
    command = [sys.executable, str(PROGRAM.with_name("ship.py")), *(str(tmp_path / f"{i}.safetensors") for i in (0, 1))]
    subprocess.run([*command, *options], check=True)

    shipped = weights.read(tmp_path / "mean.safetensors")
    assert shipped.metadata["training"] == "two of one step"
    assert (shipped.metadata["made_by"], shipped.metadata["licence"]) == ("training 0", "MIT")
    one, other = (model.state_dict() for model in models)
    for name, entry in shipped.entries.items():
        mean = (one[name].double() + other[name].double()) / 2
        half_a_step = mean.abs().max() / 254 if mean.ndim > 1 else 0
        assert ((entry - mean).abs() <= half_a_step + 1e-6 * mean.abs()).all(), name
    n_bytes = (tmp_path / "mean.safetensors").stat().st_size
    assert n_bytes < 0.6 * (tmp_path / "0.safetensors").stat().st_size

    subprocess.run([*command, *options, "--steps", "100.3"], check=True)
    for name, entry in weights.read(tmp_path / "mean.safetensors").entries.items():
        if entry.ndim > 1:
            largest = entry.flatten(1).abs().amax(1)
            mean = ((one[name].double() + other[name].double()) / 2).flatten(1).abs().amax(1)
            torch.testing.assert_close(largest, (mean * (100 / 100.3)).float())
    kept = (tmp_path / "mean.safetensors").read_bytes()
    for wrong, told in (
        (["--steps", "200"], "1 to 127 steps, not 200"),
        (["--steps", "100", "--float16"], "--float16"),
    ):
        done = subprocess.run([*command, *options, *wrong], check=False, capture_output=True, text=True)
        assert done.returncode != 0
        assert told in done.stderr
        assert "Traceback" not in done.stderr
    assert (tmp_path / "mean.safetensors").read_bytes() == kept


@from_sources
def test_what_ships_may_be_half_of_what_a_training_changed_added_to_other_weights(tmp_path: Path) -> None:
    """Else weights that no single training gave cannot be made again."""
    config = XUMXConfig(hidden=4, n_lstm_layers=1)
    models = []
    for name in ("first", "after", "before"):
        models.append(XUMX(config))
        path = tmp_path / f"{name}.safetensors"
        weights.write(path, model="xumx", config=asdict(config), entries=models[-1].state_dict(), metadata={})
    files = [str(tmp_path / f"{name}.safetensors") for name in ("first", "after", "before")]
    command = [sys.executable, str(PROGRAM.with_name("ship.py")), *files, "--training", "none", "--sdr", "0 dB"]
    command += ["--float16", "--to", str(tmp_path / "sum.safetensors")]
    subprocess.run([*command, *["--share", "1", "--share", "0.5", "--share", "-0.5"]], check=True)
    shipped = weights.read(tmp_path / "sum.safetensors")
    first, after, before = (model.state_dict() for model in models)
    for name, entry in shipped.entries.items():
        wanted = first[name] + (after[name] - before[name]) / 2 if entry.is_floating_point() else entry
        torch.testing.assert_close(entry, wanted, rtol=1e-3, atol=1e-3)
    for shares in ("--share 1 --share 0", "--share 1 --share 1 --share 1"):
        done = subprocess.run([*command, *shares.split()], check=False, capture_output=True, text=True)
        assert done.returncode != 0
        assert "add up to one" in done.stderr


@from_sources
def test_what_ships_may_hear_other_spectra_than_it_was_trained_on(tmp_path: Path) -> None:
    config = {"growth": 2, "n_layers": (1, 1), "bottleneck_width": 8, "n_heads": 1}
    model = build("unet", config)
    weights.write(tmp_path / "unet.safetensors", model="unet", config=config, entries=model.state_dict(), metadata={})
    command = [sys.executable, str(PROGRAM.with_name("ship.py")), str(tmp_path / "unet.safetensors")]
    command += ["--training", "none", "--sdr", "0 dB", "--to", str(tmp_path / "long.safetensors"), "--float16"]
    subprocess.run([*command, "--set", "n_fft=6144", "--set", "hop_length=1536"], check=True)
    shipped = weights.read(tmp_path / "long.safetensors")
    assert (shipped.config["n_fft"], shipped.config["hop_length"], shipped.config["growth"]) == (6144, 1536, 2)
    for name, entry in model.state_dict().items():
        torch.testing.assert_close(shipped.entries[name], entry, rtol=1e-3, atol=1e-4)
    (tmp_path / "long.safetensors").unlink()
    for setting in ("n_fft=61", "n_fft=long", "n_ffts=4096", "growth=4"):
        done = subprocess.run([*command, "--set", setting], check=False, capture_output=True, text=True)
        assert done.returncode == 1
        assert any(told in done.stderr for told in (setting.partition("=")[0], "windows of 61", "has shape"))
        assert "Traceback" not in done.stderr
        assert not (tmp_path / "long.safetensors").exists()
