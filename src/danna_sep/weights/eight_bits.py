"""Weights as whole numbers of eight bits, each row with a scale of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import torch

SCALE: Final = "@scale"
"""What an entry's name has behind it where its scales are stored."""

N_STEPS: Final = 127.0
"""As many as there can be between nothing and the largest value of a row."""


def rounded(entry: torch.Tensor, n_steps: float = N_STEPS) -> tuple[torch.Tensor, torch.Tensor]:
    """Integers from -127 to 127, and what they are to be multiplied by.

    Args:
        entry: Floating-point, of two axes or more, none of which is empty.
        n_steps: From nothing to the largest value of a row, 1 to 127; may lie between two integers. Values that were
            rounded before and changed by less than half a step since would all be rounded back by the same steps, and
            what changed be lost; by others they are not.

    Returns:
        The integers, and one scale (float32) for each place along the first axis. No value is off by more than half a
        scale, and the largest, if `n_steps` is an integer, by nothing but its own rounding.
    """
    import torch

    rows = entry.float().flatten(1)
    scale = rows.abs().amax(1) / n_steps
    steps = rows / torch.where(scale > 0, scale, 1)[:, None]
    return steps.round().clamp(-N_STEPS, N_STEPS).to(torch.int8).view(entry.shape), scale


def restored(integers: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """The entry in float32; a RuntimeError if there is not one scale for each place along the first axis."""
    return (integers.flatten(1) * scale.view(len(integers), 1)).view(integers.shape)
