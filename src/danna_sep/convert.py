"""The original's parameters -> our models: entry names, shapes, quirks.

The original's own names for the entries of its three released networks are mapped to ours one by one; nothing may
be missing, left over or of another shape.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TypeAlias

import torch
from torch import Tensor

from danna_sep.errors import UnknownCheckpoint
from danna_sep.models import XUMX, Demucs, DemucsConfig, UNet, UNetConfig, XUMXConfig
from danna_sep.types import SOURCES

Model: TypeAlias = XUMX | UNet | Demucs

_SIGNATURES: dict[str, str] = {
    "xumx": "affine1.0.weight",
    "unet": "down_convs.0.0.d2_layers.0.conv_layers.0.weight",
    "demucs": "dec_pre_convs.0.weight",
}
"""An entry that only this model has."""

_FIXED_FILTERS = re.compile(r"(up|down)_sample\.kernel")
"""The resamplers' filters: they follow from formulas and are not parameters."""

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
    """Which of the original's models `entries` belong to: "xumx", "unet" or "demucs".

    Raises:
        UnknownCheckpoint: None of them.
    """
    for name, signature in _SIGNATURES.items():
        if signature in entries:
            return name
    raise UnknownCheckpoint("not a checkpoint of the original X-UMX, U-Net or Demucs: none of their entries is in it")


def from_original(entries: Mapping[str, Tensor]) -> Model:
    """Our model with the original's parameters, in evaluation mode.

    Args:
        entries: The original's entry names and values; which model it is follows from them.

    Raises:
        UnknownCheckpoint: Not one of the original's models, or an entry is missing, left over or
            of another shape; the message names it.
    """
    name = recognise(entries)
    parameters = {key: value for key, value in entries.items() if not _FIXED_FILTERS.fullmatch(key)}
    with torch.device("meta"):
        model: Model
        translate: Callable[[Mapping[str, Tensor]], dict[str, Tensor]]
        if name == "xumx":
            model, translate = XUMX(XUMXConfig()), _translate_xumx
        elif name == "unet":
            model, translate = UNet(UNetConfig(mask_padding=False)), _by_rules(_UNET_RULES)
        else:
            model, translate = Demucs(DemucsConfig()), _by_rules(_DEMUCS_RULES)
    translated = translate(parameters)
    check_entries(model, translated, f"the original {name}")
    model.load_state_dict(translated, assign=True)
    return model.requires_grad_(False).eval()


def check_entries(model: torch.nn.Module, entries: Mapping[str, Tensor], what: str) -> None:
    """Raise UnknownCheckpoint, naming the first entry, unless names and shapes are exactly the model's."""
    expected = model.state_dict()
    for key in expected.keys() - entries.keys():
        raise UnknownCheckpoint(f"{what}: entry {key} is missing")
    for key in entries.keys() - expected.keys():
        raise UnknownCheckpoint(f"{what}: unknown entry {key}")
    for key, value in expected.items():
        if entries[key].shape != value.shape:
            raise UnknownCheckpoint(
                f"{what}: entry {key} has shape {tuple(entries[key].shape)}, expected {tuple(value.shape)}"
            )


def _translate_xumx(entries: Mapping[str, Tensor]) -> dict[str, Tensor]:
    n_sources = len(_XUMX_LSTMS)
    translated: dict[str, Tensor] = {}
    for key, value in entries.items():
        layer, _, leaf = key.rpartition(".")
        source = layer.removesuffix("_lstm")
        if key in _XUMX_STATISTICS:
            if value.dim() != 1 or len(value) % n_sources:
                raise UnknownCheckpoint(
                    f"the original xumx: entry {key} has shape {tuple(value.shape)}, expected one number per source and bin"
                )
            translated[_XUMX_STATISTICS[key]] = value.reshape(n_sources, -1)
        elif layer in _XUMX_LAYERS:
            translated[f"{_XUMX_LAYERS[layer]}.{leaf}"] = value
        elif source in _XUMX_LSTMS and layer.endswith("_lstm"):
            translated[f"lstms.{SOURCES.index(source)}.{leaf}"] = value
        else:
            translated[key] = value
    return translated


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
