"""Arithmetic of a network: single precision, or bfloat16 and whole numbers where the processor is fast in them."""

from __future__ import annotations

from typing import Final

import torch
from torch import nn

from danna_sep.errors import ConfigError
from danna_sep.models.processor import has_instructions
from danna_sep.models.whole_numbers import sums_exactly

PRECISIONS: Final = ("auto", "f32", "bf16", "int8")

_LOWERED = (nn.Conv1d, nn.Conv2d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.Linear, nn.LSTM)


def resolve_precision(precision: str, device: torch.device | str, whole: bool = False) -> str:
    """What "auto" stands for on a device, or the precision named.

    "int8" where a CPU multiplies whole numbers of eight bits faster than others, else "bf16" where it does bfloat16
    numbers, else "f32". On other devices "auto" is "f32", for nobody has measured there what another costs and gains;
    and for whole tracks, which are there for agreement.

    Raises:
        ConfigError: No such precision, or "int8" where it is not there or would be wrong: products of eight bits
            overflow on processors without instructions for their sums.
    """
    if precision not in PRECISIONS:
        raise ConfigError(f"no precision {precision!r}; there are {', '.join(PRECISIONS)}")
    is_cpu = torch.device(device).type == "cpu"
    if precision == "int8" and not (is_cpu and has_fast_int8()):
        raise ConfigError("precision int8 needs a CPU with VNNI, and a PyTorch that uses it; take auto")
    if precision != "auto":
        return precision
    if whole or not is_cpu:
        return "f32"
    return "int8" if has_fast_int8() else "bf16" if has_fast_bf16() else "f32"


def lowers(precision: str) -> bool:
    """Whether a network of that precision computes in bfloat16 what it does not in whole numbers; see `lower`."""
    return precision == "bf16" or (precision == "int8" and has_fast_bf16())


def rounds_for_memory(precision: str, whole: bool = False) -> bool:
    """Whether what waits long is kept in eight bits: but where single precision was asked for, or agreement."""
    return precision != "f32" and not whole


def has_fast_bf16() -> bool:
    """Whether this processor has instructions for products of bfloat16 numbers (AVX-512 BF16 or AMX).

    PyTorch computes in bfloat16 on any processor, but without them it is slower than in single precision.
    """
    return has_instructions("avx512_bf16", "_is_avx512_bf16_supported") or has_instructions(
        "amx_bf16", "_is_amx_tile_supported"
    )


def has_fast_int8() -> bool:
    """Whether this processor has instructions for sums of products of eight bits, and PyTorch uses them.

    They are AVX-512 VNNI or, of half the width, on laptops without AVX-512, AVX-VNNI: which Linux alone tells of.
    """
    has_wide = has_instructions("avx512f", "_is_avx512_supported") and has_instructions(
        "avx512_vnni", "_is_vnni_supported"
    )
    return (has_wide or has_instructions("avx_vnni")) and sums_exactly()


def lower(model: nn.Module) -> None:
    """Keep the weights of convolutions, linear layers and LSTMs in bfloat16, in place; not for training.

    The networks compute in the precision of these weights, take and give single precision, and keep their norms,
    standardisation and last nonlinearity in it.
    """
    for module in model.modules():
        if isinstance(module, _LOWERED):
            module.to(torch.bfloat16)
