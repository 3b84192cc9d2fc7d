"""Put trained models into the package as the provisional bundle, with what is to be said of them in their headers.

python provisional/ship.py work/train --sdr "drums 1.2, bass ..."
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from danna_sep import weights

ORIGIN = (
    "Danna-Sep; trained on CC0 songs by ichbinsoftware, on free samples and on synthetic music; "
    "see docs/provisional-weights.md for licences and attributions"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="holds xumx.safetensors, unet.safetensors, demucs.safetensors")
    parser.add_argument("--sdr", default="not measured", help="what to say in the headers about quality")
    arguments = parser.parse_args()
    bundle = weights.shipped_folder()
    for name in ("xumx", "unet", "demucs"):
        file = weights.read(arguments.folder / f"{name}.safetensors")
        metadata = {
            **file.metadata,
            "licence": "MIT",
            "origin": ORIGIN,
            "provisional": "true",
            "sdr": arguments.sdr,
            "wiener_iterations": "0",
            "note": "provisional: a few hours of training on a CPU",
        }
        weights.write(
            bundle / f"provisional-{name}.safetensors",
            model=name,
            config=file.config,
            entries=file.entries,
            metadata=metadata,
            dtype=torch.float16,
        )
    for entry in weights.register_shipped(bundle):
        print(entry.name, entry.n_bytes, entry.sha256)


if __name__ == "__main__":
    main()
