"""Bass and accompaniment clips, played on free sampled instruments and on simple synthesisers."""

from __future__ import annotations

import functools
import re
from pathlib import Path

import harmony
import numpy as np
import sound as snd

Rng = np.random.Generator
# instrument: (files below samples/instruments, octaves to add to the name: measured against the names)
BASSES = {
    "growly": ("bass/growlybass_sustain/*", -12),
    "staccato": ("bass/growlybass_staccato/*", -12),
    "pizzicato": ("bass/meatbass_double_bass_pizz/[a-g]*", 0),
    "arco": ("bass/meatbass_double_bass_arco/*", 0),
    "fingered": ("bass/pastabass_fingered_flatwound/*", -12),
    "muted": ("bass/pastabass_muted/*", -12),
    "picked": ("bass/pastabass_picked_flatwound/*", -12),
    "round": ("bass/pastabass_roundwound/*", -12),
}
CHORDAL = {
    "archtop": ("guitar/shinyguitar_archtop_acoustic/*", 0),
    "jazz": ("guitar/shinyguitar_archtop_electric/*", 0),
    "electric": ("guitar/emilyguitar_electric_clean/*", 0),
    "nylon": ("guitar/spanish_classical/*", 0),
    "upright": ("keys/upright_piano_KW/*", 0),
    "old_piano": ("keys/old_piano_FB/*", 0),
    "rhodes": ("keys/fluidr3_ep_clav_organ/Rhodes*", -12),
    "ep": ("keys/fluidr3_ep_clav_organ/EP_2*", -12),
    "clav": ("keys/fluidr3_ep_clav_organ/Clav*", -12),
}
SAX = ("winds/weresax_alto_sax/*", 12)
ODD = ("guitar_chord*", "guitar_riff*", "synth*", "Longsynth*", "Analogsynth*", "Shortsynth*")
NOTE = re.compile(r"(?:^|_)([A-Ga-g])([sb]?)_?(-?\d)(?=$|[v_.])")


def midi_of(name: str) -> int | None:
    """The MIDI number of the note in a file name (C4 is 60)."""
    found = NOTE.search(name)
    if not found:
        return None
    letter, sign, octave = found.groups()
    step = {"c": 0, "d": 2, "e": 4, "f": 5, "g": 7, "a": 9, "b": 11}[letter.lower()]
    return 12 * (int(octave) + 1) + step + {"s": 1, "b": -1, "": 0}[sign]


@functools.lru_cache(maxsize=100)
def bank(data: Path, pattern: str, offset: int) -> dict[int, list[Path]]:
    """Recordings by sounding MIDI note."""
    notes: dict[int, list[Path]] = {}
    for path in sorted((data / "samples" / "instruments").glob(pattern + ".ogg")):
        midi = midi_of(path.stem)
        if midi is not None and "_R_" not in path.stem:
            notes.setdefault(midi + offset, []).append(path)
    return notes


@functools.lru_cache(maxsize=500)
def tone(path: Path, semitones: int) -> np.ndarray:
    """One recorded note shifted in pitch, its start at the attack, at a common level."""
    note = snd.respeed(snd.load(path), 2 ** (semitones / 12))
    note = snd.stereo(note)
    level = np.abs(note).max(axis=0)
    start = max(0, int(np.argmax(level > level.max() * 0.04)) - 80)
    note = note[:, start : start + int(4.5 * snd.RATE_HZ)]
    loud = np.sqrt(np.mean(np.square(note[:, : int(0.4 * snd.RATE_HZ)])) + 1e-9)
    return snd.fade(note * (0.1 / loud), 0.001, 0.05).astype(np.float32)


def pluck(data: Path, rng: Rng, instrument: tuple[str, int], midi: int, n_s: float) -> np.ndarray:
    """A note of an instrument: the nearest recording, shifted, let go after ``n_s``."""
    notes = bank(data, *instrument)
    distance = {m: abs(m - midi) for m in notes}
    close = min(distance.values())
    source = min(m for m, d in distance.items() if d == close)
    path = notes[source][rng.integers(len(notes[source]))]
    whole = tone(path, midi - source)
    release_s = rng.uniform(0.03, 0.12)
    return snd.fade(whole[:, : int((n_s + release_s) * snd.RATE_HZ)], 0.001, release_s)


