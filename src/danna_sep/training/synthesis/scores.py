"""Music that people wrote: MIDI files, read into the parts of a band."""

from __future__ import annotations

import itertools
import json
import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from danna_sep.errors import MissingExtra, SongsError
from danna_sep.extras import how_to_install
from danna_sep.training.synthesis.grooves import Hit
from danna_sep.training.synthesis.harmony import Note
from danna_sep.training.synthesis.origins import Origin

ORIGIN_NAME: Final = "origin.json"
"""Beside scores: `bank`, `licence` and `attribution` of all in their folder."""

_DRUM_CHANNEL: Final = 9
_BASSES: Final = range(32, 40)
_NOT_PLAYED: Final = frozenset({47, 113, *range(115, 128)})
"""General MIDI's timpani, bells and drums that are played like tunes, and noises: drums or other, who knows."""

_SHORTEST_S: Final = 8.0
_LONGEST_S: Final = 3600.0
_KEYS: Final = {
    "kick": (35, 36), "rim": (37,), "snare": (38, 40), "clap": (39,), "hat": (42, 44), "open": (46,), "tom1": (48, 50),
    "tom2": (45, 47), "tom3": (41, 43), "crash": (49, 57), "china": (52,), "cymbal": (55,), "ride": (51, 59),
    "bell": (53,), "tamb": (54,), "block": (56, 67, 68, 75, 76, 77), "shaker": (58, 69, 70, 82),
    "handdrum": (60, 61, 65, 66), "conga": (62, 63, 64),
}  # fmt: skip
_ROLE_OF: Final = {key: role for role, keys in _KEYS.items() for key in keys}


@dataclass(frozen=True)
class Score:
    """A piece of music.

    Attributes:
        path: Its file.
        hits: What the drummer strikes, in order of time.
        bass: The notes of all basses.
        layers: (General MIDI's program from 0, notes) of each other instrument.
        beats_s: When each quarter comes, from 0 to the end.
        beats_per_bar: Quarters of a bar as the first time signature has it, at least 2 and at most 6.
        length_s: When the last note ends.
        origin: Its licence and author.
    """

    path: Path
    hits: tuple[Hit, ...]
    bass: tuple[Note, ...]
    layers: tuple[tuple[int, tuple[Note, ...]], ...]
    beats_s: tuple[float, ...]
    beats_per_bar: int
    length_s: float
    origin: Origin


def find_scores(folder: Path) -> tuple[Path, ...]:
    """The MIDI files in a folder, by name.

    Raises:
        SongsError: There is no folder, or none in it.
        MissingExtra: mido is not installed.
    """
    try:
        import mido  # noqa: F401
    except ImportError:
        raise MissingExtra(f"{folder}: scores need mido: {how_to_install('synthesis')}") from None
    if not folder.is_dir():
        raise SongsError(f"{folder}: no such folder of scores")
    found = tuple(sorted(path for path in folder.iterdir() if path.suffix.lower() in (".mid", ".midi")))
    if not found:
        raise SongsError(f"{folder}: no MIDI files (.mid, .midi) in it")
    return found


def read_score(path: Path) -> Score:
    """Read a MIDI file. Pitch bends, pedals and the effects of a synthesiser are not kept.

    Raises:
        SongsError: It is not a MIDI file that can be played, or lasts less than 8 s or more than an hour.
    """
    import mido

    try:
        file = mido.MidiFile(path, clip=True)
        if file.type == 2:
            raise ValueError("pieces side by side, of type 2")
        if file.ticks_per_beat <= 0:
            raise ValueError("its time is not in beats")
        for track in file.tracks:
            if any(message.type == "unknown_meta" for message in track):
                raise ValueError("events of a kind that is not known, whose time would be lost")
        messages = list(_timed(file))
    except Exception as error:  # mido raises whatever it stumbles over
        reason = str(error) or type(error).__name__
        raise SongsError(f"{path}: not a MIDI file that can be played ({reason})") from error
    notes = _notes(messages)
    notes = {part: found for part, found in notes.items() if part[1] not in _NOT_PLAYED}
    length_s = max((note.start_s + note.length_s for part in notes.values() for note in part), default=0.0)
    if not _SHORTEST_S <= length_s <= _LONGEST_S:
        raise SongsError(
            f"{path}: what can be played of it lasts {length_s:.1f} s; a score lasts from {_SHORTEST_S:g} to "
            f"{_LONGEST_S:g}"
        )
    struck = notes.pop((_DRUM_CHANNEL, -1), [])
    hits = sorted(Hit(n.start_s, _ROLE_OF[n.midi], n.velocity) for n in struck if n.midi in _ROLE_OF)
    bass = sorted(note for (_, program), part in notes.items() if program in _BASSES for note in part)
    layers = tuple((program, tuple(part)) for (_, program), part in sorted(notes.items()) if program not in _BASSES)
    beats_s, beats_per_bar = _beats(messages, length_s)
    return Score(path, tuple(hits), tuple(bass), layers, beats_s, beats_per_bar, length_s, _origin(path))


