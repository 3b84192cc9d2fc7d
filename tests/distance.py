"""How far apart two results are."""

from __future__ import annotations

import torch
from torch import Tensor


def below_db(found: Tensor, expected: Tensor) -> float:
    """Level of what was expected over that of the difference."""
    error = (found - expected).abs().double().square().sum()
    return float(10 * torch.log10(expected.abs().double().square().sum() / error))
