"""What ships inside the package: complete, small, whole, and better than nothing on the example song."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from danna_sep import SOURCES, load, separate, weights
from danna_sep.blending import Blend
from danna_sep.evaluation.metrics import mdx_sdr_db
from danna_sep.mask_session import only_masks
from danna_sep.recurring import Recurring
from danna_sep.streaming import DEFAULT_SEGMENT_S, default_segment_s, segment_grid

EXAMPLE = Path(__file__).parent.parent / "examples" / "caesium-excerpt"


def test_it_is_complete_small_and_whole() -> None:
    entries = weights.entries()
    assert [entry.name for entry in entries] == [f"provisional-{n}" for n in ("demucs", "unet", "wide-unet", "xumx")]
    assert sum(entry.n_bytes for entry in entries) <= 32_000_000
    assert all(entry.licence and entry.origin for entry in entries)
    assert all(result.ok for result in weights.verify())


def test_headers_say_that_it_is_provisional_and_how_good_it_is() -> None:
    for entry in weights.entries():
        notes = weights.load(entry.name).metadata
        assert notes["provisional"] == "true"
        assert "dB" in notes["sdr"]
        assert "steps" in notes["training"]


def test_the_blend_separates_the_example() -> None:
    """On a song that no weights were trained on, the stems are several dB nearer than the mixture itself."""
    stems = torch.stack([torch.from_numpy(soundfile.read(EXAMPLE / f"{s}.ogg", dtype="float32")[0].T) for s in SOURCES])
    excerpt = stems[..., : 10 * 44100]
    mixture = excerpt.sum(0)
    separator = load("danna")
    separated = separate(mixture, 44100, separator)
    estimate = torch.stack([separated[source] for source in SOURCES])
    gain = mdx_sdr_db(excerpt, estimate) - mdx_sdr_db(excerpt, mixture.expand(4, -1, -1))
    assert gain.mean() > 3, gain


def test_the_blend_hears_whole_tracks_by_one_network() -> None:
    """Else segments' borders would be heard, and others' time and memory be spent for nothing."""
    separator = load("danna")
    assert isinstance(separator, Recurring)
    blend = separator.separator
    assert isinstance(blend, Blend)
    heard = {name: (each.model.config.n_fft, each.model.config.n_bins) for name, each in blend.active.items()}
    assert heard == {"wide-unet": (5376, 1568)}
    assert only_masks(separator, segment_grid())
    assert default_segment_s(separator) < DEFAULT_SEGMENT_S


def test_the_examples_mixture_is_the_sum_of_its_stems() -> None:
    total = np.sum([soundfile.read(EXAMPLE / f"{source}.ogg")[0] for source in SOURCES], 0)
    mixture, rate = soundfile.read(EXAMPLE / "mixture.flac")
    assert rate == 44100
    assert np.abs(total - mixture).max() == pytest.approx(0, abs=1 / 32768)
