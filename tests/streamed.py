"""A network's masks of a track that comes in parts."""

from __future__ import annotations

import torch
from torch import Tensor

from danna_sep.models.mask_stream import MaskStream


def settled(stream: MaskStream) -> list[Tensor]:
    """Masks of all that can be had now."""
    return [stream.masks(each) for each in iter(stream.settled, None)]


def masks_of_parts(stream: MaskStream, magnitude: Tensor, lengths: list[int]) -> Tensor:
    parts = magnitude.split(lengths, -1)
    masks = []
    for i, part in enumerate(parts):
        stream.hear(part, i == len(parts) - 1)
        masks += settled(stream)
    return torch.cat(masks, -1)
