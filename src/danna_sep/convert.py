"""The original system in our terms: its parameters in our models, its whole-track inference, its blend.

The original's own names for the entries of its three released networks are mapped to ours one by one; nothing may
be missing, left over or of another shape. So are those of the public X-UMX that its own training started from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from danna_sep import weights
from danna_sep.blending import Blend
from danna_sep.errors import ConfigError, OutputExists, UnknownCheckpoint, WeightsError
from danna_sep.foreign_names import recognise, translated
from danna_sep.models import XUMX, Demucs, DemucsConfig, Model, UNet, UNetConfig, XUMXConfig
from danna_sep.separators import MaskSeparator, Separator
from danna_sep.shapes import Mixture, Stems
from danna_sep.types import SAMPLE_RATE, SOURCES
from danna_sep.weights import WeightsEntry
from danna_sep.weights.originals import ORIGINAL_BLEND, ORIGINAL_FAST_BLEND

ORIGINAL_AUTHORS: Final = "Chin-Yun Yu and Kin-Wai Cheuk, Danna-Sep, ISMIR 2021"
ORIGINAL_LICENCE: Final = "MIT by the authors' setup script; trained on MUSDB18-HQ, whose songs are for research"

BASELINE_AUTHORS: Final = "Sawata, Uhlich, Takahashi, Mitsufuji: X-UMX, ICASSP 2021"
BASELINE_LICENCE: Final = "as published with it; trained on MUSDB18-HQ, whose songs are for research"

_TRACK_PADDING = 1024
"""Zeros that the original puts behind a track, samples."""


def from_original(entries: Mapping[str, Tensor]) -> Model:
    """Our model with the original's parameters, in evaluation mode.

    Args:
        entries: The original's entry names and values; which model it is follows from them.

    Raises:
        UnknownCheckpoint: Not one of the original's models, or an entry is missing, left over or
            of another shape; the message names it.
    """
    name = recognise(entries)
    with torch.device("meta"):
        model: Model
        if name == "unet":
            model = UNet(UNetConfig(mask_padding=False))
        else:
            model = Demucs(DemucsConfig()) if name == "demucs" else XUMX(XUMXConfig())
    ours = translated(name, entries)
    check_entries(model, ours, f"the original {name}")
    model.load_state_dict(ours, assign=True)
    return model.requires_grad_(False).eval()


def check_entries(model: torch.nn.Module, entries: Mapping[str, Tensor], what: str) -> None:
    """Raise UnknownCheckpoint, naming the first entry, unless names, shapes and kinds of numbers are the model's."""
    expected = model.state_dict()
    for key in expected.keys() - entries.keys():
        raise UnknownCheckpoint(f"{what}: entry {key} is missing")
    for key in entries.keys() - expected.keys():
        raise UnknownCheckpoint(f"{what}: unknown entry {key}")
    for key, value in expected.items():
        if entries[key].shape != value.shape:
            raise UnknownCheckpoint(
                f"{what}: entry {key} has shape {tuple(entries[key].shape)}, expected {tuple(value.shape)}"
            )
        if value.is_floating_point() and not entries[key].is_floating_point():
            raise UnknownCheckpoint(f"{what}: entry {key} has numbers of the type {entries[key].dtype}")


@dataclass(frozen=True)
class OriginalDemucs:
    """The original's inference with its Demucs: the whole track, shifted runs, what they cut off.

    Attributes:
        model: As `from_original` gives it.
        n_shifts: Runs, equally spaced over half a second.

    Quirk: the network's output is shorter than its input; the last samples that a run does not reach stay
    zero in its share of the mean. Quirk: clamped to +-0.99. Quirk: statistics include the silence around.
    """

    model: Demucs
    n_shifts: int = 1
    sources: tuple[str, ...] = SOURCES
    sample_rate: int = SAMPLE_RATE

    hears_whole_tracks = True

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.model.parameters()).device

    def __call__(self, mixture: Mixture) -> Stems:
        """See `Separator`."""
        items = mixture.reshape(-1, *mixture.shape[-2:])
        n_samples = items.shape[-1]
        reach = SAMPLE_RATE // 2
        # The original pads every track by one hop of its spectrogram models first.
        padded = F.pad(items, (reach, reach + _TRACK_PADDING))
        n_heard = n_samples + _TRACK_PADDING + reach
        stems = items.new_zeros(len(items), len(SOURCES), *items.shape[1:])
        for shift in torch.linspace(0, reach, self.n_shifts).long().tolist():
            estimate = self.model.unpadded(padded[..., shift : shift + n_heard])[..., reach - shift :][..., :n_samples]
            stems += F.pad(estimate, (0, n_samples - estimate.shape[-1]))
        stems = (stems / self.n_shifts).clamp(-0.99, 0.99)
        return stems.reshape(*mixture.shape[:-2], *stems.shape[1:])


