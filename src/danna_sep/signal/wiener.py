"""Multichannel Wiener filter: source variance -> spatial covariance -> gain -> stems.

Each source is a zero-mean complex Gaussian in every bin and frame: its covariance over the two channels is a
variance v_j(t, f) times a spatial covariance R_j(f) that does not depend on time. Given both, the best estimate of the
source is v_j R_j C^-1 x with C the sum over sources. They are estimated from magnitude estimates and, iterated,
from the filter's own output (expectation-maximisation).

Everything is out of place, differentiable and batched. Hermitian 2x2 matrices are held as their three
independent numbers, the inverse is written out. The whole track need not be in memory: `spatial_sums` of parts
add up to those of the whole, and `filter_spec` needs nothing else from other frames.

Reference: Duong, Vincent, Gribonval, TASLP 18(7), 2010; Nugraha, Liutkus, Vincent, TASLP 24(9), 2016;
Uhlich et al., ICASSP 2017. Regularisation and scaling are those of the norbert package.

Differs: the determinant of the regularised covariance is the unregularised one, which cannot be below zero and is
not let fall there by rounding, plus terms that are all positive. With that, single precision bears the
regularisation of double precision (identical channels included), so `epsilon` does not follow the working precision.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from danna_sep.shapes import Spec, StemMagnitudes, StemSpecs

_LOUDEST = 10.0
"""Spectra whose magnitude exceeds this are scaled down to it, so that the regularisation keeps its meaning."""

EPSILON = torch.finfo(torch.float64).eps
"""Regularisation: added to denominators; its square root to the diagonal of the mixture's covariance."""

SourceBins = Float[Tensor, "*batch source bin"]


@dataclass(frozen=True)
class SpatialSums:
    """Sums over frames that determine the spatial covariances; those of disjoint parts add up.

    Attributes:
        left: Sum of |y_left|^2.
        right: Sum of |y_right|^2.
        cross: Sum of y_left * conj(y_right).
        power: Sum of the variances.
    """

    left: SourceBins
    right: SourceBins
    cross: Complex[Tensor, "*batch source bin"]
    power: SourceBins

    def __add__(self, other: SpatialSums) -> SpatialSums:
        return SpatialSums(
            self.left + other.left,
            self.right + other.right,
            self.cross + other.cross,
            self.power + other.power,
        )


@dataclass(frozen=True)
class SpatialCovariance:
    """Hermitian 2x2 matrix per source and bin: [[left, cross], [conj(cross), right]]."""

    left: SourceBins
    right: SourceBins
    cross: Complex[Tensor, "*batch source bin"]


def magnitude_to_spec(
    magnitudes: StemMagnitudes, mixture: Spec, softmask: bool = False, epsilon: float = EPSILON
) -> StemSpecs:
    """Complex estimates from magnitudes.

    Args:
        magnitudes: Estimated magnitude of each source.
        mixture: Spectrum of the mixture.
        softmask: Share the mixture out in proportion to the magnitudes (the estimates then sum to
            the mixture) instead of giving each magnitude the mixture's phase.
        epsilon: Regularisation of the sharing.
    """
    if softmask:
        return mixture.unsqueeze(-4) * (magnitudes / (epsilon + magnitudes.sum(-4, keepdim=True)))
    size = mixture.abs()
    audible = size > 0
    phase = torch.where(audible, mixture / torch.where(audible, size, 1.0), 1.0)
    return magnitudes * phase.unsqueeze(-4)


def with_residual(magnitudes: StemMagnitudes, mixture: Spec, epsilon: float = EPSILON) -> StemMagnitudes:
    """The sources and, as one more, what they leave of the mixture's magnitude: max(0, |x| - sum of V_j).

    Quirk: as in norbert, the sources are also scaled, by one gain per channel and bin that brings their sum
    nearest to |x| over the frames given, while the residual is taken from their sum before scaling.
    """
    total = magnitudes.sum(-4)
    size = mixture.abs().clamp(min=epsilon)
    gain = (size * total).sum(-1, keepdim=True) / (epsilon + total.square().sum(-1, keepdim=True))
    rest = (size - total).clamp(min=0)
    return torch.cat((magnitudes * gain.unsqueeze(-4), rest.unsqueeze(-4)), -4)


