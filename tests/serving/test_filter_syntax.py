"""The grammar of filters: what binds how, and the character that each error names."""

from __future__ import annotations

import pytest

from serving.filters.syntax import (
    All,
    Between,
    Exists,
    FilterError,
    Node,
    Not,
    OneOf,
    Some,
    Under,
    fields,
    parse,
)


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("brand = 'Acme'", OneOf("brand", ("Acme",), at=1)),
        ('brand="A\\"b\\\\"', OneOf("brand", ('A"b\\',), at=1)),
        ("brand != 'a'", Not(OneOf("brand", ("a",), at=1))),
        ("price<=1.5e1", Between("price", None, 15.0, False, True, at=1)),
        (" price > -2 ", Between("price", -2.0, None, False, False, at=2)),
        ("price in [10..20)", Between("price", 10.0, 20.0, True, False, at=1)),
        ("price NOT IN (10..20]", Not(Between("price", 10.0, 20.0, False, True, at=1))),
        ("size IN (1, 2.5)", OneOf("size", (1.0, 2.5), at=1)),
        ("available = true", OneOf("available", (True,), at=1)),
        ("category UNDER 'A > B'", Under("category", ("A > B",), at=1)),
        ("category under ('A', 'B')", Under("category", ("A", "B"), at=1)),
        ("stock EXISTS", Exists("stock", at=1)),
        ("`odd name` = 'x'", OneOf("odd name", ("x",), at=1)),
        ("attribute.colour = 'x'", OneOf("attribute.colour", ("x",), at=1)),
    ],
)
def test_tests(text: str, tree: Node) -> None:
    assert parse(text) == tree


def test_not_binds_before_and_before_or() -> None:
    a, b, c = (OneOf(name, (1.0,), at=at) for name, at in (("a", 5), ("b", 15), ("c", 25)))
    #     1234567890123456789012345678
    assert parse("NOT a=1  AND  b = 1  OR c=1") == Some((All((Not(a), b)), c))
    assert parse("a=1 OR b=1 AND c=1") == Some(
        (OneOf("a", (1.0,), at=1), All((OneOf("b", (1.0,), at=8), OneOf("c", (1.0,), at=16))))
    )
    assert parse("(a=1 OR b=1) AND NOT (c=1)").of[0] == Some((OneOf("a", (1.0,), at=2), OneOf("b", (1.0,), at=9)))  # type: ignore[union-attr,index]


def test_fields() -> None:
    assert list(fields(parse("NOT a = 1 AND (b EXISTS OR c UNDER 'x')"))) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("text", "at", "says"),
    [
        ("", 1, "expected a field, NOT or (, it ends there"),
        ("brand", 6, "expected = or != or"),
        ("brand = ", 8, "expected a value"),
        ("brand = Acme", 9, "a text in quotes, found 'Acme'"),
        ("brand = 'Acme", 9, "a text that does not end"),
        ("price = 1 AND", 14, "expected a field"),
        ("price = 1 price = 2", 11, "expected AND, OR or the end, found 'price'"),
        ("(price = 1", 11, "expected ), it ends there"),
        ("price = 1)", 10, "expected AND, OR or the end, found ')'"),
        ("price IN [1, 2]", 12, "expected .. of a range"),
        ("price IN (1 2)", 13, "expected )"),
        ("price ~ 1", 7, "unexpected '~'"),
        ("price NOT = 1", 11, "expected IN or UNDER, found '='"),
        ("category UNDER 3", 16, "expected a category path in quotes"),
        ("price = 1e999", 9, "expected a finite number"),
        ("NOT " * 40 + "a = 1", 129, "more than 32 levels deep"),
        ("(" * 40 + "a = 1" + ")" * 40, 33, "more than 32 levels deep"),
        ("a = '" + "x" * 5000 + "'", 4096, "has 5006 bytes, at most 4096"),
    ],
)
def test_errors_name_the_character(text: str, at: int, says: str) -> None:
    with pytest.raises(FilterError) as refused:
        parse(text)
    assert refused.value.at == at, refused.value
    assert says in str(refused.value)
