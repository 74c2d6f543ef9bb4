"""Background tasks over REST: beginning them, asking for them, what comes of them."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tenterhook.clock import DAY, HOUR, to_rfc3339
from tests.api import Server, running


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with running(tmp_path) as server:
        yield server


def window(server: Server, since: int = HOUR, until: int = 0) -> dict[str, str]:
    now = server.node.clock.now()
    return {"since": to_rfc3339(now - since), "until": to_rfc3339(now - until)}


async def test_a_task_is_begun_runs_and_can_be_looked_up(server: Server) -> None:
    app = await server.app(uid="acme")
    await server.endpoint(app)
    begun = await server.put("/stats/usage/event-types")
    assert begun.status == 202
    assert set(begun.json) == {"id", "status", "task", "updatedAt"}
    assert (begun.json["status"], begun.json["task"]) == ("running", "event-type.aggregate")
    ended = await server.watch.ended(begun.json["id"])
    shown = await server.get(f"/background-task/{ended.id}")
    assert shown.json == {
        "id": ended.id, "status": "finished", "task": "event-type.aggregate", "updatedAt": to_rfc3339(ended.updated_at),
        "data": {"event_types": [{"appId": app, "explicitlySubscribedEventTypes": [], "hasCatchAllEndpoint": True}]},
    }  # fmt: skip
    assert (await server.get("/background-task")).json["data"] == [shown.json]


async def test_tasks_are_listed_by_state_and_kind(server: Server) -> None:
    first = (await server.put("/stats/usage/event-types")).json["id"]
    await server.watch.ended(first)
    second = (await server.post("/stats/usage/app", window(server))).json["id"]
    await server.watch.ended(second)

    async def listed(query: str) -> list[str]:
        return [task["id"] for task in (await server.get(f"/background-task?{query}")).json["data"]]

    assert await listed("") == [second, first]
    assert await listed("order=ascending") == [first, second]
    assert await listed("task=application.stats") == [second]
    assert await listed("status=finished&limit=1") == [second]
    assert await listed("status=running") == []
    for wrong in ("status=none", "task=none", "iterator=app_1"):
        assert (await server.get(f"/background-task?{wrong}")).status == 422, wrong


async def test_usage_is_counted_of_the_applications_asked_for(server: Server) -> None:
    app, other = await server.app(uid="acme"), await server.app()
    for owner in (app, other):
        await server.endpoint(owner)
        await server.message(owner)
    asked = window(server) | {"appIds": ["acme", "nobody"]}
    begun = await server.post("/stats/usage/app", asked, headers={"idempotency-key": "k"})
    assert begun.status == 202 and begun.json["unresolvedAppIds"] == ["nobody"]
    again = await server.post("/stats/usage/app", asked, headers={"idempotency-key": "k"})
    assert again.json == begun.json
    await server.watch.ended(begun.json["id"])
    shown = (await server.get(f"/background-task/{begun.json['id']}")).json
    assert shown["data"] == {"appStats": [{"appId": app, "appUid": "acme", "messageDestinations": 1}]}
    assert len((await server.get("/background-task")).json["data"]) == 1


async def test_usage_of_nobody_and_of_impossible_times(server: Server) -> None:
    assert (await server.post("/stats/usage/app", window(server) | {"appIds": ["nobody"]})).status == 422
    for wrong in (window(server, until=-HOUR), window(server, since=29 * DAY), window(server, since=0, until=HOUR)):
        answer = await server.post("/stats/usage/app", wrong)
        assert (answer.status, answer.json["code"]) == (400, "invalid_range")
    assert (await server.post("/stats/usage/app", window(server, since=28 * DAY))).status == 202
