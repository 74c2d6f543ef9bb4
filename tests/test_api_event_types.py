"""Event types over the API."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.api import Server, running


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with running(tmp_path) as server:
        yield server


async def create(server: Server, name: str, **fields: Any) -> None:
    assert (await server.post("/event-type", {"name": name, "description": "d"} | fields)).status == 201


async def listed(server: Server, query: str = "", **more: Any) -> list[str]:
    return [one["name"] for one in (await server.get(f"/event-type{query}", **more)).json["data"]]


async def test_create_and_read(server: Server) -> None:
    schemas = {"1": {"type": "object", "properties": {"n": {"type": "integer"}}}}
    body = {
        "name": "invoice.paid",
        "description": "Paid",
        "schemas": schemas,
        "groupName": "invoice",
        "deprecated": True,
    }
    answer = await server.post("/event-type", body)
    assert answer.status == 201
    assert answer.json.items() >= (body | {"archived": False, "featureFlags": None}).items()
    assert (await server.get("/event-type/invoice.paid")).json == answer.json


async def test_a_name_is_taken_unless_archived(server: Server) -> None:
    await create(server, "invoice.paid")
    before = (await server.get("/event-type/invoice.paid")).json
    again = await server.post("/event-type", {"name": "invoice.paid", "description": "other"})
    assert (again.status, again.json["code"]) == (409, "event_type_exists")
    assert (await server.delete("/event-type/invoice.paid")).status == 204
    revived = await server.post("/event-type", {"name": "invoice.paid", "description": "other"})
    assert revived.status == 201 and revived.json["archived"] is False
    assert revived.json["createdAt"] == before["createdAt"]


async def test_archived_ones_are_read_but_not_listed(server: Server) -> None:
    await create(server, "a")
    await create(server, "b")
    await server.delete("/event-type/a")
    assert await listed(server) == ["b"]
    assert await listed(server, "?include_archived=true") == ["a", "b"]
    assert (await server.get("/event-type/a")).json["archived"] is True


async def test_a_change_at_the_same_time_does_not_bring_an_archived_one_back(server: Server) -> None:
    for name in map(str, range(10)):
        await server.post("/event-type", {"name": name, "description": "A"})
        await asyncio.gather(
            server.patch(f"/event-type/{name}", {"description": "B"}), server.delete(f"/event-type/{name}")
        )
    assert await listed(server) == []


async def test_expunge_removes(server: Server) -> None:
    await create(server, "a")
    assert (await server.delete("/event-type/a?expunge=true")).status == 204
    assert (await server.get("/event-type/a")).status == 404
    assert (await server.delete("/event-type/a?expunge=true")).status == 404


async def test_lists_hold_schemas_on_request(server: Server) -> None:
    await create(server, "a", schemas={"1": {"type": "object"}})
    assert (await server.get("/event-type")).json["data"][0]["schemas"] is None
    assert (await server.get("/event-type?with_content=true")).json["data"][0]["schemas"] == {"1": {"type": "object"}}


async def test_put_creates_or_replaces(server: Server) -> None:
    created = await server.put("/event-type/a", {"description": "one", "groupName": "g"})
    assert created.status == 201 and created.json["name"] == "a"
    replaced = await server.put("/event-type/a", {"description": "two"})
    assert replaced.status == 200 and "groupName" not in replaced.json
    assert replaced.json["createdAt"] == created.json["createdAt"]
    answer = await server.put("/event-type/a%20b", {"description": ""})
    assert answer.status == 422 and answer.json["detail"][0]["loc"] == ["path", "event_type_name"]


async def test_patch_leaves_the_absent_and_clears_null(server: Server) -> None:
    await create(server, "a", schemas={"1": {}}, groupName="g", featureFlags=["x", "x", "y"])
    patched = (await server.patch("/event-type/a", {"archived": True})).json
    assert patched["schemas"] == {"1": {}} and patched["featureFlags"] == ["x", "y"] and patched["archived"]
    patched = (await server.patch("/event-type/a", {"schemas": None, "groupName": None, "featureFlags": None})).json
    assert patched["schemas"] is None and patched["featureFlags"] is None and "groupName" not in patched
    assert (await server.patch("/event-type/a", {"description": None})).status == 422


async def test_the_token_of_an_application_sees_nothing_behind_a_flag(server: Server) -> None:
    token = await server.token("application", await server.app())
    for name in ("a", "b", "c", "d"):
        await create(server, name, **({"featureFlag": "beta"} if name in "ac" else {}))
    assert (await server.get("/event-type/a")).json["featureFlag"] == "beta"
    assert await listed(server, token=token) == ["b", "d"]
    page = (await server.get("/event-type?limit=1", token=token)).json
    assert ([one["name"] for one in page["data"]], page["done"]) == (["b"], False)
    page = (await server.get("/event-type?limit=1&iterator=b", token=token)).json
    assert ([one["name"] for one in page["data"]], page["done"]) == (["d"], True)
    assert (await server.get("/event-type/a", token=token)).status == 404
    assert (await server.get("/event-type/b", token=token)).status == 200


async def test_names_that_begin_with_a_minus_do_not_turn_the_list_round(server: Server) -> None:
    names = ["--", "-a", ".b", "c"]
    for name in names:
        await create(server, name)
    seen, query = [], "?limit=1"
    for _ in names:
        page = (await server.get(f"/event-type{query}")).json
        seen += [one["name"] for one in page["data"]]
        query = f"?limit=1&iterator={page['iterator']}"
    assert seen == names and page["done"]
    back = (await server.get(f"/event-type?iterator={page['prevIterator']}")).json
    assert [one["name"] for one in back["data"]] == names[:-1]


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"name": "a b"}, ["name"]),
        ({"name": ""}, ["name"]),
        ({"description": "\x00"}, ["description"]),
        ({"schemas": {"1": "text"}}, ["schemas", "1"]),
        ({"schemas": {"a b": {}}}, ["schemas", "a b"]),
        ({"schemas": []}, ["schemas"]),
        ({"featureFlags": []}, ["featureFlags"]),
        ({"featureFlags": ["a b"]}, ["featureFlags", "[0]"]),
        ({"groupName": ""}, ["groupName"]),
    ],
)
async def test_what_is_not_acceptable(server: Server, fields: dict[str, Any], place: list[str]) -> None:
    answer = await server.post("/event-type", {"name": "a", "description": "d"} | fields)
    assert answer.status == 422
    loc = answer.json["detail"][0]["loc"]
    assert loc[0] == "body" and loc[1] == place[0] and loc[-1] == place[-1]


async def test_a_schema_without_a_bottom(server: Server) -> None:
    deep: dict[str, Any] = {}
    for _ in range(100):
        deep = {"not": deep}
    answer = await server.post("/event-type", {"name": "a", "description": "", "schemas": {"1": deep}})
    assert answer.status == 422 and "deep" in answer.json["detail"][0]["msg"]


@pytest.mark.parametrize("iterator", ["a%20b", "-", "é", "a" * 257])
async def test_an_iterator_that_is_no_name(server: Server, iterator: str) -> None:
    answer = await server.get(f"/event-type?iterator={iterator}")
    assert answer.status == 422 and answer.json["detail"][0]["loc"] == ["query", "iterator"]
