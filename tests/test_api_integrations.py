"""Integrations over the API: named credentials that come, change and go."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.api import Server, made, running


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with running(tmp_path) as server:
        await server.app(uid="acme")
        await server.app(uid="other")
        yield server


async def integration(server: Server, **fields: Any) -> str:
    return made(await server.post("/app/acme/integration", {"name": "CI"} | fields))


async def rotated(server: Server, name: str) -> str:
    answer = await server.post(f"/app/acme/integration/{name}/key/rotate")
    assert answer.status == 200, answer
    return str(answer.json["key"])


async def status(server: Server, key: str, path: str = "/app/acme/endpoint") -> int:
    return (await server.get(path, token=key)).status


async def test_create_read_replace(server: Server) -> None:
    answer = await server.post("/app/acme/integration", {"name": "CI", "featureFlags": ["beta", "beta"]})
    assert (answer.status, answer.json["name"], answer.json["featureFlags"]) == (201, "CI", ["beta"])
    path = f"/app/acme/integration/{answer.json['id']}"
    assert (await server.get(path)).json == answer.json
    replaced = (await server.put(path, {"name": "New"})).json
    assert (replaced["name"], replaced["featureFlags"]) == ("New", None)
    assert replaced["createdAt"] == answer.json["createdAt"] and replaced["updatedAt"] > answer.json["updatedAt"]
    assert (await server.get(path.replace("acme", "other"))).status == 404
    assert (await server.get("/app/other/integration")).json["data"] == []


@pytest.mark.parametrize(
    ("body", "place"),
    [({}, "body"), ({"name": ""}, "name"), ({"name": "a", "featureFlags": ["no flag"]}, "featureFlags")],
)
async def test_what_is_not_acceptable(server: Server, body: dict[str, Any], place: str) -> None:
    answer = await server.post("/app/acme/integration", body)
    assert answer.status == 422 and place in answer.json["detail"][0]["loc"], answer


async def test_the_newest_comes_first_or_last(server: Server) -> None:
    names = [await integration(server, name=f"n{n}") for n in range(3)]
    for query, expected in (("", names[::-1]), ("?order=ascending", names)):
        assert [one["id"] for one in (await server.get(f"/app/acme/integration{query}")).json["data"]] == expected


async def test_a_key_is_a_token_of_its_application_and_ends_at_once(server: Server) -> None:
    name = await integration(server)
    first = await rotated(server, name)
    assert [await status(server, first), await status(server, first, "/app/other")] == [200, 404]
    assert await status(server, first, "/app") == 403
    assert (await server.post("/app/acme/integration", {"name": "more"}, token=first)).status == 403
    second = await rotated(server, name)
    assert [await status(server, first), await status(server, second)] == [401, 200]
    assert (await server.delete(f"/app/acme/integration/{name}")).status == 204
    assert await status(server, second) == 401


async def test_its_feature_flags_are_those_of_the_key_at_once(server: Server) -> None:
    await server.post("/event-type", {"name": "secret", "description": "", "featureFlags": ["beta"]})
    name = await integration(server)
    key = await rotated(server, name)
    assert await status(server, key, "/event-type/secret") == 404
    await server.put(f"/app/acme/integration/{name}", {"name": "CI", "featureFlags": ["beta"]})
    assert await status(server, key, "/event-type/secret") == 200
    assert await status(server, await rotated(server, name), "/event-type/secret") == 200


async def test_a_repeated_rotation_makes_another_key(server: Server) -> None:
    name = await integration(server)
    once = {"idempotency-key": "once"}
    answers = [await server.post(f"/app/acme/integration/{name}/key/rotate", headers=once) for _ in range(2)]
    assert answers[1].headers["idempotent-replayed"] == "true"
    assert [await status(server, answer.json["key"]) for answer in answers] == [401, 200]


async def test_a_key_is_nowhere_in_the_database(server: Server, tmp_path: Path) -> None:
    name = await integration(server)
    key = await rotated(server, name)
    assert all(key.encode() not in file.read_bytes() for file in tmp_path.iterdir())


async def test_expire_all_ends_the_keys_too(server: Server) -> None:
    name = await integration(server)
    key = await rotated(server, name)
    assert (await server.post("/auth/app/acme/expire-all", {})).status == 204
    assert await status(server, key) == 401
    assert await status(server, await rotated(server, name)) == 200
