"""Attempts and deliveries over the API: what is shown of them, and trying again."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from tenterhook.clock import HOUR, SECOND, to_rfc3339
from tenterhook.model import Outcome, Reason, Result, State, Timing
from tests.api import OK, REFUSED, URL, Server, running


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with running(tmp_path) as server:
        yield server


@pytest.fixture
async def app(server: Server) -> str:
    return await server.app()


async def test_an_attempt_in_a_list(server: Server, app: str) -> None:
    endpoint = await server.endpoint(app)
    message = await server.message(app)
    (attempt,) = await server.watch.settled(1)
    page = (await server.get(f"/app/{app}/attempt/msg/{message}")).json
    (shown,) = page["data"]
    assert shown == {
        "id": attempt.id, "url": URL, "response": "thanks", "responseStatusCode": 200, "responseDurationMs": 0,
        "status": 0, "statusText": "success", "triggerType": 0, "msgId": message, "endpointId": endpoint,
        "timestamp": to_rfc3339(attempt.started_at), "reason": "status",
    }  # fmt: skip
    assert page["iterator"] == attempt.id and page["done"] is True
    assert (await server.get(f"/app/{app}/attempt/endpoint/{endpoint}")).json["data"] == [shown]
    bare = (await server.get(f"/app/{app}/attempt/endpoint/{endpoint}?with_content=false&with_msg=true")).json["data"][
        0
    ]
    assert bare["response"] == "{}" and bare["msg"]["id"] == message and bare["msg"]["payload"] == {}
    full = (await server.get(f"/app/{app}/attempt/endpoint/{endpoint}?with_msg=true")).json["data"][0]
    assert full["msg"]["payload"] == {"n": 1}


async def test_one_attempt_with_all_that_is_known(server: Server, app: str) -> None:
    await server.endpoint(app)
    server.recorder.outcomes = [
        Outcome(
            result=Result.OK, status=200, url=URL, request_body=b"\xff", response_body=b"\xfe\x00", response_cut=True,
            request_head=b"POST /hook HTTP/1.1\r\nHost: a\r\nAuthorization: ***\r\n",
            response_head=b"HTTP/1.1 200 OK\r\nX: \xff\r\n", timing=Timing(9_500, 1_000, 2_000, None, 4_000),
        )
    ]  # fmt: skip
    message = await server.message(app)
    (attempt,) = await server.watch.settled(1)
    shown = (await server.get(f"/app/{app}/msg/{message}/attempt/{attempt.id}")).json
    assert shown["response"] == "/gA=" and shown["responseDurationMs"] == 9
    assert shown["request"] == {
        "headers": "POST /hook HTTP/1.1\r\nHost: a\r\nAuthorization: ***\r\n",
        "body": "/w==", "bodyEncoding": "base64",
    }  # fmt: skip
    assert shown["responseHeaders"] == "HTTP/1.1 200 OK\r\nX: ÿ\r\n" and shown["responseCut"] is True
    assert shown["timing"] == {"dnsMs": 1, "connectMs": 2, "tlsMs": None, "firstByteMs": 4, "totalMs": 9.5}
    assert (shown["reason"], shown["number"]) == ("status", 1)


async def test_what_came_instead_of_an_answer_is_the_response(server: Server, app: str) -> None:
    await server.endpoint(app)
    server.recorder.outcomes = [
        Outcome(result=Result.RETRY, reason=Reason.CONNECT, detail="connection refused", url=URL)
    ]
    message = await server.message(app)
    await server.watch.settled(1)
    (shown,) = (await server.get(f"/app/{app}/attempt/msg/{message}")).json["data"]
    assert (shown["response"], shown["responseStatusCode"]) == ("connection refused", 0)
    assert (shown["status"], shown["statusText"]) == (2, "fail")
    one = (await server.get(f"/app/{app}/msg/{message}/attempt/{shown['id']}")).json
    assert one["request"]["body"] is None and one["reason"] == "connect"


async def test_the_filters(server: Server, app: str) -> None:
    endpoint = await server.endpoint(app)
    other = await server.endpoint(app, channels=["never"])
    server.recorder.outcomes = [
        OK,
        replace(REFUSED, status=404),
        replace(REFUSED, status=503),
        replace(REFUSED, status=0),
    ]
    messages = []
    for n, (kind, more) in enumerate([("a", {}), ("b", {"channels": ["x"]}), ("a", {"tags": ["t"]}), ("c", {})]):
        messages.append(await server.message(app, eventType=kind, **more))
        await server.watch.settled(n + 1)
    expected = {
        "": "3210", "status=0": "0", "status=2": "321", "status=1": "", "status=3": "", "status_code_class=200": "0",
        "status_code_class=400": "1", "status_code_class=500": "2", "status_code_class=0": "3", "channel=x": "1",
        "tag=t": "2", "event_types=a": "20", "event_types=a,c": "320", "status=2&event_types=a": "2", "limit=2": "32",
        "status=2&limit=2": "32",
    }  # fmt: skip
    for query, picked in expected.items():
        page = (await server.get(f"/app/{app}/attempt/endpoint/{endpoint}?{query}")).json
        assert [attempt["msgId"] for attempt in page["data"]] == [messages[int(n)] for n in picked], query
        assert page["done"] is ("limit" not in query), query
    path = f"/app/{app}/attempt/msg/{messages[0]}"
    assert len((await server.get(f"{path}?endpoint_id={endpoint}")).json["data"]) == 1
    assert (await server.get(f"{path}?endpoint_id={other}")).json["data"] == []
    assert (await server.get(f"{path}?endpoint_id=nobody")).status == 404
    for query in (
        "status=5",
        "status_code_class=201",
        "status_code_class=600",
        "iterator=msg_0",
        "limit=0",
        "limit=251",
    ):
        assert (await server.get(f"{path}?{query}")).status == 422, query
    for query in ("status=a", "limit=-1", "with_content=maybe", "before=yesterday", "expanded_statuses=2"):
        assert (await server.get(f"{path}?{query}")).status == 400, query


async def test_the_destinations_of_a_message(server: Server, app: str) -> None:
    endpoints = [await server.endpoint(app, uid=f"u{n}") for n in range(4)]
    message = await server.message(app)
    await server.watch.settled(4)
    await server.delete(f"/app/{app}/endpoint/{endpoints[1]}")
    path = f"/app/{app}/msg/{message}/endpoint"
    page = (await server.get(path)).json
    assert [one["id"] for one in page["data"]] == endpoints and page["done"] is True
    assert [one["deleted"] for one in page["data"]] == [False, True, False, False]
    assert all((one["status"], one["statusText"], one["nextAttempt"]) == (0, "success", None) for one in page["data"])
    first = (await server.get(path + "?limit=3")).json
    assert [one["id"] for one in first["data"]] == endpoints[:3] and first["done"] is False
    second = (await server.get(f"{path}?limit=3&iterator={first['iterator']}")).json
    assert [one["id"] for one in second["data"]] == endpoints[3:] and second["done"] is True
    back = (await server.get(f"{path}?limit=2&iterator={second['prevIterator']}")).json
    assert [one["id"] for one in back["data"]] == endpoints[1:3] and back["done"] is False


async def test_the_status_and_the_next_attempt(server: Server, app: str) -> None:
    await server.endpoint(app, retrySchedule=[3600])
    server.recorder.outcomes = [REFUSED]
    message = await server.message(app)
    await server.watch.settled(1)
    path = f"/app/{app}/msg/{message}/endpoint"
    (shown,) = (await server.get(path)).json["data"]
    assert (shown["status"], shown["statusText"], shown["attempts"]) == (3, "sending", 1)
    delivery = await server.store.get_delivery(app, message, shown["id"])
    assert delivery is not None and delivery.due_at is not None
    assert shown["nextAttempt"] == to_rfc3339(delivery.due_at)
    assert (await server.post(f"{path}/{shown['id']}/cancel")).status == 204
    (shown,) = (await server.get(path)).json["data"]
    assert (shown["status"], shown["statusText"], shown["nextAttempt"]) == (4, "canceled", None)
    again = await server.post(f"{path}/{shown['id']}/cancel")
    assert (again.status, again.json["code"]) == (409, "conflict")


async def test_a_delivery_that_failed_for_good(server: Server, app: str) -> None:
    await server.endpoint(app)
    server.recorder.outcomes = [REFUSED]
    message = await server.message(app)
    await server.watch.settled(1)
    (shown,) = (await server.get(f"/app/{app}/msg/{message}/endpoint")).json["data"]
    assert (shown["status"], shown["statusText"]) == (2, "fail")


async def test_resend(server: Server, app: str) -> None:
    endpoint = await server.endpoint(app, uid="main")
    message = await server.message(app, eventId="e1")
    await server.watch.settled(1)
    answer = await server.post(f"/app/{app}/msg/e1/endpoint/main/resend")
    assert answer.status == 202 and answer.body == b"{}"
    attempts = await server.watch.settled(2)
    page = (await server.get(f"/app/{app}/attempt/msg/{message}")).json["data"]
    assert [one["triggerType"] for one in page] == [1, 0] and attempts[1].endpoint == endpoint
    await server.patch(f"/app/{app}/endpoint/main", {"disabled": True})
    answer = await server.post(f"/app/{app}/msg/e1/endpoint/main/resend")
    assert (answer.status, answer.json["code"]) == (409, "endpoint_disabled")


async def test_a_repeated_resend_sends_once(server: Server, app: str) -> None:
    endpoint = await server.endpoint(app)
    message = await server.message(app)
    await server.watch.settled(1)
    path = f"/app/{app}/msg/{message}/endpoint/{endpoint}/resend"
    answers = []
    for _ in range(3):
        answers.append(await server.post(path, b"{}", headers={"idempotency-key": "k"}))
        await server.watch.settled(2)
    assert [(answer.status, answer.body) for answer in answers] == [(202, b"{}")] * 3
    await server.message(app)
    await server.watch.settled(3)
    assert len([message_ for message_, _ in server.recorder.sent if message_.id == message]) == 2


async def test_cancelling_the_head_of_a_line_lets_the_next_one_go(server: Server, app: str) -> None:
    endpoint = await server.endpoint(app, ordered=True, retrySchedule=[3600])
    server.recorder.outcomes = [REFUSED, OK]
    first = await server.message(app)
    await server.watch.settled(1)
    second = await server.message(app)
    waiting = await server.store.get_delivery(app, second, endpoint)
    assert waiting is not None and waiting.state is State.WAITING
    assert (await server.get(f"/app/{app}/msg/{second}/endpoint")).json["data"][0]["statusText"] == "pending"
    assert (await server.post(f"/app/{app}/msg/{first}/endpoint/{endpoint}/cancel")).status == 204
    attempts = await server.watch.settled(2)
    assert attempts[1].message == second


async def test_naive_and_aware_instants_mean_the_same(server: Server, app: str) -> None:
    first = await server.message(app)
    message = await server.store.get_message(app, first)
    assert message is not None
    after = message.created_at + SECOND
    naive = to_rfc3339(after).removesuffix("Z")
    for text in (naive, naive + "Z", naive + "%2B00:00", naive + "+00:00"):
        before = (await server.get(f"/app/{app}/msg?before={text}")).json["data"]
        later = (await server.get(f"/app/{app}/msg?after={text}")).json["data"]
        assert (len(before), len(later)) == (1, 0), text
    hour_later = to_rfc3339(after + HOUR).removesuffix("Z")
    assert len((await server.get(f"/app/{app}/msg?before={hour_later}%2B01:00")).json["data"]) == 1
    for text in ("0001-01-01T00:00:00", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00%2B14:00"):
        assert (await server.get(f"/app/{app}/msg?after={text}&before=9999-12-31T00:00:00")).status == 200
    # ids have 32 bits of seconds since 2014: they end in June 2150
    for text in ("2150-07-01T00:00:00", "9999-12-31T00:00:00"):
        assert len((await server.get(f"/app/{app}/msg?before={text}")).json["data"]) == 1
        assert (await server.get(f"/app/{app}/msg?after={text}")).json["data"] == []