def oscillator(rng: Rng, wave: str, hz: float, n: int, phase: float = 0.0) -> np.ndarray:
    """A band-limited wave: harmonics up to 16 kHz, at most 60 of them."""
    t = np.arange(n) / snd.RATE_HZ
    if wave == "sine":
        return np.sin(2 * np.pi * (hz * t + phase)).astype(np.float32)
    top = int(min(60, 16_000 / hz))
    one = np.zeros(4096)
    table_t = np.arange(4096) / 4096
    for k in range(1, top + 1):
        size = {"saw": 1 / k, "square": (k % 2) / k, "triangle": (k % 2) / k**2, "pulse": np.sin(0.8 * k) / k}[wave]
        one += size * np.sin(2 * np.pi * k * table_t)
    where = ((hz * t + phase) % 1.0) * 4096
    return np.interp(where, np.arange(4097), np.r_[one, one[0]]).astype(np.float32)


class Patch:
    """A random subtractive synthesiser: detuned oscillators, envelopes, a filter by blending."""

    def __init__(self, rng: Rng, role: str) -> None:
        self.rng, self.role = rng, role
        self.waves = [str(w) for w in rng.choice(["saw", "square", "triangle", "pulse", "sine"], size=2,
                                                 p=[0.4, 0.2, 0.15, 0.15, 0.1])]  # fmt: skip
        n_max = 2 if role == "bass" else 5
        self.detune = rng.normal(0, rng.uniform(0.5, 9), size=int(rng.integers(1, n_max + 1)))
        self.attack_s = float(rng.uniform(0.1, 0.6) if role == "pad" else rng.uniform(0.002, 0.03))
        self.decay = float(rng.uniform(0.0, 1.0) if role == "pad" else rng.uniform(0.5, 7))
        self.sustain = float(rng.uniform(0.4, 1) if role != "pluck" else rng.uniform(0, 0.2))
        self.dark_hz = float(rng.uniform(200, 1200) if role == "bass" else rng.uniform(400, 3000))
        self.bright_hz = self.dark_hz * float(rng.uniform(2, 10))
        self.sweep = float(rng.uniform(1, 15))
        self.sub = float(rng.uniform(0, 0.8)) if role == "bass" else 0.0
        self.vibrato = float(rng.uniform(0, 12)) if role == "lead" and rng.random() < 0.6 else 0.0

    def play(self, midi: int, n_s: float) -> np.ndarray:
        """One note, stereo, at a common level."""
        rng, release_s = self.rng, 0.4 if self.role == "pad" else 0.06
        n = int((n_s + release_s) * snd.RATE_HZ)
        t = np.arange(n) / snd.RATE_HZ
        hz = 440 * 2 ** ((midi - 69) / 12)
        out = np.zeros((2, n), dtype=np.float32)
        for i, cents in enumerate(self.detune):
            wave = oscillator(rng, self.waves[i % 2], hz * 2 ** (cents / 1200), n, rng.random())
            pan = 0.0 if self.role == "bass" or len(self.detune) < 2 else 1.6 * i / (len(self.detune) - 1) - 0.8
            out += snd.stereo(wave, pan)
        if self.sub:
            out += self.sub * oscillator(rng, "sine", hz / (2 if midi > 40 else 1), n)
        if self.vibrato:
            out = snd.sway(out, self.vibrato * 1e-5, 5.3, 0.0, 0.0)
        dark = snd.cut(out, 20, min(self.dark_hz * 1.0, 18_000))
        bright = snd.cut(out, 20, min(self.bright_hz, 18_000))
        mix = np.exp(-t * self.sweep).astype(np.float32)
        out = dark * (1 - mix) + bright * mix
        rise = np.minimum(t / self.attack_s, 1.0)
        body = self.sustain + (1 - self.sustain) * np.exp(-t * self.decay)
        out = out * (rise * body).astype(np.float32)
        return snd.fade(out * (0.1 / (np.sqrt(np.mean(np.square(out))) + 1e-6)), 0.001, release_s)


