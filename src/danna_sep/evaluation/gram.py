"""Inner products of estimates and reference: all that a squared error of any blend of them is made of.

For separators' estimates e_i of a stem y, the error of the blend with weights w is

    sum (y - sum_i w_i e_i)^2 = c - 2 w.b + w' G w,    G_ij = sum e_i e_j,  b_i = sum e_i y,  c = sum y^2.

So a song is heard once, and afterwards the signal-to-distortion ratio of any weights costs a few multiplications.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from danna_sep.evaluation.metrics import is_silent

Matrix = npt.NDArray[np.float64]
Vector = npt.NDArray[np.float64]

MDX_EPSILON = 1e-7
"""Added to energies in the challenge's ratio."""


@dataclass(eq=False)
class Gram:
    """The inner products of one stem of one song, summed over channels and time in double precision.

    Attributes:
        song: Its name.
        source: Which stem.
        names: The separators, in the order of all axes.
        gram: G, axes separator, separator.
        cross: b, axis separator.
        energy: c.
        n_values: Samples of all channels.
    """

    song: str
    source: str
    names: tuple[str, ...]
    gram: Matrix = field(init=False)
    cross: Vector = field(init=False)
    energy: float = 0.0
    n_values: int = 0

    def __post_init__(self) -> None:
        self.gram = np.zeros((len(self.names), len(self.names)))
        self.cross = np.zeros(len(self.names))

    def add(self, estimates: npt.NDArray[np.floating], reference: npt.NDArray[np.floating]) -> None:
        """Take in the next block.

        Args:
            estimates: Axes separator, channel, time.
            reference: Axes channel, time.
        """
        rows = estimates.reshape(len(self.names), -1).astype(np.float64)
        stem = reference.reshape(-1).astype(np.float64)
        self.gram += rows @ rows.T
        self.cross += rows @ stem
        self.energy += float(stem @ stem)
        self.n_values += stem.size

    @property
    def silent(self) -> bool:
        """Whether the reference lies below -60 dB of full scale in the mean: then a ratio to it tells nothing."""
        return is_silent(self.energy, self.n_values)

    def error(self, weights: Vector) -> float:
        """Squared error of the blend with these weights."""
        return max(0.0, float(self.energy - 2 * weights @ self.cross + weights @ self.gram @ weights))

    def sdr_db(self, weights: Vector) -> float:
        """Signal-to-distortion ratio of the blend with these weights, dB, as `metrics.mdx_sdr_db` has it."""
        return 10 * math.log10((self.energy + MDX_EPSILON) / (self.error(weights) + MDX_EPSILON))
