"""The accompanying instruments there are, how they are played, and how each is treated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from danna_sep.training.synthesis import sampler, treatment
from danna_sep.training.synthesis.patches import Role
from danna_sep.training.synthesis.placing import Rng, Sound
from danna_sep.training.synthesis.sampler import Bank
from danna_sep.training.synthesis.studio import Studio


@dataclass(frozen=True)
class Instrument:
    """One way to make notes sound; exactly one of `bank`, `role`, `program` is set.

    Attributes:
        treatment: What `dress` does to it.
        style: How it plays; see `parts.Manner`.
        bank: A recorded instrument.
        role: A computed synthesiser's.
        program: General MIDI's number, from 0, in a soundfont.
    """

    treatment: str
    style: str
    bank: Bank | None = None
    role: Role | None = None
    program: int | None = None


# Kind: recordings of it, styles, weight.
_RECORDED: Final[dict[str, tuple[dict[str, Bank], tuple[str, ...], float]]] = {
    "guitar": (sampler.GUITARS, ("strum", "strum", "arpeggio", "lead", "comp"), 0.27),
    "power": (
        {name: sampler.GUITARS[name] for name in ("electric", "jazz")},
        ("power", "power", "lead", "strum"),
        0.15,
    ),
    "piano": (sampler.PIANOS, ("piano", "piano", "arpeggio", "lead", "hold"), 0.2),
    "keys": (sampler.KEYS, ("comp", "hold", "arpeggio", "lead"), 0.13),
    "sax": (sampler.SAXES, ("lead",), 0.05),
}
_COMPUTED: Final[dict[str, tuple[Role, tuple[str, ...], float]]] = {
    "pad": ("pad", ("hold",), 0.4),
    "synth_lead": ("lead", ("lead", "comp"), 0.25),
    "synth_arp": ("pluck", ("arpeggio", "arpeggio", "comp"), 0.35),
}
# Kind: General MIDI programs (no voices or choirs: those would be vocals), styles, weight.
_SOUNDFONT: Final[dict[str, tuple[tuple[int, ...], tuple[str, ...], float]]] = {
    "piano": ((0, 1, 2, 3), ("piano", "piano", "arpeggio", "lead", "hold"), 3.0),
    "electric_piano": ((4, 5, 6, 7), ("comp", "hold", "arpeggio"), 1.2),
    "bells": (tuple(range(8, 16)), ("lead", "arpeggio"), 0.6),
    "organ": (tuple(range(16, 21)), ("hold", "hold", "comp", "lead"), 1.5),
    "accordion": ((21, 22, 23), ("hold", "lead", "comp"), 0.4),
    "guitar": ((24, 25), ("strum", "strum", "arpeggio", "lead"), 2.5),
    "electric_guitar": ((26, 27, 28), ("strum", "comp", "arpeggio", "lead"), 2.0),
    "power": ((29, 30, 30), ("power", "power", "lead"), 3.0),
    "solo_strings": ((40, 41, 42, 45, 46), ("lead", "arpeggio"), 0.7),
    "strings": ((44, 48, 49, 50, 51), ("hold", "hold", "lead"), 1.8),
    "brass": (tuple(range(56, 64)), ("comp", "lead", "hold"), 1.0),
    "reed": (tuple(range(64, 72)), ("lead",), 0.9),
    "pipe": ((72, 73, 74, 75, 79), ("lead",), 0.5),
    "synth_lead": ((80, 81, 82, 83, 84, 86, 87), ("lead", "arpeggio"), 1.0),
    "pad": ((88, 89, 90, 92, 93, 95), ("hold",), 1.0),
    "world": ((96, 98, 99, 104, 105, 106, 107, 108, 110, 111), ("arpeggio", "lead"), 0.5),
}


# What stands for a kind of soundfont's instruments.
_RECORDED_FOR: Final = {
    "piano": "piano", "electric_piano": "keys", "guitar": "guitar", "electric_guitar": "guitar", "power": "power",
    "reed": "sax",
}  # fmt: skip
_COMPUTED_FOR: Final[dict[str, Role]] = {"synth_lead": "lead", "pad": "pad", "strings": "pad", "world": "pluck"}


def random_instrument(studio: Studio, rng: Rng) -> Instrument:
    """An instrument of those that a studio has."""
    recorded = {
        kind: (sampler.available(studio.recordings, banks), styles, weight)
        for kind, (banks, styles, weight) in _RECORDED.items()
    }
    recorded = {kind: entry for kind, entry in recorded.items() if entry[0]}
    odds = [0.4 * bool(recorded), 0.15, 0.45 * bool(studio.soundfonts)]
    source = rng.choice(3, p=np.array(odds) / sum(odds))
    if source == 0:
        kind = _pick(rng, {kind: entry[2] for kind, entry in recorded.items()})
        banks, styles, _ = recorded[kind]
        return Instrument(kind, str(rng.choice(styles)), bank=banks[int(rng.integers(len(banks)))])
    if source == 1:
        kind = _pick(rng, {kind: entry[2] for kind, entry in _COMPUTED.items()})
        role, styles, _ = _COMPUTED[kind]
        return Instrument(kind, str(rng.choice(styles)), role=role)
    kind = _pick(rng, {kind: entry[2] for kind, entry in _SOUNDFONT.items()})
    programs, styles, _ = _SOUNDFONT[kind]
    return Instrument(kind, str(rng.choice(styles)), program=int(rng.choice(programs)))


def instrument_for(studio: Studio, rng: Rng, program: int) -> Instrument:
    """An instrument for a part that is written for General MIDI's `program`: that one, one of its kind, or any other.

    Voices and choirs are played by strings and pads: they would be vocals.
    """
    if rng.random() < 0.1:
        return random_instrument(studio, rng)
    kind = next((kind for kind, (programs, _, _) in _SOUNDFONT.items() if program in programs), None)
    if kind is None:
        kind, program = ("strings", 48) if program < 80 else ("pad", 89)
    recorded = {name: sampler.available(studio.recordings, banks) for name, (banks, _, _) in _RECORDED.items()}
    banks = recorded.get(_RECORDED_FOR.get(kind, ""), [])
    if banks and rng.random() < (0.5 if studio.soundfonts else 0.85):
        return Instrument(
            "power" if kind == "power" else _RECORDED_FOR[kind], "", bank=banks[int(rng.integers(len(banks)))]
        )
    if not studio.soundfonts or (kind in _COMPUTED_FOR and rng.random() < 0.4):
        return Instrument(kind, "", role=_COMPUTED_FOR.get(kind, "pluck"))
    programs, _, _ = _SOUNDFONT[kind]
    return Instrument(kind, "", program=program if rng.random() < 0.6 else int(rng.choice(programs)))


def dress(out: Sound, rng: Rng, instrument: Instrument, beat_s: float) -> Sound:
    """An accompanying instrument's usual treatment: amplifier, doubling, echo, place, equaliser, room."""
    kind = instrument.treatment
    if kind == "power" or (kind == "guitar" and rng.random() < 0.2):
        drive = float(np.exp(rng.uniform(1.5, 4.5)) if kind == "power" else rng.uniform(1.5, 6))
        out = treatment.cut(out, float(rng.uniform(80, 250)))
        out = treatment.saturate(out, drive)
        out = treatment.cut(out, float(rng.uniform(60, 110)), float(rng.uniform(3500, 6500)), 3)
    if kind in ("guitar", "power") and rng.random() < 0.35:
        out = treatment.widen(out, rng)
    if rng.random() < 0.2:
        out = treatment.chorus(out, rng)
    if rng.random() < 0.15:
        out = treatment.echo(out, rng, beat_s)
    out = treatment.stereo(out, float(rng.uniform(-0.6, 0.6)))
    # The recordings and soundfonts are thinner and darker than what records sound like.
    lift_db = float(rng.normal(4.5, 3))
    curve = {150.0: float(rng.normal(3, 3)), 600.0: 0.0, 3000.0: lift_db, 9000.0: 2 * lift_db}
    out = treatment.shape_spectrum(out, curve)
    out = treatment.colour(out, rng, float(rng.uniform(25, 110)), float(rng.choice([2e4, 2e4, 12e3])), 4.0)
    return treatment.maybe_reverberate(out, rng, 0.6, 2.5, 0.5)


def _pick(rng: Rng, weights: dict[str, float]) -> str:
    odds = np.array(list(weights.values()))
    return list(weights)[rng.choice(len(odds), p=odds / odds.sum())]
