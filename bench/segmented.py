"""How far separation in segments is from separation of the whole track, and whether its seams can be heard.

    python bench/segmented.py SONG [--preset xumx --preset unet --preset demucs] [--seconds 180]

For each preset: the level of the whole-track stems over that of the difference, in dB, per stem; and the mean square of
the difference in the cross-fades over that elsewhere, in dB (above 0: more error at the seams).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from danna_sep import SAMPLE_RATE, SOURCES, audio, load, separate
from danna_sep.options import DEFAULT_OVERLAP
from danna_sep.streaming import DEFAULT_SEGMENT_S, segment_grid


def read(path: Path, seconds: float) -> tuple[np.ndarray, int]:
    """The first `seconds` of a song, (channel, time), and its rate."""
    with audio.AudioReader(path) as reader:
        rate = reader.info.sample_rate
        blocks, n_left = [], round(seconds * rate)
        for block in reader.blocks(rate):
            blocks.append(block[:, :n_left])
            n_left -= blocks[-1].shape[1]
            if not n_left:
                break
    return np.concatenate(blocks, 1), rate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("song", type=Path)
    parser.add_argument("--preset", action="append", help="default: xumx, unet, demucs")
    parser.add_argument("--seconds", type=float, default=180)
    parser.add_argument("--segment", type=float, default=DEFAULT_SEGMENT_S)
    parser.add_argument("--overlap", type=float, default=DEFAULT_OVERLAP)
    arguments = parser.parse_args()
    mixture, rate = read(arguments.song, arguments.seconds)
    if rate != SAMPLE_RATE:
        raise SystemExit(
            f"{arguments.song}: give a song at {SAMPLE_RATE} Hz, so that seams lie where they are looked for"
        )
    grid = segment_grid(arguments.segment, arguments.overlap)
    n_samples = mixture.shape[1]
    in_fade = np.zeros(n_samples, bool)
    for index in range(1, grid.n_segments(n_samples)):
        start = index * grid.hop + grid.context
        in_fade[start : start + grid.fade] = True
    print(f"{arguments.song.name}, {n_samples / rate:.0f} s in {grid.n_segments(n_samples)} segments\n")
    print(f"| | {' | '.join(SOURCES)} | error in cross-fades over elsewhere, dB |\n|---|{'---|' * 5}")
    for preset in arguments.preset or ["xumx", "unet", "demucs"]:
        separator = load(preset, precision="f32")
        with torch.inference_mode():
            whole = separate(mixture, rate, separator, whole=True)
        parts = separate(mixture, rate, separator, segment_s=arguments.segment, overlap=arguments.overlap)
        levels, at_seams, elsewhere = [], 0.0, 0.0
        for source in SOURCES:
            error = np.square(whole[source] - parts[source], dtype=np.float64).mean(0)
            signal = np.square(whole[source], dtype=np.float64).mean()
            levels.append(10 * np.log10((signal + 1e-20) / (error.mean() + 1e-20)))
            at_seams += error[in_fade].mean()
            elsewhere += error[~in_fade].mean()
        seam = 10 * np.log10((at_seams + 1e-20) / (elsewhere + 1e-20))
        print(f"| {preset} | {' | '.join(f'{level:.1f}' for level in levels)} | {seam:+.1f} |", flush=True)


if __name__ == "__main__":
    main()