def scale_of(mixture: Spec) -> Float[Tensor, "*batch"]:
    """The factor by which an item's spectra are divided before filtering: max(1, max |x| / 10)."""
    return (mixture.abs().amax((-3, -2, -1)) / _LOUDEST).clamp(min=1)


def source_variance(estimates: StemSpecs) -> Float[Tensor, "*batch source bin frame"]:
    """v_j: mean over channels of |y_j|^2."""
    return _power(estimates).mean(-3)


def spatial_sums(estimates: StemSpecs) -> SpatialSums:
    """Sums over the frames of `estimates`, for `spatial_covariance`."""
    left, right = estimates.unbind(-3)
    left_sum, right_sum = _power(left).sum(-1), _power(right).sum(-1)
    return SpatialSums(left_sum, right_sum, (left * right.conj()).sum(-1), (left_sum + right_sum) / 2)


def spatial_covariance(sums: SpatialSums, epsilon: float = EPSILON) -> SpatialCovariance:
    """R_j: mean outer product of the channels, weighted by the inverse variance."""
    weight = epsilon + sums.power
    return SpatialCovariance(sums.left / weight, sums.right / weight, sums.cross / weight)


def filter_spec(
    mixture: Spec, estimates: StemSpecs, covariance: SpatialCovariance, epsilon: float = EPSILON
) -> StemSpecs:
    """v_j R_j C^-1 x, with the variances of `estimates` and the given spatial covariances."""
    variance = source_variance(estimates)
    left, right = covariance.left.unsqueeze(-1), covariance.right.unsqueeze(-1)
    cross = covariance.cross.unsqueeze(-1)

    floor = epsilon**0.5
    mix_left = (variance * left).sum(-3)
    mix_right = (variance * right).sum(-3)
    mix_cross = (variance * cross).sum(-3)
    determinant = (mix_left * mix_right - _power(mix_cross)).clamp(min=0) + floor * (mix_left + mix_right + floor)
    x_left, x_right = mixture.unbind(-3)
    white_left = ((mix_right + floor) * x_left - mix_cross * x_right) / determinant
    white_right = ((mix_left + floor) * x_right - mix_cross.conj() * x_left) / determinant
    white_left, white_right = white_left.unsqueeze(-3), white_right.unsqueeze(-3)
    return torch.stack(
        (
            variance * (left * white_left + cross * white_right),
            variance * (cross.conj() * white_left + right * white_right),
        ),
        -3,
    )


def wiener(
    magnitudes: StemMagnitudes,
    mixture: Spec,
    n_iterations: int = 1,
    softmask: bool = False,
    residual: bool = False,
    epsilon: float = EPSILON,
) -> StemSpecs:
    """Stem spectra from magnitude estimates, with statistics over all frames given.

    Args:
        magnitudes: Estimated magnitude of each source, >= 0.
        mixture: Spectrum of the stereo mixture. Its precision is the working precision.
        n_iterations: Rounds of expectation-maximisation; none gives `magnitude_to_spec`.
        softmask: See `magnitude_to_spec`.
        residual: Model what the sources leave over as one more source (`with_residual`), and drop it.
        epsilon: Regularisation.
    """
    magnitudes = magnitudes.to(mixture.real.dtype)
    n_sources = magnitudes.shape[-4]
    if residual:
        magnitudes = with_residual(magnitudes, mixture, epsilon)
    estimates = magnitude_to_spec(magnitudes, mixture, softmask, epsilon)
    if n_iterations:
        scale = scale_of(mixture)[..., None, None, None]
        mixture, estimates = mixture / scale, estimates / scale.unsqueeze(-1)
        for _ in range(n_iterations):
            covariance = spatial_covariance(spatial_sums(estimates), epsilon)
            estimates = filter_spec(mixture, estimates, covariance, epsilon)
        estimates = estimates * scale.unsqueeze(-1)
    return estimates.narrow(-4, 0, n_sources)


def _power(values: Tensor) -> Tensor:
    return values.real.square() + values.imag.square()
