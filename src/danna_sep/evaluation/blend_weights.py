"""The weights of one source that make the error least, from inner products.

Below all of it are minima of  w' A w - 2 b.w + c  with A positive semidefinite; they differ in which w are allowed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np

from danna_sep.errors import ConfigError
from danna_sep.evaluation.gram import MDX_EPSILON, Gram, Matrix, Vector

_RIDGE = 1e-10
"""Added to the diagonal, relative to it: where estimates are linearly dependent the weights would not be unique, and
with it those that are alike share the weight evenly. It moves a well-posed minimum by less than a part in 10^8."""

_TOLERANCE = 1e-12
_MAX_TURNS = 500
_LEAST_GAIN_DB = 1e-7


def free(gram: Matrix, cross: Vector, energy: float) -> Vector:
    """Least squares: any weights."""
    scaled_gram, scaled_cross, scale = _scaled(gram, cross)
    weights: Vector = np.linalg.solve(scaled_gram, scaled_cross) / scale
    return weights


def non_negative(gram: Matrix, cross: Vector, energy: float) -> Vector:
    """Non-negative least squares.

    Reference: Lawson, Hanson, "Solving Least Squares Problems", 1974, chapter 23; on inner products as in Bro, de Jong,
    "A fast non-negativity-constrained least squares algorithm", Journal of Chemometrics 11, 1997.
    """
    scaled_gram, scaled_cross, scale = _scaled(gram, cross)
    return _active_set(scaled_gram, scaled_cross) / scale


def convex(gram: Matrix, cross: Vector, energy: float) -> Vector:
    """Non-negative weights that sum to one.

    For these the error is w' H w with H_ij the inner products of the estimates' errors. Its minimum on the simplex
    is u / sum(u) for the u >= 0 that minimises u' H u - 2 sum(u): the two have the same optimality conditions.
    """
    errors = gram - cross[:, None] - cross[None, :] + energy
    size = float(np.trace(errors)) / len(errors)
    if size <= 0:  # all are perfect
        return np.full(len(errors), 1 / len(errors))
    raised = errors / size + _RIDGE * np.eye(len(errors))
    weights: Vector = _active_set(raised, np.ones(len(errors)))
    weights /= weights.sum()
    return weights


CONSTRAINTS: Final[Mapping[str, Callable[[Matrix, Vector, float], Vector]]] = {
    "non-negative": non_negative,
    "convex": convex,
    "free": free,
}
"""What weights may be."""

OBJECTIVES: Final = ("sdr", "songs", "energy")
"""What is sought: the best mean SDR over songs; the least mean of error over the reference's energy, in which songs
that separate badly count most; or the least sum of errors, in which loud ones do."""


def fit(grams: Sequence[Gram], constraint: str = "non-negative", objective: str = "sdr") -> Vector:
    """The weights that are best over the songs, one per separator.

    They are never worse, in what is minimised, than the best separator alone.

    Args:
        grams: One a song, of the same source and separators, none silent.
        constraint: A key of CONSTRAINTS.
        objective: One of OBJECTIVES.

    Raises:
        ConfigError: No songs, or no such constraint or objective.
    """
    check(constraint, objective)
    if not grams:
        raise ConfigError("no songs to fit weights on")
    energies = np.array([gram.energy for gram in grams])
    singles = list(np.eye(len(grams[0].names)))
    # Singles are allowed weights too; they win only where rounding decides.
    if objective == "energy":
        return min(
            (_minimum(grams, np.ones(len(grams)), constraint), *singles), key=lambda w: cost(grams, w, objective)
        )
    relative = _minimum(grams, 1 / energies, constraint)
    if objective == "songs":
        return min((relative, *singles), key=lambda w: cost(grams, w, objective))
    starts = (relative, min(singles, key=lambda w: cost(grams, w, objective)))
    return min((_descended(grams, start, constraint) for start in starts), key=lambda w: cost(grams, w, objective))


def check(constraint: str, objective: str) -> None:
    """Raise ConfigError unless there is such a constraint and such an objective."""
    if constraint not in CONSTRAINTS:
        raise ConfigError(f"no constraint {constraint!r}; there are {', '.join(CONSTRAINTS)}")
    if objective not in OBJECTIVES:
        raise ConfigError(f"no objective {objective!r}; there are {', '.join(OBJECTIVES)}")


def cost(grams: Sequence[Gram], weights: Vector, objective: str) -> float:
    """What an objective makes of weights; less is better."""
    if objective == "sdr":
        return -sum(gram.sdr_db(weights) for gram in grams) / len(grams)
    if objective == "songs":
        return sum(gram.error(weights) / gram.energy for gram in grams) / len(grams)
    return sum(gram.error(weights) for gram in grams)


def _descended(grams: Sequence[Gram], weights: Vector, constraint: str) -> Vector:
    """Weights from which the mean SDR rises no further, from `weights` upwards.

    A logarithm lies below its tangents: the mean of log(error) falls at least as far as the mean of error x (1 / error
    of the last turn) does, which is again a sum of squares. So every turn solves that, and none can make it worse.

    Reference: Hunter, Lange, "A tutorial on MM algorithms", The American Statistician 58(1), 2004.
    """
    least = cost(grams, weights, "sdr")
    for _ in range(_MAX_TURNS):
        shares = np.array([1 / (gram.error(weights) + MDX_EPSILON) for gram in grams])
        candidate = _minimum(grams, shares, constraint)
        reached = cost(grams, candidate, "sdr")
        if not reached < least - _LEAST_GAIN_DB:
            return candidate if reached < least else weights
        weights, least = candidate, reached
    return weights


def _minimum(grams: Sequence[Gram], shares: Vector, constraint: str) -> Vector:
    """Where the sum of the songs' errors, each times its share, is least."""
    gram = np.einsum("k,kij->ij", shares, np.stack([each.gram for each in grams]))
    cross = np.einsum("k,ki->i", shares, np.stack([each.cross for each in grams]))
    energy = float(shares @ np.array([each.energy for each in grams]))
    return CONSTRAINTS[constraint](gram, cross, energy)


