"""What changed between two releases, and the card of one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from core.work import Work
from pipeline.registry import overlap
from pipeline.registry.card import card
from pipeline.registry.diff import diff, features, items, metrics
from pipeline.registry.find import named
from serving.batch import BatchAnswer
from tests.pipeline.registry.two_nights import PASSED, names, variant
from tests.serving.shop import KINDS, SIZE, SOLD_OUT


def page(user: str, *ids: str) -> BatchAnswer:
    return BatchAnswer(user, list(ids), np.zeros(len(ids)), ("",) * len(ids))


def test_metrics_are_compared_by_path_without_other_systems() -> None:
    a = {"ndcg@10": 0.5, "seen": "keep", "segments": {"new": {"hit@10": 0.25}}, "baselines": {"x": {"ndcg@10": 0.1}}}
    b = {"ndcg@10": 0.75, "segments": {"new": {"intervals": {"hit@10": [0, 1]}}}, "mrr@10": 0.5}
    assert metrics(a, b) == {
        "mrr@10": {"from": None, "to": 0.5, "delta": None},
        "ndcg@10": {"from": 0.5, "to": 0.75, "delta": 0.25},
        "segments.new.hit@10": {"from": 0.25, "to": None, "delta": None},
    }


def test_features_gained_and_lost_with_their_gains() -> None:
    a = {"trees": 3, "features": ["x", "y"], "importance": {"x": 0.75, "y": 0.25}}
    b = {"trees": 5, "features": ["y", "z"], "importance": {"y": 1.0}}
    found = features(a, b)
    assert (found["gained"], found["lost"], found["ranker"]) == (["z"], ["x"], {"from": 3, "to": 5})
    assert found["gains"] == {
        "x": {"from": 0.75, "to": 0.0, "delta": -0.75},
        "y": {"from": 0.25, "to": 1.0, "delta": 0.75},
    }
    assert features(None, None)["ranker"] == {"from": None, "to": None}


def test_overlap_by_hand() -> None:
    """Four people, pages of 2: same (1), same items in another order (1), one in common (0.5), none (0): 2.5 / 4. First: 1 of 4, page: 1 of 4."""
    a = [page("1", "x", "y"), page("2", "x", "y"), page("3", "x", "y"), page("4", "x", "y")]
    b = [page("1", "x", "y"), page("2", "y", "x"), page("3", "y", "z"), page("4", "u", "v")]
    assert overlap.compared([a, b], 2).rounded() == {
        "people": 4,
        "k": 2,
        "overlap": 0.625,
        "same_first": 0.25,
        "same_page": 0.25,
    }


def test_the_sample_stays_when_others_come() -> None:
    few, many = {f"user-{n}" for n in range(50)}, {f"user-{n}" for n in range(60)}
    before, after = overlap.sample(few, 20), overlap.sample(many, 20)
    assert [u for u in after if u in few] == [u for u in before if u in set(after)]


def test_two_nights(nights: Work) -> None:
    first, second = (named(Path(name), nights.root) for name in names(nights))
    found = diff(first, second)
    assert (found["from"]["release"], found["to"]["release"]) == (first.name, second.name)
    assert found["metrics"]["ndcg@10"] == {"from": 0.5, "to": 0.5, "delta": 0.0}
    assert found["configuration"] == {"same": True, "keys": {}}
    assert found["settings"] == {}
    # every item of the shop is in both
    assert (found["items"]["from"], found["items"]["gained"], found["items"]["lost"]) == (len(KINDS) * SIZE, 0, 0)
    # popularity twice as high orders the same
    assert found["pages"]["people"] == 23  # ann, bob, cid and twenty numbered; the guest is a visitor
    assert found["pages"]["overlap"] > 0.9
    assert diff(first, first)["pages"]["same_page"] == 1.0


def test_configuration_keys(nights: Work) -> None:
    first = variant(nights, names(nights)[0], "v1")
    path = nights.releases / "v1" / "manifest.json"
    manifest = json.loads(path.read_bytes())
    manifest["about"]["config"] = "other"
    manifest["about"]["configuration"]["sources"]["recent_days"] += 1
    path.write_text(json.dumps(manifest))
    other = named(Path(names(nights)[0]), nights.root)
    days = other.manifest.about["configuration"]["sources"]["recent_days"]
    changed = diff(other, named(first.path, None))["configuration"]
    assert changed == {"same": False, "keys": {"sources.recent_days": {"from": days, "to": days + 1}}}


def test_without_user_state_pages_are_not_compared(nights: Work, tmp_path: Path) -> None:
    first, second = (named(Path(name), nights.root) for name in names(nights))
    (nights.user_state(first.window_end)).rename(tmp_path / "gone")
    assert "no such artifact" in diff(first, second)["pages"]["because"]


def test_items_on_and_off_the_shelf(nights: Work) -> None:
    first, second = (nights.releases / name for name in names(nights))
    shown = np.load(second / "items" / "available.npy")
    ids = sorted(f"{kind}-{n}" for kind in KINDS for n in range(1, SIZE + 1))
    shown[ids.index(SOLD_OUT)], shown[ids.index("cup-1")] = True, False
    np.save(second / "items" / "available.npy", shown)
    found = items(first, second)
    assert (found["on_the_shelf"], found["off_the_shelf"]) == (1, 1)
    assert found["examples"]["on_the_shelf"] == [SOLD_OUT]


def test_card_says_what_the_manifest_does(nights: Work) -> None:
    text = card(variant(nights, names(nights)[0], "v1", PASSED))
    for heading in ("What it is", "Intended use", "Data", "Metrics", "What it looks at", "Gates", "Limits"):
        assert f"\n## {heading}\n" in text
    assert "| answers | passed | 10 test queries, 0 without an answer |" in text
    assert "| items | 18 |" in text
    assert "No ranker: the weighted blend" in text


@pytest.mark.parametrize("reason", ["a | b", "plain"])
def test_a_bar_does_not_end_a_cell(nights: Work, reason: str) -> None:
    gates = [{"gate": "g", "passed": True, "reason": reason}]
    line = next(x for x in card(variant(nights, names(nights)[0], "v1", gates)).splitlines() if x.startswith("| g |"))
    assert line.replace("\\|", "").count("|") == 4
