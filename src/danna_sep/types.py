"""The vocabulary that every other module shares: what is separated, and at which rate."""

from __future__ import annotations

from typing import Final

SOURCES: Final = ("drums", "bass", "other", "vocals")
"""The four sources, in the order in which every array of stems holds them."""

SAMPLE_RATE: Final = 44100
"""Rate at which every model works, Hz."""
