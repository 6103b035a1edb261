"""Nearest columns by cosine of a sparse matrix, in blocks. Fit time only: this is where the sources use scipy."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import scipy.sparse as sp

from core.columns import Array
from core.prepared import Interactions
from retrieval.sources.neighbours import Neighbours, NeighboursBuilder

_CELLS: Final = 1 << 25  # of a block's product, were it dense: bounds the memory at about 400 MB


def person_item_matrix(events: Interactions) -> Any:
    """Binary sparse `[n_users, n_items]` float32: who chose what at least once."""
    matrix = sp.csr_matrix(
        (np.ones(len(events.user), np.float32), (events.user, events.item)), shape=(events.n_users, events.n_items)
    )
    matrix.data[:] = 1  # repeats were summed
    return matrix


def nearest(matrix: Any, most: int, targets: Array | None = None) -> Neighbours:
    """The `most` columns of a sparse `[d, n_items]` nearest to each column by cosine, itself left out, ties by row.

    `targets` bool `[n_items]`: only these may be neighbours (default: every column that is not empty).
    """
    lengths = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=0)).ravel())
    unit = (matrix @ sp.diags(np.divide(1.0, lengths, out=np.zeros(len(lengths)), where=lengths > 0))).tocsc()
    unit = unit.astype(np.float32)
    aimed = unit if targets is None else (unit @ sp.diags(targets.astype(np.float32))).tocsc()
    aimed.eliminate_zeros()
    aimed = aimed.tocsr()
    n = matrix.shape[1]
    builder = NeighboursBuilder(n, most)
    block = max(1, min(4096, _CELLS // max(1, n)))
    for start in range(0, n, block):
        product = (unit[:, start : start + block].T.tocsr() @ aimed).tocsr()
        product.sort_indices()
        for row in range(product.shape[0]):
            part = slice(product.indptr[row], product.indptr[row + 1])
            others, scores = product.indices[part], product.data[part]
            keep = others != start + row
            builder.add(start + row, others[keep], scores[keep])
    return builder.build()
