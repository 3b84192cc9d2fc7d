"""Convolutions whose weights stand still, on a track's frames as they come.

Features have frames as their third axis and channels as the innermost in memory: frames that follow one another are
then one piece of memory, and taking some of them needs no copy.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from danna_sep.models.layouts import Layouts
from danna_sep.shapes import FramedFeatures


class Convolution:
    """A convolution, of stride 1 along bins, that gives all frames that depend on none outside.

    On a CPU oneDNN adds to what is there, and rectifies, as it writes. It gets the weights laid out as it wants them:
    to do that at each call takes longer than to convolve a few frames.

    Args:
        weight: Axes output, input, frame, bin.
        bias: Of each output.
        dilation: Of both axes.
        bin_padding: Zeros on either side of the bins; as many as keep their number, if not given.
        rectify: Whether negative results become zero.
    """

    border = 0
    """Bins of zeros that features come with on either side; `bin_padding` counts them, too."""
    _frame_stride = 1
    """From one result to the next; where it is more, there are fewer results than `reach` says."""
    _gives: torch.dtype | None = None
    """Type of the results, if not that of the features."""

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        dilation: int = 1,
        bin_padding: int | None = None,
        *,
        rectify: bool = False,
    ) -> None:
        self.n_outputs, _, n_frames, n_bins = weight.shape
        self.dilation, self.rectify = dilation, rectify
        self.reach = (n_frames - 1) * dilation
        """Frames that there are fewer of than of those heard."""
        self._padding: tuple[int, int] = (0, n_bins // 2 * dilation if bin_padding is None else bin_padding)
        self._lost_bins = (n_bins - 1) * dilation - 2 * self._padding[1]
        self._bias = None if bias is None else bias.detach()
        # As it is given, until it is laid out for the first time: then only as it is laid out.
        self._plain: Tensor | None = framed(weight.detach())
        self._layouts = Layouts()
        self._fuses = fuses(weight)

    def __call__(self, features: FramedFeatures) -> FramedFeatures:
        """Of `reach` fewer frames; of none where there are no more than `reach`."""
        n_frames = max(0, -(-(features.shape[2] - self.reach) // self._frame_stride))
        n_bins = max(0, features.shape[3] - self._lost_bins)
        if not n_frames or not n_bins:
            return features.new_empty(len(features), self.n_outputs, n_frames, n_bins, dtype=self._gives)
        return self._convolved(framed(features), self.rectify)

    def onto(self, total: FramedFeatures, features: FramedFeatures) -> FramedFeatures:
        """Add the results to `total`, in place, and give that back; rectified, where it rectifies."""
        if not total.numel():
            return total
        features = framed(features)
        if self._fuses and total.is_contiguous(memory_format=torch.channels_last):
            operator = torch.ops.mkldnn._convolution_pointwise_.binary
            unary = "relu" if self.rectify else None
            weight = self._weight_for(features)
            return cast("Tensor", operator(total, features, weight, *self._geometry(), "add", 1.0, unary, [], ""))
        total += self._convolved(features, False)
        return torch.relu_(total) if self.rectify else total

    def _convolved(self, features: FramedFeatures, rectify: bool) -> FramedFeatures:
        if self._fuses:
            operator = torch.ops.mkldnn._convolution_pointwise
            unary = "relu" if rectify else "none"
            return cast("Tensor", operator(features, self._weight_for(features), *self._geometry(), unary, [], ""))
        bias, padding, stride, dilation, groups = self._geometry()
        convolved = F.conv2d(features, self._dense_weight(), bias, stride, padding, dilation, groups)
        return torch.relu_(convolved) if rectify else convolved

    def _geometry(self) -> tuple[Tensor | None, tuple[int, int], list[int], list[int], int]:
        return self._bias, self._padding, [self._frame_stride, 1], [self.dilation] * 2, 1

    def _weight_for(self, features: FramedFeatures) -> Tensor:
        weight = self._layouts.of(features.shape, lambda: self._lay_out(features.shape))
        self._plain = None
        return weight

    def _lay_out(self, shape: torch.Size) -> Tensor:
        _, *geometry = self._geometry()
        dense = self._dense_weight().contiguous().to_mkldnn()
        return cast("Tensor", torch.ops.aten.mkldnn_reorder_conv2d_weight(dense, *geometry, shape))

    def _dense_weight(self) -> Tensor:
        plain, laid_out = self._plain, self._layouts.any()
        return plain if plain is not None else cast("Tensor", laid_out).to_dense()


def framed(features: Tensor) -> FramedFeatures:
    """The same in memory with channels innermost and frames outermost; they are the third axis already."""
    return features.contiguous(memory_format=torch.channels_last)


def fuses(weight: Tensor) -> bool:
    """Whether PyTorch has oneDNN's operators here, which are not public, and oneDNN computes in that precision."""
    if weight.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    names = ("_convolution_pointwise", "_convolution_pointwise_", "_is_mkldnn_bf16_supported")
    if not all(hasattr(torch.ops.mkldnn, name) for name in names):
        return False
    if not hasattr(torch.ops.aten, "mkldnn_reorder_conv2d_weight"):
        return False
    if weight.dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return weight.dtype == torch.float32