def bass_rhythm(rng: Rng, chord_beats: float) -> list[tuple[float, float]]:
    """(beat, length in beats) of the notes on one chord."""
    style = str(rng.choice(["eighths", "quarters", "whole", "pushed", "funk", "dotted", "offbeat"],
                           p=[0.3, 0.14, 0.12, 0.16, 0.12, 0.1, 0.06]))  # fmt: skip
    n = chord_beats
    if style == "eighths":
        return [(b, 0.5) for b in np.arange(0, n, 0.5)]
    if style == "quarters":
        return [(b, 1.0) for b in np.arange(0, n, 1.0)]
    if style == "whole":
        return [(0.0, n)]
    if style == "pushed":
        return [(0.0, 1.5), (1.5, 0.5), *([(2.0, 1.0), (3.0, 0.5), (3.5, 0.5)] if n > 2 else [])]
    if style == "dotted":
        return [(b, 0.75) for b in np.arange(0, n - 0.5, 1.5)]
    if style == "offbeat":
        return [(b + 0.5, 0.5) for b in np.arange(0, n, 1.0)]
    steps = [0.0, *(s for s in np.arange(0.25, n, 0.25) if rng.random() < 0.35)]
    return list(zip(steps, np.diff([*steps, n]).clip(0.2, 1.0), strict=True))


def bass_notes(rng: Rng, song: harmony.Plan) -> list[tuple[float, float, int, float]]:
    """A bass line: (start_s, length_s, MIDI note, velocity)."""
    notes = []
    centre = rng.uniform(32, 43)
    busy, short = rng.uniform(0, 0.5), rng.uniform(0.5, 1.05)
    beats = song.chords[0].length_s / song.beat_s
    rhythms = [bass_rhythm(rng, beats) for _ in range(2)]
    for i, chord in enumerate(song.chords):
        if i % 8 == 0 and rng.random() < 0.5:
            rhythms = [bass_rhythm(rng, beats) for _ in range(2)]
        root = harmony.near(chord.root, centre)
        root = root + 12 if root < 28 else root
        following = song.chords[(i + 1) % len(song.chords)].root
        rhythm = rhythms[i % 2]
        for j, (beat, length) in enumerate(rhythm):
            note = root
            if j and rng.random() < busy:
                note = int(rng.choice([root + 12, harmony.near(chord.tones[2 % len(chord.tones)], root + 3),
                                       harmony.near(chord.tones[1], root + 3)]))  # fmt: skip
            if j == len(rhythm) - 1 and j and rng.random() < busy:
                note = harmony.near(following, root) + int(rng.choice([-1, 1, -2, 2]))
            note = note + 12 if note < 26 else note
            start_s = chord.start_s + beat * song.beat_s
            notes.append((start_s, length * song.beat_s * short, note, float(rng.uniform(0.7, 1))))
    return notes


def bass(data: Path, rng: Rng, n_s: float) -> np.ndarray:
    song = harmony.plan(rng, n_s)
    out = np.zeros((2, int(n_s * snd.RATE_HZ)), dtype=np.float32)
    synth = rng.random() < 0.35
    patch = Patch(rng, "bass")
    names = list(BASSES)
    weights = np.array([1.2, 0.3, 0.8, 0.3, 1.6, 0.7, 1.6, 1.4])
    instrument = BASSES[names[rng.choice(len(names), p=weights / weights.sum())]]
    loose_s = 0.001 if synth else rng.uniform(0.001, 0.012)
    spread = rng.uniform(0.05, 0.25)
    for start_s, length_s, midi, velocity in bass_notes(rng, song):
        note = patch.play(midi, length_s) if synth else pluck(data, rng, instrument, midi, length_s)
        gain = velocity * np.exp(rng.normal(0, spread))
        snd.add(out, note, max(0.0, start_s + rng.normal(0, loose_s)), gain)
    return finish_bass(out, rng, rng.random() < 0.75 or not synth)


def finish_bass(out: np.ndarray, rng: Rng, mono: bool) -> np.ndarray:
    """A bass track's usual treatment: middle, dirt, equaliser, compressor."""
    if mono:
        out = np.repeat(out.mean(axis=0, keepdims=True), 2, axis=0)
    if rng.random() < 0.3:
        dirty = snd.saturate(out, np.exp(rng.uniform(0.3, 3)))
        out = snd.cut(out * rng.uniform(0, 1) + dirty, 25, rng.uniform(2500, 8000))
    lift_db = rng.normal(3, 3)
    out = snd.shape_spectrum(out, {40: lift_db, 110: lift_db, 300: 0, 700: rng.normal(0, 2), 3000: rng.normal(3, 4)})
    out = snd.colour(out, rng, float(rng.uniform(20, 40)), float(np.exp(rng.uniform(7.0, 10))), 4.0)
    if rng.random() < 0.7:
        out = snd.compress(out, rng)
    if rng.random() < 0.1:
        out = snd.chorus(out, rng)
    return snd.maybe_reverberate(out, rng, 0.15, 0.8, 0.15)


