"""Endpoints over the API: their fields, secret and headers."""

import asyncio
from collections.abc import AsyncIterator
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from tenterhook import netguard
from tenterhook.addresses import Rules
from tenterhook.clock import DAY, HOUR, to_rfc3339
from tenterhook.model import Outcome, Result
from tests.api import OK, REFUSED, URL, PublicNames, Server, running

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
SLACK = "https://hooks.slack.com/services/T0000/B0000/XXXXXXXX"
MASKED = "https://hooks.slack.com/services/***"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with running(tmp_path) as server:
        yield server


@pytest.fixture
async def app(server: Server) -> str:
    await server.post("/event-type", {"name": "invoice.paid", "description": "Paid"})
    return await server.app()


async def test_the_least_and_its_defaults(server: Server, app: str) -> None:
    answer = await server.post(f"/app/{app}/endpoint", {"url": "https://Receiver.Example"})
    assert answer.status == 201
    endpoint = answer.json
    assert endpoint["id"].startswith("ep_") and endpoint["url"] == "https://receiver.example/"
    expected = {
        "description": "", "disabled": False, "eventTypes": None, "channels": None, "throttleRate": None, "metadata": {},
        "kind": "webhook", "ordered": False, "concurrency": None, "retrySchedule": None, "timeout": None,
        "lifetime": None, "managed": False,
    }  # fmt: skip
    assert endpoint.items() >= expected.items()
    assert not {"uid", "rateLimit", "disabledReason", "secret", "headers"} & set(endpoint)
    assert (await server.get(f"/app/{app}/endpoint/{endpoint['id']}")).json == endpoint
    assert (await server.get(f"/app/{app}/endpoint/{endpoint['id']}/secret")).json["key"].startswith("whsec_")


async def test_all_fields(server: Server, app: str) -> None:
    body = {
        "url": URL, "description": "d", "uid": "main", "disabled": True, "eventTypes": ["invoice.paid", "order.*"],
        "channels": ["a", "b"], "throttleRate": 9, "metadata": {"k": "v"}, "ordered": True, "concurrency": 2,
        "retrySchedule": [1, 2.5], "timeout": 3, "lifetime": 3600,
    }  # fmt: skip
    answer = await server.post(
        f"/app/{app}/endpoint", body | {"secret": SECRET, "headers": {"X-A": "1", "Authorization": "x"}}
    )
    assert answer.status == 201 and answer.json.items() >= body.items()
    assert answer.json["disabledReason"] == "manual"
    path = f"/app/{app}/endpoint/main"
    assert (await server.get(path + "/secret")).json == {"key": SECRET}
    assert (await server.get(path + "/headers")).json == {"headers": {"X-A": "1"}, "sensitive": ["Authorization"]}


async def test_null_on_create_means_the_default(server: Server, app: str) -> None:
    names = (
        "description",
        "uid",
        "disabled",
        "eventTypes",
        "channels",
        "throttleRate",
        "metadata",
        "secret",
        "headers",
    )
    assert (await server.post(f"/app/{app}/endpoint", {"url": URL} | dict.fromkeys(names))).status == 201


async def test_put_keeps_secret_headers_and_our_own_fields(server: Server, app: str) -> None:
    await server.endpoint(
        app, uid="main", secret=SECRET, headers={"X-A": "1"}, ordered=True, retrySchedule=[], channels=["a"],
        throttleRate=3, description="d",
    )  # fmt: skip
    path = f"/app/{app}/endpoint/main"
    answer = await server.put(path, {"url": URL + "/2", "uid": "main"})
    assert answer.status == 200 and answer.json["url"] == URL + "/2"
    assert answer.json["channels"] is None and answer.json["throttleRate"] is None and answer.json["description"] == ""
    assert answer.json["ordered"] is True and answer.json["retrySchedule"] == []
    assert (await server.get(path + "/secret")).json["key"] == SECRET
    assert (await server.get(path + "/headers")).json["headers"] == {"X-A": "1"}
    created = await server.put(f"/app/{app}/endpoint/nobody", {"url": URL, "secret": SECRET})
    assert created.status == 201 and "uid" not in created.json
    assert (await server.get(f"/app/{app}/endpoint/{created.json['id']}/secret")).json["key"] != SECRET


