"""The official Svix SDK for Python, a client that we did not write, against a real server on a loopback port."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
from svix.api import (
    ApplicationIn,
    ApplicationListOptions,
    ApplicationPatch,
    AppUsageStatsIn,
    BackgroundTaskListOptions,
    BulkExpungeContentsIn,
    BulkReplayIn,
    EndpointHeadersIn,
    EndpointHeadersPatchIn,
    EndpointIn,
    EndpointListOptions,
    EndpointPatch,
    EndpointSecretRotateIn,
    EndpointUpsertIn,
    EventTypeIn,
    EventTypeListOptions,
    EventTypePatch,
    EventTypeUpsertIn,
    MessageAttemptListByEndpointOptions,
    MessageAttemptListByMsgOptions,
    MessageCreateOptions,
    MessageGetOptions,
    MessageIn,
    MessageListOptions,
    OperationalWebhookEndpointHeadersIn,
    OperationalWebhookEndpointIn,
    OperationalWebhookEndpointListOptions,
    OperationalWebhookEndpointSecretIn,
    OperationalWebhookEndpointUpsertIn,
    Ordering,
    RecoverIn,
    ReplayIn,
    Svix,
    SvixOptions,
)
from svix.api.message import message_in_raw
from svix.exceptions import HttpError, HTTPValidationError

from tenterhook.serve import http_server, listen
from tests.api import ADMIN, URL, Server, running

T = TypeVar("T")


class Client:
    """The SDK on a thread of its own, because it blocks."""

    def __init__(self, server: Server, url: str) -> None:
        self.server, self._url = server, url
        self._made: list[Svix] = []
        self.svix = self.login(ADMIN)

    def login(self, token: str) -> Svix:
        """The SDK with another token."""
        self._made.append(Svix(token, SvixOptions(server_url=self._url)))
        return self._made[-1]

    def close(self) -> None:
        for svix in self._made:
            svix.health._httpx_client.close()  # the SDK has no way to close its connections

    async def __call__(self, verb: Callable[..., T], *args: Any) -> T:
        return await asyncio.to_thread(verb, *args)


@pytest.fixture
async def sdk(tmp_path: Path) -> AsyncIterator[Client]:
    async with running(tmp_path) as server:
        sock = listen("127.0.0.1", 0)
        http = http_server(server.api)
        serving = asyncio.create_task(http.serve([sock]))
        client = Client(server, f"http://127.0.0.1:{sock.getsockname()[1]}")
        yield client
        client.close()
        http.should_exit = True
        await serving


async def test_applications(sdk: Client) -> None:
    api = sdk.svix.application
    app = await sdk(api.create, ApplicationIn(name="Acme", uid="acme", throttle_rate=5, metadata={"a": "b"}))
    assert (app.name, app.uid, app.throttle_rate, app.metadata) == ("Acme", "acme", 5, {"a": "b"})
    assert (await sdk(api.get, "acme")).id == app.id
    assert (await sdk(api.get_or_create, ApplicationIn(name="Other", uid="acme"))).id == app.id
    assert (await sdk(api.patch, app.id, ApplicationPatch(name="New", throttle_rate=None))).throttle_rate is None
    assert (await sdk(api.upsert, app.id, ApplicationIn(name="Newer"))).uid is None
    await sdk(api.create, ApplicationIn(name="Second"))
    page = await sdk(api.list, ApplicationListOptions(limit=1, order=Ordering.DESCENDING))
    assert (page.data[0].name, page.done) == ("Second", False)
    page = await sdk(api.list, ApplicationListOptions(limit=1, order=Ordering.DESCENDING, iterator=page.iterator))
    assert (page.data[0].id, page.done) == (app.id, True)
    assert await sdk(api.delete, app.id) is None
    with pytest.raises(HttpError) as missing:
        await sdk(api.get, app.id)
    assert (missing.value.status_code, missing.value.code) == (404, "not_found")


async def test_errors(sdk: Client) -> None:
    api = sdk.svix.application
    await sdk(api.create, ApplicationIn(name="Acme", uid="acme"))
    with pytest.raises(HttpError) as taken:
        await sdk(api.create, ApplicationIn(name="Acme", uid="acme"))
    assert (taken.value.status_code, taken.value.code) == (409, "conflict")
    with pytest.raises(HTTPValidationError) as invalid:
        await sdk(api.create, ApplicationIn(name="", uid="b"))
    assert invalid.value.detail[0].loc == ["body", "name"]
    with pytest.raises(HttpError) as stranger:
        await sdk(sdk.login("wrong").application.list)
    assert stranger.value.status_code == 401


async def test_event_types(sdk: Client) -> None:
    api = sdk.svix.event_type
    schemas = {"1": {"type": "object"}}
    made = await sdk(api.create, EventTypeIn(name="a.b", description="d", schemas=schemas, feature_flags=["beta"]))
    assert made.schemas == schemas and made.feature_flags == ["beta"]
    assert (await sdk(api.upsert, "a.b", EventTypeUpsertIn(description="new", group_name="g"))).group_name == "g"
    assert (await sdk(api.patch, "a.b", EventTypePatch(archived=True))).archived is True
    assert (await sdk(api.list)).data == []
    page = await sdk(api.list, EventTypeListOptions(include_archived=True, with_content=True))
    assert [one.name for one in page.data] == ["a.b"] and page.done
    await sdk(api.delete, "a.b")
    assert (await sdk(api.get, "a.b")).archived is True


async def test_endpoints(sdk: Client) -> None:
    api = sdk.svix.endpoint
    app = (await sdk(sdk.svix.application.create, ApplicationIn(name="Acme"))).id
    await sdk(sdk.svix.event_type.create, EventTypeIn(name="a.b", description="d"))
    wanted = EndpointIn(
        url=URL, description="d", uid="main", channels=["x"], headers={"X-A": "1"}, metadata={"a": "b"},
        event_types=["a.b"], secret=None, throttle_rate=None,
    )  # fmt: skip
    endpoint = await sdk(api.create, app, wanted)
    assert (endpoint.url, endpoint.channels, endpoint.event_types) == (
        URL,
        ["x"],
        ["a.b"],
    )
    assert (await sdk(api.get, app, "main")).id == endpoint.id
    assert [one.id for one in (await sdk(api.list, app, EndpointListOptions(limit=5))).data] == [endpoint.id]
    assert (await sdk(api.patch, app, "main", EndpointPatch(disabled=True, channels=None))).channels is None
    updated = await sdk(api.upsert, app, "main", EndpointUpsertIn(url=URL + "/2", uid="main"))
    assert (updated.disabled, updated.url, updated.metadata) == (False, URL + "/2", {})
    first = (await sdk(api.get_secret, app, "main")).key
    rotated = await sdk(api.rotate_secret, app, "main", EndpointSecretRotateIn(grace_period_seconds=60))
    assert rotated.key != first and (await sdk(api.get_secret, app, "main")).key == rotated.key
    await sdk(api.patch_headers, app, "main", EndpointHeadersPatchIn(headers={"X-B": "2"}, delete_headers=["X-A"]))
    assert (await sdk(api.get_headers, app, "main")).headers == {"X-B": "2"}
    await sdk(api.set_headers, app, "main", EndpointHeadersIn(headers={"Authorization": "x"}))
    assert (await sdk(api.get_headers, app, "main")).sensitive == ["Authorization"]
    await sdk(api.delete, app, "main")
    assert (await sdk(api.list, app)).data == []


async def test_messages_and_attempts(sdk: Client) -> None:
    app = (await sdk(sdk.svix.application.create, ApplicationIn(name="Acme"))).id
    endpoint = (await sdk(sdk.svix.endpoint.create, app, EndpointIn(url=URL))).id
    messages, attempts = sdk.svix.message, sdk.svix.message_attempt
    wanted = MessageIn(event_type="a.b", payload={"n": 1}, event_id="e1", channels=["x"], tags=["t"])
    message = await sdk(messages.create, app, wanted, MessageCreateOptions(with_content=True))
    assert (message.payload, message.event_id, message.channels, message.tags) == ({"n": 1}, "e1", ["x"], ["t"])
    await sdk.server.watch.settled(1)
    assert (await sdk(messages.get, app, "e1", MessageGetOptions(with_content=True))).payload == {"n": 1}
    naive = datetime.now(UTC).replace(tzinfo=None) - timedelta(hours=1)
    listed = await sdk(messages.list, app, MessageListOptions(after=naive, event_types=["a.b", "c"], channel="x"))
    assert [one.id for one in listed.data] == [message.id]

    options = MessageAttemptListByEndpointOptions(with_content=True, with_msg=True, status=0)
    (attempt,) = (await sdk(attempts.list_by_endpoint, app, endpoint, options)).data
    assert (attempt.response, attempt.response_status_code, attempt.status_text) == ("thanks", 200, "success")
    assert attempt.msg is not None and attempt.msg.id == message.id
    by_msg = MessageAttemptListByMsgOptions(endpoint_id=endpoint, before=datetime.now(UTC) + timedelta(hours=1))
    assert [one.id for one in (await sdk(attempts.list_by_msg, app, message.id, by_msg)).data] == [attempt.id]
    assert (await sdk(attempts.get, app, message.id, attempt.id)).msg_id == message.id
    (destination,) = (await sdk(attempts.list_attempted_destinations, app, message.id)).data
    assert (destination.id, destination.status, destination.next_attempt) == (endpoint, 0, None)
    await sdk(attempts.resend, app, message.id, endpoint)
    await sdk.server.watch.settled(2)

    since = datetime.now(UTC) - timedelta(hours=1)
    api = sdk.svix.endpoint
    begun = [
        await sdk(api.recover, app, endpoint, RecoverIn(since=since)),
        await sdk(api.replay_missing, app, endpoint, ReplayIn(since=since, until=datetime.now(UTC))),
        await sdk(api.bulk_replay, app, endpoint, BulkReplayIn(since=since, status=0, event_types=["a.b"], tag="t")),
    ]
    assert [task.task for task in begun] == ["endpoint.recover", "endpoint.replay", "endpoint.bulk-replay"]
    ended = [await sdk.server.watch.ended(task.id) for task in begun]
    assert [task.data["messagesSent"] for task in ended] == [0, 0, 1]


async def test_a_raw_payload(sdk: Client) -> None:
    app = (await sdk(sdk.svix.application.create, ApplicationIn(name="Acme"))).id
    await sdk(sdk.svix.endpoint.create, app, EndpointIn(url=URL))
    await sdk(sdk.svix.message.create, app, message_in_raw("a.b", "<a/>", "application/xml"))
    await sdk.server.watch.settled(1)
    sent = sdk.server.recorder.sent[0][0]
    assert (sent.payload, sent.content_type) == (b"<a/>", "application/xml")


async def test_content_that_goes(sdk: Client) -> None:
    app = (await sdk(sdk.svix.application.create, ApplicationIn(name="Acme"))).id
    await sdk(sdk.svix.endpoint.create, app, EndpointIn(url=URL))
    messages = sdk.svix.message
    made = [await sdk(messages.create, app, MessageIn(event_type="a.b", payload={"n": n})) for n in range(3)]
    first = (await sdk.server.watch.settled(3))[0]
    await sdk(messages.expunge_content, app, made[0].id)
    wanted = BulkExpungeContentsIn(ids=[made[1].id, "none"])
    assert (await sdk(messages.bulk_expunge_content, app, wanted)).results == {
        made[1].id: "expunged",
        "none": "not-found",
    }
    begun = await sdk(messages.expunge_all_contents, app)
    assert (await sdk.server.watch.ended(begun.id)).data == {"messagesPurged": 1}
    attempts = sdk.svix.message_attempt
    await sdk(attempts.expunge_content, app, first.message, first.id)
    assert (await sdk(attempts.get, app, first.message, first.id)).response == "EXPUNGED"


async def test_tasks_and_figures(sdk: Client) -> None:
    app = (await sdk(sdk.svix.application.create, ApplicationIn(name="Acme", uid="acme"))).id
    now = datetime.now(UTC)
    api = sdk.svix.statistics
    wanted = AppUsageStatsIn(since=now - timedelta(days=1), until=now, app_ids=["acme", "nobody"])
    usage = await sdk(api.aggregate_app_stats, wanted)
    assert (usage.status, usage.task, usage.unresolved_app_ids) == ("running", "application.stats", ["nobody"])
    types = await sdk(api.aggregate_event_types)
    await sdk.server.watch.ended(usage.id)
    await sdk.server.watch.ended(types.id)
    tasks = sdk.svix.background_task
    shown = await sdk(tasks.get, types.id)
    assert (shown.status, shown.data["event_types"][0]["appId"]) == ("finished", app)
    listed = await sdk(tasks.list, BackgroundTaskListOptions(status="finished", task="application.stats"))
    assert [task.id for task in listed.data] == [usage.id]


async def test_operational_webhooks(sdk: Client) -> None:
    api = sdk.svix.operational_webhook.endpoint
    wanted = OperationalWebhookEndpointIn(
        url=URL, uid="ops", description="d", event_types=["endpoint.created", "endpoint.disabled"], headers={"X-A": "1"},
        metadata={"a": "b"}, throttle_rate=7,
    )  # fmt: skip
    made = await sdk(api.create, wanted)
    assert (made.uid, made.event_types, made.throttle_rate) == ("ops", wanted.event_types, 7)
    assert (await sdk(api.get, "ops")).id == made.id
    listed = await sdk(api.list, OperationalWebhookEndpointListOptions(limit=5, order=Ordering.ASCENDING))
    assert ([one.id for one in listed.data], listed.done) == ([made.id], True)
    assert (await sdk(api.get_headers, "ops")).headers == {"X-A": "1"}
    await sdk(api.set_headers, "ops", OperationalWebhookEndpointHeadersIn(headers={"X-B": "2"}))
    assert (await sdk(api.get_headers, made.id)).headers == {"X-B": "2"}
    first = (await sdk(api.get_secret, "ops")).key
    assert await sdk(api.rotate_secret, "ops", OperationalWebhookEndpointSecretIn(grace_period_seconds=5)) is None
    assert (await sdk(api.get_secret, "ops")).key != first
    changed = OperationalWebhookEndpointUpsertIn(url=URL + "/2", uid="ops", event_types=["endpoint.created"])
    assert (await sdk(api.upsert, "ops", changed)).url == URL + "/2"

    app = (await sdk(sdk.svix.application.create, ApplicationIn(name="Acme", uid="acme"))).id
    endpoint = (await sdk(sdk.svix.endpoint.create, app, EndpointIn(url=URL))).id
    await sdk.server.watch.settled(1)
    ((message, receiver),) = sdk.server.recorder.sent
    assert (message.event_type, receiver.url) == ("endpoint.created", URL + "/2")
    body = json.loads(message.payload)
    assert body == {
        "type": "endpoint.created",
        "data": {"appId": app, "appUid": "acme", "endpointId": endpoint, "endpointUid": None},
    }
    await sdk(api.delete, "ops")
    assert (await sdk(api.list)).data == []


async def test_health(sdk: Client) -> None:
    await sdk(sdk.svix.health.get)
