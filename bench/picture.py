"""The README's picture: spectrograms of the example song and of its stems as separated.

python bench/picture.py separated/caesium-excerpt docs/separation.png      (needs matplotlib)
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import soundfile
import torch

from danna_sep import SOURCES
from danna_sep.signal.stft import stft

SONG = Path(__file__).parent.parent / "examples" / "caesium-excerpt" / "mixture.flac"


def decibels(path: Path) -> np.ndarray:
    samples, _ = soundfile.read(path, dtype="float32")
    magnitude = stft(torch.from_numpy(samples.T.copy()).mean(0)).abs().numpy()
    return 20 * np.log10(magnitude + 1e-3)


def main() -> None:
    folder, picture = Path(sys.argv[1]), Path(sys.argv[2])
    panels = {"mixture": SONG, **{source: folder / f"{source}.wav" for source in SOURCES}}
    figure, axes = plt.subplots(1, 5, figsize=(14, 3), sharey=True, layout="constrained")
    for axis, (name, path) in zip(axes, panels.items(), strict=True):
        image = decibels(path)
        axis.imshow(image, origin="lower", aspect="auto", extent=(0, 30, 0, 22.05), vmin=-40, vmax=40, cmap="magma")
        axis.set_title(name)
        axis.set_yscale("symlog", linthresh=1)
        axis.set_xlabel("s")
    axes[0].set_yticks([0.1, 0.5, 1, 5, 20], ["0.1", "0.5", "1", "5", "20"])
    axes[0].set_ylabel("kHz")
    figure.savefig(picture, dpi=90)


if __name__ == "__main__":
    main()
