"""The vocal stem of a song: one lead singer from beginning to end, in the song's own chords, tempo and form."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import numpy as np

from danna_sep.errors import ConfigError
from danna_sep.training.synthesis import vocal_world
from danna_sep.training.synthesis.phrases import BANKS, Way, in_a_row, produce, shortest_step
from danna_sep.training.synthesis.plan import Plan
from danna_sep.training.synthesis.recordings import Recordings
from danna_sep.training.synthesis.singing import SEMITONE, sing
from danna_sep.training.synthesis.treatment import RATE_HZ, Rng, Sound, db, fade, rms_db, stereo
from danna_sep.training.synthesis.vocal_ensemble import Ensemble, breath, sing_choir, sing_part
from danna_sep.training.synthesis.vocal_lines import Line, sung_lines
from danna_sep.training.synthesis.vocal_material import Material, banks_for
from danna_sep.training.synthesis.vocal_singers import Singer, cast
from danna_sep.training.synthesis.vocal_ways import Part, Words, held, into_key, spoken, transposed, words

WAYS: Final[dict[Way, float]] = {
    "held": 3.0,
    "words": 3.5,
    "transposed": 3.0,
    "as they are": 2.5,
    "spoken": 1.2,
    "choir": 0.8,
}
"""How often a song is sung in each way."""

_WITHOUT_WORLD: Final[tuple[Way, ...]] = ("as they are", "spoken")
_LEVEL_DB: Final = -20.0
_PEAK_DB: Final = -0.5
_FADE_S: Final = 0.03
_BLOCK: Final = 4410
_QUIETEST_DB: Final = -60.0


def vocal(
    recordings: Recordings,
    plan: Plan,
    rng: Rng,
    n_samples: int,
    *,
    way: Way | None = None,
    among: Collection[str] = BANKS,
    treated: bool = True,
) -> Sound:
    """The vocal stem of a song.

    Without pyworld, voices are not moved or put on tunes: recordings are then used as they are, or in rhythm.

    Args:
        recordings: Where voices come from.
        plan: The song: where vocals play, and to which chords.
        rng: Where chance comes from.
        n_samples: Length at 44.1 kHz.
        way: How it is sung; by default at random, among the ways for which there are recordings.
        among: Banks of recordings to choose from.
        treated: With what a mixing desk does, whose echoes and rooms last into sections without vocals.

    Returns:
        (2, n_samples); its loud parts at -20 dB, or lower where its peak would pass -0.5 dB; silent if no section has
        vocals or there are no recordings of voices.

    Raises:
        ConfigError: `way` needs pyworld, which is not installed.
    """
    if way is not None and way not in _possible():
        raise ConfigError(f"way={way!r} needs pyworld: pip install pyworld")
    spans = [(a, min(b, n_samples / RATE_HZ)) for a, b in plan.spans("vocals") if a < n_samples / RATE_HZ]
    way = _way(recordings, among, rng) if way is None else way
    banks = {} if way is None else banks_for(recordings, way, among)
    if way is None or not spans or not banks:
        return np.zeros((2, n_samples), dtype=np.float32)
    weights = np.array(list(banks.values()))
    bank = list(banks)[int(rng.choice(len(banks), p=weights / weights.sum()))]
    material = Material(recordings, bank, rng, int(rng.integers(7, 14)))
    singer = cast(rng, material.above_man)
    lines = [line for line in sung_lines(rng, plan, singer) if line.start_s * RATE_HZ < n_samples]
    out = np.zeros((2, n_samples), dtype=np.float32)
    if way == "as they are" or not vocal_world.available():
        _recorded(rng, material, singer, plan, lines, out, rhythmic=way == "spoken")
    else:
        _sung(rng, way, material, singer, plan, lines, out)
    _silence_outside(out, spans)
    del material  # half a megabyte a second
    if treated:
        out = produce(out, rng, plan.beat_s)
    return _levelled(out)


def _possible() -> list[Way]:
    return [way for way in WAYS if vocal_world.available() or way in _WITHOUT_WORLD]


def _way(recordings: Recordings, among: Collection[str], rng: Rng) -> Way | None:
    ways = [way for way in _possible() if banks_for(recordings, way, among)]
    if not ways:
        return None
    weights = np.array([WAYS[way] for way in ways])
    return ways[int(rng.choice(len(ways), p=weights / weights.sum()))]


def _loudness(rng: Rng, line: Line) -> float:
    """Verses softer than choruses."""
    return db(7 * (line.intensity - 0.8) + rng.normal(0, 0.7))


def _place(out: Sound, sound: Sound, start_s: float, gain: float) -> None:
    """Adds a stereo sound at a time; what lies outside is left away."""
    at = round(start_s * RATE_HZ)
    before = max(0, -at)
    sound = sound[:, before : out.shape[1] - at]
    out[:, at + before : at + before + sound.shape[1]] += np.float32(gain) * sound


def _sung(rng: Rng, way: Way, material: Material, singer: Singer, plan: Plan, lines: list[Line], out: Sound) -> None:
    """Adds the lines to `out`, sung by one singer, or by a choir."""
    ensemble = Ensemble.random(rng, singer, alone=way == "spoken", choir=way == "choir")
    stream = Words(rng, material)
    tuning = float(rng.choice([0.0, 0.5, 0.8, 1.0], p=[0.2, 0.2, 0.3, 0.3]))
    flat, breathes = rng.uniform(0, 0.6), float(rng.uniform(0, 0.8))
    pitches = material.log_pitches() if way == "transposed" else np.zeros(1)
    around = singer.middle - (69 + (float(np.median(pitches)) - np.log(440.0)) / SEMITONE)
    shifts: dict[tuple[int, ...], float] = {}
    for line in lines:
        if not line.notes or line.n_frames < 20:
            continue
        gain = _loudness(rng, line)
        if way == "choir":
            _place(out, sing_choir(rng, material, ensemble, line), line.start_s, gain)
            continue
        if way == "held":
            part: Part = held(rng, material, line, singer)
        elif way == "words":
            part = words(rng, stream, line, singer)
        elif way == "spoken":
            part = spoken(rng, stream, line, singer, plan.beat_s, flat)
        else:
            scale = line.chords[0].scale
            if scale not in shifts:
                shifts[scale] = into_key(pitches, scale, scale[0], around)
            part = transposed(rng, material, line, singer, shifts[scale], tuning)
        _place(out, sing_part(rng, part, ensemble, line), line.start_s, gain)
        if rng.random() < breathes:
            air = breath(rng)
            _place(out, stereo(air), line.start_s - air.shape[1] / RATE_HZ, gain * 0.01)


def _recorded(
    rng: Rng,
    material: Material,
    singer: Singer,
    plan: Plan,
    lines: list[Line],
    out: Sound,
    *,
    rhythmic: bool,
) -> None:
    """Adds recordings in a row to `out`: as they are but for their speed; where a man sings, moved to his voice."""
    speed = float(np.exp(rng.normal(-0.05, 0.1)).clip(0.8, 1.26))
    if singer.sex == "male" and material.above_man > 1:
        if vocal_world.available():
            sounds, speed = _mens(rng, material, singer), 1.0
        else:
            sounds, speed = [material.sound(path) for path in material.paths], speed * 0.8
    else:
        sounds = [material.sound(path) for path in material.paths]
    step_s = shortest_step(plan.beat_s) if rhythmic else plan.beat_s / 2
    for line in lines:
        room_s = line.sung_s if rhythmic else min(line.room_s, line.sung_s + 0.5)
        row = in_a_row(rng, sounds, room_s, speed, step_s, rhythmic=rhythmic)
        _place(out, row, line.start_s, _loudness(rng, line))


def _mens(rng: Rng, material: Material, singer: Singer) -> list[Sound]:
    """The recordings in a man's voice: their own tune and words, pitch and formants moved down by the same."""
    pitches = material.log_pitches()
    shift = rng.normal(0, 1) + singer.middle - (69 + (float(np.median(pitches)) - np.log(440.0)) / SEMITONE)
    sounds = []
    for path in material.paths:
        voice = material.voice(path)
        moved = vocal_world.bridged(voice.pitch_hz) + shift * SEMITONE
        sounds.append(sing(voice, moved, singer, np.ones(len(voice)))[None])
    return sounds


def _silence_outside(sound: Sound, spans: list[tuple[float, float]]) -> None:
    """Silences, in place, what lies outside of spans of seconds; fades the edges of what is within."""
    silent_from = 0
    for start_s, end_s in spans:
        first, last = int(start_s * RATE_HZ), int(end_s * RATE_HZ)
        sound[:, silent_from:first] = 0
        sound[:, first:last] = fade(sound[:, first:last], 0.0 if first == 0 else 0.003, _FADE_S)
        silent_from = last
    sound[:, silent_from:] = 0


def _levelled(sound: Sound) -> Sound:
    """The sound with its loud parts at -20 dB, unless its peak would be too high; silence stays as it is."""
    power = np.square(sound).mean(axis=0)
    blocks = np.sort(np.pad(power, (0, -len(power) % _BLOCK)).reshape(-1, _BLOCK).mean(axis=1))
    loud = blocks[blocks > blocks.max(initial=0.0) * 0.03]
    if rms_db(sound) < _QUIETEST_DB - 40 or not len(loud):
        return sound
    gain = min(db(_LEVEL_DB) / np.sqrt(loud.mean()), db(_PEAK_DB) / np.abs(sound).max())
    return np.asarray(sound * np.float32(gain), dtype=np.float32)
