"""Make a U-Net larger: it gives the same masks, and has features to learn more with.

    python bundle/grow.py wide.safetensors --growth 24 --to wider.safetensors [--seed 0]

What a layer finds in addition is new; nothing that was there before hears of it, until training lets it.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict, replace
from pathlib import Path

import torch
from places import index, places

from danna_sep import weights
from danna_sep.errors import DannaSepError
from danna_sep.models import UNet, build

KEPT = ("licence", "origin", "attribution", "provisional", "note", "wiener_iterations")
"""Of a header."""


def grown(unet: UNet, growth: int) -> UNet:
    """A U-Net of larger growth with the same masks; new weights are as PyTorch makes them.

    Raises:
        ValueError: Its growth is not larger, or its bottleneck has no attention.
    """
    config = unet.config
    if growth <= config.growth or config.bottleneck != "attention":
        raise ValueError(f"only U-Nets with attention are made larger, and this one has a growth of {config.growth}")
    wide = UNet(replace(config, growth=growth))
    found = places(unet, wide)
    with torch.no_grad():
        for name, entry in unet.state_dict().items():
            own = wide.state_dict()[name]
            if own.dim() == 4:
                # Outputs lie along the first axis, but of convolutions that widen along the second.
                outputs = 1 if "widen" in name else 0
                own[(slice(None),) * outputs + (found.get((name, outputs), slice(None)),)] = 0
            own[index(found, name, own)] = entry.to(own)
    return wide


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--growth", type=int, required=True)
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.manual_seed(arguments.seed)
    try:
        file = weights.read(arguments.file)
        unet = build(file.model, file.config)
        if not isinstance(unet, UNet):
            raise SystemExit(f"{arguments.file}: weights of {file.model}, and only a U-Net is made larger")
        unet.load_state_dict(file.entries)
        wide = grown(unet, arguments.growth)
    except (DannaSepError, ValueError) as error:
        raise SystemExit(f"{arguments.file}: {error}") from None
    # What the header says of steps and figures is of the smaller one; whom to name stays.
    kept = {name: file.metadata[name] for name in KEPT if name in file.metadata}
    weights.write(
        arguments.to,
        model=file.model,
        config=asdict(wide.config),
        entries=wide.state_dict(),
        metadata=kept,
        dtype=torch.float16,
    )


if __name__ == "__main__":
    main()
