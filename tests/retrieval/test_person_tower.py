from pathlib import Path

import numpy as np
import pytest

from retrieval.person_tower import FOLDER, PersonTower

TOWER = PersonTower(np.array([3, 5, 9], np.uint64), np.array([[1, 0], [0, 2], [4, 4]], np.float32))


def test_tokens_share_the_length_of_one() -> None:
    vector = TOWER.vector(np.array([3, 5], np.uint64))
    assert vector is not None
    assert vector.tolist() == pytest.approx([1 / 2**0.5, 2 / 2**0.5])  # ([1, 0] + [0, 2]) / sqrt(2)
    alone = TOWER.vector(np.array([9], np.uint64))
    assert alone is not None
    assert alone.tolist() == [4, 4]


def test_unknown_tokens_count_for_nothing() -> None:
    assert TOWER.knows(np.array([2, 3, 9, 10], np.uint64)).tolist() == [False, True, True, False]
    one, two = TOWER.vector(np.array([3], np.uint64)), TOWER.vector(np.array([3, 4], np.uint64))
    assert one is not None
    assert two is not None
    assert two.tolist() == one.tolist()
    for tokens in ([], [1, 100]):
        assert TOWER.vector(np.array(tokens, np.uint64)) is None


def test_opens_what_is_in_the_folder(tmp_path: Path) -> None:
    (tmp_path / FOLDER).mkdir()
    for name in ("tokens", "token_vectors"):
        np.save(tmp_path / FOLDER / f"{name}.npy", getattr(TOWER, name))
    opened = PersonTower.open(tmp_path)
    assert opened.tokens.tolist() == TOWER.tokens.tolist()
    assert opened.token_vectors.tolist() == TOWER.token_vectors.tolist()
