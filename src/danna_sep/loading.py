"""From the name of a system to the separator that computes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from danna_sep import plugins, preset_file, presets, threads, weights
from danna_sep.errors import ConfigError, CorruptWeights, UnknownCheckpoint
from danna_sep.preset_file import FilePart, Part, PluginPart, PresetPart, Settings, WeightsPart
from danna_sep.types import SOURCES

if TYPE_CHECKING:
    import torch

    from danna_sep.separators import Separator

WIENER_ITERATIONS: Final = "wiener_iterations"
"""Note in a weights file's header. The filter can do no better than the masks that it learns its statistics from: the
small models that ship separate better without it."""


@dataclass(frozen=True)
class _Use:
    """How the models of a system will be used; see `load`."""

    shifts: int = 1
    whole: bool = False
    device: str | torch.device = "cpu"
    precision: str = "f32"
    waits_coarsely: bool = False


def load(
    preset: str = "danna",
    *,
    sources: Sequence[str] = SOURCES,
    shifts: int = 1,
    whole: bool = False,
    device: str | torch.device = "cpu",
    precision: str = "f32",
) -> Separator:
    """The separator that a preset names, ready to be called.

    Args:
        preset: A key of PRESETS, the path of a preset file, or an installed separator's name.
        sources: Stems wanted; what they do not need is neither loaded nor computed.
        shifts: Runs of the waveform model, averaged.
        whole: Separate as the authors did, on whole tracks; matters to the original system only.
        device: Where the parameters go.
        precision: Of our networks' arithmetic: "f32", "bf16", "int8" or "auto"; see `resolve_precision`. Unless it is
            "f32", what waits in a U-Net's stream does so in eight bits, on a CPU.

    Raises:
        ConfigError: No such preset, stem or precision, or a preset file that cannot be used.
        WeightsError: Weights that are missing or damaged.
    """
    from danna_sep.models.precision import resolve_precision, rounds_for_memory

    if shifts < 1:
        raise ConfigError(f"shifts must be at least 1, not {shifts}")
    presets.check_sources(sources)
    threads.survive_forks()
    resolved = resolve_precision(precision, device, whole)
    use = _Use(shifts, whole, device, resolved, rounds_for_memory(precision, whole))
    return _load(preset, tuple(sources), use, ())


def _load(preset: str, sources: tuple[str, ...], use: _Use, parents: tuple[Path, ...]) -> Separator:
    from danna_sep.blending import Blend
    from danna_sep.recurring import Recurring
    from danna_sep.separators import only

    if preset in presets.PRESETS:
        return _load_built_in(preset, sources, use)
    if not preset_file.is_file_name(preset):
        presets.check_known(preset)
        return only(plugins.load(preset, device=use.device), sources)
    file, parents = presets.opened(preset, sources, parents)
    wanted, sources = sources, file.computed(sources)
    separators: dict[str, Separator] = {}
    blend: dict[str, list[float]] = {}
    for name in file.needed(sources):
        row = file.blend[name]
        own = tuple(source for source in sources if row.get(source))
        try:
            separators[name] = _load_part(file.separators[name], own, use, parents)
        except ConfigError as error:
            raise ConfigError(f"{preset}: {name}: {error}") from error
        blend[name] = [row.get(source, 0.0) for source in sources]
    # The weights are as somebody chose or fitted them: no word if they do not sum to one.
    blended = Blend(separators, blend, sources, sums_to_one=False)
    return only(Recurring(blended), wanted) if file.recurs else blended


def _load_part(part: Part, sources: tuple[str, ...], use: _Use, parents: tuple[Path, ...]) -> Separator:
    from danna_sep.cascade import Cascade
    from danna_sep.separators import only

    if isinstance(part, PresetPart):
        return _load(part.name, sources, use, parents)
    if isinstance(part, WeightsPart):
        return only(_load_model(weights.find(part.name), part.config, use), sources)
    if isinstance(part, FilePart):
        return only(_load_model(part.path, part.config, use), sources)
    if isinstance(part, PluginPart):
        return only(plugins.load(part.name, device=use.device, options=part.options), sources)
    first = _load_part(part.first, part.taken, use, parents)
    left = tuple(source for source in sources if source not in part.taken)
    if not left:
        return only(first, sources)
    return Cascade(first, _load_part(part.rest, left, use, parents), part.taken, sources)


def _load_built_in(preset: str, sources: tuple[str, ...], use: _Use) -> Separator:
    from danna_sep.blending import Blend
    from danna_sep.recurring import Recurring
    from danna_sep.separators import only

    chosen = presets.find(preset)
    separators = {
        name: _load_model(path, {}, use, chosen.is_original and use.whole)
        for name, path in presets.find_weights(preset, sources).items()
    }
    # Models that these stems do not need are not there, so the others' weights may lack theirs elsewhere.
    blend = Blend(separators, {name: chosen.blend[name] for name in separators}, sums_to_one=False)
    return only(Recurring(blend) if chosen.recurs else blend, sources)


def _load_model(path: Path, changes: Settings, use: _Use, in_the_originals_way: bool = False) -> Separator:
    import torch

    from danna_sep.convert import check_entries, original_separator
    from danna_sep.models import Demucs, build, demucs_framed, unet_framed
    from danna_sep.models.build import needing_weights
    from danna_sep.models.precision import lower, lowers
    from danna_sep.models.steps import can_count, count_in_steps
    from danna_sep.models.unet import UNet
    from danna_sep.separators import WaveformSeparator, mask_separator

    kind, config, notes = weights.read_header(path)
    with torch.device("meta"):
        model = build(kind, {**config, **changes})
    if needing := needing_weights(kind, changes):
        raise ConfigError(f"config {needing} needs other weights than {path}")
    if lowers(use.precision):
        lower(model)
    if isinstance(model, UNet):
        model.waits_coarsely = use.waits_coarsely
    # Entry by entry in the type in which it is used: all of a large model in float32 would be the most memory needed.
    entries = weights.read(path, {name: entry.dtype for name, entry in model.state_dict().items()}).entries
    try:
        check_entries(model, entries, str(path))
    except UnknownCheckpoint as error:
        if not changes:
            raise
        raise ConfigError(f"config {dict(changes)} needs other weights than {path}") from error
    model.load_state_dict(entries, assign=True)
    model.requires_grad_(False).eval()
    if use.precision == "int8" and isinstance(model, UNet) and can_count(model):
        count_in_steps(model)
    model.to(use.device)
    if in_the_originals_way:
        return original_separator(model, use.shifts)
    if isinstance(model, Demucs):
        return WaveformSeparator(demucs_framed.framed(model), use.shifts)
    return mask_separator(unet_framed.framed(model), _wiener_iterations(path, notes))


def _wiener_iterations(path: Path, notes: Mapping[str, str]) -> int:
    """Rounds of the Wiener filter that a weights file asks for; one, the paper's, if it says nothing."""
    asked = notes.get(WIENER_ITERATIONS, "1")
    if asked not in ("0", "1", "2", "3"):
        raise CorruptWeights(f"{path}: {WIENER_ITERATIONS} must be from 0 to 3, not {asked!r}")
    return int(asked)
