"""Signal tools for the training material: loading, fades, equalising, rooms, level, and writing clips."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import soundfile
import soxr
from scipy import fft, signal

RATE_HZ = 44_100
Array = np.ndarray
Rng = np.random.Generator


@functools.lru_cache(maxsize=500)
def load(path: Path) -> Array:
    """A recording as float32 (channels, samples) at 44.1 kHz, without its DC, edges faded."""
    sound, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
    if rate_hz != RATE_HZ:
        sound = soxr.resample(sound, rate_hz, RATE_HZ)
    sound = sound.T - sound.T.mean(axis=1, keepdims=True)
    return fade(np.ascontiguousarray(sound, dtype=np.float32), 0.001, 0.01)


def respeed(sound: Array, factor: float) -> Array:
    """The sound played ``factor`` times as fast (pitch and length change together)."""
    if abs(factor - 1) < 1e-4:
        return sound
    return np.ascontiguousarray(soxr.resample(sound.T, RATE_HZ * factor, RATE_HZ, quality="HQ").T)


def db(level_db: float) -> float:
    return float(10 ** (level_db / 20))


def rms_db(sound: Array) -> float:
    return float(10 * np.log10(np.mean(np.square(sound, dtype=np.float64)) + 1e-12))


def fade(sound: Array, in_s: float = 0.003, out_s: float = 0.02) -> Array:
    """A copy with raised-cosine edges."""
    sound = sound.copy()
    n_in, n_out = (min(int(t * RATE_HZ), sound.shape[-1] // 2) for t in (in_s, out_s))
    if n_in:
        sound[..., :n_in] *= 0.5 - 0.5 * np.cos(np.pi * np.arange(n_in) / n_in)
    if n_out:
        sound[..., -n_out:] *= 0.5 + 0.5 * np.cos(np.pi * np.arange(n_out) / n_out)
    return sound


def stereo(sound: Array, pan: float = 0.0) -> Array:
    """Two channels; ``pan`` from -1 (left) to 1 (right), equal power."""
    if sound.ndim == 1:
        sound = sound[None]
    angle = (pan + 1) * np.pi / 4
    gains = np.array([[np.cos(angle)], [np.sin(angle)]], dtype=np.float32) * np.float32(np.sqrt(2))
    return np.repeat(sound, 2, axis=0) * gains if sound.shape[0] == 1 else sound[:2] * gains


def add(out: Array, sound: Array, start_s: float, gain: float = 1.0) -> None:
    """Adds a sound into ``out`` at a time; what passes the end is cut with a fade."""
    at = int(start_s * RATE_HZ)
    if at < 0:
        sound, at = fade(sound[:, -at:]), 0
    n_room = out.shape[1] - at
    if n_room <= 64 or sound.shape[1] == 0:
        return
    if sound.shape[1] > n_room:
        sound = fade(sound[:, :n_room], 0.0, 0.01)
    out[:, at : at + sound.shape[1]] += gain * sound


def shape_spectrum(sound: Array, gain_of_hz: dict[float, float]) -> Array:
    """Scales frequencies: decibels at given hertz, interpolated over log frequency; zero phase."""
    n = sound.shape[-1]
    n_fft = fft.next_fast_len(n + 4096, real=True)
    hz = np.maximum(np.fft.rfftfreq(n_fft, 1 / RATE_HZ), 1.0)
    points = sorted(gain_of_hz.items())
    gain_db = np.interp(np.log2(hz), np.log2([p[0] for p in points]), [p[1] for p in points])
    spectrum = fft.rfft(sound, n_fft, axis=-1) * np.power(10, gain_db / 20).astype(np.float32)
    return fft.irfft(spectrum, n_fft, axis=-1)[..., :n].astype(np.float32)


def colour(
    sound: Array,
    rng: Rng,
    low_cut_hz: float = 20.0,
    high_cut_hz: float = 20_000.0,
    depth_db: float = 4.0,
) -> Array:
    """A random smooth equaliser with a low cut and a high cut (about 24 dB an octave)."""
    centres = np.geomspace(40, 18_000, 8) * np.exp(rng.normal(0, 0.15, 8))
    tilt = rng.normal(0, depth_db / 2)
    gains = rng.normal(0, depth_db / 2, 8) + np.linspace(-tilt, tilt, 8)
    curve = dict(zip(centres.tolist(), gains.tolist(), strict=True))
    sound = shape_spectrum(sound, curve)
    return cut(sound, low_cut_hz, high_cut_hz)


def cut(sound: Array, low_cut_hz: float = 20.0, high_cut_hz: float = 20_000.0, order: int = 2) -> Array:
    """Butterworth low and high cut."""
    bands = [signal.butter(order, low_cut_hz, "high", fs=RATE_HZ, output="sos")]
    if high_cut_hz < 19_500:
        bands.append(signal.butter(order, high_cut_hz, "low", fs=RATE_HZ, output="sos"))
    return signal.sosfilt(np.concatenate(bands), sound, axis=-1).astype(np.float32)


def compress(sound: Array, rng: Rng, amount: float = 1.0) -> Array:
    """Evens out levels: a threshold below the loud parts and a random ratio."""
    hop = 441
    n = sound.shape[-1]
    power = np.square(sound).max(axis=0)
    frames = np.pad(power, (0, -n % hop)).reshape(-1, hop).max(axis=1)
    release = float(np.exp(-hop / RATE_HZ / rng.uniform(0.06, 0.3)))
    smooth = np.maximum(frames, signal.lfilter([1 - release], [1, -release], frames))
    level_db = 10 * np.log10(smooth + 1e-9)
    threshold_db = np.percentile(level_db, 95) - rng.uniform(3, 16) * amount
    slope = 1 - 1 / rng.uniform(1.5, 6)
    gain_db = -np.maximum(level_db - threshold_db, 0) * slope
    times = (np.arange(len(frames)) + 0.5) * hop
    gain = np.power(10, np.interp(np.arange(n), times, gain_db) / 20)
    return sound * gain.astype(np.float32)


def saturate(sound: Array, drive: float) -> Array:
    """Soft clipping; ``drive`` 1 is gentle, 20 is a distorted amplifier."""
    peak = float(np.abs(sound).max()) + 1e-9
    return (np.tanh(sound * (drive / peak)) * (peak / np.tanh(drive))).astype(np.float32)


def room(n_s: float, rng: Rng) -> Array:
    """A stereo impulse response of decaying noise that darkens, with sparse early echoes."""
    n = int(n_s * RATE_HZ)
    t = np.arange(n) / RATE_HZ
    noise = rng.standard_normal((2, n)).astype(np.float32)
    width = rng.uniform(0.3, 1.0)
    noise[1] = width * noise[1] + np.sqrt(1 - width**2) * noise[0]
    dark = cut(noise, 150, rng.uniform(1200, 4000), 1)
    mix = np.exp(-t * rng.uniform(2, 8) / n_s).astype(np.float32)
    tail = (noise * mix * 0.5 + dark * (1 - mix)) * np.exp(-6.9 * t / n_s).astype(np.float32)
    tail = cut(tail, rng.uniform(80, 400), rng.uniform(4000, 15_000), 1)
    for _ in range(int(rng.integers(2, 9))):
        at = int(rng.uniform(0.002, 0.06) * RATE_HZ)
        if at < n:
            tail[rng.integers(2), at] += rng.uniform(-1, 1) * 3
    n_wait = int(rng.uniform(0, 0.04) * RATE_HZ)
    tail = np.pad(tail, ((0, 0), (n_wait, 0)))
    return tail / np.sqrt(np.square(tail).sum() / 2)


def reverberate(sound: Array, rng: Rng, decay_s: float, wet: float) -> Array:
    """The sound in a random room; ``wet`` is the room's level over the dry level."""
    wet_sound = signal.oaconvolve(sound, room(decay_s, rng), axes=-1)[:, : sound.shape[1]]
    scale = wet * np.sqrt(np.mean(np.square(sound)) / (np.mean(np.square(wet_sound)) + 1e-12))
    return (sound + scale * wet_sound).astype(np.float32)