async def test_patch_leaves_the_absent_and_clears_null(server: Server, app: str) -> None:
    await server.endpoint(
        app, uid="main", channels=["a"], throttleRate=3, retrySchedule=[1], eventTypes=["invoice.paid"]
    )
    path = f"/app/{app}/endpoint/main"
    patched = (await server.patch(path, {"description": "d"})).json
    assert (patched["channels"], patched["throttleRate"], patched["retrySchedule"]) == (["a"], 3, [1])
    cleared = {"channels": None, "throttleRate": None, "retrySchedule": None, "eventTypes": None, "uid": None}
    patched = (await server.patch(path, cleared)).json
    assert all(patched.get(name) is None for name in cleared) and "uid" not in patched
    for name in ("url", "description", "disabled"):
        assert (await server.patch(f"/app/{app}/endpoint/{patched['id']}", {name: None})).status == 422


async def test_old_names_of_fields(server: Server, app: str) -> None:
    body = {"url": URL, "filterTypes": ["invoice.paid"], "rateLimit": 4, "version": 1}
    endpoint = (await server.post(f"/app/{app}/endpoint", body)).json
    assert (endpoint["eventTypes"], endpoint["throttleRate"], endpoint["rateLimit"]) == (["invoice.paid"], 4, 4)


async def test_disabling_stops_messages_and_enabling_clears_the_reason(server: Server, app: str) -> None:
    endpoint = await server.endpoint(app)
    path = f"/app/{app}/endpoint/{endpoint}"
    assert (await server.patch(path, {"disabled": True})).json["disabledReason"] == "manual"
    message = await server.message(app)
    assert (await server.get(f"/app/{app}/msg/{message}/endpoint")).json["data"] == []
    assert "disabledReason" not in (await server.patch(path, {"disabled": False})).json
    await server.message(app)
    assert len(await server.watch.settled(1)) == 1


async def test_an_event_type_must_exist(server: Server, app: str) -> None:
    await server.post("/event-type", {"name": "old", "description": ""})
    endpoint = await server.endpoint(app, eventTypes=["old"])
    await server.delete("/event-type/old")
    for name in ("invoice.payed", "old"):
        answer = await server.post(f"/app/{app}/endpoint", {"url": URL, "eventTypes": ["invoice.paid", name]})
        assert answer.status == 422 and answer.json["detail"][0]["loc"] == ["body", "eventTypes"]
    # what an endpoint has already may stay, globs match what comes, and sources bring their own
    path = f"/app/{app}/endpoint/{endpoint}"
    assert (await server.put(path, {"url": URL, "eventTypes": ["old", "any.*", "github.issues.opened"]})).status == 200


async def test_slack_urls_are_secret(server: Server, app: str) -> None:
    answer = await server.post(f"/app/{app}/endpoint", {"url": SLACK, "kind": "slack", "uid": "chat"})
    assert answer.status == 201 and answer.json["url"] == MASKED
    path = f"/app/{app}/endpoint/chat"
    assert (await server.get(path)).json["url"] == MASKED
    # what was read may be written back
    read = (await server.get(path)).json
    assert (await server.put(path, read | {"description": "new"})).json["url"] == MASKED
    assert (await server.patch(path, {"url": MASKED})).status == 200
    stored = await server.store.get_endpoint(app, "chat")
    assert stored is not None and stored.url == SLACK and stored.description == "new"
    answer = await server.post(f"/app/{app}/endpoint", {"url": MASKED, "kind": "slack"})
    assert answer.status == 422 and answer.json["detail"][0]["loc"] == ["body", "url"]
    assert (await server.get(path + "/secret")).status == 404
    assert (await server.post(path + "/secret/rotate", {})).status == 422
    message = await server.message(app)
    assert (await server.get(f"/app/{app}/msg/{message}/endpoint")).json["data"][0]["url"] == MASKED


