"""Resampling by a windowed sinc, as it stands before and after the waveform network.

A band-limited signal is the sum of its samples times shifted sinc functions. Evaluated at the new
sampling instants i / new, with the sinc's cut-off at `rolloff` times the lower Nyquist frequency and cut to
`zeros` zero crossings by a squared-cosine window, this is one short filter for each of the `new` phases that
the new instants take relative to the old ones, after which the pattern repeats `old` samples later: a
convolution with `new` output channels and stride `old`.

Reference: J. O. Smith, Digital Audio Resampling, Center for Computer Research in Music and Acoustics. Zero
crossings, roll-off, window and edge replication are those of the Julius package, which Demucs was trained with.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

_GROUP = 64
"""Repetitions of the pattern that are computed as one matrix product."""

_CHUNK_SIZE = 2**20
"""Samples resampled at a time."""


@lru_cache(maxsize=16)
def sinc_filters(old: int, new: int, zeros: int = 24, rolloff: float = 0.945) -> Float[Tensor, "phase tap"]:
    """One low-pass filter per phase, each with unit gain at 0 Hz.

    Args:
        old: Old rate, as a term of the reduced fraction new / old.
        new: New rate, likewise.
        zeros: Zero crossings of the sinc kept on either side.
        rolloff: Cut-off, as a share of the lower of both Nyquist frequencies.
    """
    cutoff = min(old, new) * rolloff
    reach = math.ceil(zeros * old / cutoff)
    instants = torch.arange(-reach, reach + old, dtype=torch.float64) / old
    phases = torch.arange(new, dtype=torch.float64)[:, None] / new
    crossings = ((instants - phases) * cutoff).clamp(-zeros, zeros)
    filters = torch.sinc(crossings) * torch.cos(crossings * math.pi / (2 * zeros)).square()
    return (filters / filters.sum(1, keepdim=True)).float()


def resample(signal: Float[Tensor, "*axes old_time"], old: int, new: int) -> Float[Tensor, "*axes new_time"]:
    """`signal` at new / old times its rate; floor(time * new / old) samples, edges held."""
    divisor = math.gcd(old, new)
    old, new = old // divisor, new // divisor
    if old == new:
        return signal
    n_samples = signal.shape[-1]
    weights = _block_matrix(old, new).to(signal)
    step, n_taps = old * _GROUP, weights.shape[0]
    n_blocks = -(-n_samples // step)
    reach = (n_taps - step) // 2
    rows = signal.reshape(-1, 1, n_samples)
    n_rows = max(1, _CHUNK_SIZE // n_samples)
    resampled = []
    for some in rows.split(n_rows):
        padded = F.pad(some, (reach, reach + n_blocks * step - n_samples), mode="replicate")
        blocks = padded.squeeze(1).unfold(-1, n_taps, step) @ weights
        resampled.append(blocks.flatten(-2)[:, : n_samples * new // old])
    return torch.cat(resampled).reshape(*signal.shape[:-1], -1)


@lru_cache(maxsize=16)
def _block_matrix(old: int, new: int) -> Float[Tensor, "tap sample"]:
    """The filters of many repetitions of the pattern side by side, each shifted by its place, as one matrix.

    Few samples are in it for nothing, and a product of large matrices is several times as fast as the convolution with
    one channel that this is, and needs a fraction of its memory.
    """
    filters = sinc_filters(old, new)
    surplus = filters.shape[1] - old
    weights = torch.zeros(old * _GROUP + surplus, _GROUP, new)
    for place in range(_GROUP):
        weights[place * old : (place + 1) * old + surplus, place] = filters.T
    return weights.flatten(1)
