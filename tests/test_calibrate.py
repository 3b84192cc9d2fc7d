"""A trained network's norms are scaled to what songs want that it never heard."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from command_line import STEMS
from danna_sep import weights
from danna_sep.models import UNet, UNetConfig, build
from danna_sep.signal.stft import istft, magnitude_of, stft

BUNDLE = Path(__file__).parent.parent / "bundle"
PROGRAM = BUNDLE / "calibrate.py"
pytestmark = pytest.mark.skipif(not PROGRAM.exists(), reason="the package without its sources")

RATE = 44100
CONFIG = {"growth": 2, "n_layers": (1, 1), "bottleneck_width": 8, "n_heads": 1, "input_power": 0.3}


def tiny(folder: Path) -> Path:
    torch.manual_seed(0)
    path = folder / "tiny.safetensors"
    entries = build("unet", CONFIG).state_dict()
    entries |= {name: 0.2 * torch.randn_like(entry) for name, entry in entries.items() if name.endswith("norm.bias")}
    notes = {"licence": "none", "sdr": "of the weights as they were"}
    weights.write(path, model="unet", config=CONFIG, entries=entries, metadata=notes)
    return path


def write_song(folder: Path, seconds: float) -> None:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for place, stem in enumerate(STEMS):
        soundfile.write(
            folder / f"{stem}.flac", 0.02 * (place + 1) * rng.standard_normal((round(RATE * seconds), 2)), RATE
        )


def calibrate(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(PROGRAM), *map(str, arguments)], capture_output=True, text=True)


def test_a_norm_that_is_too_loud_is_made_quieter(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stems are what the network gives as it is: any other factors are wrong, and how wrong is known."""
    monkeypatch.syspath_prepend(str(BUNDLE))
    import calibrate as program

    torch.manual_seed(0)
    model = UNet(UNetConfig(**CONFIG)).eval().requires_grad_(False)
    model.output.weight.mul_(20)
    model.widen_norm.bias.normal_(0, 0.2)
    entries = model.state_dict()
    mixture = 0.1 * torch.randn(2, RATE)
    spec = stft(mixture)
    excerpt = program.Excerpt(mixture, istft(model(magnitude_of(spec)[None])[0] * spec, RATE), [0, 1, 2, 3])
    right = program.error_db(model, entries, excerpt)
    begin = {"widen_norm": 2.0}
    wrong = program.error_db(model, program.scaled(entries, begin), excerpt)
    assert right < wrong - 2.5
    factors = program.calibrated(model, entries, [[excerpt]], begin, 20, 0.1)
    assert factors["widen_norm"] < 1.6
    assert program.error_db(model, program.scaled(entries, factors), excerpt) < wrong - 1.5


def test_only_norms_change_and_as_the_factors_say(tmp_path: Path) -> None:
    file = tiny(tmp_path)
    write_song(tmp_path / "songs" / "one", 1.5)
    write_song(tmp_path / "others" / "short", 0.3)
    songs = ["--songs", tmp_path / "songs", "--songs", tmp_path / "others", "--to", tmp_path / "new.safetensors"]
    done = calibrate(file, *songs, "--excerpts", 2, "--length", 1, "--steps", 2, "--begin", "widen_norm=0.5")
    assert done.returncode == 0, done.stderr
    factors = {name: float(factor) for name, factor in (line.split() for line in done.stdout.splitlines()[2:])}
    assert factors["widen_norm"] == pytest.approx(0.5, rel=0.1)
    assert any(abs(factor - 1) > 0.01 for name, factor in factors.items() if name != "widen_norm")
    before, after = weights.read(file), weights.read(tmp_path / "new.safetensors")
    assert (after.config, after.metadata["licence"]) == (before.config, "none")
    assert "sdr" not in after.metadata
    assert before.entries["widen_norm.bias"].abs().min() > 0
    for name, entry in before.entries.items():
        norm, _, part = name.rpartition(".")
        expected = entry * factors[norm] if norm in factors and part in ("weight", "bias") else entry
        torch.testing.assert_close(after.entries[name], expected, rtol=2e-3, atol=1e-3 if entry.ndim < 2 else 1e-4)


def test_norms_that_are_not_kept_stay_as_they_were(tmp_path: Path) -> None:
    """Else factors that only the songs fitted on want would ship with those that others want, too."""
    file = tiny(tmp_path)
    write_song(tmp_path / "songs" / "one", 1.5)
    given = ["--songs", tmp_path / "songs", "--to", tmp_path / "new.safetensors", "--length", 1, "--steps", 2]
    unknown = calibrate(file, *given, "--keep", "decoder.7")
    assert unknown.returncode == 2
    assert f"{file}: has no norm decoder.7..." in unknown.stderr
    done = calibrate(file, *given, "--excerpts", 2, "--keep", "decoder.0")
    assert done.returncode == 0, done.stderr
    before, after = weights.read(file), weights.read(tmp_path / "new.safetensors")
    changed = {
        name
        for name, entry in before.entries.items()
        if not torch.allclose(after.entries[name], entry, rtol=2e-3, atol=1e-3 if entry.ndim < 2 else 1e-4)
    }
    assert changed
    assert all(name.startswith("decoder.0") for name in changed)


