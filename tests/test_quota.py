"""How many requests a token may make."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenterhook.api.quota import Counter, Quotas
from tenterhook.clock import SECOND
from tenterhook.errors import TooManyRequests
from tenterhook.model import Token
from tests.api import running

START = 1_800_000_000 * SECOND
VISITOR = Token(id="tok_v", name="v", scope="application", app="app_1", created_at=0)
OPERATOR = Token(id="tok_o", name="o", scope="admin", created_at=0)


class Hand:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.at = START

    def now(self) -> int:
        return self.at


def allowed(counter: Counter, token: Token) -> bool:
    try:
        counter.take(token)
    except TooManyRequests:
        return False
    return True


@given(rate=st.integers(1, 50), waits=st.lists(st.integers(0, SECOND // 4), max_size=300))
def test_no_second_has_more_than_a_burst_and_what_flows_in(rate: int, waits: list[int]) -> None:
    clock = Hand()
    counter = Counter(Quotas(0, rate), clock)
    taken = []
    for wait in waits:
        clock.at += wait
        if allowed(counter, VISITOR):
            taken.append(clock.at)
    for first in range(len(taken)):
        within = [at for at in taken if taken[first] <= at < taken[first] + SECOND]
        assert len(within) <= 2 * rate
    # who waits as long as it is told is let in
    while allowed(counter, VISITOR):
        pass
    with pytest.raises(TooManyRequests) as refused:
        counter.take(VISITOR)
    clock.at += refused.value.wait
    assert allowed(counter, VISITOR)


def test_tokens_are_counted_apart_and_by_kind() -> None:
    counter = Counter(Quotas(0, 2), Hand())
    other = Token(id="tok_w", name="w", scope="application", app="app_1", created_at=0)
    assert [allowed(counter, token) for token in (VISITOR, VISITOR, VISITOR, other)] == [True, True, False, True]
    assert all(allowed(counter, OPERATOR) for _ in range(100))
    assert counter.take(OPERATOR) == ()


async def test_answers_say_how_much_is_left(tmp_path: Path) -> None:
    async with running(tmp_path, clock=Hand(), application_rate=3) as server:
        app = await server.app()
        token = await server.token("application", app)
        answers = [await server.call("GET", f"/app/{app}", token=token) for _ in range(5)]
        statuses = [answer.status for answer in answers]
        assert statuses == [200, 200, 200, 429, 429]
        assert [a.headers["ratelimit-remaining"] for a in answers[:3]] == ["2", "1", "0"]
        refused = answers[3]
        assert refused.json["code"] == "rate_limited"
        assert (refused.headers["ratelimit-limit"], refused.headers["ratelimit-remaining"]) == ("3", "0")
        assert refused.headers["retry-after"] == "1"
        assert (await server.get(f"/app/{app}")).status == 200
