"""Danna-Sep: separates a music recording into drums, bass, other and vocals."""

from __future__ import annotations

from importlib.metadata import version as _version
from typing import TYPE_CHECKING, Any

from danna_sep import errors
from danna_sep.types import SAMPLE_RATE, SOURCES

if TYPE_CHECKING:
    from danna_sep.api import load, separate, separate_file, stream
    from danna_sep.blending import Blend
    from danna_sep.options import Options
    from danna_sep.separators import Separator

__version__ = _version("danna-sep")

__all__ = [
    "SAMPLE_RATE",
    "SOURCES",
    "Blend",
    "Options",
    "Separator",
    "__version__",
    "errors",
    "load",
    "separate",
    "separate_file",
    "stream",
]

_HOMES = {
    "Blend": "blending",
    "Separator": "separators",
    **dict.fromkeys(("Options", "load", "separate", "separate_file", "stream"), "api"),
}


def __getattr__(name: str) -> Any:
    """Import what needs NumPy or torch when it is first asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
