"""Sung clips: free voices analysed by WORLD and sung again on new melodies, with other throats and other singers."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import harmony
import numpy as np
import phrases
import pyworld  # needs setuptools below 81
import sound as snd
from scipy.ndimage import median_filter, uniform_filter1d

Rng = np.random.Generator
FRAME_S = 0.005
N_FFT = 2048
# bank: (weight, semitones its throat sits above a man's: what the formants are moved against)
SYLLABLES = {"iona": (2.0, 5.0), "torone": (1.5, 4.0), "erithacus": (2.5, 0.0), "men": (0.8, 0.0), "women": (0.5, 4.0)}
STREAMS = {"yuki": (3.0, 4.5), "speech": (2.0, 3.5), "shout": (1.0, 3.0), "shv": (1.2, 3.5)}
TRANSPOSED = {"shv": (4.5, 3.5), "etv": (2.0, 4.0)}


@dataclass(frozen=True)
class Voice:
    """WORLD's description of a recording, one row a frame of 5 ms."""

    pitch_hz: np.ndarray
    envelope: np.ndarray  # log power
    breath: np.ndarray  # aperiodicity

    def take(self, frames: np.ndarray) -> Voice:
        return Voice(self.pitch_hz[frames], self.envelope[frames], self.breath[frames])


@functools.lru_cache(maxsize=120)
def analyse(path: Path, longest_s: float) -> Voice:
    """Pitch, envelope and aperiodicity of a recording."""
    x = phrases.phrase(path).mean(axis=0)[: int(longest_s * snd.RATE_HZ)].astype(np.float64)
    rough, times = pyworld.dio(x, snd.RATE_HZ, f0_floor=75.0, f0_ceil=1100.0, frame_period=1000 * FRAME_S)
    pitch_hz = pyworld.stonemask(x, rough, times, snd.RATE_HZ)
    power = pyworld.cheaptrick(x, pitch_hz, times, snd.RATE_HZ, fft_size=N_FFT)
    breath = pyworld.d4c(x, pitch_hz, times, snd.RATE_HZ, fft_size=N_FFT)
    return Voice(pitch_hz, np.log(power + 1e-12).astype(np.float32), breath.astype(np.float32))


def filled(pitch_hz: np.ndarray) -> np.ndarray:
    """Log pitch with the unvoiced gaps bridged."""
    voiced = np.flatnonzero(pitch_hz > 0)
    if not len(voiced):
        return np.full(len(pitch_hz), np.log(200.0))
    whole = np.interp(np.arange(len(pitch_hz)), voiced, np.log(pitch_hz[voiced]))
    return median_filter(whole, 9)  # short octave errors


@dataclass(frozen=True)
class Singer:
    """One person's ways: throat, vibrato, glides, roughness."""

    throat: float  # formant scale
    low: int
    high: int
    vibrato_hz: float
    vibrato_cents: float
    glide_s: float
    rough: float
    airy: float
    tilt_db: float


def cast(rng: Rng, above_man: float) -> Singer:
    """A random singer for a bank whose voice lies ``above_man`` semitones over a man's throat."""
    kind = str(rng.choice(["bass", "tenor", "alto", "soprano", "child"], p=[0.2, 0.35, 0.23, 0.17, 0.05]))
    want, low, high = {
        "bass": (-1.0, 40, 57), "tenor": (0.2, 47, 67), "alto": (2.6, 53, 72), "soprano": (3.6, 60, 79),
        "child": (5.5, 62, 79),
    }[kind]  # fmt: skip
    throat = 2 ** ((want - above_man + rng.normal(0, 0.7)) / 12)
    middle = rng.uniform(low + 6, high - 6)
    half = rng.uniform(4, 8)
    return Singer(
        throat=float(np.clip(throat, 0.72, 1.35)),
        low=int(max(low, middle - half)),
        high=int(min(high, middle + half)),
        vibrato_hz=float(rng.uniform(4.5, 6.5)),
        vibrato_cents=float(rng.uniform(15, 80) if rng.random() < 0.75 else 0.0),
        glide_s=float(rng.uniform(0.02, 0.12)),
        rough=float(rng.exponential(0.002) if rng.random() < 0.7 else rng.uniform(0.004, 0.012)),
        airy=float(rng.uniform(0, 0.25) if rng.random() < 0.7 else rng.uniform(0.25, 0.45)),
        tilt_db=float(rng.normal(0, 3)),
    )


