"""X-UMX's input normalisation from the data, as Open-Unmix does before its first step."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from danna_sep.models import XUMX
from danna_sep.shapes import Mixture
from danna_sep.signal.stft import stft


@torch.no_grad()
def fit_statistics(model: XUMX, mixtures: Iterable[Mixture]) -> None:
    """Set mean and scale of each bin so that the magnitudes heard have mean zero and deviation one.

    A bin whose deviation is less than 1e-4 of the largest, as above the cut-off of coded music, is scaled as if it had
    that much.

    Args:
        model: To be trained.
        mixtures: Some of what it will hear.
    """
    config, n_bins = model.config, model.config.n_bins
    count = 0
    total, square = (torch.zeros(n_bins, dtype=torch.float64) for _ in range(2))
    for mixture in mixtures:
        magnitude = stft(mixture, config.n_fft, config.hop_length).abs()[..., :n_bins, :]
        by_bin = magnitude.movedim(-2, 0).flatten(1).double()
        total += by_bin.sum(1).cpu()
        square += by_bin.square().sum(1).cpu()
        count += by_bin.shape[1]
    mean = total / count
    deviation = (square / count - mean.square()).clamp(min=0).sqrt()
    model.input_mean.copy_(-mean)
    model.input_scale.copy_(1 / deviation.clamp(min=1e-4 * float(deviation.max()) + 1e-12))
