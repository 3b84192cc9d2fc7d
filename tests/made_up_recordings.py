"""A tiny folder of recordings in the layout that the synthetic band reads: tones and noises under the real names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

RATE_HZ = 44100
FORBIDDEN = ("voices/alys/A4/one.wav", "voices/ibuki/C3/two.wav", "voices/solfege_samples/jenny/do_C4.wav")
"""Where recordings lie whose licences do not let them train weights."""


def write_recordings(folder: Path) -> Path:
    """A bass, a guitar, a few drums, two voices; and files in forbidden places that no decoder could read."""
    rng = np.random.default_rng(5)
    for name, hz in (("c2_vl1", 65.4), ("g2_vl1", 98.0), ("d3_vl1", 146.8)):
        _write(folder / f"instruments/bass/meatbass_double_bass_pizz/{name}.wav", _tone(hz, 1.5, 3.0))
    for name, hz in (("e2_f", 82.4), ("a3_f", 220.0), ("e4_f", 329.6)):
        _write(folder / f"instruments/guitar/emilyguitar_electric_clean/{name}.wav", _tone(hz, 1.5, 2.0))
    for name, decay in (("ks_vl1", 15.0), ("ks_vl2", 14.0), ("sc_vl1", 20.0), ("hc_vl1", 60.0), ("ho_vl1", 8.0)):
        noise = rng.standard_normal(RATE_HZ // 2) * np.exp(-decay * np.arange(RATE_HZ // 2) / RATE_HZ)
        _write(folder / f"instruments/drums/gogodze_phu_1973_kit_mix/{name}.wav", 0.2 * noise)
    for name, hz in (("a", 330.0), ("ka", 340.0), ("sa", 350.0)):
        _write(folder / f"voices/yuki/{name}.wav", _tone(hz, 1.2, 0.3))
    for name, hz in (("male_C3", 130.8), ("male_G3", 196.0)):
        _write(folder / f"voices/olpc_berklee/{name}.wav", _tone(hz, 1.5, 0.3))
    for place in FORBIDDEN:
        path = folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("nobody may open this")
    return folder


def _tone(hz: float, length_s: float, decay: float) -> np.ndarray:
    t = np.arange(int(length_s * RATE_HZ)) / RATE_HZ
    wave = sum(np.sin(2 * np.pi * hz * k * t) / k for k in range(1, 9))
    return 0.2 * wave * np.exp(-decay * t) * np.minimum(t / 0.005, 1)


def _write(path: Path, wave: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, wave, RATE_HZ, "PCM_16")
