"""Transformations through the API: kept with the endpoint, checked, guarded by a capability, and applied to what is sent."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook

from tenterhook.addresses import Rules
from tenterhook.model import Attempt, Reason, Result
from tenterhook.serve import running as serving
from tenterhook.settings import Settings
from tests.api import ADMIN, Recorder, Server, Watch, running
from tests.receiver import OK, Receiver, answering

CODE = "function handler(webhook) { return webhook; }"
UNTOUCHED = {"code": None, "enabled": False, "variables": {}}


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with running(tmp_path) as server:
        yield server


async def place(server: Server, **fields: Any) -> str:
    """The path of the transformation of a new endpoint `hook` of a new application `acme`."""
    await server.app(uid="acme")
    await server.endpoint("acme", uid="hook", **fields)
    return "/app/acme/endpoint/hook/transformation"


def without_time(document: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name != "updatedAt"}


async def test_an_endpoint_begins_without_one(server: Server) -> None:
    answer = await server.get(await place(server))
    assert (answer.status, answer.json) == (200, UNTOUCHED)


async def test_what_is_absent_stays_and_without_code_all_of_it_goes(server: Server) -> None:
    path = await place(server)
    seen = []
    for change in ({"code": CODE}, {"enabled": True}, {"variables": {"a": "b"}}, {}, {"enabled": False}):
        assert (await server.patch(path, change)).status == 204
        seen.append(without_time((await server.get(path)).json))
    assert seen == [
        {"code": CODE, "enabled": False, "variables": {}},
        {"code": CODE, "enabled": True, "variables": {}},
        {"code": CODE, "enabled": True, "variables": {"a": "b"}},
        {"code": CODE, "enabled": True, "variables": {"a": "b"}},
        {"code": CODE, "enabled": False, "variables": {"a": "b"}},
    ]
    assert (await server.patch(path, {"variables": None})).status == 204
    assert (await server.get(path)).json["variables"] == {}
    assert (await server.patch(path, {"code": None})).status == 204
    assert (await server.get(path)).json == UNTOUCHED


async def test_it_outlives_other_changes_of_the_endpoint(server: Server) -> None:
    path = await place(server)
    await server.patch(path, {"code": CODE, "enabled": True, "variables": {"a": "b"}})
    before = (await server.get(path)).json
    await server.put("/app/acme/endpoint/hook", {"url": "https://receiver.example/other", "uid": "hook"})
    await server.patch("/app/acme/endpoint/hook", {"description": "new"})
    await server.post("/app/acme/endpoint/hook/secret/rotate", {})
    assert (await server.get(path)).json == before


@pytest.mark.parametrize(
    ("change", "place_of_fault", "said"),
    [
        ({"code": "x" * 9}, "code", "10"),
        ({"code": CODE + "/" * 51_200}, "code", "51200"),
        ({"code": "function handler(w) {\n  return w.;\n}"}, "code", "SyntaxError: expecting field name (line 2)"),
        ({"code": "function other(w) { return w; }"}, "code", "no function named handler"),
        ({"code": "while (true);" + CODE}, "code", "it took more than 0.5 seconds"),
        ({"code": 5}, "code", "str"),
        ({"enabled": True}, "enabled", "no code to enable"),
        ({"enabled": None}, "enabled", "bool"),
        ({"variables": {"a": 1}}, "variables", "str"),
        ({"variables": {"a": "x" * 16_384}}, "variables", "16384"),
    ],
)
async def test_what_is_refused_changes_nothing(
    server: Server, change: dict[str, Any], place_of_fault: str, said: str
) -> None:
    path = await place(server)
    answer = await server.patch(path, change)
    assert answer.status == 422
    [fault] = answer.json["detail"]
    assert fault["loc"][1] == place_of_fault and said in fault["msg"], fault
    assert (await server.get(path)).json == UNTOUCHED


async def test_only_webhooks_have_one(server: Server) -> None:
    path = await place(server, kind="slack", url="https://hooks.slack.com/services/T0/B0/x")
    answer = await server.patch(path, {"code": CODE})
    assert answer.status == 422
    assert "slack" in answer.json["detail"][0]["msg"]
    assert (await server.get(path)).json == UNTOUCHED


@pytest.mark.parametrize(
    ("capabilities", "status"),
    [
        (None, 200),
        (["ViewBase", "ManageTransformations"], 200),
        (["ViewBase", "ManageEndpoint", "ViewEndpointSecret"], 403),
    ],
)
async def test_a_visitor_needs_the_capability(server: Server, capabilities: list[str] | None, status: int) -> None:
    path = await place(server)
    access = await server.post("/auth/app-portal-access/acme", {"capabilities": capabilities})
    token = access.json["token"]
    assert (await server.get(path, token=token)).status == status
    expected = 204 if status == 200 else status
    assert (await server.patch(path, {"code": CODE}, token=token)).status == expected


async def test_who_may_only_read_does_not_see_it(server: Server) -> None:
    path = await place(server)
    token = await server.token("read-only")
    assert (await server.get(path, token=token)).status == 403
    assert (await server.patch(path, {"code": CODE}, token=token)).status == 403


async def test_it_is_kept_encrypted(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        path = await place(server)
        await server.patch(path, {"code": CODE + "// not-for-others", "variables": {"key": "sesame-open"}})
    kept = b"".join(file.read_bytes() for file in tmp_path.iterdir() if file.is_file())
    assert b"receiver.example" not in kept and b"not-for-others" not in kept and b"sesame-open" not in kept


async def test_operators_hear_of_the_change(server: Server) -> None:
    path = await place(server)
    hook = {"url": "https://operator.example/", "eventTypes": ["endpoint.updated"]}
    assert (await server.post("/operational-webhook/endpoint", hook)).status == 201
    await server.patch(path, {"code": CODE})
    await server.watch.settled(1)
    [(message, _)] = server.recorder.sent
    assert message.event_type == "endpoint.updated"
    assert CODE.encode() not in message.payload


# what is sent


@asynccontextmanager
async def whole(path: Path, **settings: Any) -> AsyncIterator[tuple[Server, Receiver]]:
    """A server with nothing replaced, and a receiver on loopback."""
    watch = Watch()
    chosen = {
        "database": f"sqlite:///{path}/t.db", "admin_token": ADMIN, "log_level": "error", "retry_schedule": (),
        "allow_networks": Rules.parse(allow="127.0.0.0/8").allow,
    }  # fmt: skip
    async with answering(OK) as receiver, serving(Settings(**(chosen | settings)), watch=watch) as node:
        yield Server(node, Recorder(), watch), receiver


async def attempted(server: Server, receiver: Receiver, code: str, **more: Any) -> Attempt:
    """The attempt at a message, with this transformation of its endpoint."""
    path = await place(server, url=receiver.url("/hook"), **more)
    answer = await server.patch(path, {"code": code, "enabled": True, "variables": {"team": "a"}})
    assert answer.status == 204, answer
    await server.message("acme", payload={"id": 7}, eventId="m1")
    return (await server.watch.settled(1))[0]


async def standing(server: Server) -> tuple[int, int]:
    """The status of the message at the endpoint, and of its attempt."""
    [one] = (await server.get("/app/acme/msg/m1/endpoint")).json["data"]
    [attempt] = (await server.get("/app/acme/attempt/msg/m1?expanded_statuses=true")).json["data"]
    return one["status"], attempt["status"]


CHANGES = """function handler(webhook) {
  webhook.method = "PUT";
  webhook.url = webhook.url.replace("/hook", "/other?a=1");
  webhook.headers = { "X-Team": webhook.variables.team, "x-kept": "new" };
  webhook.payload = { text: webhook.eventType + " " + webhook.payload.id };
  return webhook;
}"""


async def test_what_arrives_is_signed_as_it_was_changed_and_recorded_as_it_was_sent(tmp_path: Path) -> None:
    async with whole(tmp_path) as (server, receiver):
        attempt = await attempted(server, receiver, CHANGES, headers={"X-Kept": "old", "X-Own": "1"})
        [(head, body)] = receiver.requests
        assert body == b'{"text":"invoice.paid 7"}'
        lines = head.decode().split("\r\n")
        assert lines[0] == "PUT /other?a=1 HTTP/1.1"
        headers = dict(line.split(": ", 1) for line in lines[1:-2])
        assert (headers["X-Team"], headers["x-kept"], headers["X-Own"]) == ("a", "new", "1")
        assert "X-Kept" not in headers
        secret = (await server.get("/app/acme/endpoint/hook/secret")).json["key"]
        assert Webhook(secret).verify(body, headers) == {"text": "invoice.paid 7"}
        assert attempt.outcome.result is Result.OK
        shown = (await server.get(f"/app/acme/msg/m1/attempt/{attempt.id}")).json
        assert shown["request"]["headers"] == head.decode()
        assert shown["request"]["body"] == body.decode()
        assert shown["url"] == receiver.url("/other?a=1")
        assert await standing(server) == (0, 0)
        message = await server.get("/app/acme/msg/m1")
        assert message.json["payload"] == {"id": 7}


async def test_a_payload_that_was_not_touched_is_sent_byte_for_byte(tmp_path: Path) -> None:
    async with whole(tmp_path) as (server, receiver):
        path = await place(server, url=receiver.url())
        await server.patch(path, {"code": CODE, "enabled": True})
        payload = b'{"big":  12345678901234567890, "a": 1.0}'
        await server.post("/app/acme/msg", b'{"eventType": "a", "payload": ' + payload + b"}")
        [attempt] = await server.watch.settled(1)
        assert receiver.requests[0][1] == payload
        assert attempt.outcome.request_body is None


async def test_each_message_has_its_own_outcome(tmp_path: Path) -> None:
    code = """function handler(webhook) {
      const { id } = webhook.payload;
      webhook.method = id % 2 ? "PUT" : "POST"; webhook.url += id >> 1; if (id > 3) webhook.headers["X-Id"] = `${id}`;
      return webhook;
    }"""
    async with whole(tmp_path) as (server, receiver):
        path = await place(server, url=receiver.url("/"), ordered=True)
        await server.patch(path, {"code": code, "enabled": True})
        for number in range(6):
            await server.message("acme", payload={"id": number})
        await server.watch.settled(6)
        heads = [head.decode() for head, _ in receiver.requests]
        assert [head.split(" HTTP")[0] for head in heads] == [
            f"{'PUT' if n % 2 else 'POST'} /{n >> 1}" for n in range(6)
        ]
        assert ["X-Id: " in head for head in heads] == [False] * 4 + [True] * 2


async def test_one_that_is_not_enabled_does_not_run(tmp_path: Path) -> None:
    async with whole(tmp_path) as (server, receiver):
        path = await place(server, url=receiver.url())
        await server.patch(path, {"code": "function handler() { throw 1 }"})
        await server.message("acme")
        [attempt] = await server.watch.settled(1)
        assert attempt.outcome.result is Result.OK


async def test_what_it_cancels_ends_without_a_request(tmp_path: Path) -> None:
    async with whole(tmp_path, retry_schedule=(1,)) as (server, receiver):
        hook = {"url": receiver.url("/operator"), "eventTypes": ["message.attempt.exhausted"]}
        await server.post("/operational-webhook/endpoint", hook)
        attempt = await attempted(
            server, receiver, "function handler(webhook) { webhook.cancel = true; return webhook; }"
        )
        assert (attempt.outcome.result, attempt.outcome.reason) == (Result.CANCELLED, Reason.TRANSFORMATION)
        assert await standing(server) == (4, 4)
        assert receiver.connections == 0
        for query, found in (
            ("status=4&expanded_statuses=true", 1),
            ("status=2&expanded_statuses=true", 0),
            ("status=2", 1),
        ):
            assert len((await server.get(f"/app/acme/attempt/msg/m1?{query}")).json["data"]) == found, query
        assert "cancel" in (await server.get("/app/acme/attempt/msg/m1")).json["data"][0]["response"]
        stats = (await server.get("/app/acme/endpoint/hook/stats")).json
        assert (stats["canceled"], stats["fail"]) == (1, 0)


async def test_a_cancelled_message_makes_room_for_the_next_of_its_line(tmp_path: Path) -> None:
    async with whole(tmp_path) as (server, receiver):
        path = await place(server, url=receiver.url(), ordered=True)
        code = "function handler(webhook) { webhook.cancel = webhook.payload.id < 3; return webhook; }"
        await server.patch(path, {"code": code, "enabled": True})
        for number in range(5):
            await server.message("acme", payload={"id": number})
        await server.watch.settled(5)
        assert [json.loads(body)["id"] for _, body in receiver.requests] == [3, 4]


@pytest.mark.parametrize(
    ("code", "reason", "said"),
    [
        ("function handler(w) {\n  w.a.b = 1;\n}", Reason.TRANSFORMATION, "cannot set property 'b' of undefined (line 2)"),
        ("function handler(w) { while (true); }", Reason.TRANSFORMATION, "it took more than 0.5 seconds of computing"),
        ("function handler(w) { w.headers.Host = 'a'; return w; }", Reason.TRANSFORMATION, "webhook.headers Host: not allowed"),
        ("function handler(w) { w.url = 'http://169.254.169.254/'; return w; }", Reason.REFUSED_ADDRESS, "not a public address"),
        ("function handler(w) { w.url = 'file:///etc/passwd'; return w; }", Reason.REFUSED_ADDRESS, "https:// or http://"),
        ("function handler(w) { w.url = 'http://a@127.0.0.1/'; return w; }", Reason.REFUSED_ADDRESS, "user name"),
        ("function handler(w) { w.url = '/hook'; return w; }", Reason.REFUSED_ADDRESS, "https:// or http://"),
    ],
)  # fmt: skip
async def test_a_failure_is_an_attempt_that_says_why_and_is_tried_again(
    tmp_path: Path, code: str, reason: Reason, said: str
) -> None:
    async with whole(tmp_path, retry_schedule=(3_600_000_000,)) as (server, receiver):
        attempt = await attempted(server, receiver, code)
        assert (attempt.outcome.result, attempt.outcome.reason) == (Result.RETRY, reason)
        assert said in attempt.outcome.detail
        assert await standing(server) == (3, 2)
        assert receiver.connections == 0


async def test_a_redirected_credential_is_not_recorded(tmp_path: Path) -> None:
    code = "function handler(webhook) { webhook.headers.Authorization = 'Bearer sesame'; return webhook; }"
    async with whole(tmp_path) as (server, receiver):
        attempt = await attempted(server, receiver, code)
        assert b"Authorization: Bearer sesame\r\n" in receiver.requests[0][0]
        assert b"sesame" not in attempt.outcome.request_head


async def test_what_it_made_goes_with_the_payload(tmp_path: Path) -> None:
    async with whole(tmp_path) as (server, receiver):
        attempt = await attempted(server, receiver, CHANGES)
        assert (await server.delete("/app/acme/msg/m1/content")).status == 204
        shown = (await server.get(f"/app/acme/msg/m1/attempt/{attempt.id}")).json
        assert shown["request"]["body"] is None
