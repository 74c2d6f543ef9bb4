"""Messages of an endpoint over the API: what it was to get, and how that stands."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tenterhook.clock import HOUR, to_rfc3339
from tests.api import OK, REFUSED, Server, running

STANDS = {0: "success", 1: "pending", 2: "fail", 3: "sending", 4: "canceled"}


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with running(tmp_path, retry_schedule=(HOUR,)) as server:
        await server.app(uid="acme")
        yield server


@pytest.fixture
async def messages(server: Server) -> dict[int, str]:
    """One message for each way to stand at the endpoint `hook`, by status; what is not tried yet waits in a line."""
    await server.endpoint("acme", uid="hook", ordered=True)
    made = {}
    for status, outcomes in ((0, [OK]), (2, [REFUSED]), (4, [REFUSED]), (3, [REFUSED])):
        server.recorder.outcomes = outcomes
        before = len(server.watch.attempts)
        made[status] = await server.message("acme", orderingKey=f"k{status}", tags=[f"t{status}"])
        await server.watch.settled(before + 1)
    made[1] = await server.message("acme", orderingKey="k3", channels=["x"])
    await server.patch("/app/acme/endpoint/hook", {"retrySchedule": []})
    before = len(server.watch.attempts)
    assert (await server.post(f"/app/acme/msg/{made[2]}/endpoint/hook/cancel")).status == 204
    assert (await server.post(f"/app/acme/msg/{made[2]}/endpoint/hook/resend")).status == 202
    await server.watch.settled(before + 1)
    assert (await server.post(f"/app/acme/msg/{made[4]}/endpoint/hook/cancel")).status == 204
    return made


async def listed(server: Server, query: str = "") -> list[Any]:
    answer = await server.get(f"/app/acme/endpoint/hook/msg?expanded_statuses=true&{query}")
    assert answer.status == 200, answer
    data: list[Any] = answer.json["data"]
    return data


async def test_how_messages_stand(server: Server, messages: dict[int, str]) -> None:
    shown = {one["id"]: one for one in await listed(server)}
    assert list(shown) == sorted(messages.values(), reverse=True)
    for status, message in messages.items():
        one = shown[message]
        assert (one["status"], one["statusText"]) == (status, STANDS[status])
        assert one.items() >= (await server.get(f"/app/acme/msg/{message}")).json.items()
        assert (one["nextAttempt"] is not None) == (status == 3)
        (destination,) = (await server.get(f"/app/acme/msg/{message}/endpoint")).json["data"]
        assert [destination[key] for key in ("status", "nextAttempt")] == [one["status"], one["nextAttempt"]]


@pytest.mark.parametrize("status", STANDS)
async def test_by_status(server: Server, messages: dict[int, str], status: int) -> None:
    assert [one["id"] for one in await listed(server, f"status={status}")] == [messages[status]]


async def test_clients_that_know_three_statuses(server: Server, messages: dict[int, str]) -> None:
    page = (await server.get("/app/acme/endpoint/hook/msg")).json["data"]
    shown = {one["id"]: (one["status"], one["statusText"]) for one in page}
    old = {0: (0, "success"), 1: (1, "pending"), 2: (2, "fail"), 3: (1, "pending"), 4: (2, "fail")}
    assert shown == {message: old[status] for status, message in messages.items()}
    for asked, expected in ((0, {0}), (1, {1, 3}), (2, {2, 4}), (3, {3}), (4, {4})):
        page = (await server.get(f"/app/acme/endpoint/hook/msg?status={asked}")).json["data"]
        assert {one["id"] for one in page} == {messages[status] for status in expected}


async def test_other_filters(server: Server, messages: dict[int, str]) -> None:
    assert [one["id"] for one in await listed(server, "channel=x")] == [messages[1]]
    assert [one["id"] for one in await listed(server, "tag=t4")] == [messages[4]]
    assert await listed(server, "event_types=other") == []
    assert len(await listed(server, "event_types=other,invoice.paid")) == 5
    (bare,) = await listed(server, "tag=t0&with_content=false")
    assert bare["payload"] == {}
    now = server.node.clock.now()
    assert len(await listed(server, f"after={to_rfc3339(now - HOUR)}&before={to_rfc3339(now + HOUR)}")) == 5
    assert await listed(server, f"before={to_rfc3339(now - HOUR)}") == []


async def test_only_what_the_endpoint_was_to_get(server: Server, messages: dict[int, str]) -> None:
    await server.endpoint("acme", uid="other")
    assert (await server.get("/app/acme/endpoint/other/msg")).json == {"data": [], "iterator": None, "done": True}
    assert (await server.get("/app/acme/endpoint/hook/msg?status=9")).status == 422
    assert (await server.get("/app/acme/endpoint/hook/msg?iterator=ep_1")).status == 422
