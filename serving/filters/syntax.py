r"""The grammar of filter expressions. A text becomes a tree; errors name the character they are at.

    filter = term { "OR" term }
    term   = factor { "AND" factor }
    factor = "NOT" factor | "(" filter ")" | test
    test   = field ( "=" | "!=" | "<" | "<=" | ">" | ">=" ) value
           | field [ "NOT" ] "IN" "(" value { "," value } ")"
           | field [ "NOT" ] "IN" ( "[" | "(" ) value ".." value ( "]" | ")" )
           | field [ "NOT" ] "UNDER" ( text | "(" text { "," text } ")" )
           | field "EXISTS"
    field  = letter or "_", then letters, digits, "_", ".", "-"; any other name in backquotes
    value  = text in single or double quotes (\ escapes) | number | "true" | "false"

Keywords may be of either case. `[a..b)` holds a and not b. `UNDER` takes category paths: "A > B" itself and all below it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass
from functools import lru_cache
from typing import Final, NoReturn

from core.errors import InputError

MAX_BYTES: Final = 4_096
_MAX_DEPTH: Final = 32  # of parentheses and NOTs
_CACHED: Final = 1_024  # parsed expressions
_NO_LIMIT: Final = float("inf")

Value = str | float | bool


class FilterError(InputError):
    """An expression that cannot be used. `at` is the character that it is at, from 1."""

    def __init__(self, what: str, at: int) -> None:
        super().__init__(f"at character {at}: {what}")
        self.at = at


@dataclass(frozen=True)
class OfField:
    """What a field is asked for. `at` is the character of the expression that the field is at, from 1."""

    field: str
    _: KW_ONLY
    at: int


@dataclass(frozen=True)
class Exists(OfField):
    """A field has a value."""


@dataclass(frozen=True)
class OneOf(OfField):
    """A field has one of the values."""

    values: tuple[Value, ...]


@dataclass(frozen=True)
class Between(OfField):
    """A field lies in a range; None: no limit there."""

    low: Value | None
    high: Value | None
    with_low: bool
    with_high: bool


@dataclass(frozen=True)
class Under(OfField):
    """A category path begins with one of the paths."""

    paths: tuple[str, ...]


@dataclass(frozen=True)
class Not:
    """Not that."""

    of: Node


@dataclass(frozen=True)
class All:
    """Every one of them."""

    of: tuple[Node, ...]


@dataclass(frozen=True)
class Some:
    """At least one of them."""

    of: tuple[Node, ...]


Node = OneOf | Between | Under | Exists | Not | All | Some

_TOKEN: Final = re.compile(
    r"""\s*(?:
    (?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
  | (?P<number>-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)
  | (?P<name>[^\W\d][\w.-]*|`[^`]+`)
  | (?P<sign>\.\.|!=|<=|>=|[=<>()\[\],])
)""",
    re.VERBOSE | re.DOTALL,
)
_WORDS: Final = {"AND", "OR", "NOT", "IN", "UNDER", "EXISTS", "TRUE", "FALSE"}


@dataclass(frozen=True)
class _Token:
    kind: str  # text | number | name | sign | word | end
    text: str
    at: int


@lru_cache(_CACHED)
def parse(text: str) -> Node:
    """The tree of an expression.

    Raises:
        FilterError: It is none, is longer than MAX_BYTES, or is nested too deeply.
    """
    if len(text.encode()) > MAX_BYTES:
        raise FilterError(f"has {len(text.encode())} bytes, at most {MAX_BYTES} are allowed", MAX_BYTES)
    return _Parser(text).whole()


def fields(node: Node) -> Iterator[str]:
    """The names of all fields that a tree speaks of."""
    match node:
        case Not(of):
            yield from fields(of)
        case All(of) | Some(of):
            for one in of:
                yield from fields(one)
        case _:
            yield node.field


class _Parser:
    """By recursive descent, a function for each line of the grammar."""

    def __init__(self, text: str) -> None:
        self._tokens = list(_tokens(text))
        self._next, self._depth = 0, 0

    def whole(self) -> Node:
        node = self._any()
        if self._peek.kind != "end":
            self._fail("expected AND, OR or the end")
        return node

    @property
    def _peek(self) -> _Token:
        return self._tokens[self._next]

    def _fail(self, what: str) -> NoReturn:
        token = self._peek
        found = "it ends there" if token.kind == "end" else f"found {token.text[:40]!r}"
        raise FilterError(f"{what}, {found}", token.at)

    def _take(self) -> _Token:
        token = self._peek
        self._next += 1
        return token

    def _taken(self, *texts: str) -> str:
        """The next token, if it is one of these words or signs."""
        token = self._peek
        if token.kind in ("word", "sign") and token.text in texts:
            self._next += 1
            return token.text
        return ""

    def _expect(self, *texts: str) -> str:
        return self._taken(*texts) or self._fail(f"expected {' or '.join(texts)}")

    def _any(self) -> Node:
        found = [self._every()]
        while self._taken("OR"):
            found.append(self._every())
        return found[0] if len(found) == 1 else Some(tuple(found))

    def _every(self) -> Node:
        found = [self._factor()]
        while self._taken("AND"):
            found.append(self._factor())
        return found[0] if len(found) == 1 else All(tuple(found))

    def _factor(self) -> Node:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise FilterError(f"more than {_MAX_DEPTH} levels deep", self._peek.at)
        if self._taken("NOT"):
            node: Node = Not(self._factor())
        elif self._taken("("):
            node = self._any()
            self._expect(")")
        else:
            node = self._test()
        self._depth -= 1
        return node

    def _test(self) -> Node:
        if self._peek.kind != "name":
            self._fail("expected a field, NOT or (")
        field = self._take()
        name, at = field.text.strip("`"), field.at
        negated = bool(self._taken("NOT"))
        word = self._expect("IN", "UNDER") if negated else self._operator()
        if word == "EXISTS":
            return Exists(name, at=at)
        if word == "IN":
            node: Node = self._in(name, at)
        elif word == "UNDER":
            node = Under(name, self._paths(), at=at)
        else:
            node = _compared(name, word, self._value(), at)
        return Not(node) if negated or word == "!=" else node

    def _operator(self) -> str:
        return self._expect("=", "!=", "<", "<=", ">", ">=", "IN", "UNDER", "EXISTS")

    def _in(self, name: str, at: int) -> Node:
        opened = self._expect("(", "[")
        first = self._value()
        if self._taken(".."):
            last = self._value()
            return Between(name, first, last, opened == "[", self._expect("]", ")") == "]", at=at)
        if opened == "[":
            self._fail("expected .. of a range such as [10..20)")
        values = [first]
        while self._taken(","):
            values.append(self._value())
        self._expect(")")
        return OneOf(name, tuple(values), at=at)

    def _paths(self) -> tuple[str, ...]:
        listed = self._taken("(")
        paths = [self._path()]
        while listed and self._taken(","):
            paths.append(self._path())
        if listed:
            self._expect(")")
        return tuple(paths)

    def _path(self) -> str:
        if self._peek.kind != "text":
            self._fail("expected a category path in quotes")
        return str(self._value())

    def _value(self) -> Value:
        token = self._peek
        if token.kind == "text":
            value: Value = re.sub(r"\\(.)", r"\1", token.text[1:-1], flags=re.DOTALL)
        elif token.kind == "number":
            value = float(token.text)
            if abs(value) == _NO_LIMIT:
                self._fail("expected a finite number")
        elif token.text in ("TRUE", "FALSE"):
            value = token.text == "TRUE"
        else:
            self._fail("expected a value: a number, true, false, or a text in quotes")
        self._next += 1
        return value


def _compared(name: str, sign: str, value: Value, at: int) -> Node:
    match sign:
        case "<" | "<=":
            return Between(name, None, value, False, sign == "<=", at=at)
        case ">" | ">=":
            return Between(name, value, None, sign == ">=", False, at=at)
        case _:
            return OneOf(name, (value,), at=at)


def _tokens(text: str) -> Iterator[_Token]:
    at, end = 0, len(text.rstrip())
    while at < end:
        found = _TOKEN.match(text, at)
        if found is None:
            at += len(text[at:]) - len(text[at:].lstrip())
            what = "a text that does not end" if text[at] in "\"'`" else f"unexpected {text[at]!r}"
            raise FilterError(what, at + 1)
        kind = str(found.lastgroup)
        token, at = found[kind], found.end()
        if kind == "name" and token.upper() in _WORDS:
            kind, token = "word", token.upper()
        yield _Token(kind, token, found.start(found.lastgroup or 0) + 1)
    yield _Token("end", "", end + 1)
