"""What a mixing desk does to sounds: one door to `placing`, `tone`, `dynamics`, `room` and `doubling`."""

from __future__ import annotations

from danna_sep.training.synthesis.doubling import chorus, sway, widen
from danna_sep.training.synthesis.dynamics import compress, duck, saturate
from danna_sep.training.synthesis.placing import (
    RATE_HZ,
    Rng,
    Sound,
    add,
    db,
    fade,
    respeed,
    rms_db,
    stereo,
    trim_silences,
)
from danna_sep.training.synthesis.room import echo, maybe_reverberate, reverberate, room
from danna_sep.training.synthesis.tone import colour, cut, shape_spectrum

__all__ = [
    "RATE_HZ",
    "Rng",
    "Sound",
    "add",
    "chorus",
    "colour",
    "compress",
    "cut",
    "db",
    "duck",
    "echo",
    "fade",
    "maybe_reverberate",
    "respeed",
    "reverberate",
    "rms_db",
    "room",
    "saturate",
    "shape_spectrum",
    "stereo",
    "sway",
    "trim_silences",
    "widen",
]
