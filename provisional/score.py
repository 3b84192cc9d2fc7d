"""Drum, bass and accompaniment clips rendered from random scores by FluidSynth with MIT soundfonts."""

from __future__ import annotations

import functools
import os
from pathlib import Path

import band
import drumming
import fluidsynth
import harmony
import numpy as np
import sound as snd

Rng = np.random.Generator
Event = tuple[float, float, int, float]  # start_s, length_s, MIDI note, velocity 0..1
# Debian: fluid-soundfont-gm, musescore-general-soundfont
FONTS = (Path("/usr/share/sounds/sf2/FluidR3_GM.sf2"), Path("/usr/share/sounds/sf3/MuseScore_General.sf3"))
DRUM_PRESETS = (0, 1, 2, 3, 4, 5, 8, 16, 24, 25, 32, 40)
ROLE_KEYS = {
    "kick": (36, 35), "snare": (38, 40), "rim": (37,), "hat": (42,), "open": (46,), "tom1": (50, 48),
    "tom2": (47, 45), "tom3": (43, 41), "crash": (49, 57), "ride": (51, 59), "bell": (53,), "china": (52,),
    "clap": (39,), "snap": (39,), "stomp": (35,), "shaker": (70,), "egg": (70,), "tamb": (54,), "conga": (63, 64),
    "handdrum": (60, 61), "block": (76, 77), "cymbal": (55,),
}  # fmt: skip
# family: (General MIDI programs, styles, effects as for band.dress, weight); no voices or choirs anywhere
FAMILIES: dict[str, tuple[tuple[int, ...], tuple[str, ...], str, float]] = {
    "piano": ((0, 1, 2, 3), ("piano", "piano", "arpeggio", "lead", "hold"), "piano", 3.5),
    "electric_piano": ((4, 5, 6, 7), ("comp", "hold", "arpeggio"), "keys", 1.2),
    "bells": ((8, 9, 10, 11, 12, 13, 14, 15), ("lead", "arpeggio"), "bells", 0.6),
    "organ": ((16, 17, 18, 19, 20), ("hold", "hold", "comp", "lead"), "keys", 1.5),
    "accordion": ((21, 22, 23), ("hold", "lead", "comp"), "keys", 0.4),
    "acoustic_guitar": ((24, 25), ("strum", "strum", "arpeggio", "lead"), "guitar", 2.5),
    "electric_guitar": ((26, 27, 28), ("strum", "comp", "arpeggio", "lead"), "guitar", 2.0),
    "distorted_guitar": ((29, 30, 30), ("power", "power", "lead"), "power", 3.0),
    "solo_strings": ((40, 41, 42, 45, 46), ("lead", "arpeggio"), "strings", 0.7),
    "strings": ((44, 48, 49, 50, 51), ("hold", "hold", "lead"), "strings", 1.8),
    "brass": ((56, 57, 58, 59, 60, 61, 62, 63), ("comp", "lead", "hold"), "brass", 1.0),
    "reed": ((64, 65, 66, 67, 68, 69, 70, 71), ("lead",), "reed", 0.9),
    "pipe": ((72, 73, 74, 75, 79), ("lead",), "pipe", 0.5),
    "synth_lead": ((80, 81, 82, 83, 84, 86, 87), ("lead", "arpeggio"), "synth_lead", 1.0),
    "synth_pad": ((88, 89, 90, 92, 93, 95), ("hold",), "pad", 1.0),
    "world": ((96, 98, 99, 104, 105, 106, 107, 108, 110, 111), ("arpeggio", "lead"), "world", 0.5),
}


@functools.cache
def synth(font: int) -> tuple[fluidsynth.Synth, int]:
    """One synthesiser for each soundfont, kept for the life of the process."""
    settings = {"synth.dynamic-sample-loading": 1, "synth.reverb.active": 0, "synth.chorus.active": 0}
    quiet = os.open(os.devnull, os.O_WRONLY), os.dup(2)
    os.dup2(quiet[0], 2)
    try:
        player = fluidsynth.Synth(gain=0.4, samplerate=float(snd.RATE_HZ), **settings)
        number = player.sfload(str(FONTS[font]))
    finally:
        os.dup2(quiet[1], 2)
        os.close(quiet[0])
        os.close(quiet[1])
    if number < 0:
        raise FileNotFoundError(f"{FONTS[font]}: cannot be loaded; install the soundfont")
    return player, number


def render(rng: Rng, bank: int, program: int, events: list[Event], n_s: float) -> np.ndarray:
    """Plays a list of notes on one preset of a random soundfont."""
    player, number = synth(int(rng.integers(len(FONTS))))
    player.system_reset()
    if player.program_select(9 if bank else 0, number, bank, program) != 0:
        player.program_select(9 if bank else 0, number, bank, 0)
    channel = 9 if bank else 0
    gain = 0.8
    sound = perform(player, channel, events, n_s, gain)
    while np.abs(sound).max() > 0.98 and gain > 0.05:
        gain /= 2
        sound = perform(player, channel, events, n_s, gain)
    return sound


