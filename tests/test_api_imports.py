"""Event types by the many over the API: from OpenAPI, and from one server to another."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.api import Server, running

SCHEMA = {"type": "object", "required": ["n"]}


def spec(*names: str, **operation: Any) -> dict[str, Any]:
    body = {"content": {"application/json": {"schema": SCHEMA}}}
    post = {"summary": "It happened", "requestBody": body} | operation
    return {"openapi": "3.1.0", "webhooks": {name: {"post": post} for name in names}}


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with running(tmp_path) as server:
        yield server


async def imported(server: Server, **body: Any) -> Any:
    answer = await server.post("/event-type/import/openapi", body)
    assert answer.status == 200, answer
    return answer.json["data"]


async def listed(server: Server, query: str = "") -> list[str]:
    return [one["name"] for one in (await server.get(f"/event-type{query}")).json["data"]]


async def test_a_dry_run_only_tells(server: Server) -> None:
    await server.post("/event-type", {"name": "old", "description": ""})
    told = await imported(server, spec=spec("pet.new", **{"x-svix-group-name": "pets"}), dryRun=True, replaceAll=True)
    new = {"name": "pet.new", "description": "It happened", "deprecated": False, "schemas": {"1": SCHEMA}}
    assert told == {"modified": [], "to_modify": [new | {"groupName": "pets"}], "toArchive": ["old"]}
    assert await listed(server) == ["old"]


async def test_event_types_are_created_replaced_and_revived(server: Server) -> None:
    await server.post("/event-type", {"name": "pet.gone", "description": "d", "groupName": "g", "archived": True})
    await server.post("/event-type", {"name": "stays", "description": "d"})
    document = msgspec.json.encode(spec("pet.new", "pet.gone")).decode()
    assert await imported(server, specRaw=document) == {"modified": ["pet.new", "pet.gone"]}
    assert await listed(server) == ["pet.gone", "pet.new", "stays"]
    revived = (await server.get("/event-type/pet.gone")).json
    assert (revived["description"], revived["groupName"], revived["schemas"]) == ("It happened", "g", {"1": SCHEMA})
    assert await imported(server, specRaw=document) == {"modified": []}


async def test_what_the_document_does_not_have_can_be_archived(server: Server) -> None:
    for name in ("a", "b"):
        await server.post("/event-type", {"name": name, "description": ""})
    assert await imported(server, spec=spec("b"), replaceAll=True) == {"modified": ["b", "a"]}
    assert await listed(server) == ["b"]
    assert await listed(server, "?include_archived=true") == ["a", "b"]


async def test_more_event_types_than_a_page_has(server: Server) -> None:
    names = [f"type.{n:03}" for n in range(300)]
    assert len((await imported(server, spec=spec(*names)))["modified"]) == 300
    assert await imported(server, spec=spec(names[-1]), replaceAll=True) == {"modified": names[:-1]}


@pytest.mark.parametrize("body", [{}, {"spec": spec("a"), "specRaw": "{}"}, {"spec": None}])
async def test_one_document_it_must_be(server: Server, body: dict[str, Any]) -> None:
    answer = await server.post("/event-type/import/openapi", body)
    assert (answer.status, answer.json["code"]) == (400, "generic_error")


async def test_a_document_with_a_mistake_changes_nothing(server: Server) -> None:
    wrong = spec("good") | {"x-webhooks": {"not a name": {"post": {}}}}
    answer = await server.post("/event-type/import/openapi", {"spec": wrong})
    assert (answer.status, answer.json["detail"][0]["loc"][:3]) == (422, ["body", "spec", "x-webhooks"])
    assert await listed(server) == []


async def test_a_repeated_import_gets_the_same_answer(server: Server) -> None:
    once = {"idempotency-key": "once"}
    for _ in range(2):
        answer = await server.post("/event-type/import/openapi", {"spec": spec("a")}, headers=once)
        assert answer.json == {"data": {"modified": ["a"]}}
    assert answer.headers["idempotent-replayed"] == "true"


async def test_a_repeated_dry_run_looks_again(server: Server) -> None:
    once = {"idempotency-key": "once"}
    for planned in (1, 0):
        body = {"spec": spec("a"), "dryRun": True}
        answer = await server.post("/event-type/import/openapi", body, headers=once)
        assert len(answer.json["data"]["to_modify"]) == planned
        await imported(server, spec=spec("a"))


async def test_publishing_goes_by_what_was_imported_at_once(tmp_path: Path) -> None:
    async with running(tmp_path, validate_payloads="reject") as server:
        app = await server.app()
        message = {"eventType": "pet.new", "payload": {}}
        assert (await server.post(f"/app/{app}/msg", message)).status == 202
        await imported(server, spec=spec("pet.new"))
        assert (await server.post(f"/app/{app}/msg", message)).status == 422
        exported = (await server.post("/environment/export")).json
        exported["eventTypes"][0] |= {"archived": True, "schemas": None}
        assert (await server.post("/environment/import", exported)).status == 204
        refused = await server.post(f"/app/{app}/msg", message)
        assert "archived" in refused.json["detail"][0]["msg"]


async def test_an_environment_goes_from_one_server_to_another(server: Server, tmp_path: Path) -> None:
    for n in range(260):
        await server.post("/event-type", {"name": f"type.{n:03}", "description": "d", "archived": n == 7})
    token = await server.token("read-only")
    exported = await server.post("/environment/export", token=token)
    assert exported.status == 200 and exported.json["settings"] is None and exported.json["connectors"] == []
    (tmp_path / "other").mkdir()
    async with running(tmp_path / "other") as other:
        await other.post("/event-type", {"name": "own", "description": "stays"})
        await other.post("/event-type", {"name": "type.000", "description": "old"})
        assert (await other.post("/environment/import", exported.json)).status == 204
        assert await listed(other, "?include_archived=true&limit=250") == [
            "own",
            *(f"type.{n:03}" for n in range(249)),
        ]
        assert (await other.get("/event-type/type.007")).json["archived"] is True
        assert (await other.get("/event-type/type.000")).json["description"] == "d"


async def test_an_environment_that_cannot_be_taken_changes_nothing(server: Server) -> None:
    good = {"name": "a", "description": "d"}
    answer = await server.post("/environment/import", {"eventTypes": [good, good]})
    assert (answer.status, answer.json["detail"][0]["loc"]) == (422, ["body", "eventTypes", "[1]", "name"])
    assert await listed(server) == []