def contour(rng: Rng, singer: Singer, n: int, notes: list[tuple[int, int, float]]) -> np.ndarray:
    """Log pitch by frame for notes (first frame, frames, MIDI): glides, vibrato that grows, drift, roughness."""
    steps = np.full(n, notes[0][2], dtype=np.float64)
    swing = np.zeros(n)
    for first, length, midi in notes:
        steps[first:] = midi
        t = np.arange(min(length, n - first)) * FRAME_S
        if singer.vibrato_cents and length * FRAME_S > 0.3:
            grow = np.clip((t - rng.uniform(0.1, 0.3)) / 0.25, 0, 1)
            hz = singer.vibrato_hz * rng.uniform(0.94, 1.06)
            swing[first : first + len(t)] = grow * np.sin(2 * np.pi * hz * t) * singer.vibrato_cents / 100
        if rng.random() < 0.25:  # a scoop from below
            swing[first : first + len(t)] -= rng.uniform(0.5, 2) * np.exp(-t / rng.uniform(0.03, 0.1))
    width = max(3, int(singer.glide_s / FRAME_S))
    steps = uniform_filter1d(uniform_filter1d(steps, width, mode="nearest"), width, mode="nearest")
    drift = uniform_filter1d(rng.standard_normal(n), 60, mode="nearest") * 0.6
    jitter = uniform_filter1d(rng.standard_normal(n), 2, mode="nearest") * singer.rough * 17
    return np.log(440.0) + (steps - 69 + swing + drift + jitter) * np.log(2) / 12


def throat(voice: Voice, singer: Singer) -> tuple[np.ndarray, np.ndarray]:
    """Envelope (power) and aperiodicity with the formants moved, airier, tilted."""
    n_bins = voice.envelope.shape[1]
    bins = np.arange(n_bins) / singer.throat
    left = np.minimum(bins.astype(int), n_bins - 2)
    part = np.minimum(bins - left, 1.0).astype(np.float32)
    envelope = voice.envelope[:, left] * (1 - part) + voice.envelope[:, left + 1] * part
    breath = voice.breath[:, left] * (1 - part) + voice.breath[:, left + 1] * part
    octaves = np.log2(np.maximum(np.arange(n_bins), 1) * snd.RATE_HZ / N_FFT / 1000).clip(-3, 4)
    envelope = envelope + (singer.tilt_db * octaves * np.log(10) / 20).astype(np.float32)
    high = (np.clip(octaves + 1, 0, 4) / 4).astype(np.float32)
    breath = breath + (1 - breath) * singer.airy * high
    return np.exp(envelope.astype(np.float64)), breath.clip(1e-3, 1 - 1e-3).astype(np.float64)


def sing(voice: Voice, log_pitch: np.ndarray, singer: Singer, gain: np.ndarray) -> np.ndarray:
    """The voice on a new pitch contour; mono."""
    pitch_hz = np.where(voice.pitch_hz > 0, np.exp(log_pitch), 0.0)
    pitch_hz = np.where(pitch_hz > 0, np.clip(pitch_hz, 60, 1200), 0.0)
    envelope, breath = throat(voice, singer)
    envelope *= np.square(gain)[:, None]
    x = pyworld.synthesize(
        np.ascontiguousarray(pitch_hz),
        np.ascontiguousarray(envelope),
        np.ascontiguousarray(breath),
        snd.RATE_HZ,
        1000 * FRAME_S,
    )
    return x.astype(np.float32)


def join(voices: list[Voice]) -> Voice:
    """Voices in a row, their envelopes blended over four frames at each join."""
    whole = Voice(
        np.concatenate([v.pitch_hz for v in voices]),
        np.concatenate([v.envelope for v in voices]),
        np.concatenate([v.breath for v in voices]),
    )
    at = 0
    for voice in voices[:-1]:
        at += len(voice.pitch_hz)
        lo, hi = max(0, at - 4), min(len(whole.pitch_hz), at + 4)
        if hi - lo > 2:
            mix = np.linspace(0, 1, hi - lo, dtype=np.float32)[:, None]
            first, last = whole.envelope[lo].copy(), whole.envelope[hi - 1].copy()
            whole.envelope[lo:hi] = (1 - mix) * first + mix * last
    return whole