def maybe_reverberate(sound: Array, rng: Rng, likely: float, longest_s: float, wettest: float) -> Array:
    if rng.random() > likely:
        return sound
    decay_s = float(np.exp(rng.uniform(np.log(0.2), np.log(longest_s))))
    return reverberate(sound, rng, decay_s, float(rng.uniform(0.05, wettest)))


def echo(sound: Array, rng: Rng, beat_s: float | None = None) -> Array:
    """A repeating delay, darker each time, at times from side to side."""
    step_s = (beat_s or rng.uniform(0.3, 0.8)) * float(rng.choice([0.5, 0.75, 1.0]))
    feedback, wet, bounce = rng.uniform(0.15, 0.55), rng.uniform(0.1, 0.45), rng.random() < 0.5
    step = int(step_s * RATE_HZ)
    out, tap = sound.copy(), sound
    for i in range(1, 6):
        if step * i >= sound.shape[1]:
            break
        tap = cut(tap, 120, 5500, 1)
        if bounce:
            tap = tap[::-1] * np.array([[1.0], [0.8]], dtype=np.float32)
        out[:, step * i :] += wet * feedback ** (i - 1) * tap[:, : -step * i]
    return out


def sway(sound: Array, depth_s: float, rate_hz: float, phase: float, base_s: float) -> Array:
    """The sound delayed by a slowly moving time (the moving half of a chorus or a detuned double)."""
    n = sound.shape[-1]
    t = np.arange(n, dtype=np.float64)
    where = t - RATE_HZ * (base_s + depth_s * (1 + np.sin(2 * np.pi * rate_hz * t / RATE_HZ + phase)))
    return np.stack([np.interp(where, t, channel, left=0.0) for channel in sound]).astype(np.float32)


