"""Statistics of sources over two channels: variances, and spatial covariances by sums over frames that add up.

Hermitian 2x2 matrices are held as their three independent numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from danna_sep.shapes import StemSpecs

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

    @classmethod
    def of_bins(cls, parts: Sequence[SpatialSums]) -> SpatialSums:
        """Those of bins that follow one another."""
        return cls(*(torch.cat(sums, -1) for sums in zip(*(part._all() for part in parts), strict=True)))

    def _all(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.left, self.right, self.cross, self.power


@dataclass(frozen=True)
class SpatialCovariance:
    """Hermitian 2x2 matrix per source and bin: [[left, cross], [conj(cross), right]]; double precision."""

    left: SourceBins
    right: SourceBins
    cross: Complex[Tensor, "*batch source bin"]

    def matrices(self) -> Complex[Tensor, "*batch bin source 2 2"]:
        """The matrices, with the bins before the sources."""
        return self._laid_out(self.left, self.cross, self.cross.conj(), self.right)

    def adjugates(self) -> Complex[Tensor, "*batch bin _sources_and_floor 2 2"]:
        """Of the matrices, adj(R) R = det(R) I; and the identity as one more."""
        one, none = (torch.full_like(self.left[..., :1, :], value) for value in (1, 0))
        left, right = (torch.cat((power, one), -2) for power in (self.left, self.right))
        cross = torch.cat((-self.cross, torch.complex(none, none)), -2)
        return self._laid_out(right, cross, cross.conj(), left)

    def _laid_out(self, *numbers: Tensor) -> Tensor:
        rows = torch.stack([number.to(self.cross.dtype) for number in numbers], -1).movedim(-3, -2)
        matrices: Tensor = rows.unflatten(-1, (2, 2))
        return matrices


def source_variance(estimates: StemSpecs) -> Float[Tensor, "*batch source bin frame"]:
    """v_j: mean over channels of |y_j|^2."""
    return power_of(estimates).mean(-3)


def spatial_sums(estimates: StemSpecs) -> SpatialSums:
    """Sums over the frames of `estimates`, for `spatial_covariance`."""
    left, right = estimates.unbind(-3)
    left_sum, right_sum = power_of(left).sum(-1), power_of(right).sum(-1)
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


def power_of(values: Tensor) -> Tensor:
    """Squared magnitudes of complex values, of the same shape."""
    return values.real.square() + values.imag.square()


def _double(values: Tensor) -> Tensor:
    """In double precision; on the CPU where the device has none."""
    return (values.cpu() if values.device.type == "mps" else values).double()