def _scaled(gram: Matrix, cross: Vector) -> tuple[Matrix, Vector, Vector]:
    """The problem for estimates of unit energy, so that one tolerance and one ridge do for all."""
    scale = np.sqrt(np.diag(gram))
    scale = np.where(scale > 0, scale, 1.0)  # who gives silence gets the weight 0
    return gram / np.outer(scale, scale) + _RIDGE * np.eye(len(gram)), cross / scale, scale


def _active_set(gram: Matrix, cross: Vector) -> Vector:
    """The w >= 0 that minimises w' gram w - 2 cross.w, for a positive definite gram."""
    n = len(cross)
    weights = np.zeros(n)
    positive = np.zeros(n, dtype=bool)
    least = _TOLERANCE * float(np.abs(cross).max(initial=0.0))
    for _ in range(30 * n):  # one or two turns a separator do; the bound is for rounding that goes in circles
        rounding = 1e-13 * (np.abs(gram) @ weights)
        gradient = np.where(positive, -np.inf, cross - gram @ weights - rounding)
        if gradient.max() <= least:
            break
        positive[int(gradient.argmax())] = True
        while True:
            trial = np.zeros(n)
            trial[positive] = np.linalg.solve(gram[np.ix_(positive, positive)], cross[positive])
            negative = positive & (trial <= 0)
            if not negative.any():
                weights = trial
                break
            steps = weights[negative] / (weights[negative] - trial[negative])
            weights = weights + steps.min() * (trial - weights)
            blocked = np.flatnonzero(negative)[int(steps.argmin())]
            positive &= weights > 0
            positive[blocked] = False
            weights = np.where(positive, weights, 0.0)
    return weights