def chorus(sound: Array, rng: Rng) -> Array:
    depth_s, rate_hz, wet = rng.uniform(0.0008, 0.004), rng.uniform(0.2, 1.5), rng.uniform(0.3, 0.9)
    left = sway(sound[:1], depth_s, rate_hz, 0.0, 0.008)
    right = sway(sound[1:], depth_s, rate_hz, rng.uniform(1, 3), 0.010)
    return sound + wet * np.concatenate([left, right])


def widen(sound: Array, rng: Rng, detune_s: float = 0.0006) -> Array:
    """Doubles a sound: slightly late and moving copies at the left and at the right."""
    out = sound * rng.uniform(0.0, 1.0)
    middle = sound.mean(axis=0, keepdims=True)
    for pan in (-rng.uniform(0.5, 1), rng.uniform(0.5, 1)):
        rate_hz = rng.uniform(0.15, 0.8)
        copy = sway(middle, detune_s / rate_hz * 0.5, rate_hz, rng.uniform(0, 6.3), rng.uniform(0.008, 0.03))
        out = out + stereo(copy, pan) * 0.7
    return out


def trim_silences(sound: Array, longest_s: float = 1.5, keep_s: float = 0.5) -> Array:
    """Shortens silences longer than ``longest_s`` to ``keep_s``, with fades at each cut."""
    hop = 2205
    n_frames = sound.shape[1] // hop
    frames = np.square(sound[:, : n_frames * hop]).reshape(2, n_frames, hop).mean(axis=(0, 2))
    level_db = 10 * np.log10(frames + 1e-12)
    active = level_db > max(np.percentile(level_db, 98) - 48, -60)
    where = np.flatnonzero(active)
    if not len(where):
        return sound[:, :0]
    pad = max(1, int(keep_s / 2 * RATE_HZ / hop))
    breaks = np.flatnonzero(np.diff(where) * hop > longest_s * RATE_HZ)
    firsts = np.r_[where[0], where[breaks + 1]]
    lasts = np.r_[where[breaks], where[-1]]
    pieces = []
    for first, last in zip(firsts, lasts, strict=True):
        piece = sound[:, max(0, first - pad) * hop : (last + 1 + pad) * hop]
        pieces.append(fade(piece, 0.02, 0.05))
    return np.concatenate(pieces, axis=1)


def cut_into_clips(sound: Array, longest_s: float = 45.0, shortest_s: float = 10.0) -> list[Array]:
    """Equal parts of at most ``longest_s``; nothing when the sound is too short."""
    n_s = sound.shape[1] / RATE_HZ
    if n_s < shortest_s:
        return []
    parts = np.array_split(np.arange(sound.shape[1]), int(np.ceil(n_s / longest_s)))
    return [fade(sound[:, p[0] : p[-1] + 1]) for p in parts]


def write_clip(path: Path, sound: Array, rng: Rng) -> float:
    """Writes one clip as int16 (2, samples), peak at -3 to -1 dB; returns its seconds (0: too quiet)."""
    sound = cut(sound.astype(np.float32), 18.0)
    peak = float(np.abs(sound).max())
    if not np.isfinite(peak) or peak < 1e-5 or rms_db(sound / peak) < -44:
        return 0.0
    scaled = fade(sound, 0.005, 0.05) * (db(rng.uniform(-3, -1)) / peak)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.parent / f".{path.name}.partial"
    with partial.open("wb") as file:
        np.save(file, np.round(scaled * 32767).astype(np.int16))
    partial.replace(path)
    return sound.shape[1] / RATE_HZ
