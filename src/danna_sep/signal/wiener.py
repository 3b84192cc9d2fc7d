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
`epsilon` need not follow the working precision. What is left for the frames are two products of small real matrices,
of a bin, with v and with all v_k x_c.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from danna_sep.shapes import Spec, StemMagnitudes, StemSpecs

_LOUDEST = 10.0
"""Spectra whose magnitude exceeds this are scaled down to it, so that the regularisation keeps its meaning."""

_ABSURD = 1e4
"""Scale of spectra that are louder than any music, whose powers single precision may not hold."""

_CHUNK_SIZE = 2**19
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
    return magnitudes * _phase(mixture).unsqueeze(-4)


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
    return (_largest(mixture) / _LOUDEST).clamp(min=1)


def source_variance(estimates: StemSpecs) -> Float[Tensor, "*batch source bin frame"]:
    """v_j: mean over channels of |y_j|^2."""
    return _power(estimates).mean(-3)


def spatial_sums(estimates: StemSpecs) -> SpatialSums:
    """Sums over the frames of `estimates`, for `spatial_covariance`."""
    left, right = estimates.unbind(-3)
    left_sum, right_sum = _power(left).sum(-1), _power(right).sum(-1)
    return SpatialSums(left_sum, right_sum, (left * right.conj()).sum(-1), (left_sum + right_sum) / 2)


