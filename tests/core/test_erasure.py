"""Who is forgotten where: verdicts on rows, words in texts, JSON without somebody."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.erasure import Forgotten, Verdict

ANN = Forgotten.of([("ann-1234", "web-1234")])
ids = st.text(min_size=1, max_size=12)


@given(ids, ids, st.sampled_from(["", "someone else"]), st.sampled_from(["", "another browser"]))
def test_a_row_goes_with_its_person_and_only_loses_a_visitor_that_was_anothers(
    user: str, visitor: str, other: str, browser: str
) -> None:
    gone = Forgotten.of([(user, visitor)])
    assert gone.verdict(user, browser) is Verdict.DROP
    assert gone.verdict("", visitor) is Verdict.DROP
    # of another user: theirs, whatever browser they used; with no user at all it is the visitor's
    assert gone.verdict("someone else", visitor) is Verdict.BLANK
    assert gone.verdict(other, browser) is Verdict.KEEP


def test_a_user_and_a_visitor_with_one_id_are_two_people() -> None:
    assert Forgotten.of([("7", "")]).verdict("", "7") is Verdict.KEEP
    assert Forgotten.of([("", "7")]).verdict("7", "") is Verdict.KEEP


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("ann-1234", True),
        ("u:ann-1234", True),
        ("the cart of ann-1234.", True),
        ('{"user":"ann-1234"}', True),
        ("a,ann-1234,b", True),
        ("ann-12345", False),
        ("joann-1234", False),
        ("ann-1234.de", False),  # another id, as e-mail addresses and host names are
        ("x.ann-1234", False),
        ("ann-123", False),
        ("éann-1234", False),
        ("joann-1234 and ann-1234", True),
    ],
)
def test_an_id_is_found_as_a_word_of_its_own(text: str, named: bool) -> None:
    assert ANN.names_any(text) is named
    assert ANN.occurs_in(text.encode()) is named


def test_short_ids_are_looked_for_in_columns_of_ids_alone() -> None:
    gone = Forgotten.of([("7", "")])
    assert gone.short == ["7"]
    assert gone.tokens == []
    assert gone.names_any("7", "user_id")
    assert gone.names_any("u:7", "person")
    assert not gone.names_any("7", "quantity")
    assert gone.occurs_in(b"7,tea", short=True)


@given(ids)
def test_an_id_is_found_however_json_writes_it(user: str) -> None:
    gone = Forgotten.of([(user, "")])
    for ascii_only in (True, False):
        document = json.dumps({"user_id": user}, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
        assert any(form in document for form in gone.forms)


def test_a_row_of_another_loses_the_cells_that_name_the_forgotten() -> None:
    row = {"user_id": "bob", "visitor_id": "web-1234", "query": "gift for ann-1234", "item_id": "ann-1234", "n": 3}
    assert ANN.verdict_of(row) is Verdict.BLANK
    # an item may be called as a person is
    assert ANN.blanked(row) == {"user_id": "bob", "item_id": "ann-1234", "n": 3}
    assert ANN.verdict_of({"user_id": "bob", "labels": {"who": "ann-1234"}}) is Verdict.BLANK
    assert ANN.verdict_of({"user_id": "bob", "item_id": "ann-1234", "visitor_id": None}) is Verdict.KEEP


def test_json_is_scrubbed_of_values_and_of_keys() -> None:
    facts = {"min": "ann-1234", "max": "zoe", "by": {"u:ann-1234": 3, "u:zoe": 1}, "list": ["ann-1234", 1, None]}
    assert ANN.scrubbed(facts) == {"min": None, "max": "zoe", "by": {"u:zoe": 1}, "list": [None, 1, None]}
