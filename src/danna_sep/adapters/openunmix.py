"""Open-Unmix, from the package `openunmix`, with its released weights.

The package gives the networks and its Wiener filter. Its own way to weights is not taken: it unpickles what it fetched,
compares it with nothing, and leaves the networks as they were initialised where entries are missing.

Reference: Stöter, Uhlich, Liutkus, Mitsufuji, "Open-Unmix - A Reference Implementation for Music Source Separation",
JOSS 4(41), 2019.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from danna_sep.errors import ConfigError, CorruptWeights
from danna_sep.extras import how_to_install
from danna_sep.separators import Separator
from danna_sep.shapes import Mixture, Stems
from danna_sep.types import SOURCES
from danna_sep.weights.download import download
from danna_sep.weights.foreign import read_entries

_SHORTEST = 4096
"""Its spectrum needs a window."""

_ADDRESS = "https://zenodo.org/records/{record}/files/{filename}"
_RELEASED: Final[Mapping[str, tuple[int, tuple[str, ...]]]] = {
    "umxl": (5069601, ("drums-69e0ebd4.pth", "bass-2ca1ce51.pth", "other-c8c5b3e6.pth", "vocals-bccbd9aa.pth")),
    "umxhq": (3370489, ("drums-9619578f.pth", "bass-8d85a5bd.pth", "other-b52fbbf7.pth", "vocals-b62c91ce.pth")),
    "umx": (3370486, ("drums-5a48008b.pth", "bass-646024d3.pth", "other-f8e132cc.pth", "vocals-c8df74a5.pth")),
}
"""Zenodo's record of each model, and its files in the order of SOURCES; names end in the first digits of a SHA-256."""

_LEFT_OVER = {"sample_rate", "stft.window", "transform.0.window"}
"""Buffers that networks had when they were saved, and that the package's separator has now."""


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
        heard = F.pad(items, (0, max(0, _SHORTEST - n_samples))).to(next(self.model.parameters()).dtype)
        stems: Tensor = self.model(heard)[..., :n_samples].to(items.dtype)
        return stems.reshape(*mixture.shape[:-2], *stems.shape[1:])


def load(*, device: str = "cpu", model: str = "umxl") -> Separator:
    """A released Open-Unmix; its weights are fetched to PyTorch's own folder when they are first used.

    Args:
        device: Where the parameters go.
        model: "umxl", "umxhq" or "umx".

    Raises:
        ConfigError: The package is not usable here, or there is no such model.
        DownloadFailed: The weights are not there and cannot be fetched, or are others than those of their name.
        CorruptWeights: They are not those of the network.
    """
    if model not in _RELEASED:
        raise ConfigError(f"no Open-Unmix {model!r}; there are {', '.join(_RELEASED)}")
    try:
        import openunmix
    except (ImportError, OSError) as error:  # OSError: a torchaudio that was built for another torch
        reason = " ".join(str(error).split())
        raise ConfigError(
            f"openunmix is not usable here ({reason}): {how_to_install('openunmix')} "
            "with a torchaudio that fits the installed torch"
        ) from error
    separator = getattr(openunmix, model)(targets=list(SOURCES), niter=1, device="cpu", pretrained=False)
    for source, path in zip(SOURCES, _fetched(model), strict=True):
        _fill(separator.target_models[source], path)
    return OpenUnmixSeparator(separator.requires_grad_(False).eval().to(device))


def _fetched(model: str) -> list[Path]:
    """The weights of each source, where the package itself would have put them, with the hash that their names tell."""
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    record, names = _RELEASED[model]
    for name in names:
        digits = name.removesuffix(".pth").rpartition("-")[2]
        download(_ADDRESS.format(record=record, filename=name), folder / name, sha256=digits)
    return [folder / name for name in names]


def _fill(network: nn.Module, path: Path) -> None:
    """Give the network the entries of a file, which must be its own, all of them."""
    entries = {name: value for name, value in read_entries(path).items() if name not in _LEFT_OVER}
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    if {name: tuple(value.shape) for name, value in entries.items()} != shapes:
        raise CorruptWeights(f"{path}: not the weights of this Open-Unmix; remove the file, it is then fetched again")
    network.load_state_dict(entries)
