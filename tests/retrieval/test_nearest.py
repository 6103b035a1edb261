"""Nearest columns of a sparse matrix: by hand, and the compiled kernel against scipy, bit for bit."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from core.columns import Array
from retrieval import compiled_nearest, cosine
from retrieval.sources.neighbours import Neighbours


def lists(found: Neighbours) -> list[list[int]]:
    """Of every item."""
    one = np.ones(1)
    return [
        found.near(np.array([i], np.int32), one).top(99, np.empty(0, np.int32))[0].tolist()
        for i in range(found.n_items)
    ]


def files(found: Neighbours) -> tuple[Array, Array, Array]:
    """As they are written."""
    return found._starts, found._items, found._scores


def test_by_hand(kernel: None) -> None:
    # 0 and 1 are the same, 2 shares one of two things with them (cosine 1/2), 3 shares nothing, 4 has nothing
    matrix = sp.csr_matrix(np.array([[1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [0, 0, 1, 0, 0], [0, 0, 0, 1, 0]], np.float32))
    assert lists(cosine.nearest(matrix, 5)) == [[1, 2], [0, 2], [0, 1], [], []]
    assert lists(cosine.nearest(matrix, 1)) == [[1], [0], [0], [], []]
    assert cosine.nearest(matrix, 5).pairs == 6
    assert cosine.nearest(matrix, 0).pairs == 0
    assert cosine.nearest(sp.csr_matrix((3, 0), dtype=np.float32), 5).n_items == 0


@pytest.fixture(params=["kernel", "scipy"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways."""
    if request.param == "scipy":
        monkeypatch.setattr(cosine, "library", lambda: None)
    else:
        assert compiled_nearest.library() is not None, "no C compiler here: apt-get install gcc"


@given(st.data())
def test_the_kernel_gives_the_bits_of_scipy(data: st.DataObject) -> None:
    d, n = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 30))
    values = st.sampled_from([0.0, 0.0, 0.0, 1.0, 0.5, 0.1, 3e-30, 1e30])  # ties, sums that under- and overflow
    rows, columns = (
        sp.csr_matrix(
            np.array(data.draw(st.lists(values, min_size=s[0] * s[1], max_size=s[0] * s[1])), np.float32).reshape(s)
        )
        for s in ((n, d), (d, n))
    )
    most = data.draw(st.integers(0, n + 1))
    ours = compiled_nearest.nearest(compiled_nearest.library(), rows, columns, most)
    for a, b in zip(files(ours), files(cosine.counted(rows, columns, most)), strict=True):
        assert a.dtype == b.dtype
        assert a.tobytes() == b.tobytes()


def test_blocks_of_rows_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = sp.random(40, 500, 0.1, random_state=7, dtype=np.float32, format="csr")
    whole = files(cosine.nearest(matrix, 9))
    monkeypatch.setattr(compiled_nearest, "_ENTRIES", 63)
    for a, b in zip(files(cosine.nearest(matrix, 9)), whole, strict=True):
        assert a.tobytes() == b.tobytes()
