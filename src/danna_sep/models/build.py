"""Networks by name and configuration, as the header of a weights file gives them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, TypeAlias

from danna_sep.errors import ConfigError
from danna_sep.models.demucs import Demucs, DemucsConfig
from danna_sep.models.unet import UNet, UNetConfig
from danna_sep.models.xumx import XUMX, XUMXConfig

Model: TypeAlias = XUMX | UNet | Demucs
ModelConfig: TypeAlias = XUMXConfig | UNetConfig | DemucsConfig

MODELS: Mapping[str, tuple[Callable[[Any], Model], Callable[..., Any]]] = {
    "xumx": (XUMX, XUMXConfig),
    "unet": (UNet, UNetConfig),
    "demucs": (Demucs, DemucsConfig),
}
"""Network and configuration class of each model."""


_CHANGEABLE: Mapping[str, frozenset[str]] = {
    "unet": frozenset(("n_fft", "hop_length", "n_bins", "n_edge_bins", "input_power", "mask_padding")),
}
"""What of a model may be another than in the header of its weights: what it hears, and how what it says is used."""


def build(name: str, config: Mapping[str, Any]) -> Model:
    """A freshly initialised network.

    Args:
        name: A key of MODELS.
        config: Values for the configuration's fields; what is not given has the paper's size.

    Raises:
        ConfigError: No such model, unknown field, or a value of another type.
    """
    if name not in MODELS:
        raise ConfigError(f"no model {name!r}; there are {', '.join(MODELS)}")
    model_class, config_class = MODELS[name]
    defaults = config_class()
    known = {field.name for field in fields(defaults)}
    values: dict[str, Any] = {}
    for key, value in config.items():
        if key not in known:
            raise ConfigError(f"{name} has no setting {key!r}; there are {', '.join(sorted(known))}")
        default = getattr(defaults, key)
        values[key] = _of_kind(value, default, f"{name}: {key}")
    try:
        return model_class(config_class(**values))
    except (ValueError, RuntimeError) as error:
        raise ConfigError(f"{name}: {error}") from error


def needing_weights(name: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the changes to a model's settings that its weights were not made for, whether or not they fit."""
    return {key: value for key, value in changes.items() if key not in _CHANGEABLE.get(name, ())}


def _of_kind(value: Any, default: Any, what: str) -> Any:
    """A value of the default's type, as JSON and Python may write it.

    Raises:
        ConfigError: It cannot be meant.
    """
    if isinstance(default, tuple) and isinstance(value, list | tuple):
        return tuple(_of_kind(each, default[0], what) for each in value)
    if type(default) is float and type(value) is int and abs(value) < 2**53:
        return float(value)
    if type(value) is not type(default):
        raise ConfigError(f"{what} must be {type(default).__name__}, not {value!r}")
    return value
