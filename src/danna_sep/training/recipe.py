"""What a recipe is: every constant of a training, in a frozen value.

`with_settings` changes single constants, checked against their types.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from typing import Any, Final, get_args, get_type_hints

from danna_sep.errors import ConfigError
from danna_sep.training.augment import AugmentConfig
from danna_sep.types import SAMPLE_RATE

MOST_WIENER_ITERATIONS: Final = 3
"""Of the Wiener filter behind the masks: weights that ask for more are not loaded."""


@dataclass(frozen=True)
class LossConfig:
    """What is minimised.

    Attributes:
        kind: "complex", "real" or "l1" for mask models (`losses.spectrogram_loss`), "waveform" for the mean absolute
            error of samples.
        n_wiener_iterations: Rounds of the Wiener filter before the loss of a mask model.
        time_weight: Of the weighted SDR loss beside that of the spectra; 0 leaves it out.
        weighting: "" or "inverse_magnitude".
    """

    kind: str = "complex"
    n_wiener_iterations: int = 0
    time_weight: float = 10.0
    weighting: str = ""


@dataclass(frozen=True)
class DataConfig:
    """What an epoch is made of.

    Attributes:
        excerpt_s: Length of an item, s.
        excerpts_per_track: Items an epoch has for each song.
        mixing: Draw each stem from another song and place; else all from one.
        coherent: With `mixing`, the share of items that are of one song and place all the same; ours.
        min_level_db: Stems quieter than this (RMS, dB of full scale) are drawn again, if `redraw` says so; ours.
        redraw: Chance that a quiet stem is drawn again: 0 takes silence as it comes, as the paper does.
        valid_s: Seconds from the middle of each validation song that are separated after an epoch; 0 for whole songs.
    """

    excerpt_s: float = 6.0
    excerpts_per_track: int = 64
    mixing: bool = True
    coherent: float = 0.0
    min_level_db: float = -60.0
    redraw: float = 0.0
    valid_s: float = 0.0


@dataclass(frozen=True)
class OptimiserConfig:
    """Adam.

    Attributes:
        lr: Learning rate at the start.
        weight_decay: L2 penalty, added to the gradient.
        batch_size: Items of a forward pass, over all processes.
        accumulate: Forward passes whose gradients make one step.
        clip_norm: Largest norm of the gradient; 0 for no bound.
        ema: Decay, per step, of the average of the weights that is validated and kept; 0 for the weights themselves.
        still: Batch norms keep the statistics that they have, and nothing is dropped: for going on from weights that
            larger batches made; ours.
    """

    lr: float = 1e-3
    weight_decay: float = 0.0
    batch_size: int = 4
    accumulate: int = 1
    clip_norm: float = 0.0
    ema: float = 0.0
    still: bool = False


@dataclass(frozen=True)
class ScheduleConfig:
    """How the learning rate falls.

    Attributes:
        kind: "constant"; "step": times `factor` at epoch `epoch`; "plateau": times `factor` after more than `patience`
            epochs without a better validation SDR (the papers watch the validation loss); "cosine": to nothing over
            all epochs.
        factor: See `kind`.
        epoch: See `kind`.
        patience: See `kind`.
        warmup_steps: Steps over which it rises from nothing.
    """

    kind: str = "constant"
    factor: float = 0.3
    epoch: int = 0
    patience: int = 0
    warmup_steps: int = 0


@dataclass(frozen=True)
class Recipe:
    """A training from start to end.

    Attributes:
        summary: One line for the person who chooses.
        model: "xumx", "unet" or "demucs".
        config: What differs from the model's default configuration, or from that of the weights that it is given to
            start from.
        init: A recipe whose best weights this one starts from; "" for random ones.
        loss, data, augment, optimiser, schedule: See there.
        epochs: At most.
        precision: "f32", "bf16" or "f16" arithmetic in the network where the device has it; losses are always f32.
        n_wiener_iterations: Rounds of the Wiener filter behind the masks of a mask model where it separates: in
            validation, and wherever its weights are used, for they say so.
        early_stop: End after so many epochs without a better validation SDR; 0: never.
        source: Where the constants come from.
    """

    summary: str
    model: str
    config: Mapping[str, Any] = field(default_factory=dict)
    init: str = ""
    loss: LossConfig = field(default_factory=LossConfig)
    data: DataConfig = field(default_factory=DataConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    epochs: int = 100
    precision: str = "f32"
    n_wiener_iterations: int = 1
    early_stop: int = 0
    source: str = ""

    def __post_init__(self) -> None:
        _one_of("model", self.model, ("xumx", "unet", "demucs"))
        kinds = ("waveform",) if self.model == "demucs" else ("complex", "real", "l1")
        _one_of(f"loss.kind of {self.model}", self.loss.kind, kinds)
        _one_of("loss.weighting", self.loss.weighting, ("", "inverse_magnitude"))
        _one_of("schedule.kind", self.schedule.kind, ("constant", "step", "plateau", "cosine"))
        _one_of("precision", self.precision, ("f32", "bf16", "f16"))
        n_fft = self.config.get("n_fft", 4096)
        n_fft = n_fft if isinstance(n_fft, int) else 4096  # which the model refuses
        for name, value in _numbers(self):
            if not math.isfinite(value):
                raise ConfigError(f"{name} must be a finite number, not {value}")
        for name, value, least, greatest in (
            ("epochs", self.epochs, 1, math.inf),
            ("n_wiener_iterations", self.n_wiener_iterations, 0, MOST_WIENER_ITERATIONS),
            ("early_stop", self.early_stop, 0, math.inf),
            ("loss.n_wiener_iterations", self.loss.n_wiener_iterations, 0, math.inf),
            ("loss.time_weight", self.loss.time_weight, 0, math.inf),
            ("data.excerpts_per_track", self.data.excerpts_per_track, 1, math.inf),
            ("data.excerpt_s", self.data.excerpt_s, max(4096, n_fft) / SAMPLE_RATE, math.inf),
            ("data.coherent", self.data.coherent, 0, 1),
            ("data.redraw", self.data.redraw, 0, 1),
            ("data.valid_s", self.data.valid_s, 0, math.inf),
            ("optimiser.batch_size", self.optimiser.batch_size, 1, math.inf),
            ("optimiser.accumulate", self.optimiser.accumulate, 1, math.inf),
            ("optimiser.lr", self.optimiser.lr, 0, math.inf),
            ("optimiser.weight_decay", self.optimiser.weight_decay, 0, math.inf),
            ("optimiser.clip_norm", self.optimiser.clip_norm, 0, math.inf),
            ("optimiser.ema", self.optimiser.ema, 0, 1),
            ("schedule.factor", self.schedule.factor, 0, math.inf),
            ("schedule.epoch", self.schedule.epoch, 0, math.inf),
            ("schedule.patience", self.schedule.patience, 0, math.inf),
            ("schedule.warmup_steps", self.schedule.warmup_steps, 0, math.inf),
        ):
            if value < least:
                raise ConfigError(f"{name} must be at least {least:g}, not {value:g}")
            if value > greatest:
                raise ConfigError(f"{name} must be at most {greatest:g}, not {value:g}")
        if self.optimiser.ema == 1:
            raise ConfigError("optimiser.ema must be less than 1, not 1")


def with_settings(recipe: Recipe, settings: Sequence[str]) -> Recipe:
    """The recipe with single constants changed.

    Args:
        recipe: To start from.
        settings: Such as "optimiser.lr=1e-4" or "config.hidden=256"; values are JSON, or else text.

    Raises:
        ConfigError: No such constant, a value of another type or out of range.
    """
    for setting in settings:
        path, is_assigned, text = setting.partition("=")
        if not is_assigned:
            raise ConfigError(f"--set wants NAME=VALUE, such as optimiser.lr=1e-4, not {setting!r}")
        try:
            value = json.loads(text)
        except ValueError:
            value = text
        recipe = _changed(recipe, path.split("."), value, path)
    return recipe


def to_json(recipe: Recipe) -> dict[str, Any]:
    """The recipe in the types of JSON."""
    plain: dict[str, Any] = json.loads(json.dumps(asdict(recipe)))
    return plain


def _changed(thing: Any, path: Sequence[str], value: Any, whole: str) -> Any:
    name, *rest = path
    if isinstance(thing, Mapping):  # a model's configuration, which the model checks
        return {**thing, name: tuple(value) if isinstance(value, list) else value}
    names = [each.name for each in fields(thing)]
    if name not in names:
        raise ConfigError(f"--set {whole}: no {name!r}; there are {', '.join(names)}")
    current = getattr(thing, name)
    if rest:
        if not (is_dataclass(current) or isinstance(current, Mapping)):
            raise ConfigError(f"--set {whole}: {name} is a single value")
        return replace(thing, **{name: _changed(current, rest, value, whole)})
    if isinstance(current, float) and type(value) is int:
        value = float(value)
    if isinstance(current, tuple) and isinstance(value, list):
        value = _as_tuple(value, get_args(get_type_hints(type(thing))[name]))
    if type(value) is not type(current) or is_dataclass(current) or isinstance(current, Mapping):
        raise ConfigError(f"--set {whole}: must be {type(current).__name__} as {current!r} is, not {value!r}")
    return replace(thing, **{name: value})


def _as_tuple(values: list[Any], kinds: Sequence[Any]) -> Any:
    """A tuple of these types, of which the last may be an ellipsis; the list as it is where it cannot be one."""
    kinds = [kinds[0]] * len(values) if kinds[-1] is Ellipsis else kinds
    if len(values) != len(kinds):
        return values
    pairs = list(zip(values, kinds, strict=True))
    taken = tuple(float(value) if kind is float and type(value) is int else value for value, kind in pairs)
    return taken if all(type(value) is kind for value, kind in zip(taken, kinds, strict=True)) else values


def _numbers(thing: Any, prefix: str = "") -> Iterator[tuple[str, float]]:
    """All floating-point numbers in dataclasses, mappings and tuples, with the names that `--set` has for them."""
    if isinstance(thing, float):
        yield prefix.removesuffix("."), thing
    elif isinstance(thing, tuple):
        for value in thing:
            yield from _numbers(value, prefix)
    elif isinstance(thing, Mapping):
        for name, value in thing.items():
            yield from _numbers(value, f"{prefix}{name}.")
    elif is_dataclass(thing):
        yield from _numbers({each.name: getattr(thing, each.name) for each in fields(thing)}, prefix)


def _one_of(name: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ConfigError(f"{name} must be one of {', '.join(repr(choice) for choice in choices)}, not {value!r}")