def test_what_is_not_known_of_a_song_counts_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(str(BUNDLE))
    import calibrate as program

    write_song(tmp_path / "songs" / "one", 1)
    for stem in STEMS[:3]:
        (tmp_path / "songs" / "one" / f"{stem}.flac").unlink()
    soundfile.write(tmp_path / "songs" / "one" / "mixture.flac", 0.1 * np.ones((RATE, 2)), RATE)
    (excerpt,) = program.excerpts_of(tmp_path / "songs", 1, 1)
    assert excerpt.known == [3]
    model = UNet(UNetConfig(**CONFIG)).eval()
    error = program.error_db(model, model.state_dict(), excerpt)
    excerpt.stems[:3] = torch.nan
    assert torch.equal(program.error_db(model, model.state_dict(), excerpt), error)


def test_every_other_excerpt_has_usual_levels_and_they_lie_evenly(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(str(BUNDLE))
    import calibrate as program

    (tmp_path / "songs" / "one").mkdir(parents=True)
    for place, stem in enumerate(STEMS):
        ramp = 0.1 * np.linspace(0, 1, 8 * RATE) * (-1) ** np.arange(8 * RATE) / (place + 1)
        soundfile.write(tmp_path / "songs" / "one" / f"{stem}.flac", np.stack([ramp, ramp], 1), RATE, subtype="PCM_24")
    first, second = program.excerpts_of(tmp_path / "songs", 2, 1)
    assert abs(float(first.stems[0, 0, 0])) == pytest.approx(0.1 * 2 / 8, abs=1e-4)
    levels_db = 10 * second.stems.square().mean((1, 2)).log10()
    assert (levels_db - levels_db[0]).tolist() == pytest.approx([0, -2, -1, 0], abs=0.1)
    torch.testing.assert_close(second.mixture, second.stems.sum(0))


def test_folders_count_alike_however_many_excerpts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BUNDLE))
    import calibrate as program

    torch.manual_seed(0)
    model = UNet(UNetConfig(**CONFIG)).eval().requires_grad_(False)
    one, other = (
        program.Excerpt(level * torch.randn(2, RATE), 0.1 * torch.randn(4, 2, RATE), [0, 1, 2, 3])
        for level in (0.1, 0.4)
    )

    def fit(kinds: list[list[object]]) -> dict[str, float]:
        return program.calibrated(model, model.state_dict(), kinds, {}, 2, 0.05)

    assert fit([[one], [other] * 3]) == pytest.approx(fit([[one], [other]]), rel=1e-4)


def test_factors_are_held_back_from_going_far(monkeypatch: pytest.MonkeyPatch) -> None:
    """From where they began, not from one: the more, the nearer they stay."""
    monkeypatch.syspath_prepend(str(BUNDLE))
    import calibrate as program

    torch.manual_seed(0)
    model = UNet(UNetConfig(**CONFIG)).eval().requires_grad_(False)
    excerpt = program.Excerpt(0.1 * torch.randn(2, RATE), 0.1 * torch.randn(4, 2, RATE), [0, 1, 2, 3])
    begin = {"widen_norm": 2.0}
    far = []
    for held_back in (0.0, 0.5, 50.0):
        monkeypatch.setattr(program, "HELD_BACK", held_back)
        factors = program.calibrated(model, model.state_dict(), [[excerpt]], begin, 12, 0.1)
        logs = torch.tensor([factors[name] / begin.get(name, 1.0) for name in factors]).log()
        far.append(float(logs.square().sum()))
    assert far[0] > 1.2 * far[1] > 1.2 * 1.2 * far[2]


def test_what_cannot_be_used_is_refused_in_a_line(tmp_path: Path) -> None:
    file, other, wrong = tiny(tmp_path), tmp_path / "xumx.safetensors", tmp_path / "wrong.safetensors"
    unet = weights.read(file)
    weights.write(wrong, model="unet", config={**CONFIG, "growth": 3}, entries=unet.entries, metadata={})
    write_song(tmp_path / "songs" / "one", 1)
    config = {"hidden": 4, "n_lstm_layers": 1}
    entries = build("xumx", config).state_dict()
    weights.write(other, model="xumx", config=config, entries=entries, metadata={})
    songs = ["--songs", tmp_path / "songs", "--to", tmp_path / "new.safetensors"]
    for arguments, said in (
        ([other, *songs], "not of a U-Net"),
        ([wrong, *songs], "wrong.safetensors"),
        ([file, *songs, "--begin", "no.norm=0.5"], "has no norm no.norm"),
        ([file, *songs, "--begin", "widen_norm=-1"], "widen_norm=-1"),
        ([file, *songs, "--begin", "widen_norm=\u00b2"], "--begin"),
        ([file, *songs, "--excerpts", 0], "an excerpt"),
        ([file, *songs, "--to", tmp_path / "nowhere" / "new.safetensors"], "no such folder"),
        ([file, "--songs", tmp_path / "none", *songs], "none"),
        ([tmp_path / "missing.safetensors", *songs], "missing"),
    ):
        done = calibrate(*arguments)
        assert done.returncode == 2, done.stderr
        assert said in done.stderr.splitlines()[-1]
        assert not (tmp_path / "new.safetensors").exists()
