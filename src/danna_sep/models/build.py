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
        if isinstance(default, tuple) and isinstance(value, list):
            value = tuple(value)
        if type(value) is not type(default):
            raise ConfigError(f"{name}: {key} must be {type(default).__name__}, not {value!r}")
        values[key] = value
    try:
        return model_class(config_class(**values))
    except (ValueError, RuntimeError) as error:
        raise ConfigError(f"{name}: {error}") from error
