"""Named systems: which models, which weights, which blend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from danna_sep import weights
from danna_sep.errors import ConfigError
from danna_sep.types import SOURCES
from danna_sep.weights.originals import ORIGINAL_BLEND, ORIGINAL_FAST_BLEND

if TYPE_CHECKING:
    import torch

    from danna_sep.separators import Separator

_ALONE = (1.0, 1.0, 1.0, 1.0)
_BUNDLE = "provisional"


@dataclass(frozen=True)
class Preset:
    """A named system.

    Attributes:
        summary: One line for the person who chooses.
        weights: Name of the weights of each model.
        blend: Weight of each model in drums, bass, other and vocals.
        is_original: The authors' released system, which hears whole tracks in its own way.
    """

    summary: str
    weights: Mapping[str, str]
    blend: Mapping[str, Sequence[float]]
    is_original: bool = False


def _bundle(blend: Mapping[str, Sequence[float]], summary: str) -> Preset:
    return Preset(summary, {model: f"{_BUNDLE}-{model}" for model in blend}, blend)


def _original(blend: Mapping[str, Sequence[float]], summary: str) -> Preset:
    return Preset(summary, {model: f"original-{model}" for model in blend}, blend, is_original=True)


PRESETS: Final[Mapping[str, Preset]] = {
    "danna": _bundle(
        {
            "xumx": (0.0, 0.0, 0.0, 0.3),
            "unet": (0.9, 0.8, 0.6, 0.6),
            "demucs": (0.1, 0.2, 0.4, 0.1),
        },
        "all three models, with the weights that ship",
    ),
    "fast": _bundle(
        {"unet": (0.9, 0.8, 0.6, 0.8), "demucs": (0.1, 0.2, 0.4, 0.2)},
        "U-Net and Demucs, with the weights that ship",
    ),
    "xumx": _bundle({"xumx": _ALONE}, "X-UMX alone"),
    "unet": _bundle({"unet": _ALONE}, "U-Net alone"),
    "demucs": _bundle({"demucs": _ALONE}, "Demucs alone"),
    "original": _original(ORIGINAL_BLEND, "all three models, with the authors' own weights, once fetched or imported"),
    "original-fast": _original(ORIGINAL_FAST_BLEND, "U-Net and Demucs, with the authors' own weights"),
}


def load(
    preset: str = "danna",
    *,
    sources: Sequence[str] = SOURCES,
    shifts: int = 1,
    whole: bool = False,
    device: str | torch.device = "cpu",
) -> Separator:
    """The separator that a preset names, ready to be called.

    Args:
        preset: A key of PRESETS.
        sources: Stems wanted; what they do not need is neither loaded nor computed.
        shifts: Runs of the waveform model, averaged.
        whole: Separate as the authors did, on whole tracks; matters to the original system only.
        device: Where the parameters go.

    Raises:
        ConfigError: No such preset or stem.
        WeightsError: Weights that are missing or damaged.
    """
    import torch

    from danna_sep.convert import check_entries, original_separator
    from danna_sep.models import build
    from danna_sep.separators import Blend, MaskSeparator, WaveformSeparator, only

    chosen = find(preset)
    if shifts < 1:
        raise ConfigError(f"shifts must be at least 1, not {shifts}")
    paths = find_weights(preset, sources)
    separators: dict[str, Separator] = {}
    for name, path in paths.items():
        file = weights.read(path)
        with torch.device("meta"):
            model = build(file.model, file.config)
        check_entries(model, file.entries, str(path))
        model.load_state_dict(file.entries, assign=True)
        model.requires_grad_(False).eval().to(device)
        if chosen.is_original and whole:
            separators[name] = original_separator(model, shifts)
        elif file.model == "demucs":
            separators[name] = WaveformSeparator(model, shifts)
        else:
            separators[name] = MaskSeparator(model)
    return only(Blend(separators, {name: chosen.blend[name] for name in separators}), sources)


def find(preset: str) -> Preset:
    """The preset of that name.

    Raises:
        ConfigError: There is none.
    """
    if preset not in PRESETS:
        raise ConfigError(f"no preset {preset!r}; there are {', '.join(PRESETS)}")
    return PRESETS[preset]


def find_weights(preset: str, sources: Sequence[str] = SOURCES) -> dict[str, Path]:
    """File of each model that a preset needs for some stems; without torch, so that what is missing is said at once.

    Raises:
        ConfigError: No such preset or stem.
        WeightsError: Weights that are missing or damaged.
    """
    chosen = find(preset)
    check_sources(sources)
    places = [SOURCES.index(source) for source in sources]
    needed = [name for name, row in chosen.blend.items() if any(row[place] for place in places)]
    return {name: weights.find(chosen.weights[name]) for name in needed}


def check_sources(sources: Sequence[str]) -> None:
    """Raise ConfigError unless these are different sources, at least one."""
    for source in sources:
        if source not in SOURCES:
            raise ConfigError(f"no stem {source!r}; there are {', '.join(SOURCES)}")
    if not sources or len(set(sources)) < len(sources):
        raise ConfigError(f"stems must be one or more different ones of {', '.join(SOURCES)}")