def silence(n: int) -> Voice:
    return Voice(np.zeros(n), np.full((n, N_FFT // 2 + 1), -27.0, np.float32),
                 np.full((n, N_FFT // 2 + 1), 0.99, np.float32))  # fmt: skip


def syllable(rng: Rng, voice: Voice, n: int) -> Voice:
    """A held syllable cut or drawn out to ``n`` frames: its onset is kept, its vowel wanders to and fro."""
    loud = voice.envelope.mean(axis=1)
    active = np.flatnonzero(voice.pitch_hz > 0)
    if len(active) < 12:
        return silence(n)
    start = max(0, active[0] - 16)
    settle = min(active[0] + 24, active[-1])
    middle = loud[settle : active[-1] + 1]
    keep = np.flatnonzero(middle > np.median(middle) - 2.0)
    last = settle + (keep[-1] if len(keep) else 0)
    onset = np.arange(start, settle)
    span = max(2, int((last - settle) * 0.85))
    n_vowel = max(0, n - len(onset))
    walk = np.arange(n_vowel) * rng.uniform(0.5, 1.0)
    walk = walk % (2 * span)
    vowel = settle + np.where(walk < span, walk, 2 * span - walk).astype(int)
    frames = np.concatenate([onset, vowel])[:n].clip(0, len(voice.pitch_hz) - 1)
    return voice.take(frames)


def from_syllables(rng: Rng, paths: list[Path], singer: Singer, n_s: float) -> tuple[Voice, list, np.ndarray]:
    """A tune on held syllables: the voice, its notes and its gain by frame."""
    song = harmony.plan(rng, n_s)
    tune = harmony.melody(rng, song.chords, song.beat_s, singer.low, singer.high, rng.uniform(0.05, 0.25))
    some = [paths[i] for i in rng.integers(len(paths), size=int(rng.integers(5, 14)))]
    n_total = int(n_s / FRAME_S)
    parts: list[Voice] = []
    notes: list[tuple[int, int, float]] = []
    gain = np.ones(n_total)
    now = 0
    for start_s, length_s, midi in tune:
        at, n = int(start_s / FRAME_S), int(min(length_s, 4.0) / FRAME_S)
        n = min(n, n_total - at)
        if n < 12:
            continue
        if at > now:
            parts.append(silence(at - now))
        last = at + n
        parts.append(syllable(rng, analyse(some[rng.integers(len(some))], 2.5), n))
        notes.append((at, n, float(midi)))
        gain[at:last] *= snd.db(rng.normal(0, 1.5) + 0.25 * (midi - singer.low))
        gain[at : at + 5] *= np.linspace(0.2, 1, 5)
        n_release = min(n // 3, 20)
        gain[last - n_release : last] *= np.linspace(1, 0.15, n_release)
        now = last
    parts.append(silence(max(1, n_total - now)))
    whole = join(parts).take(np.arange(n_total))
    return whole, notes or [(0, n_total, float(singer.low))], uniform_filter1d(gain, 3)


def from_stream(rng: Rng, paths: list[Path], singer: Singer, n_s: float) -> tuple[Voice, list, np.ndarray]:
    """Words in their own order and (stretched) time, each syllable on a note of a tune."""
    song = harmony.plan(rng, n_s)
    n_total = int(n_s / FRAME_S)
    stretch = rng.uniform(0.9, 2.2)
    parts: list[Voice] = []
    notes: list[tuple[int, int, float]] = []
    now, note = 0, rng.uniform(singer.low, singer.high)
    while now < n_total:
        n_gap = int(rng.exponential(0.25) / FRAME_S) + 1
        parts.append(silence(n_gap))
        now += n_gap
        voice = analyse(paths[rng.integers(len(paths))], 7.0)
        n_in = len(voice.pitch_hz)
        flux = np.abs(np.diff(voice.envelope[:, :500:4], axis=0, prepend=voice.envelope[:1, :500:4])).mean(axis=1)
        flux = uniform_filter1d(flux, 7)
        shortest = int(rng.uniform(0.12, 0.3) / FRAME_S)
        marks = [0]
        for at in np.argsort(-flux):
            if min(abs(int(at) - m) for m in marks) > shortest and n_in - at > shortest:
                marks.append(int(at))
            if len(marks) > n_in / (2.2 * shortest):
                break
        marks = sorted(marks)
        for first, last in zip(marks, [*marks[1:], n_in], strict=True):
            # the middle of a syllable stretches, its edges do not
            n = int((last - first) * stretch * rng.uniform(0.8, 1.25))
            edge = min(10, (last - first) // 3)
            inner = np.linspace(first + edge, last - 1, max(2, n - edge)).astype(int)
            frames = np.concatenate([np.arange(first, first + edge), inner])
            chord = song.chords[min(int(now * FRAME_S / song.chords[0].length_s), len(song.chords) - 1)]
            wish = note + rng.normal(0, 2.5) + ((singer.low + singer.high) / 2 - note) * 0.15
            pool = chord.tones if rng.random() < 0.5 else chord.scale
            if rng.random() > 0.25:
                note = min((harmony.near(p, wish) for p in pool), key=lambda o: abs(o - wish))
            notes.append((now, len(frames), float(np.clip(note, singer.low, singer.high))))
            parts.append(voice.take(frames))
            now += len(frames)
    whole = join(parts).take(np.arange(n_total))
    notes = [x for x in notes if x[0] < n_total]
    return whole, notes or [(0, n_total, float(singer.low))], np.ones(n_total)


def from_song(rng: Rng, paths: list[Path], singer: Singer, n_s: float) -> tuple[Voice, np.ndarray, np.ndarray]:
    """Sung phrases with their own tune, moved into the singer's range."""
    n_total = int(n_s / FRAME_S)
    parts: list[Voice] = []
    pitch: list[np.ndarray] = []
    now, shift = 0, None
    speed = rng.uniform(0.8, 1.15)
    while now < n_total:
        n_gap = int(rng.exponential(0.3) / FRAME_S) + 1
        voice = analyse(paths[rng.integers(len(paths))], 8.0)
        frames = np.arange(0, len(voice.pitch_hz) - 1, speed).astype(int)
        voice = voice.take(frames)
        log_pitch = filled(voice.pitch_hz)
        if shift is None or rng.random() < 0.1:
            middle = np.median(log_pitch)
            target = np.log(440) + ((singer.low + singer.high) / 2 - 69) * np.log(2) / 12
            shift = round((target - middle) / np.log(2) * 12) * np.log(2) / 12
        parts += [silence(n_gap), voice]
        pitch += [np.full(n_gap, log_pitch[0] + shift), log_pitch + shift]
        now += n_gap + len(frames)
    wave = rng.standard_normal(n_total) * singer.rough
    return join(parts).take(np.arange(n_total)), np.concatenate(pitch)[:n_total] + wave, np.ones(n_total)


def breaths(rng: Rng, gain_at: np.ndarray, level: float) -> np.ndarray:
    """Breath noise in the gaps before phrases; ``gain_at`` tells by frame whether the voice sounds."""
    n = len(gain_at) * int(FRAME_S * snd.RATE_HZ * 10) // 10
    out = np.zeros((1, n), dtype=np.float32)
    starts = np.flatnonzero(np.diff(gain_at.astype(int)) > 0)
    for start in starts:
        if gain_at[max(0, start - 50) : start].any() or rng.random() < 0.4:
            continue
        n_breath = int(rng.uniform(0.15, 0.4) * snd.RATE_HZ)
        noise = rng.standard_normal((1, n_breath)).astype(np.float32)
        noise = snd.cut(noise, rng.uniform(500, 1200), rng.uniform(4000, 9000)) * np.hanning(n_breath)
        snd.add(out, noise.astype(np.float32), start * FRAME_S - n_breath / snd.RATE_HZ - 0.03, level)
    return out


def clip(data: Path, rng: Rng, n_s: float) -> np.ndarray:
    ways = {**{("s", b): w for b, w in SYLLABLES.items()}, **{("w", b): w for b, w in STREAMS.items()},
            **{("t", b): w for b, w in TRANSPOSED.items()}}  # fmt: skip
    names = list(ways)
    weights = np.array([ways[name][0] for name in names])
    way, bank = names[rng.choice(len(names), p=weights / weights.sum())]
    singer = cast(rng, ways[way, bank][1])
    paths = phrases.files(data, bank)
    if bank == "shv":  # one singer, one key at a time
        folder = paths[rng.integers(len(paths))].parent
        paths = [p for p in paths if p.parent == folder]
    some = [paths[i] for i in rng.integers(len(paths), size=min(len(paths), 10))]
    if way == "s":
        voice, notes, gain = from_syllables(rng, some, singer, n_s)
        log_pitch = contour(rng, singer, len(gain), notes)
    elif way == "w":
        voice, notes, gain = from_stream(rng, some, singer, n_s)
        log_pitch = contour(rng, singer, len(gain), notes)
    else:
        voice, log_pitch, gain = from_song(rng, some, singer, n_s)
    lead = sing(voice, log_pitch, singer, gain)[None]
    if rng.random() < 0.4:
        air = breaths(rng, voice.envelope.mean(axis=1) > -25, 0.1 * float(np.std(lead)) / 0.5)
        n = min(air.shape[1], lead.shape[1])
        lead[:, :n] += air[:, :n]
    out = snd.stereo(lead)
    n_more = int(rng.choice([0, 1, 2, 3], p=[0.62, 0.18, 0.14, 0.06]))
    interval = [0.0, *rng.choice([0, 0, 3, 4, -5, 7, 12, -12], size=3)]
    for i in range(n_more):
        n = len(gain)
        wander = uniform_filter1d(rng.standard_normal(n), 80, mode="nearest") * 1.2 + rng.normal(0, 0.06)
        late = np.clip(np.arange(n) - int(rng.integers(-6, 7)), 0, n - 1)
        take = log_pitch[late] + (interval[i] + wander) * np.log(2) / 12
        more = sing(voice.take(late), take, singer, gain[late])
        pan = (-1) ** i * rng.uniform(0.2, 1)
        out = out + snd.stereo(more[: out.shape[1]], pan) * snd.db(rng.normal(-6, 3))
    active = snd.trim_silences(out, 1.0, 0.5)
    return phrases.produce(active if active.shape[1] > 12 * snd.RATE_HZ else out, rng)
