"""How to install what is optional: the packages themselves, by their own names.

This one may be on no index, or there under another's name, so that what installs one of its extras depends on whence it
came; what an extra consists of is known wherever it is installed.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, requires
from typing import Final

_ALONE: Final = ("spleeter",)
"""Extras whose packages bring files only: what these need to run is not wanted."""


def how_to_install(extra: str) -> str:
    """The command that installs the packages of an extra."""
    try:
        listed = requires("danna-sep") or []
    except PackageNotFoundError:  # run from a folder of source files
        return f'pip install ".[{extra}]" in the folder of danna-sep'
    split = (requirement.partition(";") for requirement in listed)
    needed = [f'"{package.strip()}"' for package, _, marker in split if marker.strip() in _markers(extra)]
    return " ".join(("pip install", *(["--no-deps"] if extra in _ALONE else []), *needed))


def _markers(extra: str) -> tuple[str, str]:
    return f"extra == '{extra}'", f'extra == "{extra}"'
