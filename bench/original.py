"""The original's way to separate, as a yardstick: plain modules, the whole track at once, norbert in double precision.

Same networks and parameters as ours, without what makes ours fast outside training: batch norms stand by themselves,
transposed convolutions widen in one piece, tensors keep PyTorch's default layout.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import norbert
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from danna_sep.convert import OriginalDemucs
from danna_sep.models import Demucs, UNet, unet
from danna_sep.models.d3 import D2Block
from danna_sep.signal.stft import stft
from danna_sep.types import SAMPLE_RATE, SOURCES


def plain(model: nn.Module) -> nn.Module:
    """The same network, computed operation by operation as it is written in the papers."""
    if isinstance(model, UNet):
        _replace(unet, "widen_and_norm", lambda widen, norm, features: norm(widen(features)))
        _replace(unet, "channels_last", lambda features: features)
        for module in model.modules():
            if isinstance(module, D2Block):
                module.forward = types.MethodType(_plain_d2, module)
    if isinstance(model, Demucs):
        from danna_sep.models import demucs

        _replace(demucs, "resample", _resampled_by_convolution)
    return model


def _replace(module: types.ModuleType, name: str, function: Callable[..., Any]) -> None:
    """A function that the module has: one that was renamed would otherwise go on being measured as the original's."""
    if not callable(getattr(module, name, None)):
        raise SystemExit(f"{module.__name__} has no {name} any more: say here what took its place")
    setattr(module, name, function)


def _plain_d2(self: D2Block, features: Tensor) -> Tensor:
    outputs: list[Tensor] = []
    waiting: Tensor | None = None
    for conv, norm in zip(self.convs, self.norms, strict=True):
        yielded = conv(features)
        if waiting is not None:
            yielded = yielded + waiting
        features = torch.relu(norm(yielded[:, : self.growth]))
        waiting = yielded[:, self.growth :]
        outputs.append(features)
    return torch.cat(outputs, 1)


def _resampled_by_convolution(signal: Tensor, old: int, new: int) -> Tensor:
    from danna_sep.signal.resample import sinc_filters

    filters = sinc_filters(old, new)
    reach = (filters.shape[1] - old) // 2
    n_samples = signal.shape[-1]
    rows = F.pad(signal.reshape(-1, 1, n_samples), (reach, reach + old), mode="replicate")
    phases = F.conv1d(rows, filters[:, None], stride=old)
    result = phases.transpose(1, 2).reshape(len(rows), -1)[:, : n_samples * new // old]
    return result.reshape(*signal.shape[:-1], -1)


@dataclass(frozen=True)
class OriginalMask:
    """A mask model on the whole track, and norbert behind it."""

    model: nn.Module
    block_frames: int | None = None
    sources: tuple[str, ...] = SOURCES
    sample_rate: int = SAMPLE_RATE

    def __call__(self, mixture: Tensor) -> Tensor:
        """Stems of a mixture (channel, time)."""
        n_samples = mixture.shape[-1]
        spec = stft(F.pad(mixture, (0, 1024)))
        magnitude = spec.abs()[None]
        blocks = magnitude.split(self.block_frames or magnitude.shape[-1], -1)
        mask = torch.cat([self.model(block) for block in blocks], -1)
        estimates = (mask * magnitude[:, None])[0].permute(3, 2, 1, 0).double().numpy()
        heard = spec.permute(2, 1, 0).to(torch.complex128).numpy()
        filtered = norbert.wiener(estimates, np.ascontiguousarray(heard), 1, use_softmask=False)
        stems = torch.from_numpy(filtered).permute(3, 2, 1, 0)
        window = torch.hann_window(4096, dtype=torch.float64)
        signals = torch.istft(stems.flatten(0, 1), 4096, 1024, window=window, length=n_samples)
        return signals.unflatten(0, stems.shape[:2]).float()


def original_way(name: str, model: nn.Module) -> OriginalMask | OriginalDemucs:
    """The separator around one of the original's three models, xumx, unet or demucs."""
    model = plain(model)
    if name == "demucs":
        return OriginalDemucs(model)
    return OriginalMask(model, 2584 if name == "unet" else None)
