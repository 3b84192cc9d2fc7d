"""Two separators one behind the other: what the first leaves of the mixture, the second takes apart."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from danna_sep.errors import ConfigError
from danna_sep.separators import Separator, only
from danna_sep.shapes import Mixture, Stems
from danna_sep.types import SOURCES


class Cascade:
    """Some sources from one separator, and the others from another that hears the mixture without them.

    What the second hears is the mixture minus the stems that the first gave, not the first's own estimate of an
    accompaniment: the difference loses nothing, whatever the first does above the band that it hears.

    Args:
        first: Gives the sources `taken`.
        rest: Hears what is left; its own estimates of `taken` are not used.
        taken: Sources of the first.
        sources: Stems to return; None for all of both, in the usual order.

    Raises:
        ConfigError: Sources that they do not have, or different sample rates.
    """

    def __init__(
        self,
        first: Separator,
        rest: Separator,
        taken: Sequence[str] = ("vocals",),
        sources: Sequence[str] | None = None,
    ) -> None:
        if first.sample_rate != rest.sample_rate:
            raise ConfigError(f"cascade: separators work at {first.sample_rate} and {rest.sample_rate} Hz")
        everything = {*taken, *rest.sources}
        usual = [*(source for source in SOURCES if source in everything), *sorted(everything - set(SOURCES))]
        self.sources = tuple(usual if sources is None else sources)
        self.sample_rate = first.sample_rate
        self.taken = tuple(taken)
        self.first = only(first, self.taken)
        self.left = tuple(source for source in self.sources if source not in self.taken)
        self.rest = only(rest, self.left) if self.left else rest

    @property
    def device(self) -> torch.device | str:
        """Where the first separator's parameters are; both must be in one place."""
        return getattr(self.first, "device", "cpu")

    @property
    def hears_whole_tracks(self) -> bool:
        """Whether one of the two does."""
        return any(getattr(separator, "hears_whole_tracks", False) for separator in (self.first, self.rest))

    def __call__(self, mixture: Mixture) -> Stems:
        """See `Separator`."""
        taken = self.first(mixture)
        return self.joined(taken, self.rest(mixture - taken.sum(-3)) if self.left else taken[..., :0, :, :])

    def joined(
        self, taken: Float[Tensor, "*batch _taken channel time"], rest: Float[Tensor, "*batch _left channel time"]
    ) -> Stems:
        """The stems wanted, from those of the first separator and of the second."""
        stems = dict(zip((*self.taken, *self.left), (*taken.unbind(-3), *rest.unbind(-3)), strict=True))
        return torch.stack([stems[source] for source in self.sources], -3)

    def only(self, sources: Sequence[str]) -> Separator:
        """The same for some of its sources; without the second if they do not need it."""
        if set(sources) <= set(self.taken):
            return only(self.first, sources)
        return Cascade(self.first, self.rest, self.taken, sources)
