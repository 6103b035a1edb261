"""Rule files: what is read, in which order, and the one line that a broken file ends in."""

# bazel: data=[//configs:all_files]

from __future__ import annotations

import math
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from core.errors import AisleError, ConfigError, NotFoundError
from core.marked import signature
from serving.rules.bound import UnknownItem, check_fit
from serving.rules.load import load_rules
from serving.rules.schema import Cap, Pin
from tests.serving.ruled_shop import NOW, rules_of, shop_of

EXAMPLES = Path(__file__).parent.parent.parent / "configs" / "rules"

BROKEN = [
    ("rules:\n  - name: a\n   kind: pin\n", 3, "not valid YAML"),
    ("rules:\n  - {name: a, kind: hide, where: \"brand = 'x'\"}\nruls: []\n", 3, "unknown key 'ruls'; did you mean 'rules'?"),
    ("- name: a\n", 1, "holds a list, expected a mapping with the key 'rules'"),
    ("rules:\n  name: a\n  kind: pin\n", 1, "'rules' holds a mapping, expected a list of rules"),
    ("rules:\n  - name: a\n    kind: hid\n    where: x\n", 3, "rule 'a': unknown kind 'hid'; did you mean 'hide'?"),
    ("rules:\n  - name: a\n    where: x\n", 2, "rule 'a': missing key 'kind'; one of: hide, include"),
    ("rules:\n  - name: a\n    kind: pin\n    item: x\n    at: 1\n    placment: [home]\n", 6, "unknown key 'placment'; did you mean 'placements'?"),
    ("rules:\n  - name: a\n    kind: pin\n    item: x\n", 2, "rule 'a': missing key 'at'"),
    ("rules:\n  - name: a\n    kind: pin\n    item: x\n    at: 0\n", 5, "at: Input should be greater than or equal to 1 (got 0)"),
    ("rules:\n  - name: a\n    kind: pin\n    item: 123\n    at: 1\n", 4, "item: expected a text; write it in quotes (got 123)"),
    ("rules:\n  - name: a\n    kind: hide\n    where: >\n      brand =\n      Acme\n", 4, "where: at character 9: expected a value"),
    ("rules:\n  - {name: a, kind: pin, item: x, at: 1}\n  - name: a\n    kind: pin\n    item: y\n    at: 2\n", 3, "name 'a' is taken by rules.yaml:2"),
    ("rules:\n  - name: a\n    kind: pin\n    item: x\n    item: y\n    at: 2\n", 5, "key 'item' is there twice, first in line 4"),
    ("rules:\n  - name: a\n    kind: pin\n    item: x\n    at: 1\n    time_zone: Europe/Berln\n", 6, "unknown time zone"),
    ("rules:\n  - name: a\n    kind: pin\n    item: x\n    at: 1\n    from: soon\n", 6, "from: not a time; expected such as 2026-11-27"),
    ("rules:\n  - name: a\n    kind: pin\n    item: x\n    at: 1\n    from: 2026-12-01\n    until: 2026-12-01\n", 2, "is not after from 2026-12-01"),
    ("rules:\n  - name: a\n    kind: cap\n    by: brand\n    most: 2\n    share: 0.5\n", 2, "a cap needs either `most` or `share`"),
    ("rules:\n  - name: a\n    kind: boost\n    where: price < 3\n    places: none\n", 5, "places: expected a number of places above 0, or `all` (got 'none')"),
    ("rules:\n  - name: a\n    kind: sponsor\n    share: 0.2\n", 2, "either `where` or `items`"),
    ("rules:\n  - name: a\n    kind: diversify\n    level: 0.3\n    by: colour\n", 5, "by: Input should be 'vectors' or 'category'"),
    ("rules:\n  - just a text\n", 2, "holds a text, expected a rule"),
    ("x: &a [*a]\n", 1, "anchors and aliases"),
    ("rules:\n  - name: a b\n    kind: pin\n    item: x\n    at: 1\n", 2, "name: String should match pattern"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "line", "says"), BROKEN)
def test_a_broken_file_ends_in_one_line_with_its_place(tmp_path: Path, text: str, line: int, says: str) -> None:
    with pytest.raises(ConfigError) as refused:
        rules_of(tmp_path, text)
    message = str(refused.value)
    assert message.startswith(f"{tmp_path / 'rules.yaml'}:{line}: "), message
    assert says in message
    assert "\n" not in message
    assert refused.value.exit_code == 2


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ("kind: hide, where: bran = 'x'", "unknown field 'bran'; did you mean 'brand'?"),
        ("kind: boost, where: price = 'x', places: 3", "field 'price' holds numbers"),
        ("kind: cap, by: size, most: 2", "no text field 'size'"),
        ("kind: diversify, by: vectors, level: 0.5", "the release has no item vectors"),
    ],
)
def test_what_the_release_cannot_follow_names_the_rule(tmp_path: Path, rule: str, says: str) -> None:
    rules = rules_of(tmp_path, f"rules:\n  - {{name: a, {rule.replace(chr(39), chr(34))}}}\n")
    with pytest.raises(AisleError) as refused:
        check_fit(rules.rules, shop_of([{"item_id": "x"}]).release, NOW, tmp_path)
    assert str(refused.value).startswith(f"{tmp_path / 'rules.yaml'}:2: rule 'a': ")
    assert says in str(refused.value)


