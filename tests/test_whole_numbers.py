"""Convolutions of whole numbers of eight bits are exact: nothing overflows, results are rounded once.

Whatever stands around the features is not heard, in bfloat16 either.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from danna_sep.models import bordered
from danna_sep.models.bordered import BORDER, BorderedConvolution, inside
from danna_sep.models.convolution import framed
from danna_sep.models.precision import has_fast_int8
from danna_sep.models.whole_numbers import MOST, EightBitConvolution, in_whole_steps, widening_of_steps, write_features

SIZES = [(8, 11), (1, 11), (7, 3), (8, 11), (30, 65), (2, 9), (5, 9), (6, 9), (8, 11), (7, 3)]
"""Frames and bins, which come and go: weights are laid out anew."""

on_such_processors = pytest.mark.skipif(not has_fast_int8(), reason="this processor has no sums of eight bits")


def weights(kernel: tuple[int, int], n_inputs: int = 12, n_outputs: int = 40) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(0)
    weight = torch.randn(n_outputs, n_inputs, *kernel, generator=rng)
    weight[0] = 0  # an output that hears nothing
    weight[1] *= 1e4  # one whose scale is far from the others'
    return weight, torch.randn(n_outputs, generator=rng)


def in_eight_bits(weight: Tensor) -> Tensor:
    """What is left of weights with a scale an output."""
    scale = weight.double().abs().amax((1, 2, 3), keepdim=True).clamp(min=1e-30) / 127
    return (weight.double() / scale).round() * scale


def steps(n_frames: int, n_bins: int, n_features: int = 12, most: int = 255) -> Tensor:
    rng = torch.Generator().manual_seed(n_frames)
    drawn = torch.randint(0, most + 1, (1, n_features, n_frames, n_bins), generator=rng)
    return framed(drawn.to(torch.uint8))


def with_border(features: Tensor) -> Tensor:
    """As they are convolved; in whole steps what is there besides is as large as can be."""
    whole = bordered.bordered(features.shape, features.dtype, features.device)
    if features.dtype == torch.uint8:
        whole[..., BORDER:-BORDER] = MOST
    write_features(inside(whole, features.shape[1]), features)
    return whole


@on_such_processors
@pytest.mark.parametrize("narrower", ["AVX2", "AVX512_CORE"])
def test_sums_that_overflow_are_not_used(narrower: str) -> None:
    """On an older processor, as oneDNN then takes this one for, stems would be wrong where features are large."""
    command = "from danna_sep.models.precision import has_fast_int8; print(has_fast_int8())"
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": narrower}
    told = subprocess.run([sys.executable, "-c", command], env=environment, capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "False"


@on_such_processors
@pytest.mark.parametrize("gives", [torch.float32, torch.bfloat16, torch.uint8])
@pytest.mark.parametrize(
    ("kernel", "dilation", "n_inputs"),
    [((3, 3), 1, 12), ((3, 3), 1, 50), ((3, 3), 2, 12), ((1, 2), 1, 62), ((2, 1), 1, 12), ((2, 3), 1, 64)],
)
@pytest.mark.parametrize("widest", [False, True])
@torch.no_grad()
def test_it_is_the_convolution(
    monkeypatch: pytest.MonkeyPatch,
    kernel: tuple[int, int],
    dilation: int,
    n_inputs: int,
    gives: torch.dtype,
    widest: bool,
) -> None:
    """Of features as large as they can be, too: products of eight bits overflow sixteen where hardware lacks sums.

    Whatever stands beside the features, it is not heard. As it is done for the widest instructions, it is right where
    they are missing, too.
    """
    monkeypatch.setattr(bordered, "has_tiles", lambda: widest)
    monkeypatch.setattr(bordered, "has_wide_vectors", lambda: widest)
    weight, bias = weights(kernel, n_inputs)
    padding = 0 if kernel[1] == 2 else dilation * (kernel[1] // 2)
    for rectify in (False, True):
        for given in (bias, None):
            convolve = EightBitConvolution(weight, given, dilation, padding, rectify=rectify, gives=gives)
            for n_frames, n_bins in SIZES:
                whole = steps(n_frames + convolve.reach + 3, n_bins, n_inputs)
                heard = whole[:, :, 2:-1]
                exact = F.conv2d(
                    heard.double(),
                    in_eight_bits(weight),
                    None if given is None else given.double(),
                    padding=(0, padding),
                    dilation=dilation,
                )
                found = convolve(with_border(whole)[:, :, 2:-1])
                assert found.dtype == gives
                if gives == torch.uint8:
                    # A half may go either way.
                    assert float((found.double() - exact.clamp(0, 255)).abs().max()) < 0.501
                else:
                    exact = exact.relu() if rectify else exact
                    least = 1e-2 if gives == torch.bfloat16 else 1e-5
                    torch.testing.assert_close(found.double(), exact, rtol=least, atol=least)


@pytest.mark.parametrize("tiles", [False, True])
def test_what_stands_between_zeros(monkeypatch: pytest.MonkeyPatch, tiles: bool) -> None:
    """Whole steps; besides, what only matrix instructions of a CPU gain by: elsewhere it would cost time."""
    monkeypatch.setattr(bordered, "has_tiles", lambda: tiles)
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert bordered.has_border(torch.uint8, cpu)
    assert bordered.has_border(torch.bfloat16, cpu) == tiles
    others = (torch.float16, torch.float32, torch.float64)
    assert not any(bordered.has_border(*each) for each in [(torch.bfloat16, cuda), *((other, cpu) for other in others)])


@pytest.mark.parametrize(
    ("kernel", "dilation", "n_inputs"), [((3, 3), 1, 12), ((3, 3), 1, 27), ((3, 3), 2, 64), ((1, 2), 1, 62)]
)
@pytest.mark.parametrize("widest", [False, True])
@torch.no_grad()
def test_between_zeros_it_is_the_same_convolution(
    monkeypatch: pytest.MonkeyPatch, kernel: tuple[int, int], dilation: int, n_inputs: int, widest: bool
) -> None:
    """In bfloat16; memory that nobody has written, of which the convolution hears some, may hold anything."""
    monkeypatch.setattr(bordered, "has_tiles", lambda: widest)
    monkeypatch.setattr(bordered, "has_wide_vectors", lambda: widest)
    torch.use_deterministic_algorithms(True)  # fills new memory with what is not a number
    try:
        weight, bias = (each.bfloat16() for each in weights(kernel, n_inputs))
        padding = 0 if kernel[1] == 2 else dilation * (kernel[1] // 2)
        for rectify, given in ((False, None), (True, bias)):
            convolve = BorderedConvolution(weight, given, dilation, padding, rectify=rectify)
            for n_frames, n_bins in SIZES:
                whole = steps(n_frames + convolve.reach + 3, n_bins, n_inputs).bfloat16()
                exact = F.conv2d(
                    whole[:, :, 2:-1].double(),
                    weight.double(),
                    None if given is None else given.double(),
                    padding=(0, padding),
                    dilation=dilation,
                )
                found = convolve(with_border(whole)[:, :, 2:-1])
                expected = exact.relu() if rectify else exact
                assert found.dtype == torch.bfloat16
                of_each = exact.abs().amax((0, 2, 3), keepdim=True)
                assert ((found.double() - expected).abs() <= 0.01 * of_each).all()
            assert convolve(with_border(steps(convolve.reach, 5, n_inputs).bfloat16())).shape[1:3] == (40, 0)
    finally:
        torch.use_deterministic_algorithms(False)


@on_such_processors
@torch.no_grad()
def test_many_large_products_do_not_overflow() -> None:
    """434 features of 255 steps by weights that are all as large as they get."""
    weight = torch.ones(16, 434, 3, 3)
    weight[::2] = -1
    heard = with_border(torch.full((1, 434, 5, 7), MOST).byte())
    found = EightBitConvolution(weight, None, gives=torch.float32)(heard)
    assert found[0, :, 1, 3].tolist() == pytest.approx([-255 * 434 * 9, 255 * 434 * 9] * 8, rel=1e-6)


def test_it_is_added_to_no_sum() -> None:
    """Which oneDNN would first copy, unasked."""
    weight, bias = weights((3, 3))
    with pytest.raises(TypeError, match="not added to a sum"):
        EightBitConvolution(weight, bias).onto(torch.zeros(1, 40, 6, 5), steps(8, 5))


@on_such_processors
@torch.no_grad()
def test_of_too_few_frames_or_bins_there_is_nothing() -> None:
    weight, bias = weights((3, 2))
    convolve = EightBitConvolution(weight, bias, bin_padding=0)
    assert convolve(with_border(steps(2, 5))).shape == (1, 40, 0, 4)
    assert convolve(with_border(steps(5, 1))).shape == (1, 40, 3, 0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rounded_to_the_nearest_step_and_no_further_than_there_are(dtype: torch.dtype) -> None:
    """In bfloat16 most of them lie next to each other: half a step more, and every other one would be the next."""
    whole = torch.arange(256, dtype=dtype)
    assert torch.equal(in_whole_steps(whole[None, :, None, None])[0, :, 0, 0], torch.arange(256).byte())
    features = torch.tensor([0.0, 0.4, 0.6, 17.2, 254.9, 255.4, 256.0, 1e6, float("inf")])[None, :, None, None]
    steps = in_whole_steps(features.to(dtype))
    assert steps.flatten().tolist() == [0, 0, 1, 17, 255, 255, 255, 255, 255]
    assert torch.equal(in_whole_steps(steps), steps)


@on_such_processors
@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("size", [(7, 9), (1, 4)])
def test_a_widening_of_steps_is_the_transposed_convolution(kernel: int, size: tuple[int, int]) -> None:
    """Rectified, rounded once, and no more than 255; of weights that are whole numbers nothing is lost."""
    rng = torch.Generator().manual_seed(kernel)
    weight = torch.randint(-100, 101, (12, 8, kernel, kernel), generator=rng).float()
    middle = kernel // 2
    weight[0, :, middle - 1 : middle + 1, middle - 1 : middle + 1] = 127  # the largest of each quarter
    norm = nn.BatchNorm2d(8, eps=0).eval().requires_grad_(False)
    norm.weight.fill_(2.0**-10)
    norm.bias.fill_(3 + 2.0**-11)  # no result lies half-way between two steps
    features = steps(*size)
    convolved = F.conv_transpose2d(features.double(), weight.double(), stride=2, padding=middle)
    expected = (convolved * 2.0**-10 + norm.bias.double()[:, None, None]).clamp(0, MOST).round()
    widening = widening_of_steps(weight, norm)
    behind = F.pad(features, (0, 0, widening.lookback, widening.lookback))
    widened = widening(with_border(framed(behind)), size[0], size[0] - 1)
    assert widened.dtype == torch.uint8
    assert 0 < (expected == 0).double().mean() < 0.9
    assert torch.equal(widened.double(), expected)
