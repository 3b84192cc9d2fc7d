"""Convolutions on frames as they come are PyTorch's, whatever computes them."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from danna_sep.models import convolution
from danna_sep.models.convolution import Convolution, framed

TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 2e-2}
"""Of results about one in size."""
SIZES = [(8, 11), (1, 11), (7, 3), (8, 11), (30, 11)]
"""Frames and bins: oneDNN wants weights laid out otherwise for a single frame than for many, so sizes come and go."""


def weights(kernel: tuple[int, int], dtype: torch.dtype, n_outputs: int = 40) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(0)
    weight = torch.randn(n_outputs, 12, *kernel, generator=rng) / (12 * kernel[0] * kernel[1]) ** 0.5
    return weight.to(dtype), torch.randn(n_outputs, generator=rng).to(dtype)


def features(n_frames: int, n_bins: int, dtype: torch.dtype, n_features: int = 12) -> Tensor:
    rng = torch.Generator().manual_seed(n_frames)
    return framed(torch.randn(1, n_features, n_frames, n_bins, generator=rng).to(dtype))


def reference(heard: Tensor, weight: Tensor, bias: Tensor | None, dilation: int, padding: int) -> Tensor:
    bias = None if bias is None else bias.double()
    return F.conv2d(heard.double(), weight.double(), bias, padding=(0, padding), dilation=dilation)


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("kernel", "dilation"), [((3, 3), 1), ((3, 3), 2), ((1, 2), 1), ((2, 1), 1), ((2, 3), 1)])
@torch.no_grad()
def test_it_is_the_convolution(
    fused: bool, dtype: torch.dtype, kernel: tuple[int, int], dilation: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With and without a sum and rectifying, of frames that are a part of others' memory."""
    if not fused:
        monkeypatch.setattr(convolution, "fuses", lambda weight: False)
    weight, bias = weights(kernel, dtype)
    padding = 0 if kernel[1] == 2 else dilation * (kernel[1] // 2)
    close = {"rtol": TOLERANCE[dtype], "atol": TOLERANCE[dtype]}
    for rectify in (False, True):
        for given in (bias, None):
            convolve = Convolution(weight, given, dilation, padding, rectify=rectify)
            for n_frames, n_bins in SIZES:
                heard = features(n_frames + convolve.reach + 3, n_bins, dtype)[:, :, 2:-1]
                expected = reference(heard, weight, given, dilation, padding)
                total = features(n_frames + 2, expected.shape[3], dtype, 40)
                around = total.clone()
                summed = expected + total[:, :, 1:-1].double()
                if rectify:
                    expected, summed = expected.relu(), summed.relu()
                torch.testing.assert_close(convolve(heard).double(), expected, **close)
                onto = convolve.onto(total[:, :, 1:-1], heard)
                assert onto.data_ptr() == total[:, :, 1:-1].data_ptr()
                torch.testing.assert_close(total[:, :, 1:-1].double(), summed, **close)
                assert torch.equal(total[:, :, [0, -1]], around[:, :, [0, -1]])


@torch.no_grad()
def test_a_total_of_another_layout_is_added_to_as_well() -> None:
    weight, bias = weights((3, 3), torch.float32)
    convolve = Convolution(weight, bias)
    heard = features(8, 5, torch.float32)
    total = torch.zeros(1, 41, 6, 5)[:, 1:]
    convolve.onto(total, heard)
    torch.testing.assert_close(total, convolve(heard), rtol=0, atol=1e-6)


@torch.no_grad()
def test_of_too_few_frames_or_bins_there_is_nothing() -> None:
    weight, bias = weights((3, 2), torch.float32)
    convolve = Convolution(weight, bias, bin_padding=0)
    assert convolve(features(2, 5, torch.float32)).shape == (1, 40, 0, 4)
    assert convolve(features(5, 1, torch.float32)).shape == (1, 40, 3, 0)
    nothing = torch.zeros(1, 40, 0, 4)
    assert convolve.onto(nothing, features(2, 5, torch.float32)) is nothing