def strum(rng: Rng, chord: harmony.Chord, beat_s: float, pattern: list[float]) -> list[tuple[float, float, int, float]]:
    """Strummed six-string chords: (start_s, length_s, MIDI note, velocity)."""
    shape = harmony.voicing(chord, 50, 5)
    events = []
    for i, beat in enumerate(pattern):
        down = (beat * 2) % 2 < 1
        until = pattern[i + 1] if i + 1 < len(pattern) else chord.length_s / beat_s
        order = shape if down else shape[:1:-1]
        lag_s = rng.uniform(0.004, 0.02)
        velocity = (0.9 if down else 0.6) * rng.uniform(0.8, 1.1)
        for k, note in enumerate(order):
            start_s = chord.start_s + beat * beat_s + k * lag_s
            events.append((start_s, (until - beat) * beat_s, note, velocity))
    return events


def part_events(rng: Rng, song: harmony.Plan, style: str) -> list[tuple[float, float, int, float]]:
    """What one accompanying instrument plays: (start_s, length_s, MIDI note, velocity)."""
    events: list[tuple[float, float, int, float]] = []
    beat_s = song.beat_s
    beats = song.chords[0].length_s / beat_s
    if style == "lead":
        low = int(rng.integers(55, 68))
        tune = harmony.melody(rng, song.chords, beat_s, low, low + 17, rng.uniform(0.05, 0.35))
        return [(a, n, m, float(rng.uniform(0.6, 1))) for a, n, m in tune]
    around = rng.uniform(46, 66)
    pattern = [float(b) for b in np.arange(0, beats, 0.5) if b == 0 or rng.random() < 0.65]
    order = rng.permutation(8)
    size = int(rng.integers(3, 5))
    step = float(rng.choice([0.25, 0.5, 0.5, 1 / 3]))
    for chord in song.chords:
        shape = harmony.voicing(chord, around, size)
        if style == "strum":
            events += strum(rng, chord, beat_s, pattern)
        elif style == "power":
            root = harmony.near(chord.root, 45)
            for i, beat in enumerate(pattern):
                until = pattern[i + 1] if i + 1 < len(pattern) else beats
                for note in (root, root + 7, root + 12):
                    events.append((chord.start_s + beat * beat_s, (until - beat) * beat_s, note, 0.9))
        elif style == "arpeggio":
            wide = harmony.voicing(chord, around, 6)
            for i, beat in enumerate(np.arange(0, beats - 1e-6, step)):
                note = wide[order[i % 8] % 6]
                events.append((chord.start_s + beat * beat_s, beat_s * step * 1.8, note, rng.uniform(0.6, 1)))
        elif style == "hold":
            events += [(chord.start_s, chord.length_s, note, rng.uniform(0.7, 0.9)) for note in shape]
        else:  # comping in a rhythm, low notes at times
            for i, beat in enumerate(pattern):
                until = pattern[i + 1] if i + 1 < len(pattern) else beats
                velocity = rng.uniform(0.6, 1)
                for note in shape:
                    events.append((chord.start_s + beat * beat_s, (until - beat) * beat_s, note, velocity))
            if style == "piano":
                low = harmony.near(chord.root, 42 if rng.random() < 0.5 else 34)
                events.append((chord.start_s, chord.length_s, low, 0.9))
                events.append((chord.start_s, chord.length_s, low + 12, 0.6))
    return events