async def test_the_kind_stays(server: Server, app: str) -> None:
    endpoint = await server.endpoint(app)
    answer = await server.patch(f"/app/{app}/endpoint/{endpoint}", {"kind": "slack"})
    assert answer.status == 422 and answer.json["detail"][0]["loc"] == ["body", "kind"]


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"url": "not a url"}, ["url"]),
        ({"url": "ftp://receiver.example/"}, ["url"]),
        ({"url": "https://user:password@receiver.example/"}, ["url"]),
        ({"url": "https://127.0.0.1/"}, ["url"]),
        ({"url": "https://[::1]/"}, ["url"]),
        ({"url": 7}, ["url"]),
        ({"kind": "pigeon"}, ["kind"]),
        ({"uid": "ep_x"}, ["uid"]),
        ({"eventTypes": []}, ["eventTypes"]),
        ({"eventTypes": ["a b"]}, ["eventTypes", "[0]"]),
        ({"channels": []}, ["channels"]),
        ({"channels": ["a"] * 11}, ["channels"]),
        ({"throttleRate": 0}, ["throttleRate"]),
        ({"secret": "whsec_short"}, ["secret"]),
        ({"secret": ""}, ["secret"]),
        ({"secret": SECRET, "kind": "slack"}, ["secret"]),
        ({"headers": {"Host": "a"}}, ["headers", "Host"]),
        ({"headers": {"X-A": "a\r\nX-B: b"}}, ["headers", "X-A"]),
        ({"headers": {"X-A": "1", "x-a": "2"}}, ["headers", "x-a"]),
        ({"concurrency": 0}, ["concurrency"]),
        ({"retrySchedule": [-1]}, ["retrySchedule", "[0]"]),
        ({"retrySchedule": [1] * 101}, ["retrySchedule"]),
        ({"timeout": 0}, ["timeout"]),
        ({"timeout": 3600}, ["timeout"]),
        ({"lifetime": -1}, ["lifetime"]),
        ({"description": "\x00"}, ["description"]),
        ({"metadata": {"a": "b" * 4_096}}, ["metadata"]),
    ],
)
async def test_what_is_not_acceptable(server: Server, app: str, fields: dict[str, Any], place: list[str]) -> None:
    answer = await server.post(f"/app/{app}/endpoint", {"url": URL} | fields)
    assert answer.status == 422, answer
    assert answer.json["detail"][0]["loc"] == ["body", *place]
    assert (await server.get(f"/app/{app}/endpoint")).json["data"] == []


async def test_a_uid_is_taken_in_one_application_only(server: Server, app: str) -> None:
    await server.endpoint(app, uid="main")
    assert (await server.post(f"/app/{app}/endpoint", {"url": URL, "uid": "main"})).status == 409
    await server.endpoint(await server.app(), uid="main")


async def test_lists_are_newest_first(server: Server, app: str) -> None:
    endpoints = [await server.endpoint(app) for _ in range(3)]
    assert [e["id"] for e in (await server.get(f"/app/{app}/endpoint")).json["data"]] == endpoints[::-1]
    ascending = (await server.get(f"/app/{app}/endpoint?order=ascending")).json["data"]
    assert [e["id"] for e in ascending] == endpoints


async def test_rotation(server: Server, app: str) -> None:
    endpoint = await server.endpoint(app, secret=SECRET)
    path = f"/app/{app}/endpoint/{endpoint}/secret"
    answer = await server.post(path + "/rotate")
    assert answer.status == 200 and answer.json["key"] != SECRET
    assert (await server.get(path)).json == answer.json
    given = await server.post(path + "/rotate", {"key": SECRET, "gracePeriodSeconds": 0})
    assert given.json == {"key": SECRET}
    stored = await server.store.get_endpoint(app, endpoint)
    assert stored is not None and [s.key for s in stored.secrets] == [SECRET]
    for body, name in (({"key": "x"}, "key"), ({"gracePeriodSeconds": -1}, "gracePeriodSeconds")):
        wrong = await server.post(path + "/rotate", body)
        assert wrong.status == 422 and wrong.json["detail"][0]["loc"] == ["body", name]


@pytest.mark.parametrize(
    ("agent", "status"),
    [
        ("svix-libs/2.0.0/java", 204),
        ("svix-libs/2.6.9/kotlin x", 204),
        ("svix-libs/1.99.1/csharp", 204),
        ("svix-libs/2.7.0/java", 200),
        ("svix-libs/10.0.0/csharp", 200),
        ("svix-libs/2.0.0/python", 200),
        ("svix-libs/2.0.0/javascript", 200),
        ("curl", 200),
    ],
)
async def test_rotation_answers_what_the_client_can_read(server: Server, app: str, agent: str, status: int) -> None:
    endpoint = await server.endpoint(app)
    path = f"/app/{app}/endpoint/{endpoint}/secret/rotate"
    assert (await server.post(path, {}, headers={"user-agent": agent})).status == status


async def test_too_many_secrets(server: Server, app: str) -> None:
    path = f"/app/{app}/endpoint/{await server.endpoint(app)}/secret/rotate"
    answers = [await server.post(path) for _ in range(12)]
    assert [answer.status for answer in answers][:10] == [200] * 10
    assert (answers[-1].status, answers[-1].json["code"]) == (400, "limit_reached")


