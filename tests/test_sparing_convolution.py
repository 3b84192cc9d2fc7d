"""A sparing convolution is PyTorch's convolution, but for rounding, and a network that uses it gives the same masks."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from danna_sep.models import sparing_convolution, winograd
from danna_sep.models.mask_stream import open_mask_stream
from danna_sep.models.sparing_convolution import SparingConvolution, spares
from danna_sep.models.unet import UNet, UNetConfig
from danna_sep.models.winograd import BY_FOUR, sums_of_frames
from distance import below_db
from streamed import masks_of_parts

LEAST_DB = {torch.float64: 250, torch.float32: 110}
SIZES = [(10, 101), (24, 11), (11, 97), (2, 20), (5, 3), (6, 1), (35, 49), (1, 5), (6, 0)]
"""Frames and bins heard: too few for a result or a window, windows and some frames more, a multiple."""


@pytest.mark.parametrize("n_near", [1, 6_000, 2**22])
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


@pytest.mark.parametrize("n_most", range(1, 14))
def test_windows_come_twice_less_often_than_there_are_times(n_most: int) -> None:
    """All windows do come; a last part that is not full overlaps the one before."""
    n_bins, n_features, twice = 5, 3, 0
    for n_windows in range(1, 30):
        features = torch.arange(4.0 * n_windows + 2)[None, None, :, None].expand(1, n_features, -1, n_bins)
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(winograd, "_N_NEAR", n_most * BY_FOUR.n_points * n_bins * n_features)
            parts = [(part, sums.clone()) for part, sums in sums_of_frames(BY_FOUR, features, n_windows)]
        seen = [window for part, _ in parts for window in range(part.start // 4, part.stop // 4)]
        assert sorted(set(seen)) == list(range(n_windows))
        assert len({sums.shape for _, sums in parts}) == 1
        assert parts[0][1].shape[2] <= n_most
        assert len(seen) - n_windows < len(parts)
        twice += len(seen) - n_windows
        for part, sums in parts:
            # Frames are numbered: the sum at 1, (x4 - 4 x2) + (x3 - 4 x1), is -6 x0 - 5.
            expected = -6.0 * torch.arange(part.start, part.stop, 4) - 5
            torch.testing.assert_close(sums[1, 0, :, 2, 1], expected)
    assert twice or n_most == 1


def test_only_large_ones_in_single_precision_are_sparing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sparing_convolution, "fuses", lambda weight: True)
    assert spares(torch.zeros(36, 62, 3, 3))
    assert not spares(torch.zeros(60, 2, 3, 3))  # a few inputs: putting results together takes longer
    assert not spares(torch.zeros(24, 62, 3, 3))
    assert not spares(torch.zeros(36, 62, 1, 3))
    assert not spares(torch.zeros(36, 62, 3, 3, dtype=torch.bfloat16))
    monkeypatch.setattr(sparing_convolution, "fuses", lambda weight: False)
    assert not spares(torch.zeros(36, 62, 3, 3))


@torch.inference_mode()
def test_a_stream_gives_the_masks_of_its_network_in_single_precision() -> None:
    torch.manual_seed(0)
    model = UNet(UNetConfig(n_bins=70, growth=16, n_layers=(2, 2, 2), bottleneck_width=32)).eval()
    if torch.backends.mkldnn.is_available():
        assert spares(model.decoder[1].block.blocks[0].convs[0].weight)
    magnitude = torch.rand(2, 2, 75, 133)
    masks = masks_of_parts(open_mask_stream(model, 64, 1), magnitude, [50, 50, 33])
    expected = model.double()(magnitude.double())
    assert float(expected[..., :70, :].std()) > 1e-2  # not all alike
    assert below_db(masks - 0.25, expected - 0.25) > 90
