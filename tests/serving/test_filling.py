"""Filling a page: the compiled kernel gives what numpy gives, whatever the caps, places, sponsors and likeness are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.rules import compiled_filling
from serving.rules.caps import Capped
from serving.rules.filling import Diversity, Line, counted, fill
from serving.rules.similarity import Alike, AlikePaths, AlikeVectors, of_vectors

_MOST_ITEMS, _MOST_PLACES = 40, 24


@st.composite
def caps(draw: st.DrawFn, n: int, k: int) -> Capped:
    """Of none to three values an item, now and then the same one twice."""
    values = draw(st.lists(st.lists(st.integers(-5, 6), max_size=3), min_size=n, max_size=n))
    codes = np.array([v for one in values for v in one], np.int32)
    owner = np.repeat(np.arange(n), [len(one) for one in values])
    return Capped(draw(st.integers(0, 4)), draw(st.integers(1, k)), codes, owner)


@st.composite
def likenesses(draw: st.DrawFn, n: int) -> Alike:
    """By vectors, some of them equal or nothing; by paths of up to three levels."""
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    if draw(st.booleans()):
        vectors = rng.normal(size=(n, 5)) * rng.integers(0, 2, (n, 1))
        vectors[rng.random(n) < 0.3] = vectors[0]
        return of_vectors(vectors.astype(np.float32))(np.arange(n))
    depth = rng.integers(0, 4, n)
    paths = np.where(np.arange(3)[:, None] < depth, rng.integers(0, 3, (3, n)), -1).astype(np.int32)
    return AlikePaths(paths, np.maximum(depth, 1).astype(np.float32))


@st.composite
def lines(draw: st.DrawFn) -> Line:
    """What a page may be filled with; k may be more than there is."""
    n, k = draw(st.integers(1, _MOST_ITEMS)), draw(st.integers(1, _MOST_PLACES))
    pins = draw(st.integers(0, min(n, k, 4)))
    places = draw(st.lists(st.integers(0, min(n, k) - 1), min_size=pins, max_size=pins, unique=True))
    items = draw(st.lists(st.integers(0, n - 1), min_size=pins, max_size=pins, unique=True))
    fixed = dict(zip(places, items, strict=True))
    paid = draw(st.lists(st.integers(0, k - 1), max_size=3, unique=True))
    mask = st.lists(st.booleans(), min_size=n, max_size=n)
    return Line(
        n,
        draw(st.integers(1, n)),
        k,
        fixed,
        {p: np.array(draw(mask)) for p in paid if p not in fixed},
        [draw(caps(n, k)) for _ in range(draw(st.integers(0, 3)))],
        draw(st.none() | st.builds(Diversity, st.sampled_from([0.0, 0.3, 0.7, 1.0]), st.integers(1, k), likenesses(n))),
    )


@given(lines())
def test_the_kernel_fills_a_page_as_numpy_does(line: Line) -> None:
    assert compiled_filling.library() is not None
    found, expected = fill(line), counted(line)
    assert found.page == expected.page
    assert found.put == expected.put
    assert found.held == expected.held
    assert found.first_held == expected.first_held


@given(st.integers(2, 40), st.integers(1, 24), st.integers(0, 9))
def test_a_cap_by_hand_at_any_size(n: int, k: int, seed: int) -> None:
    """At most one of each colour: the page is the first item of each, in order."""
    colours = np.random.default_rng(seed).integers(0, 7, n)
    line = Line(n, n, k, {}, {}, [Capped(1, k, colours, np.arange(n))], None)
    firsts = sorted({int(np.flatnonzero(colours == c)[0]) for c in set(colours.tolist())})
    assert fill(line).page == firsts[:k]


def test_without_a_compiler_numpy_fills_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    # 0 is on the page, 1 is exactly like it and worth 1 / log2(3) = .63 * .5, less .5; 2 is like nothing: .5 * .5
    alike = AlikeVectors(np.array([[1, 1, 0], [0, 0, 1]], np.float32))
    line = Line(3, 3, 2, {}, {}, [], Diversity(0.5, 2, alike))
    assert fill(line).page == [0, 2]
    monkeypatch.setattr(compiled_filling, "library", lambda: None)
    assert fill(line).page == [0, 2]
