"""What a shop's data decide, and that a shop's own settings win."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from core.columns import Coded
from core.config import PipelineConfig, load_pipeline
from core.errors import ConfigError
from core.prepared import Prepared
from core.schema import EventType
from pipeline.evaluate import BASELINES
from retrieval.defaults import adapted, decide, fitted_sources, recorded
from tests.prepared_fixture import Row, make_prepared
from tests.retrieval.laws import CUTS, attributes

BUY = EventType.PURCHASE_COMPLETE.value
CONFIG = load_pipeline()


def shop(tmp_path: Path, each: int = 3, people: int = 4, **about: Any) -> Prepared:
    """`people` with `each` purchases among 30 items."""
    rows: list[Row] = [(f"u:{p}", f"i{n % 30:02}", BUY, 30 * p + n) for p in range(people) for n in range(each)]
    rows += [("u:all", f"i{n:02}", BUY, n) for n in range(30)]
    return make_prepared(tmp_path, rows, cuts=CUTS, **{"repeat_share": 0.3, **about})


def sources_of(prepared: Prepared, config: PipelineConfig = CONFIG) -> list[str]:
    return fitted_sources(adapted(config, decide(prepared, config)).sources)


def test_a_shop_with_repeats_a_clock_and_attributes_gets_every_source(tmp_path: Path) -> None:
    prepared = shop(tmp_path, columns=attributes())
    assert sources_of(prepared) == fitted_sources(CONFIG.sources)
    assert decide(prepared, CONFIG)[0].because == "each has something to say"


@pytest.mark.parametrize(
    ("about", "missing", "because"),
    [
        ({"columns": {}}, "content", "items have no attributes"),
        ({"columns": {"attribute.x": Coded.of([None] * 30)}}, "content", "items have no attributes"),
    ],
)
def test_a_source_that_can_say_nothing_is_left_out(
    tmp_path: Path, about: dict[str, Any], missing: str, because: str
) -> None:
    prepared = shop(tmp_path, **({"columns": attributes()} | about))
    assert set(fitted_sources(CONFIG.sources)) - set(sources_of(prepared)) == {missing}
    assert because in str(decide(prepared, CONFIG)[0])


@pytest.mark.parametrize(
    ("countries", "read", "because"),
    [
        (
            ["France"] * 25 + ["Spain"] * 25 + [None],
            True,
            "98% of the people",
        ),  # 50 of 51; 25 is no more than half of 51
        (
            ["France"] * 26 + ["Spain"] * 25,
            False,
            "49% of the people",
        ),  # 26 of 51 are more than half: 25 of 51 are told apart
        (["France"] * 19 + ["Spain"] * 19 + [None] * 13, False, "0% of the people"),  # too few to be a group
    ],
)
def test_attributes_of_people_are_read_where_they_tell_them_apart(
    tmp_path: Path, countries: list[str | None], read: bool, because: str
) -> None:
    told = shop(tmp_path, people=50, columns_of_people={"attribute.country": Coded.of(countries)})
    decided = next(d for d in decide(told, CONFIG) if d.setting == "towers.user_attributes")
    assert decided.value is read
    assert decided.because.startswith(because)
    assert adapted(CONFIG, [decided]).towers.user_attributes is read
    given = CONFIG.model_copy(update={"given": ("towers.user_attributes",)})  # the shop's own word wins
    assert "towers.user_attributes" not in {d.setting for d in decide(told, given)}


def test_without_attributes_of_people_nothing_is_decided_of_them(tmp_path: Path) -> None:
    assert "towers.user_attributes" not in {d.setting for d in decide(shop(tmp_path), CONFIG)}


def test_the_baselines_of_evaluate_are_always_fitted(tmp_path: Path) -> None:
    prepared = shop(tmp_path, repeat_share=0.0, synthetic_time=True, columns={})
    assert set(BASELINES) <= set(sources_of(prepared))


def test_titles_and_brands_are_attributes(tmp_path: Path) -> None:
    assert "content" in sources_of(shop(tmp_path / "a", titles={"i00": "red cup"}))
    assert "content" in sources_of(shop(tmp_path / "b", columns={"brand": Coded.of(["x"] * 30)}))


def test_towers_read_no_more_than_people_have(tmp_path: Path) -> None:
    # "all" has 30 successes, everybody else 3: the 0.99 quantile of 200 x 3 and one 30 is 3; of 4 x 3 and one 30 it is 28.9
    towers = adapted(CONFIG, decide(shop(tmp_path / "a", people=200), CONFIG)).towers
    assert (towers.events, towers.dimensions) == (20, 32)
    assert adapted(CONFIG, decide(shop(tmp_path / "b"), CONFIG)).towers.events == 50


def test_ids_of_few_successes_are_left_out_more_often_where_attributes_speak(tmp_path: Path) -> None:
    # 30 items: 4 x 3 + 30 successes are 1.4 an item; 30 x 30 + 30 are 31
    def dropout(prepared: Prepared) -> float:
        return adapted(CONFIG, decide(prepared, CONFIG)).towers.id_dropout

    assert dropout(shop(tmp_path / "sparse", columns=attributes())) == 0.3
    assert dropout(shop(tmp_path / "dense", each=30, people=30, columns=attributes())) == CONFIG.towers.id_dropout
    assert dropout(shop(tmp_path / "bare", columns={})) == CONFIG.towers.id_dropout


def test_more_events_earn_towers_more_time_in_steps(tmp_path: Path) -> None:
    # 36 successes: a limit of 0.0005 s is doubled until it holds 60 s a million, 0.00216 s: 0.001, 0.002, 0.004
    config = CONFIG.model_copy(update={"towers": CONFIG.towers.model_copy(update={"seconds": 0.0005})})
    prepared = shop(tmp_path, people=2)
    assert adapted(config, decide(prepared, config)).towers.seconds == 0.004


def test_what_the_shop_states_is_left_alone(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("towers: {dimensions: 64, events: 100}\nsources: {use: [item_knn]}\n")
    config = load_pipeline(own)
    assert config.given == ("towers.dimensions", "towers.events", "sources.use")
    prepared = shop(tmp_path)
    assert not decide(prepared, config)
    assert sources_of(prepared, config) == ["item_knn", "popularity"]
    # what is stated is the same setting whether or not it was: artifacts are not made again
    assert config.sources.fingerprint() == adapted(config, []).sources.fingerprint()
    assert config.fingerprint() == config.model_copy(update={"given": ()}).fingerprint()


def test_an_unknown_source_is_one_line(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("sources: {use: [popularty]}\n")
    with pytest.raises(ConfigError, match=r"unknown source 'popularty'; did you mean 'popularity'"):
        fitted_sources(load_pipeline(own).sources)


def test_decisions_are_recorded_with_their_reasons(tmp_path: Path) -> None:
    facts = recorded(decide(shop(tmp_path), CONFIG))["decisions"]
    assert {"setting", "value", "because"} == set(facts[0])
