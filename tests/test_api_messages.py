"""Messages over the API."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tenterhook.clock import HOUR, SECOND, to_rfc3339
from tenterhook.model import State
from tests.api import Server, made, running


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with running(tmp_path) as server:
        yield server


async def test_a_message_is_stored_and_sent(server: Server) -> None:
    app = await server.app()
    await server.endpoint(app)
    body = {"eventType": "invoice.paid", "payload": {"n": 1}, "eventId": "e1", "channels": ["a"], "tags": ["t/1"]}
    answer = await server.post(f"/app/{app}/msg", body)
    assert answer.status == 202 and answer.json.items() >= body.items()
    await server.watch.settled(1)
    assert [message.id for message, _ in server.recorder.sent] == [answer.json["id"]]
    for ref in (answer.json["id"], "e1"):
        assert (await server.get(f"/app/{app}/msg/{ref}")).json == answer.json


async def test_an_event_id_is_taken_in_one_application_only(server: Server) -> None:
    app = await server.app()
    await server.message(app, eventId="e1")
    again = await server.post(f"/app/{app}/msg", {"eventType": "a", "payload": {}, "eventId": "e1"})
    assert (again.status, again.json["code"]) == (409, "conflict")
    await server.message(await server.app(), eventId="e1")


PAYLOADS = [
    b'{ "b" : 1,\n\t"a":[1.0,  1e3, 0.10] }',
    b'{"a":1,"a":2}',
    '{"ü":"\\u00fc 🙂"}'.encode(),
    b'{"big":123456789012345678901234567890.123456789012345678901}',
    b"{}",
]


@pytest.mark.parametrize("payload", PAYLOADS)
async def test_the_payload_is_sent_byte_for_byte(server: Server, payload: bytes) -> None:
    app = await server.app()
    await server.endpoint(app)
    message = made(await server.post(f"/app/{app}/msg", b'{"eventType":"a", "payload": ' + payload + b"  }"))
    await server.watch.settled(1)
    assert server.recorder.sent[0][0].payload == payload
    assert payload in (await server.get(f"/app/{app}/msg/{message}")).body


@given(
    payload=st.dictionaries(
        st.text(), st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=5)
    ),
    space=st.sampled_from(["", " ", "\n ", "\t"]),
)
@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
async def test_any_payload_is_kept_byte_for_byte(server: Server, payload: dict[str, Any], space: str) -> None:
    app = await server.app()
    raw = json.dumps(payload, indent=space or None).encode()
    answer = await server.post(f"/app/{app}/msg", b'{"payload":' + space.encode() + raw + b',"eventType":"a"}')
    if answer.status == 202:
        stored = await server.store.get_message(app, answer.json["id"])
        assert stored is not None and stored.payload == raw
    else:
        assert answer.status == 422 and "\\ud" in raw.decode()  # half a surrogate pair is no text


async def test_a_raw_payload_has_its_own_content_type(server: Server) -> None:
    app = await server.app()
    await server.endpoint(app)
    params = {"rawPayload": "a,b\r\n1,2", "headers": {"Content-Type": "text/csv"}}
    message = await server.message(app, payload={}, transformationsParams=params)
    await server.watch.settled(1)
    sent = server.recorder.sent[0][0]
    assert (sent.payload, sent.content_type) == (b"a,b\r\n1,2", "text/csv")
    assert (await server.get(f"/app/{app}/msg/{message}")).json["payload"] == {"rawPayload": "a,b\r\n1,2"}


@pytest.mark.parametrize("raw", ["{broken", '{"a": 1} and more', "[1]", "[" * 100_000, '{"a": ' + "[" * 100_000, ""])
async def test_a_raw_payload_that_is_no_json_object_is_shown_as_text(server: Server, raw: str) -> None:
    app = await server.app()
    answer = await server.post(
        f"/app/{app}/msg", {"eventType": "a", "payload": {}, "transformationsParams": {"rawPayload": raw}}
    )
    assert (answer.status, answer.json["payload"]) == (202, {"rawPayload": raw})
    assert (await server.get(f"/app/{app}/msg")).json["data"][0]["payload"] == {"rawPayload": raw}


@pytest.mark.parametrize("body", [b'{"n": tru', b'{"text": "\xff"}', b'{"n": 1}}'])
async def test_a_received_body_that_is_no_json_object_is_shown_as_text(server: Server, body: bytes) -> None:
    app = await server.app()
    source = await server.source(app)
    await server.post("/" + source["url"], body, token=None, headers={"Content-Type": "application/json"})
    (message,) = (await server.get(f"/app/{app}/msg")).json["data"]
    assert message["payload"] == {"rawPayload": body.decode("utf-8", "replace")}


async def test_a_payload_is_utf_8(server: Server) -> None:
    app = await server.app()
    answer = await server.post(f"/app/{app}/msg", b'{"eventType": "a", "payload": {"text": "\xff"}}')
    assert answer.status == 422 and answer.json["detail"][0]["loc"] == ["body", "payload"]


async def test_content_only_on_request(server: Server) -> None:
    app = await server.app()
    answer = await server.post(f"/app/{app}/msg?with_content=false", {"eventType": "a", "payload": {"n": 1}})
    assert answer.json["payload"] == {}
    path = f"/app/{app}/msg/{answer.json['id']}"
    assert (await server.get(path)).json["payload"] == {"n": 1}
    assert (await server.get(path + "?with_content=false")).json["payload"] == {}
    assert (await server.get(f"/app/{app}/msg?with_content=false")).json["data"][0]["payload"] == {}


async def test_filters_of_the_list(server: Server) -> None:
    app = await server.app()
    a = await server.message(app, eventType="a", channels=["x", "y"], tags=["t"])
    b = await server.message(app, eventType="b", channels=["x"])
    c = await server.message(app, eventType="c", tags=["t"])
    expected = {
        "": [c, b, a], "?channel=x": [b, a], "?channel=y": [a], "?channel=z": [], "?tag=t": [c, a], "?event_types=a,c": [c, a],
        "?event_types=a&event_types=b": [b, a], "?event_types[]=c": [c], "?event_types[0]=a&event_types[1]=b": [b, a],
        "?tag=t&event_types=c": [c], "?channel=x&limit=1": [b], "?unknown=1": [c, b, a],
    }  # fmt: skip
    for query, ids in expected.items():
        page = (await server.get(f"/app/{app}/msg{query}")).json
        assert [message["id"] for message in page["data"]] == ids, query
        assert page["done"] is (query != "?channel=x&limit=1"), query


async def test_an_unknown_application(server: Server) -> None:
    assert (await server.post("/app/nobody/msg", {"eventType": "a", "payload": {}})).status == 404


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"eventType": None}, ["eventType"]),
        ({"eventType": "a b"}, ["eventType"]),
        ({"payload": [1]}, ["payload"]),
        ({"payload": None}, ["payload"]),
        ({"payload": "text"}, ["payload"]),
        ({"eventId": "msg_x"}, ["eventId"]),
        ({"eventId": "a/b"}, ["eventId"]),
        ({"channels": []}, ["channels"]),
        ({"channels": ["a b"]}, ["channels", "[0]"]),
        ({"tags": ["a"] * 6}, ["tags"]),
        ({"transformationsParams": {"rawPayload": 1}}, ["transformationsParams", "rawPayload"]),
        (
            {"transformationsParams": {"rawPayload": "a", "headers": {"content-type": "a\r\nb"}}},
            ["transformationsParams", "headers"],
        ),
    ],
)
async def test_what_is_not_acceptable(server: Server, fields: dict[str, Any], place: list[str]) -> None:
    app = await server.app()
    answer = await server.post(f"/app/{app}/msg", {"eventType": "a", "payload": {}} | fields)
    assert answer.status == 422 and answer.json["detail"][0]["loc"] == ["body", *place]


async def test_a_message_needs_a_payload_and_a_type(server: Server) -> None:
    app = await server.app()
    for body, name in (({"payload": {}}, "eventType"), ({"eventType": "a"}, "payload")):
        answer = await server.post(f"/app/{app}/msg", body)
        assert answer.status == 422 and name in str(answer.json)


# later, inline, and only what fits


async def test_a_message_is_not_sent_before_its_time(server: Server) -> None:
    app = await server.app()
    endpoint = await server.endpoint(app)
    now = server.node.clock.now()
    at = to_rfc3339(now + HOUR)
    answer = await server.post(f"/app/{app}/msg", {"eventType": "a", "payload": {}, "deliverAt": at})
    assert (answer.status, answer.json["deliverAt"]) == (202, at)
    delivery = await server.store.get_delivery(app, answer.json["id"], endpoint)
    assert delivery is not None
    assert (delivery.state, delivery.due_at) == (State.DUE, now + HOUR)
    assert delivery.expires_at >= now + HOUR + server.node.settings.delivery_lifetime
    assert (await server.get(f"/app/{app}/msg/{answer.json['id']}")).json["deliverAt"] == at
    (shown,) = (await server.get(f"/app/{app}/msg/{answer.json['id']}/endpoint")).json["data"]
    assert shown["nextAttempt"] == at
    at_once = await server.message(app)
    (attempt,) = await server.watch.settled(1)
    assert attempt.message == at_once


@pytest.mark.parametrize("ahead", [59 * SECOND, 25 * HOUR, -HOUR])
async def test_a_time_that_is_too_near_or_too_far_is_refused(server: Server, ahead: int) -> None:
    app = await server.app()
    at = to_rfc3339(server.node.clock.now() + ahead)
    answer = await server.post(f"/app/{app}/msg", {"eventType": "a", "payload": {}, "deliverAt": at})
    assert (answer.status, answer.json["detail"][0]["loc"]) == (422, ["body", "deliverAt"])


async def test_a_message_can_bring_its_application(server: Server) -> None:
    body = {"eventType": "a", "payload": {}, "application": {"name": "New", "uid": "new"}}
    for _ in range(2):
        assert (await server.post("/app/new/msg", body)).status == 202
    assert (await server.get("/app/new")).json["name"] == "New"
    answer = await server.post("/app/other/msg", body)
    assert (answer.status, answer.json["detail"][0]["type"]) == (422, "application_uid_mismatch")
    body["application"] = {"name": "New"}
    answer = await server.post("/app/other/msg", body)
    assert (answer.status, answer.json["detail"][0]["type"]) == (422, "application_uid_missing")


async def test_precheck_says_whether_anybody_wants_it(server: Server) -> None:
    app = await server.app()
    endpoint = await server.endpoint(app, channels=["red"])

    async def wanted(**given: object) -> bool:
        answer = await server.post(f"/app/{app}/msg/precheck/active", {"eventType": "a"} | given)
        assert answer.status == 200, answer
        return bool(answer.json["active"])

    assert not await wanted()
    assert await wanted(channels=["red", "blue"])
    await server.patch(f"/app/{app}/endpoint/{endpoint}", {"disabled": True})
    assert not await wanted(channels=["red"])


async def test_an_archived_event_type_is_not_published(server: Server) -> None:
    app = await server.app()
    await server.post("/event-type", {"name": "old", "description": ""})
    assert (await server.post(f"/app/{app}/msg", {"eventType": "old", "payload": {}})).status == 202
    await server.delete("/event-type/old")
    answer = await server.post(f"/app/{app}/msg", {"eventType": "old", "payload": {}})
    assert (answer.status, answer.json["detail"][0]["loc"]) == (422, ["body", "eventType"])
    await server.post("/event-type", {"name": "old", "description": ""})
    assert (await server.post(f"/app/{app}/msg", {"eventType": "old", "payload": {}})).status == 202


SCHEMA = {"type": "object", "properties": {"id": {"type": "integer"}, "who": {"type": "string"}}, "required": ["id"]}


@pytest.mark.parametrize(("mode", "status"), [("off", 202), ("warn", 202), ("reject", 422)])
async def test_payloads_are_held_against_the_schema(tmp_path: Path, mode: str, status: int) -> None:
    async with running(tmp_path, validate_payloads=mode) as server:
        app = await server.app()
        await server.post("/event-type", {"name": "a", "description": "", "schemas": {"1": SCHEMA}})
        good = await server.post(f"/app/{app}/msg", {"eventType": "a", "payload": {"id": 7}})
        bad = await server.post(f"/app/{app}/msg", {"eventType": "a", "payload": {"id": 7, "who": 8}})
        assert (good.status, bad.status) == (202, status)
        if mode == "reject":
            assert [problem["loc"] for problem in bad.json["detail"]] == [["body", "payload", "who"]]
        counted = b'tenterhook_payloads_invalid_total{event_type="a"} 1.0' in (await server.get("//metrics")).body
        assert counted == (mode == "warn")
        # a change of the schema counts at once
        await server.call("PATCH", "/event-type/a", {"schemas": None})
        assert (await server.post(f"/app/{app}/msg", {"eventType": "a", "payload": {"who": 8}})).status == 202
