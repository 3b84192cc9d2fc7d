"""How far separation in segments is from separation of the whole track, and what the seams cost.

    python bench/segmented.py SONG_WITH_STEMS [--preset xumx --preset unet --preset demucs --preset danna]

SONG_WITH_STEMS is a folder of songs with stems, of which the first is taken. For each preset, in dB: the level of the
whole-track stems over that of the difference, per stem; the mean square of the difference in the cross-fades of
segments, and in the three seconds around frames behind which X-UMX hears no farther, over that elsewhere (above 0: more
at the seams); and what segments cost against the truth: by how much the error of the stems, in the segments'
cross-fades and elsewhere, is larger than the error of the whole-track stems in the same places.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from danna_sep import SAMPLE_RATE, SOURCES, load, separate
from danna_sep.models import mask_stream
from danna_sep.options import DEFAULT_OVERLAP
from danna_sep.signal.overlap_add import SegmentGrid
from danna_sep.songs import find_songs
from danna_sep.streaming import DEFAULT_SEGMENT_S, segment_grid

HOP_LENGTH = 1024


def ratio_db(above: np.ndarray, below: np.ndarray) -> float:
    """Of the means of two powers."""
    return float(10 * np.log10((above.mean() + 1e-20) / (below.mean() + 1e-20)))


def squared_error(estimates: np.ndarray, references: np.ndarray) -> np.ndarray:
    """(source, channel, time), twice -> (source, time)."""
    return np.square(estimates - references, dtype=np.float64).mean(1)


def in_fades(grid: SegmentGrid, n_samples: int) -> np.ndarray:
    """Which samples lie in a cross-fade."""
    fading = np.zeros(n_samples, bool)
    for index in range(1, grid.n_segments(n_samples)):
        start = index * grid.hop + grid.context
        fading[start : start + grid.fade] = True
    return fading


def around_borders(grid: SegmentGrid, n_samples: int) -> np.ndarray:
    """Which samples lie within 64 frames of where X-UMX settles."""
    n_frames = max(mask_stream.WINDOW - mask_stream.AHEAD, grid.length // HOP_LENGTH)
    around = np.zeros(n_samples, bool)
    for border in range(n_frames, n_samples // HOP_LENGTH, n_frames):
        around[HOP_LENGTH * (border - 64) : HOP_LENGTH * (border + 64)] = True
    return around


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("songs", type=Path)
    parser.add_argument("--preset", action="append", help="default: xumx, unet, demucs, danna")
    parser.add_argument("--seconds", type=float, default=400)
    parser.add_argument("--segment", type=float, default=DEFAULT_SEGMENT_S)
    parser.add_argument("--overlap", type=float, default=DEFAULT_OVERLAP)
    arguments = parser.parse_args()
    song = find_songs(arguments.songs)[0]
    excerpt = song.read(0, min(song.n_frames, round(arguments.seconds * SAMPLE_RATE)))
    mixture, truth = excerpt.mixture, excerpt.stems
    grid = segment_grid(arguments.segment, arguments.overlap)
    n_samples = mixture.shape[1]
    fading = in_fades(grid, n_samples)
    in_windows = around_borders(grid, n_samples)
    print(f"{song.name}, {n_samples / SAMPLE_RATE:.0f} s in {grid.n_segments(n_samples)} segments\n")
    print(
        "| | "
        + " | ".join(SOURCES)
        + " | segments' seams | windows' seams | cost in segments' seams | cost elsewhere |"
    )
    print("|---|" + "---|" * (len(SOURCES) + 4))
    for preset in arguments.preset or ["xumx", "unet", "demucs", "danna"]:
        separator = load(preset, precision="f32")
        with torch.inference_mode():
            stems = separate(mixture, SAMPLE_RATE, separator, whole=True)
        whole = np.stack([stems[source] for source in SOURCES])
        stems = separate(mixture, SAMPLE_RATE, separator, segment_s=arguments.segment, overlap=arguments.overlap)
        parts = np.stack([stems[source] for source in SOURCES])
        difference = squared_error(parts, whole)
        levels = [f"{ratio_db(np.square(stem), error):.1f}" for stem, error in zip(whole, difference, strict=True)]
        elsewhere = difference[:, ~fading & ~in_windows]
        seams = [f"{ratio_db(difference[:, place], elsewhere):+.1f}" for place in (fading, in_windows)]
        costs = [
            ", ".join(
                f"{ratio_db(ours[place], theirs[place]):+.2f}"
                for ours, theirs in zip(squared_error(parts, truth), squared_error(whole, truth), strict=True)
            )
            for place in (fading, ~fading)
        ]
        print(f"| {preset} | {' | '.join(levels)} | {' | '.join(seams + costs)} |", flush=True)


if __name__ == "__main__":
    main()
