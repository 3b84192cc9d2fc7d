"""The Wiener filter of each bin, with all that belongs to a bin together in memory.

Products of covariances are formed per bin, in double precision, before the frames come in. Written with them,

    v_j R_j C^-1 = v_j (floor R_j + sum_k v_k R_j adj(R_k)) / (floor^2 + floor sum_k v_k tr R_k + sum_jk v_j v_k D_jk)

nothing cancels in the frames: D_jk, the mixed discriminant of R_j and R_k, is never negative. So single precision bears
the regularisation of double precision, also where all sources are panned alike and C is singular but for it, and
`EPSILON` need not follow the working precision. What is left for the frames are two products of small matrices, of a
bin, with v and with all v_k x_c.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from danna_sep.shapes import Spec, StemMagnitudes, StemSpecs
from danna_sep.signal.spatial import SpatialCovariance, SpatialSums

Heard = Complex[Tensor, "*batch bin channel frame"]
"""A mixture's spectrum with all that belongs to a bin together."""

Variances = Float[Tensor, "*batch bin _source_or_floor frame"]
"""Of the sources, and the floor of C as one more."""


@dataclass(frozen=True)
class Room:
    """Memory for what `BinFilter.apply` computes of some bins, used again for the next ones.

    It stays near the processor, which what is asked for anew does not. Where there is none, it is asked for anew, and
    all is differentiable.
    """

    variances: Float[Tensor, "bin _given frame"] | None = None
    products: Float[Tensor, "bin _given frame"] | None = None
    determinant: Float[Tensor, "bin frame"] | None = None
    factors: Complex[Tensor, "bin _given frame"] | None = None
    heard: Complex[Tensor, "bin 2 frame"] | None = None
    weighted: Complex[Tensor, "bin _given 2 frame"] | None = None
    stems: Complex[Tensor, "bin _rows frame"] | None = None

    @classmethod
    def of(cls, n_bins: int, n_frames: int, n_sources: int, like: Tensor) -> Room:
        """For so many bins, for numbers like those of a real tensor."""

        def room(dtype: torch.dtype, *shape: int) -> Tensor:
            return torch.empty(n_bins, *shape, n_frames, dtype=dtype, device=like.device)

        given, real, pairs = n_sources + 1, like.dtype, like.dtype.to_complex()
        return cls(
            variances=room(real, given),
            products=room(real, given),
            determinant=room(real),
            factors=room(pairs, given),
            heard=room(pairs, 2),
            weighted=room(pairs, given, 2),
            stems=room(pairs, 2 * n_sources),
        )

    def first(self, n_bins: int) -> Room:
        """That for fewer bins."""
        return Room(*(getattr(self, field.name)[:n_bins] for field in fields(self)))


NO_ROOM = Room()


def heard_of(mixture: Spec) -> Heard:
    """A mixture's spectrum in that layout."""
    return mixture.resolve_conj().movedim(-3, -2).contiguous()


def with_floor(variance: Float[Tensor, "*batch source bin frame"], floor: Float[Tensor, "*batch 1 1"]) -> Variances:
    """Variances in that layout."""
    variance = variance.movedim(-3, -2)
    floors = floor.to(variance).unsqueeze(-1).expand(*variance.shape[:-2], 1, variance.shape[-1])
    return torch.cat((variance, floors), -2)


def variances_of_magnitudes(
    magnitudes: StemMagnitudes, floor: Float[Tensor, "*batch 1 1"], room: Room = NO_ROOM
) -> Variances:
    """Twice the variances of estimates that have these magnitudes, and twice the floor: the filter is the same."""
    left, right = magnitudes.movedim(-2, -4).unbind(-2)
    if room.variances is None:
        return with_floor((left * left + right * right).movedim(-2, -3), 2 * floor)
    torch.mul(left, left, out=room.variances[:, :-1]).addcmul_(right, right)
    room.variances[:, -1:] = 2 * floor
    return room.variances


def sums_of_magnitudes(magnitudes: StemMagnitudes, heard: Heard) -> SpatialSums:
    """`spatial_sums` of the estimates that have these magnitudes and the mixture's phases, without forming them."""
    left, right = magnitudes.unbind(-3)
    left_sum, right_sum = (torch.linalg.vector_norm(channel, dim=-1).square() for channel in (left, right))
    product = left.movedim(-3, -2) * right.movedim(-3, -2)
    # In rows of their own the parts are summed up faster, and more exactly.
    turn = torch.view_as_real(_turn(heard)).mT.contiguous()
    cross = (product @ turn.mT).movedim(-2, -3).contiguous()
    return SpatialSums(left_sum, right_sum, torch.view_as_complex(cross), (left_sum + right_sum) / 2)


