"""Arithmetic of a network: single precision, or bfloat16 where the processor is fast in it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import torch
from torch import nn

from danna_sep.errors import ConfigError

PRECISIONS: Final = ("auto", "f32", "bf16")

_LOWERED = (nn.Conv1d, nn.Conv2d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.Linear, nn.LSTM)
_CPU_INFO = Path("/proc/cpuinfo")


def resolve_precision(precision: str, device: torch.device | str, whole: bool = False) -> str:
    """What "auto" stands for on a device, or the precision named.

    "bf16" where a CPU multiplies such numbers faster than single precision; else "f32". On other devices "auto" is
    "f32", for nobody has measured there what it costs and gains; and for whole tracks, which are there for agreement.

    Raises:
        ConfigError: No such precision.
    """
    if precision not in PRECISIONS:
        raise ConfigError(f"no precision {precision!r}; there are {', '.join(PRECISIONS)}")
    if precision != "auto":
        return precision
    return "bf16" if not whole and torch.device(device).type == "cpu" and has_fast_bf16() else "f32"


def rounds_for_memory(precision: str, whole: bool = False) -> bool:
    """Whether what waits long is kept in eight bits: but where single precision was asked for, or agreement."""
    return precision != "f32" and not whole


def has_fast_bf16() -> bool:
    """Whether this processor has instructions for products of bfloat16 numbers (AVX-512 BF16 or AMX).

    PyTorch computes in bfloat16 on any processor, but without them it is slower than in single precision.
    """
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        if (supported := getattr(torch.cpu, name, None)) and supported():
            return True
    try:
        flags = _CPU_INFO.read_text(encoding="utf-8").split()
    except OSError:
        return False
    return bool({"avx512_bf16", "amx_bf16"}.intersection(flags))


def lower(model: nn.Module) -> None:
    """Keep the weights of convolutions, linear layers and LSTMs in bfloat16, in place; not for training.

    The networks compute in the precision of these weights, take and give single precision, and keep their norms,
    standardisation and last nonlinearity in it.
    """
    for module in model.modules():
        if isinstance(module, _LOWERED):
            module.to(torch.bfloat16)
