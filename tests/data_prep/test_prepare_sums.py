from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from core.columns import Columns
from data_prep import sums
from data_prep.appender import ColumnAppender
from data_prep.sums import KeyedSums


def test_spilled_ranges_equal_sums_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sums, "_RUN_ROWS", 64)
    monkeypatch.setattr(sums, "_RANGE_ROWS", 200)
    rng = np.random.default_rng(3)
    keys, values = rng.integers(0, 500, 1000), rng.integers(0, 9, (2, 1000)).astype(float)
    spilled = KeyedSums(500, 2, tmp_path)
    for part in np.array_split(np.arange(1000), 17):
        spilled.add(keys[part], values[:, part])
    ranges = list(spilled.ranges(unit=10))
    assert len(ranges) > 1
    assert all(a[0][-1] // 10 < b[0][0] // 10 for a, b in itertools.pairwise(ranges))  # no unit in two ranges
    wanted = np.zeros((2, 500))
    for row, column in zip(wanted, values, strict=True):
        np.add.at(row, keys, column)
    got = np.zeros((2, 500))
    got[:, np.concatenate([k for k, _ in ranges])] = np.concatenate([v for _, v in ranges], axis=1)
    assert np.array_equal(got, wanted)


def test_nothing_added_gives_no_range(tmp_path: Path) -> None:
    assert list(KeyedSums(5, 1, tmp_path).ranges()) == []


def test_appended_columns_are_those_written_at_once(tmp_path: Path) -> None:
    whole = {"a": np.arange(1000, dtype=np.int32), "b": np.linspace(0, 1, 1000, dtype=np.float32)}
    Columns(whole).write(tmp_path / "whole")
    with ColumnAppender(tmp_path / "parts", {"a": "int32", "b": "float32"}) as out:
        for part in np.array_split(np.arange(1000), 7):
            out.append({n: c[part] for n, c in whole.items()})
    for file in sorted(p.name for p in (tmp_path / "whole").iterdir()):
        assert (tmp_path / "parts" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes(), file


def test_columns_of_unequal_length_are_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(
            ValueError, match=r"expected columns \['a', 'b'\] of one length, got \['a', 'b'\] of lengths \[1, 2\]"
        ),
        ColumnAppender(tmp_path / "t", {"a": "int32", "b": "int32"}) as out,
    ):
        out.append({"a": np.zeros(1), "b": np.zeros(2)})
    assert not (tmp_path / "t" / "columns.json").exists()
