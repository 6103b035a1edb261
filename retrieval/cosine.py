"""Nearest columns by cosine of a sparse matrix, in blocks. Fit time only: this is where the sources use scipy."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Final

import numpy as np
import scipy.sparse as sp

from core.columns import Array
from core.prepared import Interactions
from retrieval import compiled_nearest
from retrieval.compiled_nearest import library
from retrieval.sources.neighbours import Neighbours, NeighboursBuilder

_PRODUCTS: Final = 1 << 25  # of a block, summed or not: bounds the memory at about 400 MB


def person_item_matrix(events: Interactions) -> Any:
    """Binary sparse `[n_users, n_items]` float32: who chose what at least once."""
    matrix = sp.csr_matrix(
        (np.ones(len(events.user), np.float32), (events.user, events.item)), shape=(events.n_users, events.n_items)
    )
    matrix.data[:] = 1  # repeats were summed
    return matrix


def nearest(matrix: Any, most: int) -> Neighbours:
    """The `most` columns of a sparse `[d, n_items]` nearest to each column by cosine, itself and empty ones left out, ties by row."""
    rows, columns = units(matrix)
    kernel = library()
    return counted(rows, columns, most) if kernel is None else compiled_nearest.nearest(kernel, rows, columns, most)


def units(matrix: Any) -> tuple[Any, Any]:
    """The columns of a sparse `[d, n]` at length 1, or empty: as the rows of a CSR matrix `[n, d]`, and as its columns, both float32."""
    lengths = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=0)).ravel())
    unit = (matrix @ sp.diags(np.divide(1.0, lengths, out=np.zeros(len(lengths)), where=lengths > 0))).tocsc()
    unit = unit.astype(np.float32)
    return unit.T.tocsr(), unit.tocsr()


def counted(rows: Any, columns: Any, most: int) -> Neighbours:
    """The `most` greatest entries of each row of a product of CSR matrices float32, `[n, d]` times `[d, n]`, by scipy: what the kernel does."""
    builder = NeighboursBuilder(rows.shape[0], most)
    # of each row: what its product with all columns adds up
    products = np.add.reduceat(
        np.append(np.diff(columns.indptr)[rows.indices], 0), np.minimum(rows.indptr[:-1], rows.nnz)
    )
    products[np.diff(rows.indptr) == 0] = 0
    for start, stop in pairwise(_blocks(products)):
        product = (rows[start:stop] @ columns).tocsr()
        product.sort_indices()
        for row in range(product.shape[0]):
            part = slice(product.indptr[row], product.indptr[row + 1])
            others, scores = product.indices[part], product.data[part]
            keep = others != start + row
            builder.add(start + row, others[keep], scores[keep])
    return builder.build()


def _blocks(products: Array) -> list[int]:
    """Where blocks of rows begin, and the end: so that the products of a block, int64 `[n]` a row, stay in bounds; few rows have so many alone.

    >>> _blocks(np.array([1, 1 << 25, 1, 1]))
    [0, 1, 2, 4]
    """
    total, bounds = np.cumsum(products, dtype=np.int64), [0]
    while bounds[-1] < len(products):
        begun = int(total[bounds[-1] - 1]) if bounds[-1] else 0
        bounds.append(max(bounds[-1] + 1, int(np.searchsorted(total, begun + _PRODUCTS, side="right"))))
    return bounds
