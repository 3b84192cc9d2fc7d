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

_GROUP_SIZE = 128
"""Samples, of the longer side, that are computed as one row of a matrix product."""

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
    with torch.inference_mode(False):  # kept, and maybe trained with later
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
    weights = block_matrix(old, new).to(signal)
    step, n_taps = weights.shape[1] // new * old, weights.shape[0]
    n_blocks = -(-n_samples // step)
    reach = (n_taps - step) // 2
    rows = signal.reshape(-1, 1, n_samples)
    n_rows = max(1, _CHUNK_SIZE // n_samples)
    resampled = []
    with torch.autocast(signal.device.type, enabled=False):  # which would round the samples
        for some in rows.split(n_rows):
            padded = F.pad(some, (reach, reach + n_blocks * step - n_samples), mode="replicate")
            blocks = padded.squeeze(1).unfold(-1, n_taps, step) @ weights
            resampled.append(blocks.flatten(-2)[:, : n_samples * new // old])
    return torch.cat(resampled).reshape(*signal.shape[:-1], -1)


@lru_cache(maxsize=16)
def block_matrix(old: int, new: int) -> Float[Tensor, "tap sample"]:
    """The filters of some repetitions of the pattern side by side, each shifted by its place, as one matrix.

    Of short patterns many: about half of the matrix then is zeros, but a product of large matrices is still several
    times as fast as the convolution with one channel that this is, and needs a fraction of its memory.
    """
    filters = sinc_filters(old, new)
    surplus = filters.shape[1] - old
    n_repetitions = max(1, _GROUP_SIZE // max(old, new))
    with torch.inference_mode(False):  # kept, and maybe trained with later
        weights = torch.zeros(old * n_repetitions + surplus, n_repetitions, new)
        for place in range(n_repetitions):
            weights[place * old : (place + 1) * old + surplus, place] = filters.T
        return weights.flatten(1)
