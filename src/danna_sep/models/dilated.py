"""A convolution of dilation 2 in training, where PyTorch's own gradient is slow."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from danna_sep.shapes import Features


def dilated(conv: nn.Conv2d, features: Features) -> Features:
    """conv(features) for an odd kernel, dilation 2 and as much padding as keeps the size.

    In training, in single precision on a CPU, even and odd bins and frames are convolved by themselves, without
    dilation: the same products, but oneDNN's gradients of few channels take a third of the time.
    """
    if not conv.training or features.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
        return conv(features)  # type: ignore[no-any-return]
    batch, n_channels, n_bins, n_frames = features.shape
    features = F.pad(features, (0, n_frames % 2, 0, n_bins % 2)).permute(0, 2, 3, 1)
    height, width = features.shape[1] // 2, features.shape[2] // 2
    quarters = features.reshape(batch, height, 2, width, 2, n_channels).permute(2, 4, 0, 1, 3, 5)
    quarters = quarters.reshape(4 * batch, height, width, n_channels).permute(0, 3, 1, 2)
    out = F.conv2d(quarters, conv.weight, conv.bias, padding=tuple(size // 2 for size in conv.kernel_size))
    out = out.permute(0, 2, 3, 1).reshape(2, 2, batch, height, width, -1).permute(2, 3, 0, 4, 1, 5)
    return out.reshape(batch, 2 * height, 2 * width, -1).permute(0, 3, 1, 2)[..., :n_bins, :n_frames]
