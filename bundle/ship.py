"""Put a trained network into the package as one of the weights that ship.

    python bundle/ship.py work/bundle/unet/best.safetensors [OTHER.safetensors ...] --training "..." --sdr "..."

Several files are averaged: of trainings that went on from the same weights, the mean is often better than any.
`--share 1 --share 0.5 --share -0.5` adds them up so, in their order: to the first, half of what a training changed that
went on from the third and ended as the second. The header keeps what the first file's says, and says what is given
here; the registry gets the new digest. Commit both, with the evaluation that shows that these weights are better than
those before them. `--name` is for a second network of a kind; `--to FILE` leaves the package as it is. `--set` changes
the configuration: to what needs no other weights, such as the spectrum heard. Weights are kept in eight bits, or with
`--float16` in twice as many. After a training that went on from weights in eight bits, `--steps 120.3` instead of
their 127 keeps what changed by less than half a step, which the same steps would round back.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import torch

from danna_sep import weights
from danna_sep.convert import check_entries
from danna_sep.errors import DannaSepError
from danna_sep.models import build
from danna_sep.weights.eight_bits import N_STEPS

NOTES = {
    "licence": "MIT",
    "origin": "Danna-Sep; trained on CC0 songs by ichbinsoftware, on free samples, free instrumental music and "
    "synthetic music; see docs/provisional-weights.md for licences and attributions",
    "provisional": "true",
    "note": "provisional: minutes of training on a GPU, or hours on a CPU",
}


def mean(files: list[weights.WeightsFile], shares: list[float]) -> dict[str, torch.Tensor]:
    """Of the parameters of several files of one configuration; shares add up to one."""
    # Built, because what a file does not say is as the model has it.
    if len({build(file.model, file.config).config for file in files}) > 1:
        raise SystemExit("weights of different networks have no mean")
    return {
        name: torch.stack([share * file.entries[name].double() for share, file in zip(shares, files, strict=True)])
        .sum(0)
        .to(entry.dtype)
        if entry.is_floating_point()
        else entry
        for name, entry in files[0].entries.items()
    }


def changes(settings: list[str]) -> dict[str, object]:
    """Values by name."""
    try:
        return {name: json.loads(text) for name, _, text in (setting.partition("=") for setting in settings)}
    except ValueError:
        raise SystemExit(f"--set wants NAME=JSON, such as n_fft=6144, not {' or '.join(settings)}") from None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE")
    parser.add_argument("--share", type=float, action="append", help="of each file; default: alike")
    parser.add_argument("--name", help="in the package, after provisional-; default: the model's")
    parser.add_argument("--to", type=Path, help="write this file, to be measured, instead of the package's")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=JSON", help="in the configuration")
    parser.add_argument("--float16", action="store_true", help="sixteen bits a weight, where eight lose too much")
    parser.add_argument("--steps", type=float, metavar="N", help="of eight bits, in each row; default: 127")
    parser.add_argument("--attribution", help="whom the licences of what was heard ask to name; default: the file's")
    parser.add_argument("--training", required=True, help="on what, how long, from which weights, at which commit")
    parser.add_argument("--sdr", required=True, help="in dB, of what, on what")
    arguments = parser.parse_args()
    shares = arguments.share or [1 / len(arguments.files)] * len(arguments.files)
    if len(shares) != len(arguments.files) or not math.isclose(sum(shares), 1):
        parser.error("there must be a --share for each file, and they must add up to one")
    if arguments.float16 and arguments.steps is not None:
        parser.error("--steps are of eight bits, not of --float16")
    try:
        ship(arguments, shares)
    except DannaSepError as error:
        raise SystemExit(str(error)) from None


def ship(arguments: argparse.Namespace, shares: list[float]) -> None:
    """Add up the files' weights and write them into the package, where they are registered, or where asked.

    Args:
        arguments: Of the command line.
        shares: Of each file; they add up to one.

    Raises:
        DannaSepError: A file that is none of weights, or weights that cannot be used or written so.
    """
    files = [weights.read(path) for path in arguments.files]
    said = {name: getattr(arguments, name) for name in ("training", "sdr", "attribution") if getattr(arguments, name)}
    file, bundle = files[0], weights.shipped_folder()
    config = {**file.config, **changes(arguments.set)}
    entries = mean(files, shares)
    check_entries(build(file.model, config), entries, "these weights, as they are to be used")
    weights.write(
        arguments.to or bundle / f"provisional-{arguments.name or file.model}.safetensors",
        model=file.model,
        config=config,
        entries=entries,
        metadata={**file.metadata, **({} if "provisional" in file.metadata else NOTES), **said},
        dtype=torch.float16 if arguments.float16 else torch.int8,
        n_steps=N_STEPS if arguments.steps is None else arguments.steps,
    )
    for entry in weights.register_shipped(bundle) if arguments.to is None else ():
        print(entry.name, entry.n_bytes, entry.sha256)


if __name__ == "__main__":
    main()
