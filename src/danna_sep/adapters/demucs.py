"""Demucs in its fourth version (Hybrid Transformer Demucs) and its older relatives, from the package `demucs`.

Reference: Rouard, Massa, Défossez, "Hybrid Transformers for Music Source Separation", ICASSP 2023.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from danna_sep.errors import ConfigError, MissingWeights
from danna_sep.extras import how_to_install
from danna_sep.separators import Separator
from danna_sep.shapes import Mixture, Stems
from danna_sep.types import SAMPLE_RATE, SOURCES


@dataclass(frozen=True)
class DemucsSeparator:
    """A network of the package `demucs`, or a bag of them.

    What networks with more stems than our four tell from "other", as guitar and piano, is added to it again.

    It hears segments of the length that it was trained on, overlapping by a quarter, as the package itself has it, but
    without the package's random shifts: the same mixture gives the same stems.

    Attributes:
        model: `demucs.htdemucs.HTDemucs`, `demucs.hdemucs.HDemucs`, or `demucs.apply.BagOfModels` of such.
    """

    model: nn.Module

    @property
    def sources(self) -> tuple[str, ...]:
        """As the network has them, in its order; where it has "other", without those that are added to that."""
        model: Any = self.model
        return tuple(source for source in model.sources if source in SOURCES or "other" not in model.sources)

    @property
    def sample_rate(self) -> int:
        """Of the network."""
        model: Any = self.model
        return int(model.samplerate)

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.model.parameters()).device

    def __call__(self, mixture: Mixture) -> Stems:
        """See `Separator`."""
        from demucs.apply import apply_model

        items = mixture.reshape(-1, *mixture.shape[-2:])
        mono = items.mean(-2, keepdim=True)
        mean, deviation = mono.mean(-1, keepdim=True), mono.std(-1, keepdim=True, correction=0)
        # Antiphase channels have a mono mix of nothing: what is divided by must not vanish where something is heard.
        deviation = torch.maximum(deviation, 1e-3 * items.abs().amax((-2, -1), keepdim=True)) + 1e-8
        heard = ((items - mean) / deviation).to(next(self.model.parameters()).dtype)
        stems: Tensor = apply_model(self.model, heard, shifts=0, split=True, overlap=0.25).to(items.dtype)
        stems = self._ours(stems * deviation[:, None] + mean[:, None])
        # Of silence the network hears nothing, but it does not say exactly nothing.
        audible = (items != 0).any(-1).any(-1)[:, None, None, None]
        stems = stems * audible
        return stems.reshape(*mixture.shape[:-2], *stems.shape[1:])

    def _ours(self, stems: Tensor) -> Stems:
        """Stems of `sources` from those of all that the network has."""
        model: Any = self.model
        owners = ["other" if source not in self.sources else source for source in model.sources]
        if owners == list(self.sources):
            return stems
        parts = [[place for place, owner in enumerate(owners) if owner == source] for source in self.sources]
        return torch.stack([stems[:, places].sum(1) for places in parts], 1)


def load(*, device: str = "cpu", model: str = "htdemucs") -> Separator:
    """A released Demucs, by its name; its weights are fetched by the package when they are first used.

    Only what is released as safetensors is taken: the package would load its older files by unpickling them.

    Args:
        device: Where the parameters go.
        model: "htdemucs", "htdemucs_ft", "htdemucs_6s", "hdemucs_mmi" and so on.

    Raises:
        ConfigError: The package is not installed, or the model lacks stems or works at another rate.
        MissingWeights: The weights are not there and cannot be fetched.
    """
    try:
        from demucs.hf import get_hf_model
    except ImportError as error:
        raise ConfigError(f"demucs is not usable here ({error}): {how_to_install('demucs')}") from error
    try:
        network = get_hf_model(model)
    except Exception as error:  # of the network, the hub, or the files
        reason = " ".join(str(error).split())[:200]
        raise MissingWeights(f"the weights of demucs' {model!r} cannot be fetched ({reason}); try again") from error
    separator = DemucsSeparator(network.requires_grad_(False).eval().to(device))
    if separator.sample_rate != SAMPLE_RATE or not set(separator.sources) & set(SOURCES):
        raise ConfigError(f"demucs' {model!r} has {', '.join(separator.sources)} at {separator.sample_rate} Hz")
    return separator
