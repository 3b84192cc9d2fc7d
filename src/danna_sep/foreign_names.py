"""Entry names of other people's checkpoints, and ours for them, one by one."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

import torch
from torch import Tensor

from danna_sep.errors import UnknownCheckpoint
from danna_sep.types import SOURCES

_SIGNATURES: dict[str, str] = {
    "xumx": "affine1.0.weight",
    "unet": "down_convs.0.0.d2_layers.0.conv_layers.0.weight",
    "demucs": "dec_pre_convs.0.weight",
    "xumx-baseline": "layer_enc.drums.enc.0.weight",
}
"""An entry that only this model has."""

_FIXED = re.compile(r"(up|down)_sample\.kernel|(encoder\.0|decoder)\.window")
"""The resamplers' filters and the windows of the STFT: they follow from formulas and are not parameters."""

_XUMX_STATISTICS = {
    "input_means": "input_mean",
    "input_scale": "input_scale",
    "output_means": "output_mean",
    "output_scale": "output_scale",
}
_XUMX_LAYERS = {
    "affine1.0": "encoder",
    "affine1.1": "encoder_norm",
    "affine2.0": "decoder",
    "affine2.1": "decoder_norm",
    "affine2.3": "output",
    "affine2.4": "output_norm",
}
_XUMX_LSTMS = ("bass", "drums", "vocals", "other")
_BASELINE_LAYERS = {
    "layer_enc.{}.enc.0": "encoder",
    "layer_enc.{}.enc.1": "encoder_norm",
    "layer_dec.{}.dec.0": "decoder",
    "layer_dec.{}.dec.1": "decoder_norm",
    "layer_dec.{}.dec.3": "output",
    "layer_dec.{}.dec.4": "output_norm",
}

_UNET_RULES = (
    (r"down_convs\.(\d+)\.0\.d2_layers\.(\d+)\.", r"encoder.\1.blocks.\2."),
    (r"up_convs\.(\d+)\.0\.d2_layers\.(\d+)\.", r"decoder.\1.block.blocks.\2."),
    (r"\.conv_layers\.(\d+)\.", r".convs.\1."),
    (r"\.bn_layers\.(\d+)\.0\.", r".norms.\1."),
    (r"up_convs\.(\d+)\.1\.", r"decoder.\1.widen."),
    (r"up_convs\.(\d+)\.2\.", r"decoder.\1.norm."),
    (r"attn\.(\d+)\.qkv_conv\.", r"bottleneck.\1.project."),
    (r"attn\.(\d+)\.out_conv\.", r"bottleneck.\1.output."),
    (r"attn\.(\d+)\.", r"bottleneck.\1."),
    (r"end\.0\.", "widen."),
    (r"end\.1\.", "widen_norm."),
    (r"end\.3\.", "output."),
)
_DEMUCS_RULES = (
    (r"encoder\.(\d+)\.0\.", r"encoder.\1.narrow."),
    (r"encoder\.(\d+)\.2\.", r"encoder.\1.gate."),
    (r"convs_1x1\.(\d+)\.", r"decoder.\1.skip."),
    (r"dec_pre_convs\.(\d+)\.", r"decoder.\1.gate."),
    (r"decoder\.(\d+)\.0\.", r"decoder.\1.widen."),
    (r"lstm_linear\.", "project."),
)


def recognise(entries: Mapping[str, Tensor]) -> str:
    """Which model `entries` belong to: "xumx", "unet" or "demucs" of the original, or "xumx-baseline".

    The last is the public X-UMX for MUSDB18, in the names of the Asteroid toolkit.

    Raises:
        UnknownCheckpoint: None of them.
    """
    for name, signature in _SIGNATURES.items():
        if signature in entries:
            return name
    raise UnknownCheckpoint("not a checkpoint of the original X-UMX, U-Net or Demucs: none of their entries is in it")


def translated(name: str, entries: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Entries under our names; what is nobody's keeps its own, and what is fixed is left out.

    Args:
        name: As `recognise` says.
        entries: Theirs.

    Raises:
        UnknownCheckpoint: An entry whose shape cannot be that of one per source.
    """
    parameters = {key: value for key, value in entries.items() if not _FIXED.fullmatch(key)}
    return _TRANSLATIONS[name](parameters)


def _translate_xumx(entries: Mapping[str, Tensor]) -> dict[str, Tensor]:
    n_sources = len(_XUMX_LSTMS)
    translated: dict[str, Tensor] = {}
    for key, value in entries.items():
        layer, _, leaf = key.rpartition(".")
        source = layer.removesuffix("_lstm")
        if key in _XUMX_STATISTICS:
            if value.dim() != 1 or len(value) % n_sources:
                raise UnknownCheckpoint(
                    f"the original xumx: entry {key} has shape {tuple(value.shape)}, expected one per source and bin"
                )
            translated[_XUMX_STATISTICS[key]] = value.reshape(n_sources, -1)
        elif layer in _XUMX_LAYERS:
            translated[f"{_XUMX_LAYERS[layer]}.{leaf}"] = value
        elif source in _XUMX_LSTMS and layer.endswith("_lstm"):
            translated[f"lstms.{SOURCES.index(source)}.{leaf}"] = value
        else:
            translated[key] = value
    return translated


def _translate_baseline(entries: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A module for each source there, groups of one convolution here."""
    left = dict(entries)
    translated: dict[str, Tensor] = {}

    def gather(theirs: str) -> list[Tensor]:
        """That of each source, taken out; none where one is missing or unlike the others, which is then told of."""
        names = [theirs.format(source) for source in SOURCES]
        alike = len({left[name].shape for name in names if name in left}) == 1
        return [left.pop(name) for name in names] if alike and all(name in left for name in names) else []

    for layer, ours in _BASELINE_LAYERS.items():
        for leaf in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
            if parts := gather(f"{layer}.{leaf}"):
                joined = parts[0] if leaf == "num_batches_tracked" else torch.cat(parts)
                translated[f"{ours}.{leaf}"] = joined[..., None] if joined.dim() == 2 else joined
    for statistic in _XUMX_STATISTICS.values():
        if parts := gather(f"mean_scale.{statistic}_{{}}"):
            translated[statistic] = torch.stack(parts)
    for name in list(left):
        kind, _, rest = name.partition(".")
        source, _, leaf = rest.partition(".")
        if kind == "layer_lstm" and source in SOURCES:
            translated[f"lstms.{SOURCES.index(source)}.{leaf}"] = left.pop(name)
    return translated | left


def _by_rules(rules: tuple[tuple[str, str], ...]) -> Callable[[Mapping[str, Tensor]], dict[str, Tensor]]:
    def translate(entries: Mapping[str, Tensor]) -> dict[str, Tensor]:
        translated: dict[str, Tensor] = {}
        for key, value in entries.items():
            for pattern, replacement in rules:
                anchored = pattern if pattern.startswith(r"\.") else "^" + pattern
                key = re.sub(anchored, replacement, key, count=1)
            translated[key] = value
        return translated

    return translate


_TRANSLATIONS: Final[Mapping[str, Callable[[Mapping[str, Tensor]], dict[str, Tensor]]]] = {
    "xumx": _translate_xumx,
    "xumx-baseline": _translate_baseline,
    "unet": _by_rules(_UNET_RULES),
    "demucs": _by_rules(_DEMUCS_RULES),
}
