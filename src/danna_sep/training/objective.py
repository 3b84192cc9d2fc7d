"""From stems to the number that is minimised, as a recipe says."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from jaxtyping import Bool
from torch import Tensor

from danna_sep.models import DemucsConfig, ModelConfig
from danna_sep.shapes import Stems
from danna_sep.signal.stft import stft
from danna_sep.training.losses import Kind, LossParts, Weighting, spectrogram_loss, waveform_l1
from danna_sep.training.recipe import LossConfig


def objective(
    network: Callable[[Tensor], Tensor],
    stems: Stems,
    annotated: Bool[Tensor, "batch known"],
    loss: LossConfig,
    config: ModelConfig,
) -> LossParts:
    """The loss of a network on some songs' stems.

    Args:
        network: Magnitudes to masks, or for a Demucs mixtures to stems; maybe under autocast.
        stems: The truth, (batch, source, channel, time); their sum is the mixture.
        annotated: Which sources, or combinations of them, are known of each item.
        loss: What to minimise.
        config: The network's, which says what spectra it hears.
    """
    if isinstance(config, DemucsConfig):
        error = waveform_l1(network(stems.sum(1)).to(stems.dtype), stems, annotated)
        return LossParts(error, error.new_zeros(()), error)
    references = stft(stems, config.n_fft, config.hop_length)
    masks = network(references.sum(1).abs())
    return spectrogram_loss(
        masks,
        stems,
        references=references,
        kind=cast("Kind", loss.kind),
        n_wiener_iterations=loss.n_wiener_iterations,
        annotated=annotated,
        weighting=cast("Weighting", loss.weighting) if loss.weighting else None,
        time_weight=loss.time_weight,
        n_fft=config.n_fft,
        hop_length=config.hop_length,
    )
