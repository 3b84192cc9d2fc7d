"""Notes from recorded instruments: the nearest recording, shifted in pitch, let go when the note ends."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from danna_sep.training.synthesis.placing import RATE_HZ, Rng, Sound, fade, respeed, stereo
from danna_sep.training.synthesis.recordings import Recordings

_NOTE: Final = re.compile(r"(?:^|_)([A-Ga-g])([sb]?)_?(-?\d)(?=$|[v_.])")
_LONGEST_S: Final = 4.5


@dataclass(frozen=True)
class Bank:
    """Recordings of one instrument.

    Attributes:
        where: Pattern of its files.
        offset: Semitones from the note that a file's name tells to the one that sounds, as measured.
    """

    where: str
    offset: int = 0


BASSES: Final = {
    "growly": (Bank("instruments/bass/growlybass_sustain/*", -12), 1.2),
    "staccato": (Bank("instruments/bass/growlybass_staccato/*", -12), 0.3),
    "pizzicato": (Bank("instruments/bass/meatbass_double_bass_pizz/[a-g]*"), 0.8),
    "arco": (Bank("instruments/bass/meatbass_double_bass_arco/*"), 0.3),
    "fingered": (Bank("instruments/bass/pastabass_fingered_flatwound/*", -12), 1.6),
    "muted": (Bank("instruments/bass/pastabass_muted/*", -12), 0.7),
    "picked": (Bank("instruments/bass/pastabass_picked_flatwound/*", -12), 1.6),
    "round": (Bank("instruments/bass/pastabass_roundwound/*", -12), 1.4),
}
"""Basses and how often each is taken."""

GUITARS: Final = {
    "archtop": Bank("instruments/guitar/shinyguitar_archtop_acoustic/*"),
    "jazz": Bank("instruments/guitar/shinyguitar_archtop_electric/*"),
    "electric": Bank("instruments/guitar/emilyguitar_electric_clean/*"),
    "nylon": Bank("instruments/guitar/spanish_classical/*"),
}
PIANOS: Final = {
    "upright": Bank("instruments/keys/upright_piano_KW/*"),
    "old_piano": Bank("instruments/keys/old_piano_FB/*"),
}
KEYS: Final = {
    "rhodes": Bank("instruments/keys/fluidr3_ep_clav_organ/Rhodes*", -12),
    "ep": Bank("instruments/keys/fluidr3_ep_clav_organ/EP_2*", -12),
    "clav": Bank("instruments/keys/fluidr3_ep_clav_organ/Clav*", -12),
}
SAXES: Final = {"alto": Bank("instruments/winds/weresax_alto_sax/*", 12)}


def midi_of(name: str) -> int | None:
    """The MIDI number of the note in a file's name (C4 is 60); None if there is none."""
    found = _NOTE.search(name)
    if not found:
        return None
    letter, sign, octave = found.groups()
    step = {"c": 0, "d": 2, "e": 4, "f": 5, "g": 7, "a": 9, "b": 11}[letter.lower()]
    return 12 * (int(octave) + 1) + step + {"s": 1, "b": -1, "": 0}[sign]


class Sampler:
    """One recorded instrument."""

    def __init__(self, recordings: Recordings, bank: Bank) -> None:
        """List its notes.

        Args:
            recordings: Where they are.
            bank: Which instrument.
        """
        self._recordings = recordings
        self._notes: dict[int, list[Path]] = {}
        for path in recordings.files(bank.where):
            midi = midi_of(path.stem)
            if midi is not None and "_R_" not in path.stem:  # the right channel of a pair of mono files
                self._notes.setdefault(midi + bank.offset, []).append(path)

    def __bool__(self) -> bool:
        return bool(self._notes)

    def play(self, rng: Rng, midi: int, length_s: float) -> Sound:
        """One note, stereo, the RMS of its first 0.4 s at -20 dB; shorter than asked for where the recording ends."""
        source = min(self._notes, key=lambda m: (abs(m - midi), m))
        paths = self._notes[source]
        path = paths[int(rng.integers(len(paths)))]
        shift = midi - source
        whole = self._recordings.prepared(path, f"tone {shift}", lambda sound: _tone(sound, shift))
        release_s = float(rng.uniform(0.03, 0.12))
        return fade(stereo(whole[:, : int((length_s + release_s) * RATE_HZ)]), 0.001, release_s)


def available(recordings: Recordings | None, banks: dict[str, Bank]) -> list[Bank]:
    """Those of some instruments of which there are recordings."""
    if recordings is None:
        return []
    return [bank for bank in banks.values() if recordings.files(bank.where)]


def tone(recordings: Recordings, path: Path, semitones: int) -> Sound:
    """A recording from its attack on, at most 4.5 s, shifted by semitones, the RMS of its first 0.4 s at -20 dB."""
    return recordings.prepared(path, f"tone {semitones}", lambda sound: _tone(sound, semitones))


def _tone(sound: Sound, semitones: int) -> Sound:
    note = respeed(sound[:2], 2 ** (semitones / 12))
    level = np.abs(note).max(axis=0)
    start = max(0, int(np.argmax(level > level.max() * 0.04)) - 80)
    note = note[:, start : start + int(_LONGEST_S * RATE_HZ)]
    loud = float(np.sqrt(np.mean(np.square(note[:, : int(0.4 * RATE_HZ)])) + 1e-9))
    return fade(note * np.float32(0.1 / loud), 0.001, 0.05)
