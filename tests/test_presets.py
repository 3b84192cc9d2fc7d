"""Named systems: what they load and compute."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from danna_sep import SOURCES, load, separate, weights
from danna_sep.blending import Blend
from danna_sep.convert import OriginalDemucs
from danna_sep.errors import ConfigError, CorruptWeights
from danna_sep.models import XUMX, XUMXConfig
from danna_sep.presets import PRESETS
from danna_sep.separators import MaskSeparator, WaveformSeparator

pytestmark = pytest.mark.usefixtures("tiny")


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_separates(name: str) -> None:
    separator = load(name)
    stems = separator(torch.randn(2, 5000))
    assert stems.shape == (4, 2, 5000)
    assert stems.isfinite().all()
    assert separator.sources == SOURCES


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_blend_weights_sum_to_one(preset: object) -> None:
    for column in zip(*preset.blend.values(), strict=True):  # type: ignore[attr-defined]
        assert sum(column) == pytest.approx(1)


def test_models_without_weight_are_not_loaded() -> None:
    """X-UMX adds nothing to the original's other."""
    separator = load("original", stems=["other"])
    assert isinstance(separator, Blend)
    assert sorted(separator.separators) == ["demucs", "unet"]
    assert separator(torch.randn(2, 4000)).shape == (1, 2, 4000)


def test_the_original_hears_whole_tracks_when_asked() -> None:
    separator = load("original", whole=True)
    assert isinstance(separator, Blend)
    assert separator.hears_whole_tracks
    demucs, unet = separator.separators["demucs"], separator.separators["unet"]
    assert isinstance(demucs, OriginalDemucs)
    assert isinstance(unet, MaskSeparator)
    assert (unet.block_frames, unet.precision) == (2584, torch.float64)
    mixture = torch.randn(2, 30000).numpy()
    assert separate(mixture, 44100, separator, whole=True)["bass"].shape == (2, 30000)
    with pytest.raises(ConfigError, match="whole=True"):
        separate(mixture, 44100, separator)


def test_shifts_reach_the_waveform_model() -> None:
    separator = load("demucs", shifts=3)
    assert isinstance(separator, Blend)
    waveform = separator.separators["demucs"]
    assert isinstance(waveform, WaveformSeparator)
    assert waveform.n_shifts == 3


@pytest.mark.parametrize(("asked", "expected"), [(None, 1), ("0", 0), ("2", 2)])
def test_weights_say_how_often_they_want_the_wiener_filter(tmp_path: Path, asked: str | None, expected: int) -> None:
    separator = load(str(_small_weights(tmp_path, asked)))
    while isinstance(separator, Blend):
        (separator,) = separator.separators.values()
    assert isinstance(separator, MaskSeparator)
    assert separator.n_iterations == expected
    assert separator(torch.randn(2, 5000)).isfinite().all()


def test_weights_that_want_it_in_no_known_number_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CorruptWeights, match="wiener_iterations must be from 0 to 3, not 'many'"):
        load(str(_small_weights(tmp_path, "many")))


def _small_weights(folder: Path, wiener_iterations: str | None) -> Path:
    model = XUMX(XUMXConfig(hidden=8, n_lstm_layers=1))
    notes = {} if wiener_iterations is None else {"wiener_iterations": wiener_iterations}
    path = folder / "small.safetensors"
    weights.write(path, model="xumx", config=asdict(model.config), entries=model.state_dict(), metadata=notes)
    return path


def test_what_is_refused() -> None:
    for arguments in ({"preset": "nothing"}, {"shifts": 0}, {"stems": ["kazoo"]}):
        with pytest.raises(ConfigError):
            load(**arguments)
