"""Sources over the API, and what they received."""

import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from tests.api import Server, running

LONG = "a-secret-of-the-provider-9876"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with running(tmp_path) as server:
        yield server


@pytest.fixture
async def app(server: Server) -> str:
    return await server.app()


async def test_secrets_go_in_and_never_come_out(server: Server, app: str) -> None:
    body = {"name": "GitHub", "provider": "github", "uid": "gh", "secrets": [LONG, "short"]}
    answer = await server.post(f"/app/{app}/source", body)
    assert answer.status == 201
    source = answer.json
    assert source["id"].startswith("src_") and source["url"].startswith("/in/") and len(source["url"]) > 30
    assert (source["secretCount"], source["secretHints"]) == (2, ["***9876", "***"])
    for path in (f"/app/{app}/source", f"/app/{app}/source/gh", f"/app/{app}/source/{source['id']}"):
        answer = await server.get(path)
        assert answer.status == 200 and LONG.encode() not in answer.body and b"short" not in answer.body
        assert (answer.json["data"][0] if "data" in answer.json else answer.json) == source


async def test_the_url_begins_with_the_public_url(server: Server, app: str) -> None:
    source = await server.source(app)
    server.api.public_url = "https://hooks.example"
    shown = (await server.get(f"/app/{app}/source/{source['id']}")).json
    assert shown["url"] == "https://hooks.example" + source["url"]


async def test_put_keeps_the_url_and_absent_secrets(server: Server, app: str) -> None:
    body = {"name": "Stripe", "provider": "stripe", "secrets": [LONG], "options": {"tolerance": "60"}, "uid": "s"}
    source = await server.source(app, **body)
    answer = await server.put(f"/app/{app}/source/s", {"name": "New", "provider": "stripe"})
    assert answer.status == 200
    assert answer.json["name"] == "New" and answer.json["options"] == {} and "uid" not in answer.json
    assert (answer.json["url"], answer.json["secretCount"]) == (source["url"], 1)
    created = await server.put(f"/app/{app}/source/nobody", body)
    assert created.status == 201 and created.json["url"] != source["url"]


async def test_patch(server: Server, app: str) -> None:
    source = await server.source(app, provider="github", secrets=[LONG], uid="gh")
    path = f"/app/{app}/source/gh"
    patched = (await server.patch(path, {"secrets": ["another-secret-1234", LONG], "uid": None})).json
    assert patched["secretHints"] == ["***1234", "***9876"] and "uid" not in patched
    path = f"/app/{app}/source/{source['id']}"
    assert (await server.patch(path, {"name": "b"})).json["secretCount"] == 2
    for body, name in (
        ({"secrets": None}, "secrets"), ({"provider": "none"}, "secrets"), ({"provider": "nobody"}, "provider"),
        ({"name": None}, "name"), ({"secrets": [""]}, "secrets"), ({"options": {"a": 1}}, "options"),
    ):  # fmt: skip
        answer = await server.patch(path, body)
        assert answer.status == 422 and answer.json["detail"][0]["loc"][:2] == ["body", name], (body, answer)


async def test_changes_hold_for_the_next_request(server: Server, app: str) -> None:
    source = await server.source(app)
    assert (await server.post("/" + source["url"], b"{}", token=None)).status == 200
    await server.patch(f"/app/{app}/source/{source['id']}", {"provider": "github", "secrets": [LONG]})
    assert (await server.post("/" + source["url"], b"{}", token=None)).status == 401
    assert (await server.delete(f"/app/{app}/source/{source['id']}")).status == 204
    assert (await server.post("/" + source["url"], b"{}", token=None)).status == 404


@pytest.mark.parametrize(
    "fields",
    [
        {"provider": "nobody"}, {"provider": "github"}, {"name": ""}, {"uid": "src_a"}, {"secrets": ["a"]},
        {"options": {"nothing": "a"}}, {"secrets": "a"}, {"secrets": ["a"] * 11},
    ],
)  # fmt: skip
async def test_what_is_not_acceptable(server: Server, app: str, fields: dict[str, Any]) -> None:
    answer = await server.post(f"/app/{app}/source", {"name": "a", "provider": "none"} | fields)
    assert answer.status == 422 and answer.json["detail"][0]["loc"][0] == "body"


async def test_what_the_configuration_file_owns_cannot_be_changed(server: Server, app: str) -> None:
    source = await server.source(app)
    stored = await server.store.get_source(app, source["id"])
    assert stored is not None
    await server.store.save_source(app, replace(stored, managed=True))
    path = f"/app/{app}/source/{source['id']}"
    tries = [
        await server.put(path, {"name": "a", "provider": "none"}),
        await server.patch(path, {}),
        await server.delete(path),
        await server.delete(f"/app/{app}"),
    ]
    assert [(answer.status, answer.json["code"]) for answer in tries] == [(409, "managed_by_configuration")] * 4


async def test_a_received_request_byte_for_byte(server: Server, app: str) -> None:
    source = await server.source(app)
    target = "/" + source["url"] + "?a=%20b&a=c"
    await server.call("PUT", target, b'{"a" : 1}', token=None, headers={"X-One": "1", "x-two": "ü"})
    await server.call("POST", target, b"\xff\x00", token=None)
    path = f"/app/{app}/source/{source['id']}/request"
    listed = (await server.get(path)).json["data"]
    assert [(one["method"], one["bodySize"], one["verdict"]) for one in listed] == [
        ("POST", 2, "accepted"),
        ("PUT", 9, "accepted"),
    ]
    assert not {"headers", "body", "bodyEncoding"} & set(listed[0])
    binary, text = [(await server.get(f"{path}/{one['id']}")).json for one in listed]
    assert (text["body"], text["bodyEncoding"], text["query"]) == ('{"a" : 1}', "utf-8", "a=%20b&a=c")
    assert text["path"] == source["url"]
    assert text["headers"] == [["x-one", "1"], ["x-two", "Ã¼"], ["content-length", "9"]]
    assert base64.b64decode(binary["body"]) == b"\xff\x00" and binary["bodyEncoding"] == "base64"
    assert (await server.get(f"/app/{app}/msg/{text['msgId']}?with_content=true")).status == 200


async def test_the_list_by_verdict(server: Server, app: str) -> None:
    source = await server.source(app, options={"id_header": "X-Id"})
    for name in ("a", "a", "b"):
        await server.post("/" + source["url"], b"{}", token=None, headers={"X-Id": name})
    path = f"/app/{app}/source/{source['id']}/request"
    counts = {
        v: len((await server.get(f"{path}?verdict={v}")).json["data"])
        for v in ("accepted", "duplicate", "ping", "rejected")
    }
    assert counts == {"accepted": 2, "duplicate": 1, "ping": 0, "rejected": 0}
    answer = await server.get(path + "?verdict=maybe")
    assert answer.status == 422 and answer.json["detail"][0]["loc"] == ["query", "verdict"]
