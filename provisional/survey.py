"""Prints what a pool of clips holds: counts, minutes, level, brightness, low end and faults, by source and kind."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np


def measure(path: Path) -> dict[str, float]:
    """Numbers of one clip (its middle 12 s for the spectrum)."""
    whole = np.load(path, mmap_mode="r")
    n = min(whole.shape[1], 12 * 44_100)
    at = (whole.shape[1] - n) // 2
    x = whole[:, at : at + n].astype(np.float32) / 32768
    mono = x.mean(axis=0)
    frames = mono[: n // 4096 * 4096].reshape(-1, 4096) * np.hanning(4096)
    power = np.square(np.abs(np.fft.rfft(frames, axis=1))).sum(axis=0)
    hz = np.fft.rfftfreq(4096, 1 / 44_100)
    side = np.square(x[0] - x[1]).sum() / (np.square(x[0] + x[1]).sum() + 1e-9)
    block = np.square(mono[: n // 2205 * 2205].reshape(-1, 2205)).mean(axis=1)
    jumps = np.abs(np.diff(mono, n=2))
    return {
        "s": whole.shape[1] / 44_100,
        "rms_db": 10 * np.log10(np.square(x).mean() + 1e-12),
        "peak_db": 20 * np.log10(np.abs(x).max() + 1e-12),
        "centroid_hz": float((hz * power).sum() / power.sum()),
        "low_share": float(power[hz < 120].sum() / power.sum()),
        "high_share": float(power[hz > 10_000].sum() / power.sum()),
        "side_db": 10 * np.log10(side + 1e-6),
        "silent_share": float((block < 1e-6).mean()),
        "dc": float(np.abs(x.mean())),
        "jump": float(jumps.max()),
    }


def main() -> None:
    pool = Path(sys.argv[1])
    for source in ("drums", "bass", "other", "vocals"):
        rows: dict[str, list[dict[str, float]]] = {}
        for path in sorted((pool / source).glob("*.npy")):
            rows.setdefault(path.name.rsplit("-", 1)[0], []).append(measure(path))
        for kind, found in rows.items():
            minutes = sum(row["s"] for row in found) / 60
            means = {key: float(np.mean([row[key] for row in found])) for key in found[0] if key != "s"}
            numbers = "  ".join(f"{key} {value:.4g}" for key, value in means.items())
            print(f"{source:7s} {kind:13s} n {len(found):4d}  {minutes:6.1f} min  {numbers}")


if __name__ == "__main__":
    main()
