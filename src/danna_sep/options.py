"""How to separate, apart from what and where to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Final

from danna_sep.errors import ConfigError
from danna_sep.types import SOURCES

ACCOMPANIMENT: Final = "accompaniment"
"""Name of what is left when one stem is taken out of the mixture."""

DEFAULT_OVERLAP: Final = 0.167
"""Share of a segment that it has in common with the next: of the default 384 frames 60."""


@dataclass(frozen=True)
class Options:
    """How to separate.

    Attributes:
        stems: Stems wanted, out of drums, bass, other, vocals.
        two_stems: One stem, and the mixture without it as "accompaniment", instead of `stems`.
        shifts: Runs of the waveform model, averaged: slower, slightly better.
        segment_s: Seconds that the models hear at once; None for 8.9, or 2.5 where longer ones change nothing.
        overlap: Share of a segment, 0 to 0.5, that it has in common with the next.
        whole: The whole track at once, in memory, instead of segments.
        channels: What to do with more than two: "error", "pairs", "front" or "downmix".
        device: "auto", "cpu", "cuda" or "mps".
        precision: Of the networks' arithmetic: "f32", "bf16", "int8" (whole numbers in most of a U-Net, the rest as the
            processor is fast), or "auto" for the fastest one of this processor. Unless it is "f32", what waits in a
            U-Net's stream is rounded on a CPU, and takes less memory.
    """

    stems: Sequence[str] = SOURCES
    two_stems: str | None = None
    shifts: int = 1
    segment_s: float | None = None
    overlap: float = DEFAULT_OVERLAP
    whole: bool = False
    channels: str = "error"
    device: str = "auto"
    precision: str = "auto"

    @property
    def computed(self) -> tuple[str, ...]:
        """Stems that a separator must give."""
        return (self.two_stems,) if self.two_stems else tuple(self.stems)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the results."""
        return (self.two_stems, ACCOMPANIMENT) if self.two_stems else tuple(self.stems)

    def changed(self, changes: Mapping[str, Any]) -> Options:
        """The same with some fields set otherwise.

        Raises:
            ConfigError: A field that there is not.
        """
        known = [field.name for field in fields(self)]
        for name in changes:
            if name not in known:
                raise ConfigError(f"no option {name!r}; there are {', '.join(known)}")
        return replace(self, **changes)


DEFAULTS: Final = Options()
"""All stems, in segments, on the best device."""
