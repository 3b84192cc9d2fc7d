"""The drums of a song: a groove on a kit, or on a soundfont's."""

from __future__ import annotations

from typing import Final

import numpy as np

from danna_sep.training.synthesis import treatment
from danna_sep.training.synthesis.grooves import Hit
from danna_sep.training.synthesis.harmony import Note
from danna_sep.training.synthesis.kits import build_kit
from danna_sep.training.synthesis.placing import RATE_HZ, Rng, Sound
from danna_sep.training.synthesis.soundfonts import DRUM_BANK
from danna_sep.training.synthesis.studio import Studio

_LEVELS_DB: Final = {
    "hat": -7, "open": -8, "ride": -7, "bell": -8, "crash": -4, "china": -6, "tamb": -11, "shaker": -13, "egg": -13,
    "rim": -6, "snap": -10, "conga": -5, "block": -12, "clap": -5,
}  # fmt: skip
_SIDES: Final = {"tom1": -0.4, "tom2": 0.1, "tom3": 0.5, "hat": -0.25, "ride": 0.4, "conga": 0.4}
_STANDS_FOR: Final = {
    "bell": "ride", "china": "crash", "egg": "shaker", "tamb": "shaker", "snap": "clap", "stomp": "kick",
    "conga": "tom2", "handdrum": "tom3", "block": "rim", "rim": "snare", "clap": "snare", "cymbal": "crash",
}  # fmt: skip
"""What plays in the place of a role that a kit lacks."""

# General MIDI's drum kits, and the keys of roles in them.
_PROGRAMS: Final = (0, 1, 2, 3, 4, 5, 8, 16, 24, 25, 32, 40)
_MACHINES: Final = (24, 25)
_KEYS: Final = {
    "kick": (36, 35), "snare": (38, 40), "rim": (37,), "hat": (42,), "open": (46,), "tom1": (50, 48), "tom2": (47, 45),
    "tom3": (43, 41), "crash": (49, 57), "ride": (51, 59), "bell": (53,), "china": (52,), "clap": (39,), "snap": (39,),
    "stomp": (35,), "shaker": (70,), "egg": (70,), "tamb": (54,), "conga": (63, 64), "handdrum": (60, 61),
    "block": (76, 77), "cymbal": (55,),
}  # fmt: skip


def play(studio: Studio, rng: Rng, hits: list[Hit], electronic: bool, n_samples: int) -> Sound:
    """The drums of a song, stereo.

    Args:
        studio: Kits to choose from.
        rng: Chooses, and treats.
        hits: What is struck.
        electronic: On a machine.
        n_samples: Length of the result.
    """
    if studio.soundfonts and rng.random() < (0.3 if studio.recordings else 0.6):
        out = _on_soundfont(studio, rng, hits, electronic, n_samples)
    else:
        out = _on_kit(studio, rng, hits, electronic, n_samples)
    return finish(out, rng)


def finish(out: Sound, rng: Rng) -> Sound:
    """A drum bus's usual treatment."""
    out = treatment.colour(out, rng, 22.0, float(rng.choice([2e4, 2e4, 14e3])), 4.0)
    if rng.random() < 0.6:
        out = treatment.compress(out, rng)
    if rng.random() < 0.45:
        out = treatment.saturate(out, float(rng.uniform(0.8, 4)))
    if rng.random() < 0.08:
        out = np.repeat(out.mean(axis=0, keepdims=True), 2, axis=0)
    return treatment.maybe_reverberate(out, rng, 0.6, 1.8, 0.35)


def _on_kit(studio: Studio, rng: Rng, hits: list[Hit], electronic: bool, n_samples: int) -> Sound:
    kit = build_kit(studio.recordings, rng, electronic)
    roles = sorted(_KEYS)
    gains = {role: treatment.db(rng.normal(_LEVELS_DB.get(role, 0), 2.5)) for role in roles}
    side = float(rng.choice([-1, 1]))
    pans = {role: float(np.clip(rng.normal(0, 0.15) + side * _SIDES.get(role, 0), -1, 1)) for role in roles}
    pans["kick"] = pans["snare"] = 0.0
    panned: dict[tuple[str, int], Sound] = {}
    out = np.zeros((2, n_samples), dtype=np.float32)
    for hit in hits:
        role = hit.role
        while role not in kit:
            role = _STANDS_FOR[role]
        choices = kit[role]
        i = int(np.clip(round(hit.velocity * (len(choices) - 1) + rng.normal(0, 0.8)), 0, len(choices) - 1))
        if (role, i) not in panned:
            sound = choices[i]
            if role == "hat":
                sound = treatment.fade(sound[:, : int(0.6 * RATE_HZ)], 0, 0.05)
            panned[role, i] = treatment.stereo(sound, pans[role])
        treatment.add(out, panned[role, i], hit.start_s, gains[role] * hit.velocity**1.4)
    return out


def _on_soundfont(studio: Studio, rng: Rng, hits: list[Hit], electronic: bool, n_samples: int) -> Sound:
    program = int(rng.choice(_MACHINES if electronic else [0, 0, *_PROGRAMS]))
    keys = {role: int(rng.choice(options)) for role, options in _KEYS.items()}
    lift = {role: float(rng.normal(0, 0.08)) for role in keys}
    # Played faster or slower afterwards, so that no two kits are tuned alike.
    factor = float(np.exp(rng.normal(0, 0.07)).clip(0.85, 1.18))
    notes = [
        Note(hit.start_s * factor, 0.3, keys[hit.role], float(np.clip(hit.velocity * 0.95 + lift[hit.role], 0.05, 1)))
        for hit in hits
    ]
    played = studio.soundfonts.play(rng, DRUM_BANK, program, notes, int(n_samples * factor) + RATE_HZ)
    return treatment.respeed(played, factor)[:, :n_samples]