def layer(data: Path, rng: Rng, song: harmony.Plan, n_s: float) -> np.ndarray:
    """One accompanying instrument through its own effects."""
    out = np.zeros((2, int(n_s * snd.RATE_HZ)), dtype=np.float32)
    what = str(rng.choice(["guitar", "power", "piano", "keys", "sax", "pad", "synth_lead", "synth_arp", "odd"],
                          p=[0.25, 0.14, 0.19, 0.12, 0.06, 0.08, 0.06, 0.07, 0.03]))  # fmt: skip
    if what == "odd":
        return odd(data, rng, n_s)
    patch = None
    instrument = SAX
    if what == "guitar":
        instrument = CHORDAL[str(rng.choice(["archtop", "jazz", "electric", "nylon"]))]
        style = str(rng.choice(["strum", "strum", "arpeggio", "lead", "comp"]))
    elif what == "power":
        instrument = CHORDAL[str(rng.choice(["electric", "jazz"]))]
        style = str(rng.choice(["power", "power", "lead", "strum"]))
    elif what == "piano":
        instrument = CHORDAL[str(rng.choice(["upright", "old_piano"]))]
        style = str(rng.choice(["piano", "piano", "arpeggio", "lead", "hold"]))
    elif what == "keys":
        instrument = CHORDAL[str(rng.choice(["rhodes", "ep", "clav"]))]
        style = str(rng.choice(["comp", "hold", "arpeggio", "lead"]))
    elif what == "sax":
        style = "lead"
    else:
        role = {"pad": "pad", "synth_lead": "lead", "synth_arp": "pluck"}[what]
        patch = Patch(rng, role)
        style = {"pad": "hold", "synth_lead": "lead", "synth_arp": "arpeggio"}[what]
    loose_s = rng.uniform(0.001, 0.012)
    for start_s, length_s, midi, velocity in part_events(rng, song, style):
        if start_s > n_s:
            continue
        note = patch.play(midi, length_s) if patch else pluck(data, rng, instrument, midi, length_s)
        snd.add(out, note, max(0.0, start_s + rng.normal(0, loose_s)), velocity * rng.uniform(0.85, 1.1))
    return dress(out, rng, what, song.beat_s)


def dress(out: np.ndarray, rng: Rng, what: str, beat_s: float) -> np.ndarray:
    """An accompanying instrument's usual treatment."""
    if what == "power" or (what == "guitar" and rng.random() < 0.2):
        drive = np.exp(rng.uniform(1.5, 4.5)) if what == "power" else rng.uniform(1.5, 6)
        out = snd.cut(out, rng.uniform(80, 250))
        out = snd.cut(snd.saturate(out, drive), rng.uniform(60, 110), rng.uniform(3500, 6500), 3)
    if what in ("guitar", "power") and rng.random() < 0.35:
        out = snd.widen(out, rng)
    if rng.random() < 0.2:
        out = snd.chorus(out, rng)
    if rng.random() < 0.15:
        out = snd.echo(out, rng, beat_s)
    out = snd.stereo(out, rng.uniform(-0.6, 0.6))
    lift_db = rng.normal(4.5, 3)  # the recordings are thinner and darker than what records sound like
    out = snd.shape_spectrum(out, {150: rng.normal(3, 3), 600: 0, 3000: lift_db, 9000: 2 * lift_db})
    out = snd.colour(out, rng, float(rng.uniform(25, 110)), float(rng.choice([2e4, 2e4, 12e3])), 4.0)
    return snd.maybe_reverberate(out, rng, 0.6, 2.5, 0.5)


def odd(data: Path, rng: Rng, n_s: float) -> np.ndarray:
    """Recorded riffs, chords and synthesiser noises without a known pitch, at random times."""
    out = np.zeros((2, int(n_s * snd.RATE_HZ)), dtype=np.float32)
    folder = data / "samples" / "instruments" / "olpc_berklee"
    paths = sorted(p for pattern in ODD for p in folder.glob(pattern + ".ogg"))
    some = [paths[i] for i in rng.integers(len(paths), size=5)]
    beat_s, at_s = rng.uniform(0.3, 0.7), 0.0
    shift = int(rng.integers(-5, 6))
    while at_s < n_s:
        sound = tone(some[rng.integers(5)], shift)
        n_beats = float(rng.choice([0.5, 1, 2, 4, 8]))
        sound = snd.fade(sound[:, : int(n_beats * beat_s * snd.RATE_HZ)], 0.002, 0.05)
        snd.add(out, sound, at_s, rng.uniform(0.5, 1))
        at_s += min(n_beats * beat_s, sound.shape[1] / snd.RATE_HZ + beat_s)
    return snd.maybe_reverberate(snd.colour(out, rng, 60), rng, 0.6, 2.5, 0.5)


def other(data: Path, rng: Rng, n_s: float) -> np.ndarray:
    song = harmony.plan(rng, n_s)
    n_layers = int(rng.choice([1, 2, 3, 4], p=[0.35, 0.35, 0.2, 0.1]))
    out = np.zeros((2, int(n_s * snd.RATE_HZ)), dtype=np.float32)
    for _ in range(n_layers):
        part = layer(data, rng, song, n_s)
        out += part * (snd.db(rng.normal(0, 4)) * 0.1 / snd.db(max(snd.rms_db(part), -60)))
    if rng.random() < 0.3:
        out = snd.compress(out, rng, 0.6)
    return out
