"""Attribution tokens: what is made is read again, and whatever comes is read without an error."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.attribution import MAX_TOKEN_BYTES, Attribution, GivenArm, read_token, token_of

NAMES = st.from_regex(r"[a-z0-9][a-z0-9-]{0,63}", fullmatch=True)
ARMS = st.lists(st.builds(GivenArm, NAMES, NAMES, st.integers(0, 10**9)), max_size=20)


@given(st.from_regex(r"[0-9T]{1,15}-[0-9a-f]{8}", fullmatch=True), st.text(max_size=64), ARMS)
def test_what_is_made_is_read(release: str, request_id: str, arms: list[GivenArm]) -> None:
    token = token_of(release, request_id, arms)
    assert read_token(token) == Attribution(release, request_id, tuple(arms))


@given(st.text(max_size=200))
def test_anything_is_read(token: str) -> None:
    assert len(read_token(token).release) <= len(token)


@pytest.mark.parametrize(
    ("token", "release", "request_id"),
    [
        ("r1.q7", "r1", "q7"),
        ("r1.q~7.x", "r1", "q~7.x"),  # from before there were arms, with a request id that looks like some
        ("r1.a=b@1~c", "r1", "a=b@1~c"),
        ("", "", ""),
        ("nothing", "nothing", ""),
        ("order=b@x~r1.q7", "order=b@x~r1", "q7"),
        ("order=b@-1~r1.q7", "order=b@-1~r1", "q7"),
    ],
)
def test_a_token_without_arms(token: str, release: str, request_id: str) -> None:
    assert read_token(token) == Attribution(release, request_id)


def test_the_longest_token_fits_and_keeps_the_arms_of_bandits() -> None:
    # 20 x (64 + 1 + 64 + 1 + 10) + 19 commas + ~ + 32 + . + 256 = 3,109 bytes
    arms = [GivenArm(f"{n:064}", "a" * 64, 0) for n in range(25)] + [GivenArm("b" * 64, "c" * 64, 10**9)]
    token = token_of("r" * 32, "q" * 256, arms)
    assert len(token) <= MAX_TOKEN_BYTES
    read = read_token(token).arms
    assert read == (arms[-1], *arms[:19])
