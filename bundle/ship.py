"""Put a trained network into the package as one of the weights that ship, in float16.

    python bundle/ship.py work/bundle/unet/best.safetensors --training "..." --sdr "..."

The header keeps what the training wrote into it, and says what is given here; the registry gets the new digest. Commit
both, with the evaluation that shows that these weights are better than those before them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from danna_sep import weights

NOTES = {
    "licence": "MIT",
    "origin": "Danna-Sep; trained on CC0 songs by ichbinsoftware, on free samples and on synthetic music; "
    "see docs/provisional-weights.md for licences and attributions",
    "provisional": "true",
    "note": "provisional: a few hours of training on a CPU",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--training", required=True, help="on what, how long, from which weights, at which commit")
    parser.add_argument("--sdr", required=True, help="in dB, of what, on what")
    arguments = parser.parse_args()
    file = weights.read(arguments.file)
    bundle = weights.shipped_folder()
    weights.write(
        bundle / f"provisional-{file.model}.safetensors",
        model=file.model,
        config=file.config,
        entries=file.entries,
        metadata={**file.metadata, **NOTES, "training": arguments.training, "sdr": arguments.sdr},
        dtype=torch.float16,
    )
    for entry in weights.register_shipped(bundle):
        print(entry.name, entry.n_bytes, entry.sha256)


if __name__ == "__main__":
    main()
