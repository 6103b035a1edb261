"""Room behind a mapped array: the same values, no copy, no trace in the file."""

import gc
from pathlib import Path

import numpy as np
import pytest

from core.columns import load_array
from core.room import with_room


def mapped(path: Path, values: np.ndarray) -> np.ndarray:
    np.save(path, values)
    return load_array(path)


def private_kb() -> int:
    """Memory of this process that is its own and was written to, as the kernel counts it."""
    rollup = Path("/proc/self/smaps_rollup").read_text()
    return int(next(line.split()[1] for line in rollup.splitlines() if line.startswith("Private_Dirty")))


def ranges() -> int:
    return len(Path("/proc/self/maps").read_text().splitlines())


@pytest.mark.parametrize("shape", [(1,), (33, 3), (5000, 64), (100_003,), (0,), (0, 4)])
@pytest.mark.parametrize("dtype", ["float32", "int32", "bool", "int64"])
def test_same_values_then_zeros_and_writing_stays_here(tmp_path: Path, shape: tuple[int, ...], dtype: str) -> None:
    values = np.random.default_rng(1).integers(1, 100, shape).astype(dtype)
    array = mapped(tmp_path / "a.npy", values)
    roomy = with_room(array, 1000)
    assert roomy.shape == (shape[0] + 1000, *shape[1:])
    assert roomy.dtype == array.dtype
    assert np.array_equal(roomy[: shape[0]], values)
    assert not roomy[shape[0] :].any()
    roomy[:] = 1
    assert np.array_equal(array, values)
    assert np.array_equal(np.load(tmp_path / "a.npy"), values)


def test_what_is_not_a_whole_mapping_is_copied(tmp_path: Path) -> None:
    array = mapped(tmp_path / "a.npy", np.arange(100, dtype=np.int32))
    for other in (array[10:20], array[::2], np.arange(5), np.asfortranarray(np.ones((4, 3)))):
        roomy = with_room(other, 3)
        assert np.array_equal(roomy[: len(other)], other)
        roomy[:] = -1
    assert array.tolist() == list(range(100))


def test_a_million_rows_cost_the_pages_that_are_touched(tmp_path: Path) -> None:
    array = mapped(tmp_path / "a.npy", np.ones((1_000_000, 16), np.float32))  # 64 MB
    before = private_kb()
    roomy = with_room(array, 1_000_000)
    roomy[0], roomy[999_999], roomy[1_000_000], roomy[-1] = 2, 3, 4, 5
    assert private_kb() - before < 4_000
    assert roomy[[0, 1, 999_999, 1_000_000, -1], 0].tolist() == [2, 1, 3, 4, 5]


def test_the_range_is_given_back_with_the_last_view(tmp_path: Path) -> None:
    array = mapped(tmp_path / "a.npy", np.arange(10, dtype=np.int64))
    view = with_room(array, 1 << 20)[:5]
    gc.collect()
    assert view.tolist() == [0, 1, 2, 3, 4]
    del view
    gc.collect()
    before = ranges()
    for _ in range(50):
        with_room(array, 1 << 20)
    gc.collect()
    assert ranges() <= before + 2


def test_a_file_that_is_gone_is_said(tmp_path: Path) -> None:
    array = mapped(tmp_path / "a.npy", np.arange(10))
    (tmp_path / "a.npy").unlink()
    with pytest.raises(OSError, match="No such file"):
        with_room(array, 1)
