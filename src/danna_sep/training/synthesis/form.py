"""The form of a song: its sections in order, what they are like, and who plays in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from danna_sep.types import SOURCES

FORMS: Final = (
    (("intro", "verse", "chorus", "verse", "chorus", "bridge", "chorus", "outro"), 4.0),
    (("verse", "prechorus", "chorus", "verse", "prechorus", "chorus", "solo", "chorus", "outro"), 3.0),
    (("intro", "verse", "verse", "chorus", "verse", "chorus", "chorus", "outro"), 2.0),
    (("verse", "verse", "bridge", "verse", "solo", "bridge", "verse"), 1.0),
    (("chorus", "verse", "chorus", "verse", "chorus", "break", "chorus"), 1.5),
    (("intro", "build", "drop", "break", "build", "drop", "outro"), 1.5),
    (("intro", "drop", "verse", "drop", "break", "drop", "drop", "outro"), 1.0),
)
"""Names of sections, with the weight of each form."""

INTENSITIES: Final = {
    "intro": 0.4, "verse": 0.6, "prechorus": 0.7, "chorus": 0.95, "bridge": 0.6, "solo": 0.8, "break": 0.35,
    "build": 0.6, "drop": 0.95, "outro": 0.5,
}  # fmt: skip

_MOST_LAYERS: Final = 5
# Section: how likely a source of the song plays in it; 1 where none is given.
_LIKELY: Final[dict[str, dict[str, float]]] = {
    "intro": {"drums": 0.6, "bass": 0.5, "other": 0.9, "vocals": 0.15},
    "verse": {"drums": 0.92, "bass": 0.93, "other": 0.95},
    "prechorus": {"drums": 0.95, "bass": 0.95},
    "bridge": {"drums": 0.75, "bass": 0.85, "vocals": 0.75},
    "solo": {"vocals": 0.05},
    "break": {"drums": 0.25, "bass": 0.5, "vocals": 0.6},
    "build": {"bass": 0.7, "vocals": 0.6},
    "drop": {"vocals": 0.6},
    "outro": {"drums": 0.8, "bass": 0.8, "vocals": 0.45},
}


@dataclass(frozen=True)
class Section:
    """A part of a song.

    Attributes:
        name: What it is, one of INTENSITIES; sections of one name have the same chords, groove and layers.
        start_s, length_s: Seconds.
        n_bars: Bars that it has; the last section can end within one.
        intensity: From 0 to 1.
        plays: The sources that play, in SOURCES' order; at least one.
        layers: Numbers of the accompanying instruments that play, from 0; none if `other` does not play.
    """

    name: str
    start_s: float
    length_s: float
    n_bars: int
    intensity: float
    plays: tuple[str, ...]
    layers: tuple[int, ...]

    @property
    def end_s(self) -> float:
        """Where the next one begins."""
        return self.start_s + self.length_s


def random_sources(rng: np.random.Generator) -> tuple[str, ...]:
    """The sources of a song: at times an instrumental, or without drums, bass or accompaniment; at least two."""
    left_out = {"drums": 0.06, "bass": 0.07, "other": 0.03, "vocals": 0.12}
    sources = tuple(source for source in SOURCES if rng.random() > left_out[source])
    return sources if len(sources) >= 2 else SOURCES


def random_sections(
    rng: np.random.Generator, length_s: float, bar_s: float, sources: tuple[str, ...]
) -> tuple[Section, ...]:
    """Sections that tile a song of `length_s`, all but the last in whole bars of `bar_s`."""
    weights = np.array([weight for _, weight in FORMS])
    names = FORMS[rng.choice(len(FORMS), p=weights / weights.sum())][0]
    total = length_s / bar_s
    unit = 8 if total >= 44 else 4 if total >= 14 else 2
    bars = {name: unit * int(rng.choice([1, 1, 2] if name in ("verse", "chorus", "drop") else [1])) for name in names}
    for name in ("intro", "outro", "prechorus", "break"):
        bars[name] = unit // int(rng.choice([1, 2]))
    n_layers = int(rng.integers(1, _MOST_LAYERS + 1))
    layers = {name: _layers(rng, n_layers, INTENSITIES[name]) for name in names}
    middle = names[1 if names[0] == "intro" else 0 : -1]
    order = [*names[: len(names) - len(middle) - 1], *middle]
    sections: list[Section] = []
    at_bar = 0
    while at_bar < total:
        left = total - at_bar
        name = (
            order[len(sections)] if len(sections) < len(order) else middle[(len(sections) - len(order)) % len(middle)]
        )
        if left <= bars[names[-1]] and sections:
            name = names[-1]
        n_bars = min(bars[name], int(np.ceil(left)))
        plays = _plays(rng, name, sources)
        sections.append(
            Section(
                name=name,
                start_s=at_bar * bar_s,
                length_s=min(n_bars, left) * bar_s,
                n_bars=n_bars,
                intensity=float(np.clip(INTENSITIES[name] + rng.normal(0, 0.06), 0.2, 1.0)),
                plays=plays,
                layers=layers[name] if "other" in plays else (),
            )
        )
        at_bar += n_bars
    return tuple(sections)


def _plays(rng: np.random.Generator, name: str, sources: tuple[str, ...]) -> tuple[str, ...]:
    likely = _LIKELY.get(name, {})
    plays = tuple(source for source in sources if rng.random() < likely.get(source, 1.0))
    return plays or (sources[int(rng.integers(len(sources)))],)


def _layers(rng: np.random.Generator, n_layers: int, intensity: float) -> tuple[int, ...]:
    wanted = max(1, round(n_layers * min(1.0, intensity + rng.normal(0.05, 0.15))))
    return tuple(sorted(int(i) for i in rng.permutation(n_layers)[:wanted]))
