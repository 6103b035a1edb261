"""Experiment files: what fits, and the line that each mistake prints."""

# bazel: data=[//configs:all_files]

from __future__ import annotations

from pathlib import Path

import pytest

from core.errors import ConfigError, NotFoundError
from experiments.assign import shadowed
from experiments.config import Experiment
from experiments.files import STOPPED, load_experiments, read_experiment, stopped, switch_of

GOOD = """\
name: order
owner: ann
hypothesis: h
arms:
  a: {}
  b:
    settings: {ranker: "off"}
control: a
primary: {name: buys, events: [purchase-complete]}
"""


def write(folder: Path, text: str, name: str = "order") -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(text)
    return path


def test_the_example_of_the_configuration_fits_and_is_off() -> None:
    (example,) = load_experiments(Path(__file__).parents[2] / "configs" / "experiments")
    found = example.experiment
    assert not found.runs(0)
    assert found.weights == {"usual": 0.5, "different": 0.5}
    assert found.part == (0.0, 0.5)
    since, until = found.in_force  # Berlin is an hour ahead of UTC in January
    assert (since, until) == (1798758000e6, 1801436400e6)
    assert [found.share(at) for at in (since, 1799045999e6, 1799046000e6)] == [0.1, 0.1, 0.5]
    assert found.is_at("home", "t")
    assert not found.is_at("cart", "t")
    assert found.wants({"country": "AT"})
    assert not found.wants({"country": "FR"})
    assert not found.wants({})


@pytest.mark.parametrize(
    ("change", "line", "said"),
    [
        (("owner: ann", "ownr: ann"), 2, "unknown key 'ownr'; did you mean 'owner'"),
        (("owner: ann\n", ""), 1, "missing key 'owner'"),
        (('ranker: "off"', "ranks: off"), 7, "unknown key 'arms.b.settings.ranks'; did you mean 'ranker'"),
        (("control: a", "control: c"), 1, "control: no arm 'c'; the arms are a, b"),
        (("  a: {}", "  holdout: {}"), 1, "'holdout' is the name of what is held out"),
        (("[purchase-complete]", "[buys]"), 9, "primary.events.1"),
        (("control: a", "control: a\ntraffic: {first: 0.7, share: 0.4}"), 1, "0.7 + 0.4 is more than the whole layer"),
        (("control: a", "control: a\ntraffic: {share: 1.2}"), 9, "less than or equal to 1 (got 1.2)"),
        (("control: a", "control: a\nallocation: {policy: ucb}"), 1, "only `unit: session` may be"),
        (("control: a", "control: a\nend: 2026-01-01\nstart: 2026-02-01"), 1, "is not after start"),
        (("control: a", "control: a\nstart: soon"), 9, "start: not a time"),
        (("name: order", "name: other"), 1, "is not that of the file"),
        (
            ("control: a", "control: a\ntraffic: {share: 0.5, ramp: [{at: 2026-01-01, share: 0.2}]}"),
            1,
            "a share that falls",
        ),
        (("control: a", "control: a\nforced: {u1: c}"), 1, "forced.u1: no arm 'c'"),
        (("primary: {name: buys", "primary: {kind: ratio, name: buys"), 9, "`per` is for kind ratio"),
        (("  a: {}", "  a: {}\n  s: {shadow: 0.1}"), 6, "the arm answers as ever; name a release or settings"),
        (("  a: {}", "  a: {}\n  s: {release: r, shadow: 0.1, weight: 2}"), 6, "nobody is answered by a shadow"),
        (("  a: {}", "  a: {release: r, shadow: 0.1}"), 1, "control: nobody is answered by 'a', which is a shadow"),
        (("control: a", "control: a\nunit: session\nwatch: {}\nallocation: {policy: ucb}"), 1, "watch: needs"),
        (("control: a", "control: a\nwatch: {slow_ms: 0}"), 9, "watch.slow_ms"),
        (('ranker: "off"', 'ruler: "off"'), 7, "unknown key 'arms.b.settings.ruler'"),
        (("  a: {}", "  a: {weight: 1.0e+308}"), 5, "arms.a.weight"),
        (("control: a", "control: a\nholdout: 1"), 9, "holdout: Input should be less than 1"),
        (("control: a", "control: a\nattribution_hours: 1.0e+300"), 9, "attribution_hours"),
        (
            ("control: a", "control: a\nguardrails: [{name: buys, events: [purchase-complete], kind: count}]"),
            1,
            "metric 'buys' is there twice and counts two things",
        ),
        (
            ("control: a", "control: a\nsecondary: [{name: c, events: [click]}, {name: c, events: [click]}]"),
            1,
            "secondary: 'c' is there twice",
        ),
        (
            ('  b:\n    settings: {ranker: "off"}\n', "  b: {release: r}\nunit: session\nallocation: {policy: ucb}\n"),
            1,
            "arms.b: a release and a shadow",
        ),
    ],
)
def test_a_mistake_is_one_line_with_its_place(tmp_path: Path, change: tuple[str, str], line: int, said: str) -> None:
    path = write(tmp_path, GOOD.replace(*change))
    with pytest.raises(ConfigError) as refused:
        load_experiments(tmp_path)
    text = str(refused.value)
    assert text.startswith(f"{path}:{line}: ")
    assert said in text
    assert "\n" not in text


