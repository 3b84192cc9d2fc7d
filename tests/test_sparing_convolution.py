"""A sparing convolution is PyTorch's convolution, but for rounding, and a network that uses it gives the same masks."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from danna_sep.models import winograd
from danna_sep.models.mask_stream import open_mask_stream
from danna_sep.models.sparing_convolution import SparingConvolution, spares
from danna_sep.models.unet import UNet, UNetConfig

LEAST_DB = {torch.float64: 250, torch.float32: 110}
SIZES = [(10, 101), (11, 97), (2, 20), (5, 3), (6, 1), (35, 49), (1, 5), (6, 0)]
"""Frames and bins heard: too few for a result or a window, windows and some frames more, a multiple."""


def below_db(found: Tensor, expected: Tensor) -> float:
    error = (found.double() - expected.double()).square().sum()
    return float(10 * torch.log10(expected.double().square().sum() / error))


@pytest.mark.parametrize("n_near", [1, 50_000, 2**22])
@pytest.mark.parametrize("rectify", [False, True])
@pytest.mark.parametrize("dtype", LEAST_DB)
@pytest.mark.parametrize("size", SIZES)
@torch.no_grad()
def test_it_is_the_convolution(
    size: tuple[int, int], dtype: torch.dtype, rectify: bool, n_near: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether windows come one by one, all at once, or in parts that overlap."""
    monkeypatch.setattr(winograd, "_N_NEAR", n_near)
    n_frames, n_bins = size
    rng = torch.Generator().manual_seed(n_frames)
    weight = torch.randn(48, 20, 3, 3, generator=rng, dtype=dtype) / 13
    bias = torch.randn(48, generator=rng, dtype=dtype)
    heard = torch.randn(2, 20, n_frames, n_bins, generator=rng, dtype=dtype)
    before = heard.clone()
    found = SparingConvolution(weight, bias, rectify=rectify)(heard)
    assert torch.equal(heard, before)
    if n_frames < 3 or not n_bins:
        assert found.shape == (2, 48, max(0, n_frames - 2), n_bins)
        return
    expected = F.conv2d(heard.double(), weight.double(), bias.double(), padding=(0, 1))
    expected = expected.relu() if rectify else expected
    assert found.shape == expected.shape
    assert below_db(found, expected) > LEAST_DB[dtype]


def test_it_needs_frames_side_by_side() -> None:
    with pytest.raises(ValueError, match="not 2 apart"):
        SparingConvolution(torch.zeros(48, 20, 3, 3), None, 2)


@torch.inference_mode()
def test_a_stream_gives_the_masks_of_its_network_in_single_precision() -> None:
    torch.manual_seed(0)
    model = UNet(UNetConfig(n_bins=70, growth=16, n_layers=(2, 2, 2), bottleneck_width=32)).eval()
    if torch.backends.mkldnn.is_available():
        assert spares(model.decoder[1].block.blocks[0].convs[0].weight)
    magnitude = torch.rand(2, 2, 75, 133)
    stream = open_mask_stream(model, 64, 1)
    settled = []
    for start in range(0, 133, 50):
        stream.hear(magnitude[..., start : start + 50], start == 100)
        settled += list(iter(stream.settled, None))
    masks = torch.cat([stream.masks(each) for each in settled], -1)
    expected = model.double()(magnitude.double())
    assert float(expected[..., :70, :].std()) > 1e-2  # not all alike
    assert below_db(masks - 0.25, expected - 0.25) > 90