@dataclass(frozen=True)
class BinFilter:
    """What filters the frames of each bin.

    Attributes:
        quadratic: The determinant of C as a quadratic form of the variances.
        matrix: From (source or floor, channel of x) to (source, channel): what v_k x_c is multiplied by.
    """

    quadratic: Float[Tensor, "*batch bin _one_more _one_more"]
    matrix: Complex[Tensor, "*batch bin _given _heard"]

    @classmethod
    def of(cls, covariance: SpatialCovariance, like: Tensor) -> BinFilter:
        """The filter for spatial covariances, in the type and on the device of a real tensor."""
        n_sources = covariance.left.shape[-2]
        # bin, (j row), column, times bin, row, (k column); the floor is one more source, whose adjugate is the identity
        matrix = covariance.matrices().flatten(-3, -2) @ _side_by_side(covariance.adjugates())
        by_source = matrix.unflatten(-1, (n_sources + 1, 2)).unflatten(-3, (n_sources, 2))
        forms = (by_source[..., 0, :, 0].real + by_source[..., 1, :, 1].real).clamp(min=0) / 2
        half_traces = forms[..., -1:]
        last_row = torch.cat((half_traces.mT, torch.ones_like(half_traces[..., :1, :])), -1)
        return cls(torch.cat((forms, last_row), -2).to(like), matrix.to(like.device, like.dtype.to_complex()))

    def split(self, n_bins: int) -> Iterator[BinFilter]:
        """So many bins at a time."""
        pairs = zip(self.quadratic.split(n_bins, -3), self.matrix.split(n_bins, -3), strict=True)
        return (BinFilter(quadratic, matrix) for quadratic, matrix in pairs)

    def scaled(self, shares: Float[Tensor, " _source"]) -> BinFilter:
        """One that gives each source times its share."""
        n_rows = self.matrix.shape[-2] // len(shares)
        return BinFilter(self.quadratic, self.matrix * shares.to(self.matrix).repeat_interleave(n_rows)[:, None])

    def apply(
        self,
        heard: Heard,
        variances: Variances,
        out: StemSpecs | None = None,
        *,
        adds: bool = False,
        room: Room = NO_ROOM,
    ) -> StemSpecs:
        """v_j R_j C^-1 x.

        Args:
            heard: x.
            variances: v_j.
            out: Where the stems are put; not differentiable.
            adds: Whether they are added to what is there.
            room: For what is computed on the way.
        """
        products = torch.matmul(self.quadratic, variances, out=room.products)
        products = torch.mul(products, variances, out=room.products)
        determinant = torch.sum(products, -2, out=room.determinant)
        # Complex factors take less time than to take complex numbers apart into pairs and to put them together again.
        inverse = determinant.reciprocal().to(heard.dtype)
        heard = torch.mul(heard, inverse.unsqueeze(-2), out=room.heard)
        factors = variances.to(heard.dtype) if room.factors is None else room.factors.copy_(variances)
        factors = factors.unsqueeze(-2)
        weighted = torch.mul(factors, heard.unsqueeze(-3), out=room.weighted).flatten(-3, -2)
        stems = torch.matmul(self.matrix, weighted, out=room.stems).unflatten(-2, (-1, 2))
        factors = factors[..., :-1, :, :]
        if out is None:
            scaled: Tensor = (stems * factors).movedim(-4, -2)
            return scaled
        place = out.movedim(-2, -4)
        if adds:
            place.addcmul_(stems, factors)
        else:
            torch.mul(stems, factors, out=place)
        return out


def _side_by_side(matrices: Complex[Tensor, "*batch bin source 2 2"]) -> Complex[Tensor, "*batch bin 2 _columns"]:
    return matrices.movedim(-3, -2).flatten(-2)


def _turn(heard: Heard) -> Complex[Tensor, "*batch bin frame"]:
    """exp(i (angle(x_left) - angle(x_right)))."""
    if not heard.requires_grad:
        left, right = heard.unbind(-2)
        product = left * right.conj()
        power = torch.addcmul(product.real * product.real, product.imag, product.imag)
        number = torch.finfo(power.dtype)
        if power.numel() and bool(power.amin() > number.tiny / number.eps):
            # The root of a power takes a quarter of the time of an absolute value, where it is not too small.
            return product.mul_(power.rsqrt_().to(product.dtype))
    left, right = phase_of(heard).unbind(-2)
    return left * right.conj()


def phase_of(mixture: Spec) -> Spec:
    """exp(i angle(x)); 1 where x is 0."""
    size = mixture.abs()
    audible = size > 0
    return torch.where(audible, mixture / torch.where(audible, size, 1.0), 1.0)
