"""Other packages' separators with small random networks, as far as those packages are installed."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys

import torch

from danna_sep.separators import Separator
from danna_sep.types import SOURCES


def foreign_separators() -> dict[str, Separator]:
    makers = {"demucs": small_demucs, "openunmix": small_openunmix}
    return {f"package {name}": make() for name, make in makers.items() if importlib.util.find_spec(name)}


def small_demucs(sources: tuple[str, ...] = SOURCES) -> Separator:
    from demucs.apply import BagOfModels
    from demucs.htdemucs import HTDemucs

    from danna_sep.adapters.demucs import DemucsSeparator

    torch.manual_seed(0)
    networks = [HTDemucs(list(sources), channels=8, t_layers=1, t_heads=2, segment=0.5) for _ in range(2)]
    return DemucsSeparator(BagOfModels(networks).eval().requires_grad_(False))


def small_openunmix() -> Separator:
    if importlib.util.find_spec("torchaudio") is None:
        # It is imported, but only what resamples files would use it.
        placeholder = importlib.machinery.ModuleSpec("torchaudio", None)
        sys.modules["torchaudio"] = importlib.util.module_from_spec(placeholder)
    from openunmix.model import OpenUnmix
    from openunmix.model import Separator as OpenUnmixModel

    from danna_sep.adapters.openunmix import OpenUnmixSeparator

    torch.manual_seed(0)
    targets = {name: OpenUnmix(nb_bins=2049, hidden_size=8, nb_layers=1, max_bin=256) for name in ("vocals", "drums")}
    return OpenUnmixSeparator(OpenUnmixModel(targets, niter=1).eval().requires_grad_(False))
