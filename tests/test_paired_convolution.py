"""A convolution that gives two frames at a time is PyTorch's."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from danna_sep.models import convolution, paired_convolution
from danna_sep.models.mask_stream import open_mask_stream
from danna_sep.models.paired_convolution import PairedConvolution, pairs
from danna_sep.models.unet import UNet, UNetConfig
from streamed import masks_of_parts

CLOSE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 2e-2}


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("dtype", CLOSE)
@torch.no_grad()
def test_it_is_the_convolution(dtype: torch.dtype, fused: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of frames that are none, one, an even and an odd number, and of bins that are none."""
    if not fused:
        monkeypatch.setattr(convolution, "fuses", lambda weight: False)
    rng = torch.Generator().manual_seed(0)
    weight = (torch.randn(8, 12, 3, 3, generator=rng) / 108**0.5).to(dtype)
    bias = torch.randn(8, generator=rng).to(dtype)
    for given in (bias, None):
        convolve = PairedConvolution(weight, given)
        for n_frames, n_bins in [(2, 11), (3, 11), (4, 11), (5, 11), (18, 11), (19, 7), (6, 0), (1, 3)]:
            heard = torch.randn(2, 12, n_frames, n_bins, generator=rng).to(dtype)
            found = convolve(heard)
            assert found.dtype == dtype
            if n_frames < 3 or not n_bins:
                assert found.shape == (2, 8, max(0, n_frames - 2), n_bins)
                continue
            bias_given = None if given is None else given.double()
            expected = F.conv2d(heard.double(), weight.double(), bias_given, padding=(0, 1))
            torch.testing.assert_close(found.double(), expected, rtol=CLOSE[dtype], atol=CLOSE[dtype])


@pytest.mark.parametrize("is_wide", [True, False])
@torch.inference_mode()
def test_the_last_convolution_of_a_stream_is_paired_where_vectors_are_wide(
    is_wide: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[int] = []
    paired = PairedConvolution.__call__

    def counted(self: PairedConvolution, features: torch.Tensor) -> torch.Tensor:
        heard.append(features.shape[2])
        return paired(self, features)

    monkeypatch.setattr(paired_convolution, "has_wide_vectors", lambda: is_wide)
    monkeypatch.setattr(paired_convolution, "fuses", lambda weight: True)
    monkeypatch.setattr(PairedConvolution, "__call__", counted)
    torch.manual_seed(0)
    model = UNet(UNetConfig(n_bins=70, growth=4, n_layers=(2, 2, 2), bottleneck_width=32)).eval()
    magnitude = torch.rand(1, 2, 75, 133)
    masks = masks_of_parts(open_mask_stream(model, 64, 1), magnitude, [133])
    assert bool(heard) == is_wide
    torch.testing.assert_close(masks, model(magnitude), rtol=0, atol=1e-5)


def test_only_few_outputs_are_paired(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paired_convolution, "has_wide_vectors", lambda: True)
    monkeypatch.setattr(paired_convolution, "fuses", lambda weight: True)
    assert pairs(torch.zeros(8, 12, 3, 3))
    assert not pairs(torch.zeros(9, 12, 3, 3))