def perform(player: fluidsynth.Synth, channel: int, events: list[Event], n_s: float, gain: float) -> np.ndarray:
    """Plays the notes at one gain; the synthesiser itself clips at full scale."""
    player.setting("synth.gain", gain)
    player.all_sounds_off(channel)
    queue: list[tuple[int, int, int, int]] = []
    for start_s, length_s, note, velocity in events:
        start = int(start_s * snd.RATE_HZ)
        stop = start + max(int(length_s * snd.RATE_HZ), 400)
        loud = int(np.clip(round(30 + 97 * velocity), 1, 127))
        queue += [(start, 1, note, loud), (stop, 0, note, 0)]
    queue.sort()
    n = int(n_s * snd.RATE_HZ)
    now, blocks = 0, []
    for at, on, note, loud in queue:
        if at >= n:
            break
        if at > now:
            blocks.append(np.asarray(player.get_samples(at - now)))
            now = at
        if on:
            player.noteon(channel, note, loud)
        else:
            player.noteoff(channel, note)
    blocks.append(np.asarray(player.get_samples(n - now)))
    samples = np.concatenate(blocks)
    return np.ascontiguousarray(samples.reshape(-1, 2).T.astype(np.float32) / 32768)


def tuned(rng: Rng, sound: np.ndarray, n_s: float, spread: float) -> np.ndarray:
    """The clip a little faster or slower, so that no two are tuned alike."""
    return snd.respeed(sound, float(np.exp(rng.normal(0, spread)).clip(0.8, 1.2)))[:, : int(n_s * snd.RATE_HZ)]


def drums(data: Path, rng: Rng, n_s: float) -> np.ndarray:
    program = int(rng.choice(DRUM_PRESETS, p=[0.22, *[0.07] * 7, 0.07, 0.08, 0.07, 0.07]))
    electronic = program in (24, 25)
    long_s = n_s * 1.25
    keys = {role: int(rng.choice(options)) for role, options in ROLE_KEYS.items()}
    lift = {role: rng.normal(0, 0.08) for role in keys}
    events = []
    for at_s, role, loudness in drumming.groove(rng, long_s, electronic):
        velocity = float(np.clip(loudness * 0.95 + lift[role], 0.05, 1))
        events.append((at_s, 0.3, keys[role], velocity))
    out = tuned(rng, render(rng, 128, program, events, long_s), n_s, 0.07)
    return drumming.finish(out, rng)


def bass(data: Path, rng: Rng, n_s: float) -> np.ndarray:
    song = harmony.plan(rng, n_s)
    program = int(rng.choice(range(32, 40), p=[0.12, 0.22, 0.22, 0.1, 0.05, 0.05, 0.12, 0.12]))
    loose_s = rng.uniform(0.001, 0.012)
    events = [
        (max(0.0, start_s + rng.normal(0, loose_s)), length_s, midi, velocity)
        for start_s, length_s, midi, velocity in band.bass_notes(rng, song)
    ]
    out = render(rng, 0, program, events, n_s)
    return band.finish_bass(out, rng, rng.random() < 0.85)


def layer(rng: Rng, song: harmony.Plan, n_s: float) -> np.ndarray:
    """One accompanying instrument through its own effects."""
    names = list(FAMILIES)
    weights = np.array([FAMILIES[name][3] for name in names])
    programs, styles, what, _ = FAMILIES[names[rng.choice(len(names), p=weights / weights.sum())]]
    program = int(rng.choice(programs))
    loose_s, soft = rng.uniform(0.001, 0.012), rng.uniform(0.6, 1.0)
    events = [
        (max(0.0, start_s + rng.normal(0, loose_s)), length_s, midi, velocity * soft * rng.uniform(0.85, 1.1))
        for start_s, length_s, midi, velocity in band.part_events(rng, song, str(rng.choice(styles)))
    ]
    return band.dress(render(rng, 0, program, events, n_s), rng, what, song.beat_s)


def other(data: Path, rng: Rng, n_s: float) -> np.ndarray:
    song = harmony.plan(rng, n_s)
    out = np.zeros((2, int(n_s * snd.RATE_HZ)), dtype=np.float32)
    for _ in range(int(rng.choice([1, 2, 3, 4], p=[0.2, 0.35, 0.3, 0.15]))):
        part = layer(rng, song, n_s) if rng.random() < 0.88 else band.layer(data, rng, song, n_s)
        part = np.pad(part, ((0, 0), (0, out.shape[1] - part.shape[1])))
        out += part * (snd.db(rng.normal(0, 4)) * 0.1 / snd.db(max(snd.rms_db(part), -60)))
    if rng.random() < 0.3:
        out = snd.compress(out, rng, 0.6)
    if rng.random() < 0.5:
        out = tuned(rng, out, n_s, 0.01)
    return out
