"""Applications over the API."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.api import Server, running


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with running(tmp_path) as server:
        yield server


async def test_create_and_read_by_id_and_uid(server: Server) -> None:
    answer = await server.post("/app", {"name": "Acme", "uid": "acme", "throttleRate": 7, "metadata": {"a": "b"}})
    assert answer.status == 201
    app = answer.json
    assert app["id"].startswith("app_") and len(app["id"]) == 4 + 27
    assert (app["name"], app["uid"], app["throttleRate"], app["rateLimit"]) == ("Acme", "acme", 7, 7)
    assert app["metadata"] == {"a": "b"}
    assert app["createdAt"] == app["updatedAt"] and app["createdAt"].endswith("Z")
    for ref in (app["id"], "acme"):
        assert (await server.get(f"/app/{ref}")).json == app


async def test_uid_is_left_out_and_throttle_is_null_when_unset(server: Server) -> None:
    app = (await server.post("/app", {"name": "Acme", "uid": None, "throttleRate": None, "metadata": None})).json
    assert "uid" not in app and "rateLimit" not in app
    assert app["throttleRate"] is None and app["metadata"] == {}


async def test_a_taken_uid_is_a_conflict(server: Server) -> None:
    await server.app(uid="acme")
    answer = await server.post("/app", {"name": "Other", "uid": "acme"})
    assert (answer.status, answer.json["code"]) == (409, "conflict")
    other = await server.app(uid="other")
    assert (await server.patch(f"/app/{other}", {"uid": "acme"})).status == 409


async def test_get_if_exists_changes_nothing(server: Server) -> None:
    first = await server.post("/app?get_if_exists=true", {"name": "Acme", "uid": "acme"})
    assert first.status == 201
    again = await server.post("/app?get_if_exists=true", {"name": "Other", "uid": "acme", "throttleRate": 3})
    assert again.status == 200 and again.json == first.json
    assert (await server.post("/app?get_if_exists=true", {"name": "Without a uid"})).status == 201


async def test_put_replaces_and_clears_what_is_omitted(server: Server) -> None:
    app = await server.app(uid="acme", throttleRate=3, metadata={"a": "b"})
    answer = await server.put("/app/acme", {"name": "New"})
    assert answer.status == 200
    assert answer.json["id"] == app and answer.json["name"] == "New"
    assert "uid" not in answer.json and answer.json["throttleRate"] is None and answer.json["metadata"] == {}
    assert (await server.get("/app/acme")).status == 404


async def test_put_on_an_unknown_name_creates_without_taking_it(server: Server) -> None:
    answer = await server.put("/app/nobody", {"name": "New", "uid": "other"})
    assert answer.status == 201 and answer.json["uid"] == "other"
    assert (await server.get("/app/nobody")).status == 404


async def test_patch_leaves_the_absent_and_clears_null(server: Server) -> None:
    app = await server.app(uid="acme", throttleRate=3, metadata={"a": "b"})
    assert (await server.patch(f"/app/{app}", {"name": "New"})).json["throttleRate"] == 3
    patched = (await server.patch(f"/app/{app}", {"uid": None, "rateLimit": None, "metadata": {"c": "d"}})).json
    assert "uid" not in patched and patched["throttleRate"] is None and patched["metadata"] == {"c": "d"}
    assert (await server.patch(f"/app/{app}", {"name": None})).status == 422
    assert (await server.patch(f"/app/{app}", {"rateLimit": 5, "throttleRate": 6})).json["throttleRate"] == 6


async def test_delete_takes_everything_with_it_and_frees_the_uid(server: Server) -> None:
    app = await server.app(uid="acme")
    await server.endpoint(app)
    source = await server.source(app)
    assert (await server.delete("/app/acme")).status == 204
    for path in ("/app/acme", f"/app/{app}/endpoint", f"/app/{app}/msg"):
        assert (await server.get(path)).status == 404
    assert (await server.call("POST", "/" + source["url"], b"{}", token=None)).status == 404
    await server.app(uid="acme")


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({}, []),
        ({"name": ""}, ["name"]),
        ({"name": "a\x01"}, ["name"]),
        ({"name": 7}, ["name"]),
        ({"name": "a", "uid": "app_x"}, ["uid"]),
        ({"name": "a", "uid": "a b"}, ["uid"]),
        ({"name": "a", "uid": "a\n"}, ["uid"]),
        ({"name": "a", "uid": "a" * 257}, ["uid"]),
        ({"name": "a", "throttleRate": 0}, ["throttleRate"]),
        ({"name": "a", "throttleRate": 65_536}, ["throttleRate"]),
        ({"name": "a", "metadata": {"a": 1}}, ["metadata"]),
        ({"name": "a", "metadata": {"a": "b" * 4_096}}, ["metadata"]),
    ],
)
async def test_what_is_not_acceptable(server: Server, body: object, place: list[str]) -> None:
    answer = await server.post("/app", body)
    assert answer.status == 422, answer
    (problem,) = answer.json["detail"]
    assert problem["loc"][: 1 + len(place)] == ["body", *place]
    assert problem["type"].startswith("value_error") and problem["msg"]


async def test_the_order_of_the_list(server: Server) -> None:
    apps = [await server.app() for _ in range(3)]
    assert [app["id"] for app in (await server.get("/app")).json["data"]] == apps
    assert [app["id"] for app in (await server.get("/app?order=descending")).json["data"]] == apps[::-1]
    assert (await server.get("/app?order=sideways")).status == 422
