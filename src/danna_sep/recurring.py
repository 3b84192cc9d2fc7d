"""A separator whose stems are averaged over the places of a song that sound alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from danna_sep.errors import ConfigError
from danna_sep.separators import Separator, pick
from danna_sep.shapes import Mixture, Stems
from danna_sep.signal.recurrence import CHUNK, HOP, Recurrence
from danna_sep.types import SOURCES

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

_BLOCK = CHUNK * HOP


@dataclass(frozen=True)
class Recurring:
    """What another separator gives, averaged; see `signal.recurrence`.

    Attributes:
        separator: The other; of all SOURCES.
        sources: Stems to return; all are averaged, for they share what averaging leaves.
    """

    separator: Separator
    sources: tuple[str, ...] = SOURCES

    def __post_init__(self) -> None:
        if self.separator.sources != SOURCES:
            raise ConfigError(f"only all of {', '.join(SOURCES)} together can be averaged where a song repeats itself")

    @property
    def sample_rate(self) -> int:
        """See `Separator`."""
        return self.separator.sample_rate

    @property
    def device(self) -> torch.device | str:
        """Where the other's parameters are."""
        return getattr(self.separator, "device", "cpu")

    @property
    def hears_whole_tracks(self) -> bool:
        """Whether the other does."""
        return getattr(self.separator, "hears_whole_tracks", False)

    def __call__(self, mixture: Mixture) -> Stems:
        """See `Separator`."""
        recurrence = Recurrence()
        stems = self.separator(mixture).split(_BLOCK, -1)
        # In blocks, so that no more than a bank is compared at once.
        averaged = [settled for block in stems for settled in recurrence.push(block)]
        return self.wanted(torch.cat([*averaged, *recurrence.finish()], -1))

    def wanted(self, stems: Stems) -> Float[Tensor, "*batch _source channel time"]:
        """Those of all stems that are."""
        return stems if self.sources == SOURCES else pick(stems, SOURCES, self.sources)

    def only(self, sources: Sequence[str]) -> Recurring:
        """The same for some of its sources."""
        return replace(self, sources=tuple(sources))
