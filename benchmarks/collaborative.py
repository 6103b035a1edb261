"""Collaborative baselines as rankings of the whole catalogue: EASE in closed form, and ALS by the library `implicit`.

Both read the binary person-item matrix, as item kNN does. Their settings are chosen from small grids on the window before the one that is judged.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import scipy.linalg
from threadpoolctl import threadpool_limits

from core.columns import Array
from core.errors import InputError

Scores = Callable[[Array], Array]  # person rows int [q] -> scores float32 [q, n] of the fitted items

MOST_ITEMS: Final = 20_000  # EASE inverts a dense matrix of this size: 1.6 GB
_ITERATIONS: Final = 15
_BLOCK: Final = 512  # people scored at a time


class Als(NamedTuple):
    """Settings of ALS: confidence is `alpha` times the entry (Hu, Koren, Volinsky, ICDM 2008)."""

    factors: int
    regularization: float
    alpha: float


class Grid(NamedTuple):
    """The settings that are tried."""

    als: tuple[Als, ...]
    ease: tuple[float, ...]

    @classmethod
    def of(cls, factors: Sequence[int] = (64, 256), penalties: Sequence[float] = (100.0, 300.0, 1000.0)) -> Grid:
        """Each number of `factors` with weak and with strong regularization and confidence, and each of EASE's `penalties`."""
        return cls(tuple(Als(f, r, a) for f in factors for r, a in ((0.01, 1.0), (10.0, 10.0))), tuple(penalties))


def ease(chosen: Any, weights: Array) -> Scores:
    """Scores of a binary sparse `[users, n]` with the item-item `weights` of `ease_weights`."""
    return lambda people: np.asarray(chosen[people] @ weights, np.float32)


def gram(chosen: Any) -> Array:
    """How many people have both of two items: float32 `[n, n]` from a binary sparse `[users, n]`.

    Raises:
        InputError: If the catalogue is too large for a dense matrix.
    """
    if chosen.shape[1] > MOST_ITEMS:
        raise InputError(
            f"EASE over {chosen.shape[1]:,} items: expected at most {MOST_ITEMS:,}, a dense matrix of 1.6 GB"
        )
    return np.asarray((chosen.T @ chosen).toarray(), np.float32)


def ease_weights(gram: Array, penalty: float) -> Array:
    """The closed form of EASE (Steck, Embarrassingly shallow autoencoders for sparse data, WWW 2019, eq. 8): float32 `[n, n]`.

    With P = (G + penalty I)^-1 it is -P_ij / P_jj off the diagonal and 0 on it. `gram` float32 `[n, n]` stays as it is.
    """
    shifted = np.array(gram, np.float32, order="F")
    shifted[np.diag_indices_from(shifted)] += penalty
    factor = scipy.linalg.cholesky(shifted, lower=True, overwrite_a=True, check_finite=False)
    inverse, _ = scipy.linalg.lapack.spotri(factor, lower=True, overwrite_c=True)
    inverse = np.tril(inverse) + np.tril(inverse, -1).T  # LAPACK leaves one triangle
    inverse /= -np.diag(inverse).copy()
    np.fill_diagonal(inverse, 0)
    return np.asarray(inverse, np.float32)


def als(chosen: Any, settings: Als, seed: int) -> Scores:
    """Implicit-feedback matrix factorisation of a binary sparse `[users, n]`; inner products of the factors."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about BLAS threads, which are limited below
        from implicit.als import AlternatingLeastSquares

        model = AlternatingLeastSquares(**settings._asdict(), iterations=_ITERATIONS, random_state=seed)
    with threadpool_limits(1, "blas"):
        model.fit(chosen.astype(np.float32), show_progress=False)
    return lambda people: np.asarray(model.user_factors[people] @ model.item_factors.T, np.float32)


def ranked(scores: Scores, people: Array, fitted: Array, excluded: Sequence[Array], k: int) -> list[Array]:
    """The k best of the fitted items for each person, ties by row.

    Args:
        scores: Of the fitted items.
        people: int `[q]`, rows of the fitted matrix.
        fitted: int `[n]` ascending, the catalogue row of each fitted item.
        excluded: Catalogue rows that each person must not get, ascending.
        k: At most so many.

    Returns:
        int32 catalogue rows `[m]` each, best first; m < k only where fewer are left.
    """
    answers = []
    for start in range(0, len(people), _BLOCK):
        block = scores(people[start : start + _BLOCK])
        for row, without in zip(block, excluded[start : start + _BLOCK], strict=True):
            row[np.isin(fitted, without)] = -np.inf
            answers.append(fitted[_best(row, k)].astype(np.int32))
    return answers


def _best(scores: Array, k: int) -> Array:
    """Positions of the k greatest finite scores, best first, ties by position."""
    k = min(k, int(np.isfinite(scores).sum()))
    if k == 0:
        return np.empty(0, np.int64)
    at = np.flatnonzero(scores >= np.partition(scores, len(scores) - k)[len(scores) - k])
    return np.asarray(at[np.argsort(-scores[at], kind="stable")][:k])
