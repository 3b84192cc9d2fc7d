"""Weights as whole numbers of eight bits, each row with a scale of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import torch

SCALE: Final = "@scale"
"""What an entry's name has behind it where its scales are stored."""

_LARGEST: Final = 127


def rounded(entry: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Integers from -127 to 127, and what they are to be multiplied by.

    Args:
        entry: Floating-point, of two axes or more, none of which is empty.

    Returns:
        The integers, and one scale (float32) for each place along the first axis. Its largest value comes back as it
        was, but for rounding; no other is off by more than half a scale.
    """
    import torch

    rows = entry.float().flatten(1)
    scale = rows.abs().amax(1) / _LARGEST
    steps = rows / torch.where(scale > 0, scale, 1)[:, None]
    return steps.round().clamp(-_LARGEST, _LARGEST).to(torch.int8).view(entry.shape), scale


def restored(integers: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """The entry in float32; a RuntimeError if there is not one scale for each place along the first axis."""
    return (integers.flatten(1) * scale.view(len(integers), 1)).view(integers.shape)
