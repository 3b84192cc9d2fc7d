"""Named systems: what they load and compute."""

from __future__ import annotations

import pytest
import torch

from danna_sep import SOURCES, load
from danna_sep.errors import ConfigError
from danna_sep.presets import PRESETS
from danna_sep.separators import Blend, WaveformSeparator

pytestmark = pytest.mark.usefixtures("tiny")


@pytest.mark.parametrize("name", [name for name, preset in PRESETS.items() if not preset.is_original])
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
    needed = [name for name, row in PRESETS["danna"].blend.items() if row[SOURCES.index("other")]]
    separator = load("danna", stems=["other"])
    assert isinstance(separator, Blend)
    assert sorted(separator.separators) == sorted(needed)
    assert separator(torch.randn(2, 4000)).shape == (1, 2, 4000)


def test_shifts_reach_the_waveform_model() -> None:
    separator = load("demucs", shifts=3)
    assert isinstance(separator, Blend)
    waveform = separator.separators["demucs"]
    assert isinstance(waveform, WaveformSeparator)
    assert waveform.n_shifts == 3


def test_what_is_refused() -> None:
    for arguments in ({"preset": "nothing"}, {"shifts": 0}, {"stems": ["kazoo"]}):
        with pytest.raises(ConfigError):
            load(**arguments)