async def test_a_repeated_rotation_rotates_once_and_stores_no_secret(server: Server, app: str, tmp_path: Path) -> None:
    path = f"/app/{app}/endpoint/{await server.endpoint(app)}/secret/rotate"
    first, second = [await server.post(path, {}, headers={"idempotency-key": "k"}) for _ in range(2)]
    assert first.status == second.status == 200 and first.json == second.json
    secret = first.json["key"].removeprefix("whsec_").encode()
    assert not any(secret in file.read_bytes() for file in tmp_path.iterdir())


async def test_a_remembered_answer_holds_no_url(server: Server, app: str, tmp_path: Path) -> None:
    body = {"url": "https://receiver.example/hook/open-sesame"}
    first, second = [
        await server.post(f"/app/{app}/endpoint", body, headers={"idempotency-key": "k"}) for _ in range(2)
    ]
    assert first.body == second.body and first.json["url"] == body["url"]
    assert not any(b"open-sesame" in file.read_bytes() for file in tmp_path.iterdir())


async def test_headers(server: Server, app: str) -> None:
    path = f"/app/{app}/endpoint/{await server.endpoint(app)}/headers"
    put = await server.put(path, {"headers": {"X-One": "1", "X-API-Key": "k", "x-two": "2"}})
    assert put.status == 204 and put.body == b""
    assert (await server.get(path)).json == {"headers": {"X-One": "1", "x-two": "2"}, "sensitive": ["X-API-Key"]}
    patch = {"headers": {"x-one": "new", "X-Two": None, "X-Three": "3"}, "deleteHeaders": ["x-api-key"]}
    assert (await server.patch(path, patch)).status == 204
    assert (await server.get(path)).json == {"headers": {"x-one": "new", "X-Three": "3"}, "sensitive": []}
    assert (await server.put(path, {"headers": {"Content-Type": "a"}})).status == 422
    assert (await server.patch(path, {"headers": {"svix-id": "a"}})).status == 422


async def test_what_the_configuration_file_owns_cannot_be_changed(server: Server, app: str) -> None:
    stored = await server.store.get_endpoint(app, await server.endpoint(app))
    assert stored is not None
    await server.store.save_endpoint(app, replace(stored, managed=True))
    path = f"/app/{app}/endpoint/{stored.id}"
    tries = [
        await server.put(path, {"url": URL}),
        await server.patch(path, {"disabled": True}),
        await server.delete(path),
        await server.post(path + "/secret/rotate"),
        await server.put(path + "/headers", {"headers": {}}),
        await server.patch(path + "/headers", {"headers": {}}),
        await server.patch(path + "/transformation", {"code": None}),
        await server.delete(f"/app/{app}"),
    ]
    assert [(answer.status, answer.json["code"]) for answer in tries] == [(409, "managed_by_configuration")] * 8
    assert (await server.get(path)).json["managed"] is True


async def test_changes_at_the_same_time_do_not_undo_each_other(server: Server, app: str) -> None:
    endpoint = await server.endpoint(app, uid="main")
    changes = {"description": "d", "throttleRate": 5, "metadata": {"a": "b"}, "channels": ["x"], "concurrency": 3}
    refs = [endpoint, "main"] * 3
    answers = await asyncio.gather(
        *(
            server.patch(f"/app/{app}/endpoint/{ref}", {name: value})
            for ref, (name, value) in zip(refs, changes.items())
        ),
        server.put(f"/app/{app}/endpoint/main/headers", {"headers": {"X-A": "1"}}),
        server.post(f"/app/{app}/endpoint/main/secret/rotate", {"key": SECRET}),
    )
    assert all(answer.status in (200, 204) for answer in answers)
    assert (await server.get(f"/app/{app}/endpoint/main")).json.items() >= changes.items()
    assert (await server.get(f"/app/{app}/endpoint/main/headers")).json["headers"] == {"X-A": "1"}
    assert (await server.get(f"/app/{app}/endpoint/main/secret")).json["key"] == SECRET


class SlowNames(PublicNames):
    """Answers when it is let."""

    def __init__(self) -> None:
        self.asked, self.may_answer = asyncio.Event(), asyncio.Event()

    async def resolve(self, host: str) -> list[IPv4Address]:
        self.asked.set()
        await self.may_answer.wait()
        return await super().resolve(host)


