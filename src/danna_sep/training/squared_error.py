"""The squared error of masked spectra, and its gradient, in one pass.

Written as operations on whole spectra it takes a dozen passes through memory that no cache holds: more than a small
network's own training. Here each operation goes over a few bins at a time, and what derives the result is computed
with it.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from danna_sep.shapes import Spec, StemMagnitudes, StemSpecs

_CHUNK_SIZE = {"cpu": 2**17}
"""Numbers of an error at once; elsewhere than on a CPU, where passes are not what takes long, `_MOST`."""
_MOST = 2**26


def squared_error(
    mask: StemMagnitudes,
    mixture: Spec,
    references: StemSpecs,
    quadratic: Float[Tensor, "batch source source"],
    *,
    is_complex: bool,
    epsilon: float | None = None,
) -> Float[Tensor, ""]:
    """The sum over items, channels, bins and frames of e^T Q e / weight, with e the errors of the stems.

    Args:
        mask: Of each source; the one argument that gradients are computed of.
        mixture: The spectrum that it is applied to.
        references: True spectra of the stems.
        quadratic: Q of each item, symmetric.
        is_complex: e = mask * X - Y, and e^T Q e that of its real plus that of its imaginary part; else
            e = mask * |X| - |Y|.
        epsilon: The weight is |X| + epsilon; None: one.
    """
    value: Tensor = _SquaredError.apply(mask, mixture, references, quadratic, is_complex, epsilon)  # type: ignore[no-untyped-call]
    return value


class _SquaredError(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        mask: Tensor,
        mixture: Tensor,
        references: Tensor,
        quadratic: Tensor,
        is_complex: bool,
        epsilon: float | None,
    ) -> Tensor:
        gradient = torch.zeros_like(mask) if ctx.needs_input_grad[0] else None
        total = quadratic.new_zeros((), dtype=torch.float32 if mask.device.type == "mps" else torch.float64)
        n_bins = mask.shape[-2]
        n_together = max(1, _CHUNK_SIZE.get(mask.device.type, _MOST) * n_bins // mask.numel())
        for start in range(0, n_bins, n_together):
            bins = (..., slice(start, start + n_together), slice(None))
            x, y, m = mixture[bins].unsqueeze(1), references[bins], mask[bins]
            # Spectra lie in memory frame by frame, masks bin by bin; operations on both ways at once are slow.
            x_parts = x.real.contiguous(), x.imag.contiguous()
            size = torch.hypot(*x_parts)
            weight = None if epsilon is None else 1 / (size + epsilon)
            parts = zip(x_parts, (y.real, y.imag), strict=True) if is_complex else ((size, y.abs()),)
            for x_part, y_part in parts:
                error = (m * x_part).sub_(y_part.contiguous())
                slope = (quadratic @ error.flatten(2)).view_as(error)
                if weight is not None:
                    slope *= weight
                total += error.mul_(slope).sum()
                if gradient is not None:
                    gradient[bins].addcmul_(slope, x_part, value=2)
        ctx.save_for_backward(gradient)
        return total.to(mask.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, None, None, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return cast("Tensor", gradient) * slopes[0], None, None, None, None, None