def spatial_covariance(
    sums: SpatialSums, epsilon: float = EPSILON, power_scale: Float[Tensor, "*batch 1 1"] | None = None
) -> SpatialCovariance:
    """R_j: mean outer product of the channels, weighted by the inverse variance.

    Args:
        sums: Over all frames.
        epsilon: Regularisation.
        power_scale: Square of the scale, where the sums are of spectra that have not been divided by it; None: 1.
    """
    weight = _double(sums.power) + (epsilon if power_scale is None else epsilon * _double(power_scale))
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
    floor = torch.full((*mixture.shape[:-3], 1, 1), epsilon**0.5, dtype=mixture.real.dtype, device=mixture.device)
    return _filtered_by(_rows(mixture), _with_floor(source_variance(estimates), floor), covariance)


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
    if not n_iterations:
        estimates = magnitude_to_spec(
            with_residual(magnitudes, mixture, epsilon) if residual else magnitudes, mixture, softmask, epsilon
        )
        return estimates.narrow(-4, 0, magnitudes.shape[-4])
    scale = scale_of(mixture)
    if bool((scale > _ABSURD).any()):  # powers of such numbers leave single precision
        scale = scale[..., None, None, None]
        quiet = wiener(magnitudes / scale.unsqueeze(-1), mixture / scale, n_iterations, softmask, residual, epsilon)
        return quiet * scale.unsqueeze(-1)
    n_bins = max(1, _CHUNK_SIZE // (magnitudes[..., :1, :].numel() or 1))
    pairs = zip(magnitudes.split(n_bins, -2), mixture.split(n_bins, -2), strict=True)

    def filtered(some: tuple[Tensor, Tensor], out: Tensor | None = None) -> StemSpecs:
        return _wiener_of_bins(*some, scale, n_iterations, softmask, residual, epsilon, out)

    if torch.is_grad_enabled() and (magnitudes.requires_grad or mixture.requires_grad):
        return torch.cat([filtered(pair) for pair in pairs], -2)
    stems = torch.empty(magnitudes.shape, dtype=mixture.dtype, device=mixture.device)
    for part, pair in zip(stems.split(n_bins, -2), pairs, strict=True):
        filtered(pair, part)
    return stems


def _wiener_of_bins(
    magnitudes: StemMagnitudes,
    mixture: Spec,
    scale: Float[Tensor, "*batch"],
    n_iterations: int,
    softmask: bool,
    residual: bool,
    epsilon: float,
    out: StemSpecs | None = None,
) -> StemSpecs:
    """`wiener` of some bins, each of which is by itself but for the scale; in `out`, if given.

    Instead of dividing spectra by the scale, the regularisation, which is added to powers, is multiplied by its square.
    """
    n_sources = magnitudes.shape[-4]
    if residual:
        magnitudes = with_residual(magnitudes, mixture, epsilon)
    if softmask:
        magnitudes = mixture.abs().unsqueeze(-4) * (magnitudes / (epsilon + magnitudes.sum(-4, keepdim=True)))
    power_scale = scale.square()[..., None, None]
    floor = epsilon**0.5 * power_scale
    rows = _rows(mixture)
    sums = _sums_of_magnitudes(magnitudes, rows)
    variances = _doubled_variances(magnitudes, floor, in_place=out is not None)
    for n_left in reversed(range(n_iterations)):
        covariance = spatial_covariance(sums, epsilon, power_scale)
        last = not n_left and not residual
        estimates = _filtered_by(rows, variances, covariance, out if last else None)
        if n_left:
            variances, sums = _with_floor(source_variance(estimates), floor), spatial_sums(estimates)
    if out is not None and residual:
        return out.copy_(estimates.narrow(-4, 0, n_sources))
    return estimates.narrow(-4, 0, n_sources)


Rows = Float[Tensor, "*batch bin channel 2 frame"]
"""A mixture's real and imaginary parts, with all that belongs to a bin together."""

Variances = Float[Tensor, "*batch bin _source_or_floor frame"]
"""Of the sources, and the floor of C as one more."""


def _rows(mixture: Spec) -> Rows:
    rows: Tensor = torch.view_as_real(mixture.resolve_conj()).movedim((-4, -1), (-3, -2)).contiguous()
    return rows


def _with_floor(variance: Float[Tensor, "*batch source bin frame"], floor: Float[Tensor, "*batch 1 1"]) -> Variances:
    variance = variance.movedim(-3, -2)
    floors = floor.to(variance).unsqueeze(-1).expand(*variance.shape[:-2], 1, variance.shape[-1])
    return torch.cat((variance, floors), -2)


def _doubled_variances(magnitudes: StemMagnitudes, floor: Float[Tensor, "*batch 1 1"], *, in_place: bool) -> Variances:
    """Twice the variances of estimates that have these magnitudes, and twice the floor: the filter is the same."""
    n_sources = magnitudes.shape[-4]
    left, right = magnitudes.movedim(-2, -4).unbind(-2)
    if not in_place:
        return _with_floor((left * left + right * right).movedim(-2, -3), 2 * floor)
    variances = left.new_empty(*left.shape[:-2], n_sources + 1, left.shape[-1])
    torch.mul(left, left, out=variances[..., :n_sources, :]).addcmul_(right, right)
    variances[..., n_sources, :] = 2 * floor.to(variances)
    return variances


def _sums_of_magnitudes(magnitudes: StemMagnitudes, rows: Rows) -> SpatialSums:
    """`spatial_sums` of the estimates that have these magnitudes and the mixture's phases, without forming them."""
    left, right = magnitudes.unbind(-3)
    left_sum, right_sum = (torch.linalg.vector_norm(channel, dim=-1).square() for channel in (left, right))
    product = left.movedim(-3, -2) * right.movedim(-3, -2)
    cross = (product @ _turn(rows).mT).movedim(-2, -3).contiguous()
    return SpatialSums(left_sum, right_sum, torch.view_as_complex(cross), (left_sum + right_sum) / 2)


def _filtered_by(
    rows: Rows, variances: Variances, covariance: SpatialCovariance, out: StemSpecs | None = None
) -> StemSpecs:
    """v_j R_j C^-1 x, in `out` if given; the adjugate of the floor is the identity.

    Complex numbers are pairs of real ones inside, so that all sources and channels of a bin are one real matrix.
    """
    n_sources = variances.shape[-2] - 1
    matrices = covariance.matrices()
    products = (matrices.unsqueeze(-3) @ _adjugate(matrices).unsqueeze(-4)).resolve_conj()  # bin, j, k, row, column
    discriminants = products.diagonal(dim1=-2, dim2=-1).sum(-1).real.clamp(min=0) / 2
    half_traces = matrices.diagonal(dim1=-2, dim2=-1).sum(-1).real.unsqueeze(-1) / 2
    with_floor = torch.cat((discriminants, half_traces), -1)
    last_row = torch.cat((half_traces.mT, torch.ones_like(half_traces[..., :1, :])), -1)
    quadratic = torch.cat((with_floor, last_row), -2).to(variances)
    determinant = (variances * (quadratic @ variances)).sum(-2)

    weights = torch.cat((products, matrices.unsqueeze(-3)), -3).transpose(-3, -2)  # bin, j, row, k, column
    real = torch.stack((weights.real, -weights.imag, weights.imag, weights.real), -1).unflatten(-1, (2, 2))
    # bin, j, row, k, column, re or im of the result, of x -> bin, (j row re-im), (k column re-im)
    matrix = real.movedim(-2, -4).flatten(-3).flatten(-4, -2).to(variances)
    heard = rows.flatten(-3, -2) * determinant.reciprocal().unsqueeze(-2)  # ..., bin, (channel re-im), frame
    weighted = (variances.unsqueeze(-2) * heard.unsqueeze(-3)).flatten(-3, -2)
    pairs = (matrix @ weighted).unflatten(-2, (n_sources, 2, 2))
    variance = variances[..., :n_sources, None, None, :]
    pairs = pairs * variance if out is None else pairs.mul_(variance)
    real_part, imaginary_part = pairs.unbind(-2)
    if out is None:
        return torch.complex(real_part, imaginary_part).movedim(-4, -2)
    torch.complex(real_part, imaginary_part, out=out.movedim(-2, -4))
    return out


def _adjugate(matrices: Tensor) -> Tensor:
    """Of 2x2 matrices: adj(A) A = det(A) I."""
    (a, b), (c, d) = matrices.movedim((-2, -1), (0, 1))
    return torch.stack((d, -b, -c, a), -1).reshape(matrices.shape)


def _turn(rows: Rows) -> Float[Tensor, "*batch bin 2 frame"]:
    """exp(i (angle(x_left) - angle(x_right))), its real and imaginary part."""
    if not rows.requires_grad:
        (real_left, real_right), (imaginary_left, imaginary_right) = (part.unbind(-2) for part in rows.unbind(-2))
        power_left = torch.addcmul(real_left * real_left, imaginary_left, imaginary_left)
        power_right = torch.addcmul(real_right * real_right, imaginary_right, imaginary_right)
        number = torch.finfo(rows.dtype)
        if power_left.numel() and bool(torch.minimum(power_left.amin(), power_right.amin()) > number.tiny / number.eps):
            # Roots of powers take a quarter of the time of absolute values, where no power is too small to be precise.
            scale = power_left.rsqrt_().mul_(power_right.rsqrt_())
            cosine = torch.addcmul(real_left * real_right, imaginary_left, imaginary_right).mul_(scale)
            sine = torch.addcmul(imaginary_left * real_right, real_left, imaginary_right, value=-1).mul_(scale)
            return torch.stack((cosine, sine), -2)
    left, right = _phase(torch.view_as_complex(rows.movedim(-2, -1).contiguous())).unbind(-2)
    return torch.view_as_real(left * right.conj()).movedim(-1, -2)


def _phase(mixture: Spec) -> Spec:
    """exp(i angle(x)); 1 where x is 0."""
    size = mixture.abs()
    audible = size > 0
    return torch.where(audible, mixture / torch.where(audible, size, 1.0), 1.0)


def _double(values: Tensor) -> Tensor:
    """In double precision; on the CPU where the device has none."""
    return (values.cpu() if values.device.type == "mps" else values).double()


def _largest(spec: Spec) -> Float[Tensor, "*batch"]:
    """The largest magnitude; by powers, which are quick to compute, unless they overflow or a slope is asked for."""
    if not spec.requires_grad:
        power = _power(spec).amax((-3, -2, -1))
        if bool(power.isfinite().all()):
            return power.sqrt()
    return spec.abs().amax((-3, -2, -1))


def _power(values: Tensor) -> Tensor:
    return values.real.square() + values.imag.square()