def test_an_unknown_item_is_a_warning(tmp_path: Path) -> None:
    rules = rules_of(tmp_path, "rules:\n  - {name: a, kind: pin, item: gone, at: 1}\n")
    [problem] = check_fit(rules.rules, shop_of([{"item_id": "x"}]).release, NOW, tmp_path)
    assert isinstance(problem.error, UnknownItem)
    assert str(problem) == "rules.yaml:2: rule 'a' is off: the release does not know item 'gone'"


def test_the_order_is_priority_then_file_then_line(tmp_path: Path) -> None:
    def pin(name: str, priority: int) -> str:
        return f"  - {{name: {name}, kind: pin, item: x, at: 1, priority: {priority}}}\n"

    (tmp_path / "b.yaml").write_text("rules:\n" + pin("b1", 0) + pin("b2", 7))
    (tmp_path / "a.yml").write_text("rules:\n" + pin("a1", 0) + pin("a2", -1) + pin("a3", 0))
    (tmp_path / "empty.yaml").write_text("# nothing yet\n")
    (tmp_path / ".hidden.yaml").write_text("broken: [")
    (tmp_path / "notes.txt").write_text("broken: [")
    found = load_rules(tmp_path)
    assert [r.name for r in found.rules] == ["b2", "a1", "a3", "b1", "a2"]
    assert (found.files, found.rules[0].place) == (3, "b.yaml:3")
    with pytest.raises(NotFoundError, match="no such folder"):
        load_rules(tmp_path / "nowhere")


def test_the_id_is_of_what_the_rules_say(tmp_path: Path) -> None:
    text = "rules:\n  - {name: a, kind: pin, item: x, at: 1}\n"
    before, seen = rules_of(tmp_path, text), signature(tmp_path)
    again = rules_of(tmp_path, "# a comment\n" + text)
    assert again.id == before.id
    assert signature(tmp_path) != seen
    assert rules_of(tmp_path, text.replace("at: 1", "at: 2")).id != before.id
    assert rules_of(tmp_path, "rules: []").id == ""


def test_windows_are_in_the_time_of_the_shop(tmp_path: Path) -> None:
    text = """
rules:
  - name: friday
    kind: pin
    item: x
    at: 1
    from: 2026-11-27 08:00
    until: 2026-11-28
    time_zone: Europe/Berlin
    placements: [home, product-*]
  - {name: other, kind: pin, item: x, at: 2, from: "2026-11-27T08:00+02:00", time_zone: America/New_York}
  - {name: summer, kind: pin, item: x, at: 3, from: 2026-07-01, time_zone: Europe/Berlin}
  - {name: "off", kind: pin, item: x, at: 4, enabled: false}
"""
    friday, other, summer, off = rules_of(tmp_path, text).rules

    def berlin(*moment: int) -> float:
        return datetime(*moment, tzinfo=ZoneInfo("Europe/Berlin")).timestamp() * 1e6  # type: ignore[arg-type,misc]

    # winter: one hour ahead of UTC, 07:00Z; 1_795_762_800 = 2026-11-27T07:00:00Z
    assert (friday.since, friday.until) == (1_795_762_800e6, berlin(2026, 11, 28))
    assert friday.holds("home", int(friday.since))
    assert friday.holds("product-7", int(friday.until) - 1)
    assert not friday.holds("home", int(friday.since) - 1)
    assert not friday.holds("home", int(friday.until))
    assert not friday.holds("cart", int(friday.since))
    assert (other.since, other.until) == (1_795_762_800e6 - 3_600e6, math.inf)  # what it says itself wins over the zone
    assert summer.since == 1_782_856_800e6  # 2026-06-30T22:00:00Z: two hours ahead
    assert not off.holds("home", NOW)


def test_every_example_is_read_and_none_is_in_force() -> None:
    """They are for copying: each rule of each file is switched off, and all kinds but for what needs a release are shown."""
    found = load_rules(EXAMPLES)
    assert found.files >= 4
    assert not any(rule.spec.enabled for rule in found.rules)


def test_a_share_is_rounded_down_but_to_one_at_least() -> None:
    def cap(**keys: float) -> Cap:
        return Cap(name="a", kind="cap", by="brand", **keys)  # type: ignore[arg-type]

    assert cap(share=0.3).allowed(10) == (3, 10)
    assert cap(share=0.3).allowed(9) == (2, 9)  # 2.7
    assert cap(share=0.1).allowed(5) == (1, 5)
    assert cap(share=0.5, window=4).allowed(10) == (2, 4)
    assert cap(most=3, window=20).allowed(10) == (3, 10)
    assert Pin(name="a", kind="pin", item="x", at=3).in_force == (-math.inf, math.inf)
