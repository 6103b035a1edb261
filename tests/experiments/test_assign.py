"""Who is in which arm: test vectors, shares, sticky ramps, layers that know nothing of each other, and the same in another language."""

# bazel: data=[//docs:all_files]

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.assign import Assignment, Split, heard, overridden, point, said
from experiments.config import HOLDOUT, Experiment

DOCS = Path(__file__).parents[2] / "docs" / "experiments.md"


def experiment(**changed: Any) -> Experiment:
    values: dict[str, Any] = {
        "name": "order",
        "owner": "ann",
        "hypothesis": "h",
        "arms": {"a": {}, "b": {}},
        "control": "a",
        "primary": {"name": "buys", "events": ["purchase-complete"]},
    }
    return Experiment.model_validate(values | changed)


def vectors() -> list[tuple[str, str, float]]:
    """The table of docs/experiments.md."""
    rows = re.findall(r"^\| `([^`]+)` \| `([^`]+)` \| ([.\d]+) \|$", DOCS.read_text(), re.MULTILINE)
    return [(salt, unit, float(value)) for salt, unit, value in rows]


def test_the_published_vectors() -> None:
    assert len(vectors()) >= 5
    for salt, unit, value in vectors():
        assert point(salt, unit) == pytest.approx(value, abs=5e-13)


def perl_has_sha() -> bool:
    return shutil.which("perl") is not None and subprocess.run(["perl", "-MDigest::SHA", "-e", "1"]).returncode == 0


@pytest.mark.skipif(not perl_has_sha(), reason="Perl with Digest::SHA is not there")
def test_the_same_in_another_language() -> None:
    """The program of docs/experiments.md."""
    (program,) = re.findall(r"```perl\n(.*?)```", DOCS.read_text(), re.DOTALL)
    assert len(program.strip().splitlines()) <= 10
    for salt, unit, value in vectors():
        found = subprocess.run(["perl", "-e", program, salt, unit], capture_output=True, text=True, check=True).stdout
        assert float(found) == pytest.approx(value, abs=5e-13)


def test_shares_lie_side_by_side() -> None:
    of = experiment(arms={"a": {}, "b": {}, "c": {}})
    split = Split(of, {"a": 0.25, "b": 0.5, "c": 0.25})
    points = (0.0, 0.2499, 0.25, 0.7499, 0.75, 1 - 2**-53)
    assert [split.at(point).arm for point in points] == ["a", "a", "b", "b", "c", "c"]
    assert Split(of, {"a": 0.1 + 0.2, "b": 0.7 - 1e-16}).at(1 - 2**-53).arm == "b"


def test_the_holdout_comes_first_and_arms_share_the_rest() -> None:
    split = Split(experiment(holdout=0.2, arms={"a": {}, "b": {"weight": 3}}))
    found = {point: split.at(point) for point in (0.0, 0.19, 0.2, 0.39, 0.41, 0.99)}
    assert [a.arm for a in found.values()] == [HOLDOUT, HOLDOUT, "a", "a", "b", "b"]
    assert [round(a.probability, 12) for a in found.values()] == [0.2, 0.2, 0.2, 0.2, 0.6, 0.6]


def counts(of: Experiment, n: int, now: float = 0.0) -> dict[str, int]:
    found: dict[str, int] = {}
    split = Split(of)
    for unit in range(n):
        if (given := split.assign(f"u{unit}", now)) is not None:
            found[given.arm] = found.get(given.arm, 0) + 1
    return found


def test_shares_of_the_layer_the_arms_and_the_holdout() -> None:
    """.4 of 20,000 take part: 8,000; a fifth of these are held out, and the rest go 1 to 3. Four standard errors are about 160."""
    found = counts(
        experiment(traffic={"first": 0.3, "share": 0.4}, holdout=0.2, arms={"a": {}, "b": {"weight": 3}}), 20_000
    )
    for arm, expected in {HOLDOUT: 1600, "a": 1600, "b": 4800}.items():
        assert found[arm] == pytest.approx(expected, abs=4 * np.sqrt(expected))


def test_a_ramp_takes_in_and_moves_nobody() -> None:
    of = experiment(traffic={"share": 0.1, "ramp": [{"at": "2026-01-02", "share": 0.6}]})
    before, after = (of._micros(at) for at in ("2026-01-01", "2026-01-03"))
    taken, split = 0, Split(of)
    for n in range(5_000):
        first, then = split.assign(f"u{n}", before), split.assign(f"u{n}", after)
        assert first is None or first == then
        taken += then is not None and first is None
    assert taken == pytest.approx(2_500, abs=4 * np.sqrt(2_500))


def test_layers_and_experiments_know_nothing_of_each_other() -> None:
    """Chi-square of a 2 x 2 table, one degree of freedom: below 15.1 but for one in 10,000."""
    one, other = Split(experiment()), Split(experiment(name="other", layer="other"))
    table = np.zeros((2, 2))
    for n in range(20_000):
        a, b = one.assign(f"u{n}", 0), other.assign(f"u{n}", 0)
        assert a is not None
        assert b is not None
        table["ab".index(a.arm), "ab".index(b.arm)] += 1
    expected = table.sum(1, keepdims=True) * table.sum(0) / table.sum()
    assert ((table - expected) ** 2 / expected).sum() < 15.1


def test_a_bandit_draws_anew_with_every_version_and_says_the_chance() -> None:
    of, shares = experiment(unit="session", allocation={"policy": "ucb"}), {"a": 0.2, "b": 0.8}
    splits = [Split(of, shares, version) for version in (3, 4)]
    found = [split.assign(f"s{n}", 0) for n in range(2_000) for split in splits]
    assert {a and a.probability for a in found} == {0.2, 0.8}
    arms = [a.arm for a in found if a]
    moved = sum(x != y for x, y in zip(arms[::2], arms[1::2], strict=True))
    assert moved == pytest.approx(2_000 * 0.32, abs=4 * np.sqrt(2_000 * 0.32))  # 2 * .2 * .8


def test_testers_are_forced_and_count_for_nothing() -> None:
    of = experiment(forced={"ann": "b"}, traffic={"share": 0.0})
    assert Split(of).assign("ann", 0) == Assignment("order", "b", 1.0, forced=True)
    assert Split(of).assign("bea", 0) is None
    assert said([overridden(of, "a"), Assignment("x", "b", 0.5, 7)]) == ["order=a@0:1.0!", "x=b@7:0.5"]
    given = [overridden(of, "a"), Assignment("x", "b", 1 / 3, 7)]
    assert [heard(text) for text in said(given)] == given


def test_points_are_below_one_and_json_keeps_them() -> None:
    found = [point("s", str(n)) for n in range(1_000)]
    assert max(found) < 1
    assert json.loads(json.dumps(found)) == found
