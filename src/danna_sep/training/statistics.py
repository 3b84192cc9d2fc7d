"""X-UMX's input normalisation from the data, as Open-Unmix does before its first step."""

from __future__ import annotations

import torch

from danna_sep.models import XUMX
from danna_sep.signal.stft import stft
from danna_sep.training.excerpts import ExcerptDataset

_N_EXCERPTS = 64


@torch.no_grad()
def fit_statistics(model: XUMX, excerpts: ExcerptDataset) -> None:
    """Set mean and scale of each bin so that the magnitudes heard have mean zero and deviation one.

    From the first excerpts of the first epoch. A bin whose deviation is less than 1e-4 of the largest, as above the
    cut-off of coded music, is scaled as if it had that much.
    """
    n_bins = model.config.n_bins
    count = 0
    total, square = (torch.zeros(n_bins, dtype=torch.float64) for _ in range(2))
    for index in range(min(_N_EXCERPTS, len(excerpts))):
        magnitude = stft(excerpts[index].stems.sum(0)).abs()[:, :n_bins].double()
        total += magnitude.sum((0, 2))
        square += magnitude.square().sum((0, 2))
        count += magnitude.shape[0] * magnitude.shape[2]
    mean = total / count
    deviation = (square / count - mean.square()).clamp(min=0).sqrt()
    model.input_mean.copy_(-mean)
    model.input_scale.copy_(1 / deviation.clamp(min=1e-4 * float(deviation.max()) + 1e-12))
