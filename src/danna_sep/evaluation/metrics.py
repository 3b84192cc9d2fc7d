"""Measures of separation quality."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from danna_sep.shapes import Stems

SILENT_DB: Final = -60
"""Mean square, dB of full scale, up to which a reference counts as silent: a ratio to it tells nothing."""


def mdx_sdr_db(reference: Stems, estimate: Stems) -> Float[Tensor, "*batch source"]:
    """Signal-to-distortion ratio of each stem, dB, over all samples and channels of a track.

    10 log10((sum s^2 + 1e-7) / (sum (s - s_hat)^2 + 1e-7)).

    Reference: Mitsufuji et al., "Music Demixing Challenge 2021", Frontiers in Signal Processing 1, 2022.
    """
    return mdx_ratio_db(*mdx_energies(reference, estimate))


def mdx_energies(
    reference: Stems, estimate: Stems
) -> tuple[Float[Tensor, "*batch source"], Float[Tensor, "*batch source"]]:
    """Energy of each stem and of its estimate's error, in double precision; those of a track's blocks add up."""
    signal = reference.double().square().sum((-2, -1))
    distortion = (reference.double() - estimate.double()).square().sum((-2, -1))
    return signal, distortion


def mdx_ratio_db(
    signal: Float[Tensor, "*batch source"], distortion: Float[Tensor, "*batch source"]
) -> Float[Tensor, "*batch source"]:
    """The ratio of the energies of whole tracks, dB."""
    return 10 * torch.log10((signal + 1e-7) / (distortion + 1e-7))


def mdx_of_blocks(
    blocks: Iterable[tuple[Stems, Stems]],
) -> tuple[Float[Tensor, "*batch source"], Bool[Tensor, "*batch source"]]:
    """The ratio of each stem of a track that comes in blocks, dB, and whether its reference is silent.

    Args:
        blocks: References and estimates; one block at least.

    Returns:
        Ratios, which tell nothing where the reference is silent; and where it is, see `is_silent`.
    """
    n_values = 0
    signal = distortion = torch.zeros((), dtype=torch.float64)
    for reference, estimate in blocks:
        energies = mdx_energies(reference, estimate)
        signal, distortion = signal + energies[0], distortion + energies[1]
        n_values += reference.shape[-2] * reference.shape[-1]
    silent = torch.tensor([is_silent(energy, n_values) for energy in signal.flatten().tolist()])
    return mdx_ratio_db(signal, distortion), silent.reshape(signal.shape)


def is_silent(energy: float, n_values: int) -> bool:
    """Whether a reference is too quiet for a ratio to it.

    Args:
        energy: Sum of its squares.
        n_values: Samples of all channels.
    """
    return energy <= 10 ** (SILENT_DB / 10) * max(1, n_values)