def original_separator(model: Model, shifts: int = 1) -> Separator:
    """The original's whole-track inference with one of its models.

    Args:
        model: As `from_original` gives it.
        shifts: Runs of Demucs; no matter for the others.

    Raises:
        ConfigError: Less than one run.
    """
    if shifts < 1:
        raise ConfigError(f"shifts must be at least 1, not {shifts}")
    if isinstance(model, Demucs):
        return OriginalDemucs(model, shifts)
    block_frames = 2584 if isinstance(model, UNet) else None
    return MaskSeparator(model, precision=torch.float64, block_frames=block_frames, padding=_TRACK_PADDING)


def original_system(systems: Mapping[str, Mapping[str, Tensor]], shifts: int = 1) -> Blend:
    """The original system: whole track at once, its three models, its blend.

    Args:
        systems: The original's entries of "xumx", "unet" and "demucs"; two of them, "unet" and
            "demucs", give its fast mode.
        shifts: Runs of Demucs; 1 as released.

    Returns:
        A separator; its `separators` are the three models' by those names.

    Raises:
        UnknownCheckpoint: Entries that are not those of the model they are given for.
        ConfigError: Other models than those.
    """
    if set(systems) not in (set(ORIGINAL_BLEND), set(ORIGINAL_FAST_BLEND)):
        raise ConfigError(f"the original system has {', '.join(ORIGINAL_BLEND)}, not {', '.join(systems)}")
    for name, entries in systems.items():
        if (found := recognise(entries)) != name:
            raise UnknownCheckpoint(f"the entries given for {name} are those of {found}")
    weights = ORIGINAL_BLEND if "xumx" in systems else ORIGINAL_FAST_BLEND
    separators = {name: original_separator(from_original(systems[name]), shifts) for name in weights}
    return Blend(separators, weights)


def import_checkpoint(path: Path, *, overwrite: bool = False, is_released: bool = False) -> WeightsEntry:
    """Convert a file of the original's, in any form it comes in, and register it as `original-MODEL`.

    The public X-UMX becomes `xumx-baseline`: training starts from it, no preset uses it.

    Args:
        path: TorchScript archive, training checkpoint, or state dict.
        overwrite: Replace weights with other values that are registered under that name.
        is_released: It comes from where its authors released it. They published no hashes: any file with the entries of
            their model would be taken for theirs, and what is registered says so.

    Raises:
        WeightsError: No such file, or none of the original's models; nothing is written then.
        OutputExists: Other weights are registered under that name.
    """
    entries = weights.foreign.read_entries(path)
    try:
        model = from_original(entries)
    except UnknownCheckpoint as error:
        raise UnknownCheckpoint(f"{path}: {error}") from None
    name = recognise(entries)
    is_baseline = name == "xumx-baseline"
    registered = name if is_baseline else f"original-{name}"
    if not overwrite and _is_another(registered, model):
        raise OutputExists(f"{path}: other weights are registered as {registered}; --overwrite replaces them")
    licence = BASELINE_LICENCE if is_baseline else ORIGINAL_LICENCE
    origin = BASELINE_AUTHORS if is_baseline else ORIGINAL_AUTHORS
    destination = weights.user_folder() / f"{registered}.safetensors"
    weights.write(
        destination,
        model=name.removesuffix("-baseline"),
        config=asdict(model.config),
        entries=model.state_dict(),
        metadata={
            "licence": licence if is_released else f"{licence}; if it is theirs",
            "origin": origin if is_released else f"{origin} (taken to be theirs by its entries)",
            "imported_from": _printable(path.name),
        },
    )
    return weights.record(registered, destination)


def _printable(name: str) -> str:
    """A file's name as text of one line, which not all names are."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in name)


def _is_another(name: str, model: Model) -> bool:
    """Whether usable weights of that name are registered whose values are not the model's."""
    try:
        there = weights.load(name)
    except WeightsError:  # none, or damaged
        return False
    ours = model.state_dict()
    if there.entries.keys() != ours.keys():
        return True
    return not all(torch.equal(there.entries[key], value.to(there.entries[key].dtype)) for key, value in ours.items())
