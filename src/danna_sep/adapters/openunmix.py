"""Open-Unmix, from the package `openunmix`.

Reference: Stöter, Uhlich, Liutkus, Mitsufuji, "Open-Unmix - A Reference Implementation for Music Source Separation",
JOSS 4(41), 2019.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from danna_sep.errors import ConfigError, MissingWeights
from danna_sep.separators import Separator
from danna_sep.shapes import Mixture, Stems
from danna_sep.types import SOURCES

_SHORTEST = 4096
"""Its spectrum needs a window."""


@dataclass(frozen=True)
class OpenUnmixSeparator:
    """A separator of the package `openunmix`: networks, and its Wiener filter if it has iterations.

    Attributes:
        model: `openunmix.model.Separator`.
    """

    model: nn.Module

    @property
    def sources(self) -> tuple[str, ...]:
        """The targets, in the model's order."""
        model: Any = self.model
        return (*model.target_models, *(("residual",) if model.residual else ()))

    @property
    def sample_rate(self) -> int:
        """Of the networks."""
        model: Any = self.model
        return int(model.sample_rate)

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.model.parameters()).device

    def __call__(self, mixture: Mixture) -> Stems:
        """See `Separator`."""
        items = mixture.reshape(-1, *mixture.shape[-2:])
        n_samples = items.shape[-1]
        stems: Tensor = self.model(F.pad(items, (0, max(0, _SHORTEST - n_samples))))[..., :n_samples]
        return stems.reshape(*mixture.shape[:-2], *stems.shape[1:])


def load(*, device: str = "cpu", model: str = "umxl") -> Separator:
    """A released Open-Unmix; its weights are fetched by the package when they are first used.

    Args:
        device: Where the parameters go.
        model: "umxl", "umxhq" or "umx".

    Raises:
        ConfigError: The package is not usable here, or there is no such model.
        MissingWeights: The weights are not there and cannot be fetched.
    """
    if model not in ("umxl", "umxhq", "umx"):
        raise ConfigError(f"no Open-Unmix {model!r}; there are umxl, umxhq, umx")
    try:
        import openunmix
    except (ImportError, OSError) as error:  # OSError: a torchaudio that was built for another torch
        reason = " ".join(str(error).split())
        raise ConfigError(
            f'openunmix is not usable here ({reason}): pip install "danna-sep[openunmix]" '
            "with a torchaudio that fits the installed torch"
        ) from error
    try:
        separator = getattr(openunmix, model)(targets=list(SOURCES), niter=1, device=device)
    except Exception as error:  # of the network, or the files
        reason = " ".join(str(error).split())[:200]
        raise MissingWeights(f"the weights of Open-Unmix {model!r} cannot be fetched ({reason}); try again") from error
    return OpenUnmixSeparator(separator.requires_grad_(False).eval().to(device))
