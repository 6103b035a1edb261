"""Scales, figures and marks of the report's charts."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.charts import Axis, Point, number, plot, signed, stack, whiskers

VALUES = st.lists(st.floats(-1e6, 1e6).filter(lambda v: v == 0 or abs(v) > 1e-6), min_size=1, max_size=20)


@given(VALUES)
def test_an_axis_holds_every_value_between_round_ticks(values: list[float]) -> None:
    axis = Axis.over(values)
    assert axis.low <= min(values) + 1e-6 * (axis.high - axis.low)
    assert axis.high >= max(values) - 1e-6 * (axis.high - axis.low)
    assert 2 <= len(axis.ticks) <= 9
    assert axis.ticks[0] == pytest.approx(axis.low)
    assert axis.ticks[-1] == pytest.approx(axis.high)


def test_ticks_by_hand() -> None:
    # 0.37 over 5 is 0.074: the next of 1, 2, 2.5, 5 times a power of ten is 0.1
    assert Axis.over([0.03, 0.4]).ticks == pytest.approx((0, 0.1, 0.2, 0.3, 0.4))


def test_figures_as_papers_print_them() -> None:
    assert [number(v) for v in (0.25, 1.0, -0.5, None)] == [".2500", "1.0000", "−.5000", "–"]
    assert [signed(v, 2) for v in (0.25, -0.25, 0.0, None)] == ["+.25", "−.25", "+.00", "–"]


def test_what_is_sure_has_a_shape_of_its_own() -> None:
    better, worse, open_, _ = whiskers(
        [
            {"mean": 0.2, "low": 0.1, "high": 0.3},
            {"mean": -0.2, "low": -0.3, "high": -0.1},
            {"mean": 0.1, "low": -0.1, "high": 0.3},
            {"mean": 0.0, "low": 0.0, "high": 0.0},
        ],
        zero=True,
    )
    assert ['"strip sure up"' in better, '"strip sure down"' in worse, '"strip open"' in open_] == [True] * 3
    # the scale is -0.4 to 0.4 in steps of 0.2 (0.6 over 5 is 0.12): 0 in the middle, 0.2 at three quarters
    assert 'class="zero" style="left:50.00%"' in better
    assert 'class="dot" style="left:75.00%"' in better


def test_what_too_few_did_is_sure_of_nothing() -> None:
    """One person's bootstrap is a point above 0: no more sure than that person."""
    row = {"mean": 0.2, "low": 0.2, "high": 0.2}
    drawn = whiskers([row, row], zero=True, enough=[True, False])
    assert ['"strip sure up"' in drawn[0], '"strip open"' in drawn[1]] == [True, True]


def test_a_bar_gives_each_part_its_share_and_leaves_out_what_is_nothing() -> None:
    drawn = stack([("a", 0.75), ("b", 0.0), ("<c>", 0.25)])
    assert re.findall(r'class="(c\d) fill" style="width:([\d.]+)%', drawn) == [("c0", "75.000"), ("c2", "25.000")]
    assert "<c>" not in drawn  # names come from the shop's data


def test_a_plot_places_its_points() -> None:
    drawn = plot([Point(0, 0, -1, 1), Point(10, 1, label="end", hollow=True)], "x", "y", origin=True)
    # from 52 to 380 - 20 across, from 230 - 40 up to 16; y runs from -1 to 1
    assert re.findall(r'<circle class="(\w+)" cx="([\d.]+)" cy="([\d.]+)"', drawn) == [
        ("mark", "52.0", "103.0"),
        ("hollow", "360.0", "16.0"),
    ]
