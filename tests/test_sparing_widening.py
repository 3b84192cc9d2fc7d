"""Widening with fewer products is PyTorch's transposed convolution and batch norm, but for rounding."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from danna_sep.models import winograd
from danna_sep.models.mask_stream import open_mask_stream
from danna_sep.models.sparing_widening import SparingWidening
from danna_sep.models.unet import UNet, UNetConfig
from danna_sep.models.widen import Widening
from distance import below_db
from streamed import masks_of_parts

LEAST_DB = {torch.float64: 250, torch.float32: 110, torch.bfloat16: 43}
SIZES = [(8, 8, 101), (7, 6, 97), (1, 0, 20), (3, 3, 1), (2, 2, 49), (33, 32, 7), (21, 20, 31), (0, 0, 5)]
"""Even rows, odd ones, bins: some fewer than are computed together, more, and a multiple."""


@pytest.mark.parametrize("kind", [Widening, SparingWidening])
@pytest.mark.parametrize("dtype", LEAST_DB)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("n_near", [1, 60_000, 2**22])
@torch.no_grad()
def test_it_is_the_transposed_convolution(
    n_near: int, size: tuple[int, int, int], dtype: torch.dtype, kind: type[Widening], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether rows come a few at a time, all at once, or in parts that overlap."""
    monkeypatch.setattr(winograd, "_N_NEAR", n_near)
    n_even, n_odd, n_bins = size
    rng = torch.Generator().manual_seed(n_even)
    norm = nn.BatchNorm2d(12).double().eval()
    nn.init.normal_(norm.bias, generator=rng)
    nn.init.uniform_(norm.weight, 0.5, 2, generator=rng)
    weight = (torch.randn(64, 12, 5, 5, generator=rng, dtype=torch.float64) / 20).to(dtype)
    heard = torch.randn(2, 64, n_even + 2, n_bins, generator=rng, dtype=torch.float64).relu().to(dtype)
    heard = heard.contiguous(memory_format=torch.channels_last)
    found = kind(weight, norm if dtype == torch.float64 else norm.float(), rectify=True)(heard, n_even, n_odd)
    whole = norm.double()(F.conv_transpose2d(heard.double(), weight.double(), stride=2, padding=2)).relu()
    expected = whole[:, :, 2 : 2 + n_even + n_odd]
    assert found.shape == expected.shape
    if found.numel():
        assert below_db(found, expected) > LEAST_DB[dtype]


@pytest.mark.parametrize("growth", [8, 9])
@torch.inference_mode()
def test_a_stream_of_a_wide_network_gives_its_masks(growth: int) -> None:
    """Growth 9 is wide: the stream then widens in another way than the network by itself."""
    torch.manual_seed(0)
    config = UNetConfig(n_bins=70, growth=growth, n_layers=(2, 2, 2), bottleneck_width=32)
    assert config.is_wide == (growth == 9)
    model = UNet(config).double().eval()
    magnitude = torch.rand(2, 2, 75, 133, dtype=torch.float64)
    masks = masks_of_parts(open_mask_stream(model, 64, 1), magnitude, [50, 50, 33])
    torch.testing.assert_close(masks, model(magnitude), rtol=0, atol=1e-9)
