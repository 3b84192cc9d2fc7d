"""Multichannel Wiener filter: source variance -> spatial covariance -> gain -> stems.

Each source is a zero-mean complex Gaussian in every bin and frame: its covariance over the two channels is a
variance v_j(t, f) times a spatial covariance R_j(f) that does not depend on time. Given both, the best estimate of the
source is v_j R_j C^-1 x with C the sum over sources. They are estimated from magnitude estimates and, iterated,
from the filter's own output (expectation-maximisation).

Everything is out of place, differentiable and batched. Hermitian 2x2 matrices are held as their three
independent numbers, the inverse is written out. The whole track need not be in memory: `spatial_sums` of parts
add up to those of the whole; `filter_spec` needs these and `scale_of` the whole, no other frames.

Reference: Duong, Vincent, Gribonval, TASLP 18(7), 2010; Nugraha, Liutkus, Vincent, TASLP 24(9), 2016;
Uhlich et al., ICASSP 2017. Regularisation and scaling are those of the norbert package.

Differs: products of covariances are formed per bin, in double precision, before the frames come in. Written with them,

    v_j R_j C^-1 = v_j (floor R_j + sum_k v_k R_j adj(R_k)) / (floor^2 + floor sum_k v_k tr R_k + sum_jk v_j v_k D_jk)

nothing cancels in the frames: D_jk, the mixed discriminant of R_j and R_k, is never negative. So single precision bears
the regularisation of double precision, also where all sources are panned alike and C is singular but for it, and
`epsilon` need not follow the working precision.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from danna_sep.shapes import Spec, StemMagnitudes, StemSpecs

_LOUDEST = 10.0
"""Spectra whose magnitude exceeds this are scaled down to it, so that the regularisation keeps its meaning."""

_CHUNK_SIZE = 2**18
"""Magnitudes filtered at a time: what the filter needs besides stays small and near the processor."""

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
    """Hermitian 2x2 matrix per source and bin: [[left, cross], [conj(cross), right]]; double precision."""

    left: SourceBins
    right: SourceBins
    cross: Complex[Tensor, "*batch source bin"]

    def matrices(self) -> Complex[Tensor, "*batch bin source 2 2"]:
        """The matrices, with the bins before the sources."""
        rows = torch.stack(
            (self.left.to(self.cross.dtype), self.cross, self.cross.conj(), self.right.to(self.cross.dtype)), -1
        )
        matrices: Tensor = rows.movedim(-3, -2).unflatten(-1, (2, 2))
        return matrices


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


def with_residual(
    magnitudes: StemMagnitudes, mixture: Spec, epsilon: float = EPSILON
) -> Float[Tensor, "*batch source+1 channel bin frame"]:
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
    weight = epsilon + _double(sums.power)
    left, right = _double(sums.left) / weight, _double(sums.right) / weight
    cross = torch.complex(_double(sums.cross.real), _double(sums.cross.imag)) / weight
    with torch.no_grad():
        # Rounding of the sums may leave the channels more than fully correlated.
        most = (left * right).sqrt()
        shrink = (most / cross.abs().clamp(min=torch.finfo(torch.float64).tiny)).clamp(max=1)
    return SpatialCovariance(left, right, cross * shrink)


def filter_spec(
    mixture: Spec, estimates: StemSpecs, covariance: SpatialCovariance, epsilon: float = EPSILON
) -> StemSpecs:
    """v_j R_j C^-1 x, with the variances of `estimates` and the given spatial covariances.

    Args:
        mixture: x.
        estimates: What the variances v_j are taken from.
        covariance: R_j.
        epsilon: Regularisation: C = sum_j v_j R_j + sqrt(epsilon) I.
    """
    floor = epsilon**0.5
    variance = source_variance(estimates).movedim(-3, -1)
    matrices = covariance.matrices()
    adjugates = _adjugate(matrices)
    products = (matrices.unsqueeze(-4) @ adjugates.unsqueeze(-3)).resolve_conj()
    discriminants = products.diagonal(dim1=-2, dim2=-1).sum(-1).real.clamp(min=0) / 2
    traces = matrices.diagonal(dim1=-2, dim2=-1).sum(-1).real

    def per_frame(per_bin: Tensor) -> Tensor:
        """Sum over sources k of v_k times what `per_bin`, axes (batch..., bin, k, ...), says of it."""
        lead = variance.dim() - 1
        summed: Tensor = variance @ per_bin.to(variance).flatten(lead)
        return summed.reshape(*summed.shape[:-1], *per_bin.shape[lead:])

    determinant = (
        (per_frame(discriminants) * variance).sum(-1) + floor * per_frame(traces[..., None])[..., 0] + floor**2
    )
    numerator = torch.view_as_complex(per_frame(torch.view_as_real(products)))
    numerator = numerator + floor * matrices.to(numerator).unsqueeze(-4)
    gain = variance / determinant.unsqueeze(-1)
    x_left, x_right = mixture.movedim(-3, 0).unsqueeze(-1)
    left = gain * (numerator[..., 0, 0] * x_left + numerator[..., 0, 1] * x_right)
    right = gain * (numerator[..., 1, 0] * x_left + numerator[..., 1, 1] * x_right)
    return torch.stack((left.movedim(-1, -3), right.movedim(-1, -3)), -3)


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
    scale = scale_of(mixture) if n_iterations else None
    n_bins = max(1, _CHUNK_SIZE // (magnitudes[..., :1, :].numel() or 1))
    chunks = zip(magnitudes.split(n_bins, -2), mixture.split(n_bins, -2), strict=True)
    return torch.cat([_filtered(*chunk, scale, n_iterations, softmask, residual, epsilon) for chunk in chunks], -2)


def _filtered(
    magnitudes: StemMagnitudes,
    mixture: Spec,
    scale: Tensor | None,
    n_iterations: int,
    softmask: bool,
    residual: bool,
    epsilon: float,
) -> StemSpecs:
    """`wiener` of some bins, each of which is by itself but for the scale."""
    n_sources = magnitudes.shape[-4]
    if residual:
        magnitudes = with_residual(magnitudes, mixture, epsilon)
    estimates = magnitude_to_spec(magnitudes, mixture, softmask, epsilon)
    if scale is not None:
        scale = scale[..., None, None, None]
        mixture, estimates = mixture / scale, estimates / scale.unsqueeze(-1)
        for _ in range(n_iterations):
            covariance = spatial_covariance(spatial_sums(estimates), epsilon)
            estimates = filter_spec(mixture, estimates, covariance, epsilon)
        estimates = estimates * scale.unsqueeze(-1)
    return estimates.narrow(-4, 0, n_sources)


def _adjugate(matrices: Tensor) -> Tensor:
    """Of 2x2 matrices: adj(A) A = det(A) I."""
    (a, b), (c, d) = matrices.movedim((-2, -1), (0, 1))
    return torch.stack((d, -b, -c, a), -1).reshape(matrices.shape)


def _double(values: Tensor) -> Tensor:
    """In double precision; on the CPU where the device has none."""
    return (values.cpu() if values.device.type == "mps" else values).double()


def _power(values: Tensor) -> Tensor:
    return values.real.square() + values.imag.square()
