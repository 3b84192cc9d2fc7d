"""Weights: registry, files, downloads, and other people's checkpoints; the only door to the network.

Nothing here imports torch before it handles tensors.
"""

from __future__ import annotations

from danna_sep.weights import foreign
from danna_sep.weights.file import FORMAT, WeightsFile, read, read_header, write
from danna_sep.weights.registry import (
    Verification,
    WeightsEntry,
    entries,
    find,
    home,
    load,
    record,
    register_shipped,
    shipped_folder,
    user_folder,
    verify,
)

__all__ = [
    "FORMAT",
    "Verification",
    "WeightsEntry",
    "WeightsFile",
    "entries",
    "find",
    "foreign",
    "home",
    "load",
    "read",
    "read_header",
    "record",
    "register_shipped",
    "shipped_folder",
    "user_folder",
    "verify",
    "write",
]
