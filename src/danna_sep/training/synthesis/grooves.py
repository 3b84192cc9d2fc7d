"""What a drummer plays through a song."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from danna_sep.training.synthesis.drum_patterns import ELECTRONIC, IN_SIX, IN_THREE, STYLES, Strokes, bar, fill, roll
from danna_sep.training.synthesis.placing import Rng
from danna_sep.training.synthesis.plan import Plan, Section

LOOSEST_S: Final = 0.009
"""Standard deviation of the timing of the loosest drummer; no stroke is further off than three times that."""

_QUIET: Final = ("intro", "break", "outro")


class Hit(NamedTuple):
    """A stroke: when, on what, how hard (0 to 1)."""

    start_s: float
    role: str
    velocity: float


def groove(rng: Rng, plan: Plan, electronic: bool) -> list[Hit]:
    """The strokes of a song, in its sections with drums: the same bars wherever a section comes back.

    Args:
        rng: Where it comes from.
        plan: Tempo, meter, swing, sections.
        electronic: A machine: styles for it, and exact timing.
    """
    n_steps = 16 if plan.beats_per_bar == 4 else 12
    styles = _styles(rng, plan.beats_per_bar, electronic)
    loose_s = 0.0005 if electronic else float(rng.uniform(0.002, LOOSEST_S))
    overall = float(rng.uniform(0.7, 1.0))
    shaker = str(rng.choice(["tamb", "shaker", "egg", "clap", "snap", "block"])) if rng.random() < 0.3 else ""
    with_fills = rng.random() < 0.85
    kept: dict[str, tuple[str, list[Strokes]]] = {}
    hits: list[Hit] = []
    for section in plan.sections:
        if "drums" not in section.plays:
            continue
        if section.name not in kept:
            kept[section.name] = _bars_of(rng, section, styles)
        style, steady = kept[section.name]
        for i in range(section.n_bars):
            strokes = list(steady[i % len(steady)])
            if section.name == "build":
                strokes = roll(rng, n_steps, i / max(1, section.n_bars - 1))
            if shaker and section.intensity > 0.65 and style not in ("jazz", "hands"):
                strokes += [(float(s), shaker, 0.6 if s % 4 == 0 else 0.35) for s in range(0, n_steps, 2)]
            if i == 0 and section.intensity > 0.5 and rng.random() < 0.75:
                strokes.append((0.0, "china" if rng.random() < 0.1 else "crash", 0.95))
            is_last = i == section.n_bars - 1
            if with_fills and section.name != "build" and rng.random() < (0.7 if is_last else 0.25 * (i % 4 == 3)):
                start, more = fill(rng, n_steps)
                strokes = [stroke for stroke in strokes if stroke[0] < start] + more
            bar_s = section.start_s + i * plan.bar_s
            loudness = overall * (0.55 + 0.45 * section.intensity)
            for step, role, velocity in strokes:
                at_s = plan.time_s(bar_s, step * plan.beats_per_bar / n_steps)
                if at_s >= section.end_s - 1e-6:
                    continue
                at_s += float(np.clip(rng.normal(0, loose_s), -3 * loose_s, 3 * loose_s))
                hits.append(
                    Hit(max(at_s, 0.0), role, float(np.clip(velocity * loudness * rng.normal(1, 0.07), 0.05, 1)))
                )
    return hits


def _styles(rng: Rng, beats_per_bar: int, electronic: bool) -> tuple[str, str]:
    """Of the quieter and of the louder sections."""
    if beats_per_bar != 4:
        names = IN_THREE if beats_per_bar == 3 else IN_SIX
        return str(rng.choice(names)), str(rng.choice(names))
    choices = list(ELECTRONIC if electronic else STYLES)
    weights = np.array([STYLES[name] for name in choices])
    first, second = (choices[rng.choice(len(choices), p=weights / weights.sum())] for _ in range(2))
    return first, first if rng.random() < 0.45 else second


def _bars_of(rng: Rng, section: Section, styles: tuple[str, str]) -> tuple[str, list[Strokes]]:
    """A style, and the two or four bars that go round in it."""
    style = styles[section.intensity > 0.75]
    loud = section.intensity > 0.75
    likely = [0.4, 0.15, 0.3, 0.05, 0.1] if loud else [0.75, 0.03, 0.18, 0.04, 0.0]
    time_role = str(rng.choice(["hat", "open", "ride", "bell", "crash"], p=likely))
    bars = [bar(rng, style, time_role) for _ in range(2)]
    bars = [bars[0], bars[1]] if rng.random() < 0.6 else [bars[0], bars[0], bars[0], bars[1]]
    if section.name in _QUIET and rng.random() < 0.4:
        left_out = "kick" if rng.random() < 0.3 else "snare"
        thinner = [[stroke for stroke in strokes if stroke[1] != left_out] for strokes in bars]
        bars = thinner if all(thinner) else bars
    return style, bars
