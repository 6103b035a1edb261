"""Rules and filters through a running server: hot reload, Explain, PreviewRules, refusals, the commands, and batch that gives the same pages."""

# bazel: size=medium, imports=[cli.*]

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from aisle.v1 import recommender_pb2_grpc
from aisle.v1.recommender_pb2 import ExplainRequest, RecommendRequest, SimilarItemsRequest
from core.errors import ConfigError
from core.work import Work
from serving.batch import Batch, BatchQuery
from serving.batch import run as run_batch
from serving.client import Client, violations
from serving.config import ServingConfig
from serving.process import ServingProcess
from tests.serving.conftest import options_for
from tests.serving.shop import END, PURCHASES, SOLD_OUT, TITLES
from tests.waiting import until

HIDE = "  - {name: no-tea-1, kind: hide, where: item_id = 'tea-1'}\n".replace("'tea-1'", '"tea-1"')
RULES = f"""
rules:
{HIDE}  - {{name: hero, kind: pin, item: pot-1, at: 2, placements: [home]}}
  - {{name: cups-down, kind: bury, where: 'item_id IN ("cup-1", "cup-2")', places: all}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rules = tmp_path / "rules"
    rules.mkdir()
    (rules / "shop.yaml").write_text(RULES)
    return rules


@pytest.fixture
def ruled(shop: Work, redis_url: str, config: ServingConfig, folder: Path) -> Iterator[ServingProcess]:
    """A server with the rules; it looks at the folder when a test says so."""
    quiet = config.with_rules(folder)
    quiet = quiet.model_copy(update={"rules": quiet.rules.model_copy(update={"refresh_seconds": 3600.0})})
    process = ServingProcess(options_for(shop, redis_url, quiet))
    process.start()
    yield process
    process.stop()


@pytest.fixture
def ask(ruled: ServingProcess) -> Iterator[Client]:
    with Client(f"127.0.0.1:{ruled.port}", timeout=20) as connected:
        yield connected


def ids(ask: Client, **request: Any) -> list[str]:
    return [r.item_id for r in ask.recommend(RecommendRequest(**request)).results]


def test_rules_hold_where_they_say(ask: Client) -> None:
    home = ask.recommend(RecommendRequest(user_id="ann", placement="home", page_size=16))
    assert home.results[1].item_id == "pot-1"
    assert (home.results[1].promotion_name, home.results[1].sponsored) == ("hero", False)
    found = [r.item_id for r in home.results]
    assert "tea-1" not in found
    assert {tuple(r.moved_by) for r in home.results if r.item_id in ("cup-1", "cup-2")} == {("cups-down",)}
    assert set(found[-2:]) == {"cup-1", "cup-2"}
    assert home.rules == ask.status().rules.id
    assert ids(ask, user_id="ann", placement="cart", page_size=16)[1] != "pot-1"
    similar = ask.similar(SimilarItemsRequest(item_ids=["tea-2"], page_size=20))
    assert "tea-1" not in [r.item_id for r in similar.results]
    assert similar.rules == home.rules


def test_explain_names_file_and_line(ask: Client) -> None:
    asked = RecommendRequest(user_id="ann", placement="home", page_size=5)
    hidden = ask.explain(ExplainRequest(request=asked, item_id="tea-1"))
    assert (hidden.outcome, hidden.rule, hidden.rule_file, hidden.rule_line) == ("hidden", "no-tea-1", "shop.yaml", 3)
    assert hidden.summary == "hidden by rule 'no-tea-1' of file shop.yaml, line 3"
    pinned = ask.explain(ExplainRequest(request=asked, item_id="pot-1"))
    assert (pinned.outcome, pinned.rank, pinned.rule, pinned.rule_line) == ("on-page", 2, "hero", 4)
    buried = ask.explain(ExplainRequest(request=asked, item_id="cup-1"))
    assert buried.outcome == "below-page"
    assert buried.moves["cups-down"] < 0
    filtered = RecommendRequest(user_id="ann", page_size=5, filter='item_id != "cup-3"')
    assert ask.explain(ExplainRequest(request=filtered, item_id="cup-3")).outcome == "filtered"


def test_every_item_ends_in_one_place(ask: Client) -> None:
    request: dict[str, Any] = {"user_id": "bob", "placement": "home", "page_size": 4, "filter": 'NOT item_id = "cup-4"'}
    page = ids(ask, **request)
    found = {i: ask.explain(ExplainRequest(request=RecommendRequest(**request), item_id=i)) for i in TITLES}
    assert [i for i in page if found[i].outcome == "on-page"] == page
    assert sum(f.outcome == "on-page" for f in found.values()) == 4
    assert (found["tea-1"].outcome, found["cup-4"].outcome, found[SOLD_OUT].outcome) == (
        "hidden",
        "filtered",
        "unavailable",
    )


def test_preview_is_both_pages_side_by_side(ask: Client) -> None:
    seen = ask.preview_rules(RecommendRequest(user_id="ann", placement="home", page_size=5))
    assert [i.item_id for i in seen.items if i.after] == ids(ask, user_id="ann", placement="home", page_size=5)
    before = sorted((i for i in seen.items if i.before), key=lambda i: i.before)
    assert [i.before for i in before] == [1, 2, 3, 4, 5]
    because = {i.item_id: list(i.because) for i in seen.items}
    assert because["tea-1"] == ["hidden by rule 'no-tea-1' of file shop.yaml, line 3"]  # ann buys it again and again
    assert because["pot-1"] == ["put there by rule 'hero' of file shop.yaml, line 4"]
    assert list(seen.in_force) == ["no-tea-1", "hero", "cups-down"]


def test_changed_files_are_taken_up_and_broken_ones_are_not(ruled: ServingProcess, ask: Client, folder: Path) -> None:
    rules, before = ruled._tenants.alone.rules, ask.status().rules
    assert (before.rules, before.files, before.problem, list(before.off)) == (3, 1, "", [])
    assert not rules.look()
    (folder / "more.yaml").write_text("rules:\n  - {name: more, kind: hide, where: 'item_id = \"tea-2\"'}\n")
    assert not rules.look()  # it may be half written: once more it must look the same
    assert rules.look()
    now = ask.status().rules
    assert (now.rules, now.files, now.id != before.id) == (4, 2, True)
    assert "tea-2" not in ids(ask, page_size=17)

    (folder / "more.yaml").write_text("rules:\n  - {name: more, kind: hid}\n")
    assert not any(rules.look() for _ in range(3))
    kept = ask.status().rules
    assert kept.id == now.id
    assert kept.problem == f"{folder / 'more.yaml'}:2: rule 'more': unknown kind 'hid'; did you mean 'hide'?"
    assert "tea-2" not in ids(ask, page_size=17)  # the rules from before hold
    # well written, but not for this shop
    (folder / "more.yaml").write_text("rules:\n  - {name: more, kind: hide, where: colour = 1}\n")
    assert not any(rules.look() for _ in range(3))
    assert "unknown field 'colour'" in ask.status().rules.problem

    (folder / "more.yaml").unlink()
    assert [rules.look() for _ in range(2)] == [False, True]
    assert (ask.status().rules.id, ask.status().rules.problem) == (before.id, "")
    assert "tea-2" in ids(ask, page_size=17)


def test_a_server_does_not_start_with_broken_rules(
    shop: Work, redis_url: str, config: ServingConfig, folder: Path
) -> None:
    (folder / "bad.yaml").write_text("rules: 3\n")
    with pytest.raises(ConfigError, match=r"bad.yaml:1: 'rules' holds a number"):
        ServingProcess(options_for(shop, redis_url, config.with_rules(folder)))


def test_filters_are_never_ignored(ask: Client) -> None:
    teas = [f"tea-{n}" for n in range(1, 7)]
    text = "item_id IN (" + ", ".join(f"'{t}'" for t in teas) + ")"
    for person in ("ann", "bob", "nobody", ""):
        found = ask.recommend(RecommendRequest(user_id=person, page_size=10, filter=text))
        assert sorted(r.item_id for r in found.results) == teas[1:]  # tea-1 is hidden
        assert found.outside_filter == 0
        more = ask.recommend(RecommendRequest(user_id=person, page_size=10, filter=text, strict_filtering=False))
        assert (len(more.results), more.outside_filter) == (10, 5)
        assert sorted(r.item_id for r in more.results[:5]) == teas[1:]
        assert "tea-1" not in [r.item_id for r in more.results]
        near = ask.similar(SimilarItemsRequest(item_ids=["cup-2"], filter=text))
        assert {r.item_id for r in near.results} <= set(teas[1:])
    bought = set(PURCHASES["u:bob"])
    assert not bought & set(ids(ask, user_id="bob", page_size=17, exclude_purchased=True))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("item_id = ", "at character 10: expected a value"),
        ("bran = 'x'", "at character 1: unknown field 'bran'; did you mean 'brand'?"),
        ("x" * 5000, "at character 4096: has 5000 bytes, at most 4096 are allowed"),
    ],
)
def test_a_filter_that_cannot_be_used_names_field_and_character(ruled: ServingProcess, text: str, says: str) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{ruled.port}") as channel:
        stub = recommender_pb2_grpc.RecommenderStub(channel)
        similar = SimilarItemsRequest(item_ids=["tea-1"], filter=text)
        for call in (
            lambda: stub.Recommend(RecommendRequest(filter=text), timeout=20),
            lambda: stub.SimilarItems(similar, timeout=20),
        ):
            with pytest.raises(grpc.RpcError) as refused:
                call()
            assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
            [(field, what)] = violations(refused.value)
            assert field == "filter"
            assert what.startswith(says)


def test_batch_gives_the_pages_of_the_server(ask: Client, shop: Work, folder: Path) -> None:
    state = shop.user_state(END)
    queries = [BatchQuery(p, p, None, placement) for p in ("ann", "bob", "cid") for placement in ("home", "cart")]
    queries = [replace(q, query_id=f"{q.user_id} {q.placement}") for q in queries]
    with_rules = {a.query_id: a.item_ids for a in run_batch(shop.current, state, queries, 6, False, folder)}
    without = {a.query_id: a.item_ids for a in run_batch(shop.current, state, queries, 6, False)}
    for query in queries:
        assert with_rules[query.query_id] == ids(ask, user_id=query.user_id, placement=query.placement, page_size=6)
    assert all(with_rules[f"{p} home"] != without[f"{p} home"] for p in ("ann", "bob", "cid"))
    assert Batch(shop.current, state).rules is None


def aisle(*arguments: object, expect: int = 0) -> tuple[dict[str, Any], str]:
    done = subprocess.run(
        [sys.executable, "-m", "cli", *map(str, arguments)], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == expect, done.stderr
    return json.loads(done.stdout.splitlines()[-1]) if done.stdout.strip() else {}, done.stderr.strip()


def test_commands(ruled: ServingProcess, shop: Work, folder: Path, tmp_path: Path) -> None:
    address, release = f"127.0.0.1:{ruled.port}", shop.current
    found, said = aisle("rules", "check", folder, "--release", release)
    assert (found["rules"], found["files"], found["warnings"]) == (3, 1, [])
    assert "cups-down" in said
    served, _ = aisle("rules", "preview", "--server", address, "--user", "ann", "--placement", "home", "--k", 5)
    local, said = aisle(
        "rules", "preview", "--release", release, "--rules", folder, "--user", "ann", "--placement", "home", "--k", 5
    )
    assert served["items"] == local["items"]
    assert served["rules"] == local["rules"] == found["id"]
    assert "put there by rule" in " ".join(said.split())
    page, _ = aisle("recommend", "--server", address, "--user", "ann", "--filter", "item_id IN ('tea-2', 'pot-3')")
    assert sorted(r["item_id"] for r in page["results"]) == ["pot-3", "tea-2"]
    (folder / "bad.yaml").write_text("rules:\n  - {name: x, kind: pin, item: a, att: 1}\n")
    _, said = aisle("rules", "check", folder, expect=2)
    assert said.splitlines()[-1].endswith("bad.yaml:2: rule 'x': missing key 'at'") or "unknown key 'att'" in said
    _, said = aisle("rules", "preview", "--user", "ann", expect=2)
    assert "either --release R or --server" in said
    queries = tmp_path / "q.csv"
    queries.write_text("query_id,user_id,placement\n1,ann,home\n")
    (folder / "bad.yaml").unlink()
    pages = {}
    for name, more in (("plain", ()), ("ruled", ("--rules", folder)), ("off", ("--rules", folder, "--no-rules"))):
        out = tmp_path / f"{name}.parquet"
        aisle("batch", "--release", release, "--queries", queries, "--out", out, "--k", 5, *more)
        pages[name] = out.read_bytes()
    assert pages["plain"] == pages["off"] != pages["ruled"]


def test_a_server_looks_at_the_folder_by_itself(
    shop: Work, redis_url: str, config: ServingConfig, folder: Path
) -> None:
    quick = config.with_rules(folder)
    quick = quick.model_copy(update={"rules": quick.rules.model_copy(update={"refresh_seconds": 0.01})})
    process = ServingProcess(options_for(shop, redis_url, quick))
    process.start()
    with Client(f"127.0.0.1:{process.port}", timeout=20) as ask:
        (folder / "more.yaml").write_text('rules:\n  - {name: more, kind: hide, where: item_id = "tea-2"}\n')
        until(lambda: ask.status().rules.rules == 4)
        assert "tea-2" not in ids(ask, page_size=17)
    process.stop()