async def test_a_change_does_not_undo_what_the_receiver_wanted_meanwhile(server: Server, app: str) -> None:
    server.recorder.outcomes = [Outcome(result=Result.GONE, status=410, url=URL)]
    endpoint = await server.endpoint(app)
    names = SlowNames()
    server.node.guard = netguard.Guard(Rules(), names)
    change = asyncio.create_task(server.patch(f"/app/{app}/endpoint/{endpoint}", {"url": "https://b.example/"}))
    await names.asked.wait()
    await server.message(app)
    await server.watch.settled(1)
    names.may_answer.set()
    assert (await change).json.items() >= {
        "disabled": True,
        "disabledReason": "gone",
        "url": "https://b.example/",
    }.items()
    shown = (await server.get(f"/app/{app}/endpoint/{endpoint}")).json
    assert shown.pop("failingSince") and shown == (await change).json


async def test_a_change_right_after_a_start_keeps_what_is_known_of_the_receiver(tmp_path: Path) -> None:
    async with running(tmp_path) as first:
        first.recorder.outcomes = [REFUSED]
        app = await first.app()
        endpoint = await first.endpoint(app)
        await first.message(app)
        await first.watch.settled(1)
    async with running(tmp_path) as second:
        second.recorder.outcomes = [REFUSED]
        assert (await second.patch(f"/app/{app}/endpoint/{endpoint}", {"description": "d"})).status == 200
        await second.message(app)
        await second.watch.settled(1)
        stored = await second.store.load_endpoint(endpoint)
    assert stored is not None and stored[1].failures == 2


async def test_delete(server: Server, app: str) -> None:
    endpoint = await server.endpoint(app, uid="main")
    assert (await server.delete(f"/app/{app}/endpoint/main")).status == 204
    assert (await server.get(f"/app/{app}/endpoint/{endpoint}")).status == 404
    assert (await server.delete(f"/app/{app}/endpoint/{endpoint}")).status == 404


async def test_the_figures_of_an_endpoint(server: Server, app: str) -> None:
    endpoint = await server.endpoint(app, retrySchedule=[3600])
    server.recorder.outcomes = [OK, REFUSED]
    for settled in (1, 2):
        await server.message(app)
        await server.watch.settled(settled)
    path = f"/app/{app}/endpoint/{endpoint}"
    assert (await server.get(path + "/stats")).json == {
        "success": 1, "pending": 0, "sending": 1, "fail": 0, "canceled": 0,
    }  # fmt: skip
    assert (await server.get(path + "/attempt-stats")).json == {"success": 1, "fail": 1, "canceled": 0}
    now = server.node.clock.now()
    hour = to_rfc3339(now - now % HOUR - HOUR)  # the last one too: a new one may just have begun
    within = f"since={hour}&until={to_rfc3339(now)}"
    assert (await server.get(f"{path}/attempt-stats?{within}")).json["success"] == 1
    earlier = f"since={to_rfc3339(now - 9 * HOUR)}&until={hour}"
    for figures in ("stats", "attempt-stats"):
        assert set((await server.get(f"{path}/{figures}?{earlier}")).json.values()) == {0}
        backwards = f"since={hour}&until={to_rfc3339(now - 3 * HOUR)}"
        for wrong in (f"until={to_rfc3339(now + HOUR)}", f"since={to_rfc3339(now - 29 * DAY)}", backwards):
            answer = await server.get(f"{path}/{figures}?{wrong}")
            assert (answer.status, answer.json["code"]) == (400, "invalid_range")


async def test_enabling_begins_with_a_clean_record(tmp_path: Path) -> None:
    """One that was switched off because it only failed is not switched off again by its next failure."""
    async with running(tmp_path, breaker_failures=2, disable_after=0) as server:
        app = await server.app()
        endpoint = await server.endpoint(app)
        path = f"/app/{app}/endpoint/{endpoint}"
        assert not {"failingSince", "pausedUntil", "disabledReason"} & set((await server.get(path)).json)
        server.recorder.outcomes = [REFUSED]
        for settled in (1, 2):
            await server.message(app)
            await server.watch.settled(settled)
        shown = (await server.get(path)).json
        assert (shown["disabled"], shown["disabledReason"]) == (True, "failing")
        assert shown["failingSince"] < shown["pausedUntil"]
        await server.patch(path, {"disabled": False})
        assert not {"failingSince", "pausedUntil", "disabledReason"} & set((await server.get(path)).json)
        await server.message(app)
        await server.watch.settled(3)
        shown = (await server.get(path)).json
        assert not shown["disabled"] and "failingSince" in shown and "pausedUntil" not in shown
