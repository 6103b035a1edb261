"""The recurrent encoder of the comparison keeps the laws of the shipped one: no look ahead, and people in one row do not see each other."""

# bazel: size=medium, data=[//configs:all_files]

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.encoders import Recurrent, interval
from retrieval.towers.model import Shape
from retrieval.towers.noise import Noise


@pytest.fixture(scope="module")
def encoder() -> Recurrent:
    return Recurrent(Shape(4, 1, 8, 6, 1, 2, 0.5, 0.1), Noise())


def test_a_later_event_never_changes_an_earlier_position(encoder: Recurrent) -> None:
    rng = np.random.default_rng(0)
    vectors, ones = rng.normal(size=(2, 6, 8)).astype(np.float32), np.ones((2, 6), np.int32)
    before = encoder(vectors, ones, ones, ones).numpy()
    vectors[:, 3] = rng.normal(size=(2, 8))
    after = encoder(vectors, ones, ones, ones).numpy()
    assert np.array_equal(before[:, :3], after[:, :3])
    assert not np.allclose(before[:, 3:], after[:, 3:])
    assert np.linalg.norm(after, axis=2) == pytest.approx(1.0, abs=1e-5)


def test_a_person_s_state_begins_anew_within_a_row(encoder: Recurrent) -> None:
    vectors = np.random.default_rng(1).normal(size=(1, 6, 8)).astype(np.float32)
    ones = np.ones((1, 6), np.int32)
    together = encoder(vectors, ones, ones, np.array([[1, 1, 2, 2, 2, 2]], np.int32)).numpy()
    alone = encoder(vectors[:, 2:], ones[:, 2:], ones[:, 2:], ones[:, 2:]).numpy()
    assert together[:, 2:] == pytest.approx(alone, abs=1e-5)


def test_the_interval_by_hand() -> None:
    # deviation .1 of three values, Student's t of 2 degrees of freedom 4.3027: 4.3027 * .1 / sqrt(3) = .24841
    assert interval([0.1, 0.2, 0.3]) == {"mean": 0.2, "plus_minus": 0.2484}