def test_experiments_of_a_layer_exclude_each_other(tmp_path: Path) -> None:
    first = "control: a\ntraffic: {share: 0.5}"
    write(tmp_path, GOOD.replace("control: a", first))
    text = GOOD.replace("name: order", "name: second")
    second = write(tmp_path, text.replace("control: a", "control: a\ntraffic: {first: 0.4, share: 0.5}"), "second")
    with pytest.raises(
        ConfigError, match=r"second.yaml:9: takes 0.4 to 0.9 of layer 'default', of which 'order' has 0 to 0.5"
    ):
        load_experiments(tmp_path)
    write(
        tmp_path, GOOD.replace("control: a", "control: a\ntraffic: {first: 0.4, share: 0.2}")
    )  # ends at 0.6000000000000001
    for fits in ("traffic: {first: 0.6, share: 0.4}", "layer: other", "enabled: false"):
        second.write_text(text.replace("control: a", f"control: a\n{fits}"))
        assert len(load_experiments(tmp_path)) == 2


def test_a_shadow_takes_nobody_from_the_arms_that_answer(tmp_path: Path) -> None:
    write(tmp_path, GOOD.replace("  a: {}", "  a: {weight: 3}\n  s: {release: r, shadow: 0.25}"))
    (found,) = load_experiments(tmp_path)
    experiment = found.experiment
    assert (experiment.served, experiment.shadows) == (("a", "b"), {"s": 0.25})
    assert experiment.weights == {"a": 0.75, "b": 0.25}
    of = [shadowed(experiment, f"u{n}") for n in range(4_000)]
    assert set(of) == {(), ("s",)}
    # 1,000 expected, a standard error of sqrt(4,000 x .25 x .75) = 27
    assert abs(sum(map(len, of)) - 1_000) < 4 * 27


def test_the_kill_switch_is_a_file_beside_it(tmp_path: Path) -> None:
    write(tmp_path, GOOD)
    assert stopped(tmp_path) == frozenset()
    (tmp_path / f"order{STOPPED}").touch()
    assert stopped(tmp_path) == {"order"}
    with pytest.raises(OSError, match="No such file"):
        stopped(tmp_path / "gone")  # not "nothing is stopped"
    write(tmp_path, "name: [half written", "other")
    assert switch_of(tmp_path, "order") == tmp_path / f"order{STOPPED}"
    with pytest.raises(NotFoundError, match=r"no experiment 'ordre' in .*; did you mean 'order'"):
        switch_of(tmp_path, "ordre")
    with pytest.raises(NotFoundError, match="no such folder of experiments"):
        switch_of(tmp_path / "gone", "order")


def test_a_metric_may_be_a_goal_and_a_guardrail(tmp_path: Path) -> None:
    guard = "guardrails: [{name: buys, events: [purchase-complete], most_lost: 0.1}]"
    write(tmp_path, GOOD.replace("control: a", f"control: a\n{guard}"))
    assert len(load_experiments(tmp_path)) == 1


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    write(tmp_path, GOOD)
    (tmp_path / "order.yml").write_text(GOOD.replace("control: a", "layer: other\ncontrol: a"))
    with pytest.raises(ConfigError, match=r"order.yml:1: name 'order' is that of order.yaml too"):
        load_experiments(tmp_path)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no such folder of experiments"):
        load_experiments(tmp_path / "gone")
    with pytest.raises(ConfigError, match=r"gone.yaml: cannot be read: No such file or directory"):
        read_experiment(tmp_path / "gone.yaml")


def test_defaults() -> None:
    values = {"name": "n", "owner": "o", "hypothesis": "h", "arms": {"a": {}, "b": {"weight": 3}}, "control": "a"}
    found = Experiment.model_validate(values | {"primary": {"name": "m", "events": ["click"]}})
    assert found.weights == {"a": 0.25, "b": 0.75}
    assert found.runs(0)
    assert found.is_at("anything", "t")
    assert found.wants({})
