"""Mixtures in memory as callers give them, arrays and tensors of any kind: checked, and as what is separated."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, SupportsInt, TypeVar

import numpy as np
import numpy.typing as npt

from danna_sep import audio
from danna_sep.errors import AudioError, NonFiniteAudio, UnsupportedRate

if TYPE_CHECKING:
    import torch

Samples = npt.NDArray[np.float32]
ArrayT = TypeVar("ArrayT", npt.NDArray[Any], "torch.Tensor")


def as_float32(mixture: ArrayT) -> tuple[Samples, Callable[[Samples], ArrayT]]:
    """The samples, and how to make of such samples what the caller gave.

    Raises:
        AudioError: Neither an array nor a tensor, or not floating point.
    """
    if isinstance(mixture, np.ndarray):
        array, dtype = mixture, mixture.dtype
        if array.dtype.kind != "f":
            raise AudioError(f"the mixture must be floating point with full scale 1.0, not {dtype}")
        with np.errstate(over="ignore"):  # what is too large for float32 becomes infinite, and is refused
            samples = np.asarray(array, np.float32)
        return samples, lambda block: block.astype(dtype, copy=False)
    import torch

    if not isinstance(mixture, torch.Tensor):
        raise AudioError(f"the mixture must be a NumPy array or a tensor, not {type(mixture).__name__}")
    if not mixture.is_floating_point():
        raise AudioError(f"the mixture must be floating point with full scale 1.0, not {mixture.dtype}")
    tensor = mixture
    return tensor.detach().cpu().float().numpy(), lambda block: torch.from_numpy(block).to(tensor)


def check_samples(samples: Samples) -> None:
    """Refuse what is no mixture (channel, time).

    Raises:
        AudioError: Other axes, or no samples.
        NonFiniteAudio: NaN or infinite ones.
    """
    if samples.ndim != 2:
        raise AudioError(f"the mixture must have axes (channel, time), not {samples.ndim} of them")
    if not samples.shape[1]:
        raise AudioError("the mixture has no samples")
    if samples.shape[0] > max(32, samples.shape[1]):
        raise AudioError(f"the mixture must have axes (channel, time); {samples.shape} looks transposed")
    if not np.isfinite(samples).all():
        raise NonFiniteAudio("the mixture has NaN or infinite samples")


def checked_rate(sample_rate: SupportsInt) -> int:
    """The mixture's rate in Hz as an integer of Python's, for whole numbers of whatever type: none of its limits then.

    Raises:
        UnsupportedRate: Not a whole number, or outside of what is separated.
    """
    try:
        rate_hz = int(sample_rate)
        is_whole = bool(rate_hz == sample_rate)
    except (TypeError, ValueError, OverflowError):
        is_whole = False
    if not is_whole or not audio.MIN_RATE_HZ <= rate_hz <= audio.MAX_RATE_HZ:
        raise UnsupportedRate(
            f"the mixture's rate must be a whole number of Hz from {audio.MIN_RATE_HZ} to {audio.MAX_RATE_HZ}, "
            f"not {sample_rate}"
        )
    return rate_hz
