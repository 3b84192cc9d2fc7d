"""A weighted sum of separators, with one weight per separator and source."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence

import torch

from danna_sep.errors import ConfigError
from danna_sep.separators import Separator, only, pick, spares
from danna_sep.shapes import Mixture, Stems
from danna_sep.signal.blend import Weighted, blend
from danna_sep.types import SOURCES

logger = logging.getLogger(__name__)


class Blend:
    """Weighted sum of separators, with one weight per separator and source.

    A separator all of whose weights are zero is not computed.

    Args:
        separators: By name.
        weights: For each of those names, a weight per source of `sources`; 0 for what it does not have.
        sources: Stems to return.
        sums_to_one: Whether the weights of a source are meant to; then it is logged where they do not.

    Raises:
        ConfigError: Names, numbers of weights, sources or rates that do not fit together.
    """

    def __init__(
        self,
        separators: Mapping[str, Separator],
        weights: Mapping[str, Sequence[float]],
        sources: tuple[str, ...] = SOURCES,
        *,
        sums_to_one: bool = True,
    ) -> None:
        _check_blend(separators, weights, sources)
        self.sums_to_one = sums_to_one
        self.separators = dict(separators)
        self.weights = {name: tuple(float(weight) for weight in weights[name]) for name in separators}
        self.sources = sources
        self.sample_rate = next(iter(separators.values())).sample_rate
        for source, total in zip(sources, map(sum, zip(*self.weights.values(), strict=True)), strict=True):
            if sums_to_one and abs(total - 1) > 1e-3:
                logger.warning("blend: the weights for %s sum to %.3g, not to one", source, total)

    @property
    def device(self) -> torch.device | str:
        """Where the first separator's parameters are; all must be in one place."""
        return getattr(next(iter(self.separators.values())), "device", "cpu")

    @property
    def hears_whole_tracks(self) -> bool:
        """Whether any of the separators does."""
        return any(getattr(separator, "hears_whole_tracks", False) for separator in self.separators.values())

    def __call__(self, mixture: Mixture) -> Stems:
        """See `Separator`."""
        if not self.active:
            return torch.zeros_like(mixture).unsqueeze(-3).repeat_interleave(len(self.sources), -3)
        return self.blended((name, separator(mixture)) for name, separator in self.active.items())

    @property
    def active(self) -> dict[str, Separator]:
        """Those that have any weight, by name, for the sources in which they have it."""
        return {
            name: _computing(
                separator, [s for s, weight in zip(self.sources, self.weights[name], strict=True) if weight]
            )
            for name, separator in self.separators.items()
            if any(self.weights[name])
        }

    def blended(self, estimates: Iterable[tuple[str, Stems]]) -> Stems:
        """The weighted sum of what some of the separators gave, one after the other, each with its name."""
        return self.total(self.weighted(name, estimate) for name, estimate in estimates)

    def shares(self, name: str) -> dict[str, float]:
        """What the separator of that name counts, by source, but for zeros."""
        return {source: weight for source, weight in zip(self.sources, self.weights[name], strict=True) if weight}

    def weighted(self, name: str, estimate: Stems) -> Weighted:
        """What the active separator of that name gave, with its weights."""
        available = self.active[name].sources
        shared = tuple(source for source in available if source in self.sources)
        stems = estimate if shared == available else pick(estimate, available, shared)
        return self.placed(stems, shared, [self.shares(name).get(source, 0.0) for source in shared])

    def placed(self, stems: Stems, sources: tuple[str, ...], row: Sequence[float] | None = None) -> Weighted:
        """Stems of some of the sources, with their weights; without any, as they are, and they may be used up."""
        places = None if sources == self.sources else [self.sources.index(source) for source in sources]
        return Weighted(stems, None if row is None else torch.tensor(row), places)

    def total(self, weighted: Iterable[Weighted]) -> Stems:
        """Their sum."""
        return blend(weighted, len(self.sources))

    def only(self, sources: Sequence[str]) -> Blend:
        """The same for some of its sources, without the separators that add nothing to them.

        Raises:
            ConfigError: A source that it does not have, or none.
        """
        missing = [source for source in sources if source not in self.sources]
        if missing or not sources:
            raise ConfigError(f"no such stem: {', '.join(missing)}; there are {', '.join(self.sources)}")
        places = [self.sources.index(source) for source in sources]
        weights = {name: tuple(row[place] for place in places) for name, row in self.weights.items()}
        kept = {name: row for name, row in weights.items() if any(row)} or weights
        separators = {name: _only_shared(self.separators[name], sources) for name in kept}
        return Blend(separators, kept, tuple(sources), sums_to_one=self.sums_to_one)


def _only_shared(separator: Separator, sources: Sequence[str]) -> Separator:
    """The separator for those of the sources that it has; all of it if it has none."""
    shared = [source for source in sources if source in separator.sources]
    return only(separator, shared) if shared else separator


def _computing(separator: Separator, sources: Sequence[str]) -> Separator:
    """A separator that spares what these sources do not need, if it can; else all of it."""
    return only(separator, sources) if spares(separator) else separator


def _is_finite(weight: object) -> bool:
    try:
        return math.isfinite(weight)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):  # no number, several in a tensor, or hundreds of digits
        return False


def _check_blend(
    separators: Mapping[str, Separator], weights: Mapping[str, Sequence[float]], sources: tuple[str, ...]
) -> None:
    if not separators or set(separators) != set(weights):
        raise ConfigError(f"a blend of {sorted(separators)} needs weights for just these, not {sorted(weights)}")
    for name, row in weights.items():
        if len(row) != len(sources):
            raise ConfigError(f"blend: {name} has {len(row)} weights for {len(sources)} sources")
        if not all(map(_is_finite, row)):
            raise ConfigError(f"blend: {name} has a weight that is not a finite number")
    rates = {separator.sample_rate for separator in separators.values()}
    if len(rates) > 1:
        raise ConfigError(f"blend: separators work at different rates: {sorted(rates)} Hz")
    for name, separator in separators.items():
        for source, weight in zip(sources, weights[name], strict=True):
            if weight and source not in separator.sources:
                raise ConfigError(f"blend: {name} has no {source}, so its weight there must be 0")