def _timed(file: Any) -> Iterator[tuple[float, Any]]:
    """(seconds, message) of all tracks, in order of time."""
    at_s = 0.0
    for message in file:
        at_s += float(message.time)
        yield at_s, message


def _notes(messages: list[tuple[float, Any]]) -> dict[tuple[int, int], list[Note]]:
    """Notes by channel and program, in order of time; drums have program -1."""
    programs: dict[int, int] = defaultdict(int)
    sounding: dict[tuple[int, int], tuple[float, int, float]] = {}
    notes: dict[tuple[int, int], list[Note]] = defaultdict(list)

    def end(channel: int, key: int, at_s: float) -> None:
        if (channel, key) in sounding:
            start_s, program, velocity = sounding.pop((channel, key))
            notes[channel, program].append(Note(start_s, max(at_s - start_s, 0.02), key, velocity))

    for at_s, message in messages:
        if message.type == "program_change":
            programs[message.channel] = message.program
        elif message.type in ("note_on", "note_off"):
            channel = message.channel
            end(channel, message.note, at_s)
            if message.type == "note_on" and message.velocity:
                program = -1 if channel == _DRUM_CHANNEL else programs[channel]
                sounding[channel, message.note] = (at_s, program, message.velocity / 127)
    # What never ends, ends with the last note that begins or ends.
    last_s = max((at_s for at_s, message in messages if message.type in ("note_on", "note_off")), default=0.0)
    for channel, key in list(sounding):
        end(channel, key, last_s)
    return {part: sorted(found) for part, found in notes.items()}


def _beats(messages: list[tuple[float, Any]], length_s: float) -> tuple[tuple[float, ...], int]:
    """When the quarters come, and how many of them a bar has."""
    tempos = [(at_s, max(message.tempo / 1e6, 0.01)) for at_s, message in messages if message.type == "set_tempo"]
    tempos = [(at_s, beat_s) for at_s, beat_s in tempos if at_s < length_s]
    changes = [(0.0, 0.5), *tempos, (length_s, 1.0)]
    beats, phase = [], 0.0  # the part of a beat that has gone by
    for (start_s, beat_s), (end_s, _) in itertools.pairwise(changes):
        n_beats = phase + max(0.0, end_s - start_s) / beat_s
        beats += [
            start_s + (beat - phase) * beat_s for beat in range(math.ceil(phase - 1e-9), math.ceil(n_beats - 1e-9))
        ]
        phase = n_beats % 1
    at_s = beats[-1] + beat_s if beats else length_s
    meters = [message for _, message in messages if message.type == "time_signature"]
    per_bar = round(4 * meters[0].numerator / meters[0].denominator) if meters else 4
    return (*beats, at_s), min(max(per_bar, 2), 6)


def _origin(path: Path) -> Origin:
    sheet = path.parent / ORIGIN_NAME
    try:
        entry = json.loads(sheet.read_text("utf-8"))
        return Origin(str(entry["bank"]), str(entry["licence"]), str(entry["attribution"]))
    except FileNotFoundError:
        return Origin(f"scores {path.parent.resolve().name}", "unknown", "see what came with the scores")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SongsError(f"{sheet}: has no bank, licence and attribution ({error!r})") from error
