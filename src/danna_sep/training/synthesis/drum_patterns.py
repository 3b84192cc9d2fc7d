"""Bars of drums in many styles, and fills: which role strikes at which step, how hard."""

from __future__ import annotations

from typing import Final, TypeAlias

from danna_sep.training.synthesis.placing import Rng

Strokes: TypeAlias = list[tuple[float, str, float]]
"""Step, role, velocity. A bar of 4/4 has 16 steps, one of 3/4 or 6/8 has 12; only hats strike between steps."""

STYLES: Final = {
    "rock": 5.0, "half": 2.0, "sixteenths": 2.0, "house": 2.0, "ballad": 2.0, "punk": 1.0, "metal": 1.0, "motown": 0.7,
    "train": 0.7, "breakbeat": 1.0, "trap": 1.0, "toms": 0.7, "bossa": 0.5, "hands": 0.5, "reggae": 0.7, "jazz": 0.6,
    "disco": 1.0,
}  # fmt: skip
"""Styles in 4/4, with the weight of each."""

ELECTRONIC: Final = ("house", "trap", "breakbeat", "rock", "half", "disco")
IN_THREE: Final = ("waltz", "waltz_rock")
IN_SIX: Final = ("six_rock", "six_ballad")


def bar(rng: Rng, style: str, time_role: str) -> Strokes:
    """One bar of a style.

    Args:
        rng: Draws what differs between bars of a style.
        style: One of STYLES, IN_THREE or IN_SIX.
        time_role: What keeps the time: hat, open, ride, bell or crash.
    """
    strokes: Strokes = []

    def put(role: str, velocity: float, *steps: float) -> None:
        strokes.extend((float(step), role, velocity) for step in steps)

    def some(likely: float, *steps: int) -> list[int]:
        return [step for step in steps if rng.random() < likely]

    if style == "rock":
        put("kick", 0.95, 0, *some(0.25, 6, 7, 10, 11, 14), *some(0.7, 8))
        put("snare", 0.95, 4, 12)
        put(time_role, 0.75, 0, 4, 8, 12)
        put(time_role, 0.5, 2, 6, 10, 14)
    elif style == "half":
        put("kick", 0.95, 0, *some(0.3, 3, 6, 10, 14))
        put("snare", 0.98, 8)
        put(time_role, 0.7, 0, 4, 8, 12)
    elif style == "sixteenths":
        put("kick", 0.9, 0, *some(0.35, 3, 6, 7, 10, 11, 14))
        put("snare", 0.95, 4, 12)
        put("snare", 0.25, *some(0.35, 1, 7, 9, 15))
        for step in range(16):
            put(time_role, 0.75 if step % 4 == 0 else 0.55 if step % 2 == 0 else 0.38, step)
    elif style == "house":
        put("kick", 0.98, 0, 4, 8, 12)
        put("clap" if rng.random() < 0.6 else "snare", 0.8, 4, 12)
        put("open", 0.6, *some(0.9, 2, 6, 10, 14))
        put("hat", 0.45, *some(0.6, *(step for step in range(16) if step % 4 != 2)))
    elif style == "disco":
        put("kick", 0.95, 0, 4, 8, 12)
        put("snare", 0.9, 4, 12)
        put("hat", 0.5, 0, 4, 8, 12, *some(0.4, 1, 3, 5, 7, 9, 11, 13, 15))
        put("open", 0.65, 2, 6, 10, 14)
    elif style == "ballad":
        put("kick", 0.8, 0, *some(0.45, 7, 8, 14))
        put("rim" if rng.random() < 0.4 else "snare", 0.8, 8)
        put(time_role, 0.5, *range(0, 16, 2))
    elif style == "punk":
        put("kick", 0.95, *((0, 3, 8, 11) if rng.random() < 0.5 else (0, 4, 8, 12)))
        put("snare", 0.95, *((2, 6, 10, 14) if rng.random() < 0.5 else (4, 12)))
        put(time_role, 0.8, *range(0, 16, 2))
    elif style == "metal":
        put("kick", 0.9, *(range(16) if rng.random() < 0.4 else (0, 2, 3, 6, 8, 10, 11, 14)))
        put("snare", 0.98, *((4, 12) if rng.random() < 0.6 else (8,)))
        put("china" if rng.random() < 0.2 else time_role, 0.85, 0, 4, 8, 12)
    elif style == "motown":
        put("snare", 0.85, 0, 4, 8, 12)
        put("kick", 0.85, 0, 6, 8, *some(0.4, 10, 14))
        put("tamb", 0.5, 2, 6, 10, 14)
    elif style == "train":
        for step in range(16):
            put("snare", 0.8 if step in (4, 12) else float(rng.uniform(0.2, 0.4)), step)
        put("kick", 0.75, 0, 8)
    elif style == "breakbeat":
        put("kick", 0.95, 0, 2, 10, *some(0.5, 11, 7))
        put("snare", 0.95, 4, 12)
        put("snare", 0.35, *some(0.6, 7, 9, 14, 15))
        put(time_role, 0.6, *range(0, 16, 2))
    elif style == "trap":
        put("kick", 0.98, 0, *some(0.4, 5, 6, 10, 13))
        put("clap" if rng.random() < 0.5 else "snare", 0.9, 8)
        for step in range(0, 16, 2):
            n = int(rng.choice([1, 2, 3, 4], p=[0.55, 0.25, 0.1, 0.1]))
            put("hat", float(rng.uniform(0.4, 0.7)), *(step + 2 * i / n for i in range(n)))
    elif style == "toms":
        put("kick", 0.9, 0, 8, *some(0.5, 6, 14))
        for step in range(0, 16, 2):
            put(str(rng.choice(["tom1", "tom2", "tom3", "tom3"])), float(rng.uniform(0.5, 0.9)), step)
        put("snare", 0.8, *some(0.5, 12))
    elif style == "bossa":
        put("kick", 0.7, 0, 6, 8, 14)
        put("rim", 0.7, 0, 6, 12)
        put(time_role, 0.4, *range(0, 16, 2))
    elif style == "reggae":
        put("kick", 0.9, 8, *some(0.2, 0))
        put("rim" if rng.random() < 0.6 else "snare", 0.85, 8)
        put("hat", 0.55, *range(0, 16, 2))
        put("hat", 0.35, *some(0.3, 3, 7, 11, 15))
    elif style == "jazz":
        put("ride", 0.65, 0, 4, 6, 8, 12, 14)
        put("hat", 0.5, 4, 12)
        put("kick", 0.35, *some(0.25, 0, 6, 10, 14))
        put("snare", 0.35, *some(0.25, 2, 6, 10, 14))
    elif style == "hands":
        put("conga", 0.7, *some(0.35, *range(16)))
        put("handdrum", 0.7, 0, *some(0.4, *range(0, 16, 2)))
        put("clap", 0.6, 4, 12)
        put("stomp", 0.8, *((0, 8) if rng.random() < 0.5 else ()))
    elif style == "waltz":
        put("kick", 0.85, 0)
        put("rim" if rng.random() < 0.3 else "snare", 0.55, 4, 8)
        put(time_role, 0.5, 0, 4, 8, *some(0.3, 2, 6, 10))
    elif style == "waltz_rock":
        put("kick", 0.95, 0, *some(0.3, 2, 6, 10))
        put("snare", 0.95, *((8,) if rng.random() < 0.5 else (4,)))
        put(time_role, 0.65, *range(0, 12, 2))
    elif style == "six_rock":
        put("kick", 0.95, 0, *some(0.35, 4, 5, 8, 10))
        put("snare", 0.95, 6)
        put(time_role, 0.65, *range(0, 12, 2))
    elif style == "six_ballad":
        put("kick", 0.8, 0, *some(0.4, 4, 10))
        put("snare" if rng.random() < 0.6 else "rim", 0.75, 6)
        put(time_role, 0.5, *range(0, 12, 2))
        put(time_role, 0.3, *some(0.3, 5, 11))
    else:
        raise ValueError(f"no style {style!r}")
    return strokes


def fill(rng: Rng, n_steps: int) -> tuple[int, Strokes]:
    """A fill at the end of a bar of so many steps: its first step and its strokes, down the toms."""
    start = n_steps - int(rng.choice([2, 4, 4, 8]))
    roles = ("snare", "snare", "tom1", "tom2", "tom3")
    strokes: Strokes = []
    for step in range(start, n_steps):
        if rng.random() < 0.85:
            place = int((step - start) / (n_steps - start) * 3.99) + int(rng.integers(0, 2))
            strokes.append((float(step), roles[min(place, 4)], float(rng.uniform(0.6, 1))))
    return start, strokes


def roll(rng: Rng, n_steps: int, share: float) -> Strokes:
    """A bar of a snare roll that builds up; `share` of the way is done, from 0 to 1."""
    every = 4 if share < 0.4 else 2 if share < 0.75 else 1
    return [
        (float(step), "snare", 0.35 + 0.6 * share * float(rng.uniform(0.9, 1))) for step in range(0, n_steps, every)
    ]
