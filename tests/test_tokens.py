"""API tokens: what each scope may do, at which time, on which application."""

import random
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenterhook.errors import Forbidden, NotFound, TenterhookError, Unauthenticated
from tenterhook.ids import ALPHABET
from tenterhook.model import Token
from tenterhook.tokens import TokenScope, allows, hash_token, new_token

NOW = 1_700_000_000_000_000


def token(scope: str, app: str | None = None, expires_at: int | None = None, revoked_at: int | None = None) -> Token:
    return Token(id="tok_1", name="n", scope=scope, app=app, created_at=0, expires_at=expires_at, revoked_at=revoked_at)


def verdict(given_token: Token, *, write: bool, app: str | None) -> type[TenterhookError] | None:
    try:
        allows(given_token, write=write, app=app, now=NOW)
    except TenterhookError as refusal:
        return type(refusal)
    return None


# scope, its application; then the verdict on: read all, write all, read app_1, write app_1, read app_2, write app_2
TABLE = [
    ("admin", None, [None, None, None, None, None, None]),
    ("read-only", None, [None, Forbidden, None, Forbidden, None, Forbidden]),
    ("application", "app_1", [Forbidden, Forbidden, None, None, NotFound, NotFound]),
    ("admin", "app_1", [Forbidden, Forbidden, None, None, NotFound, NotFound]),
    ("read-only", "app_1", [Forbidden, Forbidden, None, Forbidden, NotFound, NotFound]),
    ("application", None, [Forbidden, Forbidden, NotFound, NotFound, NotFound, NotFound]),
    ("owner", None, [Forbidden] * 6),
]


@pytest.mark.parametrize(("scope", "app", "expected"), TABLE)
def test_scopes(scope: str, app: str | None, expected: list[type[TenterhookError] | None]) -> None:
    operations = [(on, write) for on in (None, "app_1", "app_2") for write in (False, True)]
    assert [verdict(token(scope, app), write=write, app=on) for on, write in operations] == expected


@given(
    scope=st.sampled_from(TokenScope) | st.text(),
    app=st.none() | st.just("app_1"),
    on=st.none() | st.sampled_from(["app_1", "app_2"]),
    write=st.booleans(),
    end=st.integers(max_value=NOW),
    revoked=st.booleans(),
)
def test_a_dead_token_may_do_nothing(
    scope: str, app: str | None, on: str | None, write: bool, end: int, revoked: bool
) -> None:
    dead = token(scope, app, revoked_at=end) if revoked else token(scope, app, expires_at=end)
    assert verdict(dead, write=write, app=on) is Unauthenticated


def test_a_token_lives_until_its_end() -> None:
    assert verdict(token("admin", expires_at=NOW + 1), write=True, app=None) is None
    assert verdict(token("admin", expires_at=NOW), write=True, app=None) is Unauthenticated
    assert verdict(token("admin", expires_at=NOW + 1, revoked_at=NOW), write=True, app=None) is Unauthenticated


def test_an_operation_open_to_any_token() -> None:
    limited = token("application", "app_1")
    assert verdict(limited, write=False, app=limited.app) is None


def test_a_new_token() -> None:
    text = new_token(random.Random(3))
    assert text.startswith("thk_")
    assert len(text) == 44
    assert set(text.removeprefix("thk_")) <= set(ALPHABET)
    assert text != new_token(random.Random(4))
    assert len({new_token(random.SystemRandom()) for _ in range(100)}) == 100


def test_every_character_is_used() -> None:
    source = random.Random(5)
    assert set("".join(new_token(source)[4:] for _ in range(100))) == set(ALPHABET)


@given(st.text())
def test_what_is_stored(text: str) -> None:
    assert len(hash_token(text)) == 32
    if text.isascii():
        assert hash_token(text) == sha256(text.encode("ascii")).digest()


def test_stored_forms_differ() -> None:
    assert hash_token("thk_a") != hash_token("thk_b")
    assert hash_token("\ud800")  # a header may hold anything
