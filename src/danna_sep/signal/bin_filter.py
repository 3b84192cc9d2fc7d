"""The Wiener filter of each bin, with all that belongs to a bin together in memory.

Products of covariances are formed per bin, in double precision, before the frames come in. Written with them,

    v_j R_j C^-1 = v_j (floor R_j + sum_k v_k R_j adj(R_k)) / (floor^2 + floor sum_k v_k tr R_k + sum_jk v_j v_k D_jk)

nothing cancels in the frames: D_jk, the mixed discriminant of R_j and R_k, is never negative. So single precision bears
the regularisation of double precision, also where all sources are panned alike and C is singular but for it, and
`EPSILON` need not follow the working precision. What is left for the frames are two products of small real matrices,
of a bin, with v and with all v_k x_c.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from danna_sep.shapes import Spec, StemMagnitudes, StemSpecs
from danna_sep.signal.spatial import SpatialCovariance, SpatialSums

Rows = Float[Tensor, "*batch bin channel 2 frame"]
"""A mixture's real and imaginary parts, with all that belongs to a bin together."""

Variances = Float[Tensor, "*batch bin _source_or_floor frame"]
"""Of the sources, and the floor of C as one more."""


def rows_of(mixture: Spec) -> Rows:
    """A mixture's spectrum in that layout."""
    rows: Tensor = torch.view_as_real(mixture.resolve_conj()).movedim((-4, -1), (-3, -2)).contiguous()
    return rows


def with_floor(variance: Float[Tensor, "*batch source bin frame"], floor: Float[Tensor, "*batch 1 1"]) -> Variances:
    """Variances in that layout."""
    variance = variance.movedim(-3, -2)
    floors = floor.to(variance).unsqueeze(-1).expand(*variance.shape[:-2], 1, variance.shape[-1])
    return torch.cat((variance, floors), -2)


def doubled_variances(magnitudes: StemMagnitudes, floor: Float[Tensor, "*batch 1 1"], *, in_place: bool) -> Variances:
    """Twice the variances of estimates that have these magnitudes, and twice the floor: the filter is the same.

    Args:
        magnitudes: Of the estimates.
        floor: Square root of the regularisation.
        in_place: Spare memory and time; not differentiable.
    """
    n_sources = magnitudes.shape[-4]
    left, right = magnitudes.movedim(-2, -4).unbind(-2)
    if not in_place:
        return with_floor((left * left + right * right).movedim(-2, -3), 2 * floor)
    variances = left.new_empty(*left.shape[:-2], n_sources + 1, left.shape[-1])
    torch.mul(left, left, out=variances[..., :n_sources, :]).addcmul_(right, right)
    variances[..., n_sources, :] = 2 * floor.to(variances)
    return variances


def sums_of_magnitudes(magnitudes: StemMagnitudes, rows: Rows) -> SpatialSums:
    """`spatial_sums` of the estimates that have these magnitudes and the mixture's phases, without forming them."""
    left, right = magnitudes.unbind(-3)
    left_sum, right_sum = (torch.linalg.vector_norm(channel, dim=-1).square() for channel in (left, right))
    product = left.movedim(-3, -2) * right.movedim(-3, -2)
    cross = (product @ _turn(rows).mT).movedim(-2, -3).contiguous()
    return SpatialSums(left_sum, right_sum, torch.view_as_complex(cross), (left_sum + right_sum) / 2)


@dataclass(frozen=True)
class BinFilter:
    """What filters the frames of each bin, in which complex numbers are pairs of real ones.

    Attributes:
        quadratic: The determinant of C as a quadratic form of the variances.
        matrix: From (source or floor, channel of x, re-im) to (source, channel, re-im): what v_k x_c is multiplied by.
    """

    quadratic: Float[Tensor, "*batch bin _one_more _one_more"]
    matrix: Float[Tensor, "*batch bin _given _heard"]

    @classmethod
    def of(cls, covariance: SpatialCovariance, like: Tensor) -> BinFilter:
        """The filter for spatial covariances, in the type and on the device of a tensor."""
        matrices = covariance.matrices()
        # bin, j, k, row, column
        products = (matrices.unsqueeze(-3) @ _adjugate(matrices).unsqueeze(-4)).resolve_conj()
        discriminants = products.diagonal(dim1=-2, dim2=-1).sum(-1).real.clamp(min=0) / 2
        half_traces = matrices.diagonal(dim1=-2, dim2=-1).sum(-1).real.unsqueeze(-1) / 2
        last_row = torch.cat((half_traces.mT, torch.ones_like(half_traces[..., :1, :])), -1)
        quadratic = torch.cat((torch.cat((discriminants, half_traces), -1), last_row), -2)

        # The floor is one more source, whose adjugate is the identity.
        rows = torch.cat((products, matrices.unsqueeze(-3)), -3).transpose(-3, -2)  # bin, j, row, k, column
        real = torch.stack((rows.real, -rows.imag, rows.imag, rows.real), -1).unflatten(-1, (2, 2))
        # bin, j, row, k, column, re or im of the result, of x -> bin, (j row re-im), (k column re-im)
        matrix = real.movedim(-2, -4).flatten(-3).flatten(-4, -2)
        return cls(quadratic.to(like), matrix.to(like))

    def split(self, n_bins: int) -> Iterator[BinFilter]:
        """So many bins at a time."""
        pairs = zip(self.quadratic.split(n_bins, -3), self.matrix.split(n_bins, -3), strict=True)
        return (BinFilter(quadratic, matrix) for quadratic, matrix in pairs)

    def scaled(self, shares: Float[Tensor, " _source"]) -> BinFilter:
        """One that gives each source times its share."""
        n_rows = self.matrix.shape[-2] // len(shares)
        return BinFilter(self.quadratic, self.matrix * shares.to(self.matrix).repeat_interleave(n_rows)[:, None])

    def apply(self, rows: Rows, variances: Variances, out: StemSpecs | None = None, *, adds: bool = False) -> StemSpecs:
        """v_j R_j C^-1 x; in `out` if given, or added to it, which is not differentiable."""
        determinant = (variances * (self.quadratic @ variances)).sum(-2)
        heard = rows.flatten(-3, -2) * determinant.reciprocal().unsqueeze(-2)  # ..., bin, (channel re-im), frame
        weighted = (variances.unsqueeze(-2) * heard.unsqueeze(-3)).flatten(-3, -2)
        pairs = (self.matrix @ weighted).unflatten(-2, (-1, 2, 2))
        variance = variances[..., :-1, None, None, :]
        pairs = pairs * variance if out is None else pairs.mul_(variance)
        real_part, imaginary_part = pairs.unbind(-2)
        if out is None:
            return torch.complex(real_part, imaginary_part).movedim(-4, -2)
        place = out.movedim(-2, -4)
        if adds:
            place.real.add_(real_part)
            place.imag.add_(imaginary_part)
        else:
            torch.complex(real_part, imaginary_part, out=place)
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
    left, right = phase_of(torch.view_as_complex(rows.movedim(-2, -1).contiguous())).unbind(-2)
    return torch.view_as_real(left * right.conj()).movedim(-1, -2)


def phase_of(mixture: Spec) -> Spec:
    """exp(i angle(x)); 1 where x is 0."""
    size = mixture.abs()
    audible = size > 0
    return torch.where(audible, mixture / torch.where(audible, size, 1.0), 1.0)
