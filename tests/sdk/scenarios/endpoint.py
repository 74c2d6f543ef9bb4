"""`endpoint`: the object itself, and what is sent to it again."""

from datetime import UTC, datetime, timedelta

from svix.api import (
    BackgroundTaskType,
    BulkReplayIn,
    EndpointGetAttemptStatsOptions,
    EndpointGetStatsOptions,
    EndpointIn,
    EndpointListOptions,
    EndpointPatch,
    EndpointUpsertIn,
    EventExampleIn,
    EventTypeIn,
    MessageStatus,
    Ordering,
    RecoverIn,
    ReplayIn,
)

from tests.api import OK, REFUSED, URL
from tests.sdk.client import Sdk
from tests.sdk.operations import exercises


def ago(hours: int) -> datetime:
    return datetime.now(UTC) - timedelta(hours=hours)


@exercises("endpoint.create")
async def create(sdk: Sdk) -> None:
    app = await sdk.app()
    await sdk.event_type.create(EventTypeIn(name="a.b", description="d"))
    wanted = EndpointIn(
        url=URL, description="d", uid="main", channels=["x"], headers={"X-A": "1"}, metadata={"a": "b"},
        event_types=["a.b"], secret=None, throttle_rate=None,
    )  # fmt: skip
    endpoint = await sdk.endpoint.create(app, wanted)
    assert (endpoint.url, endpoint.description, endpoint.uid, endpoint.disabled) == (URL, "d", "main", False)
    assert (endpoint.channels, endpoint.event_types, endpoint.metadata) == (["x"], ["a.b"], {"a": "b"})


@exercises("endpoint.get")
async def get(sdk: Sdk) -> None:
    app = await sdk.app(uid="acme")
    endpoint = await sdk.endpoint.create(app, EndpointIn(url=URL, uid="main"))
    assert await sdk.endpoint.get("acme", "main") == await sdk.endpoint.get(app, endpoint.id) == endpoint


@exercises("endpoint.list")
async def listing(sdk: Sdk) -> None:
    app = await sdk.app()
    first, second = await sdk.endpoint_of(app), await sdk.endpoint_of(app)
    assert [one.id for one in (await sdk.endpoint.list(app)).data] == [second, first]
    page = await sdk.endpoint.list(app, EndpointListOptions(limit=1, order=Ordering.ASCENDING))
    assert ([one.id for one in page.data], page.done) == ([first], False)


@exercises("endpoint.patch")
async def patch(sdk: Sdk) -> None:
    app = await sdk.app()
    endpoint = await sdk.endpoint_of(app, channels=["x"], uid="main")
    changed = await sdk.endpoint.patch(app, "main", EndpointPatch(disabled=True, channels=None))
    assert (changed.id, changed.disabled, changed.channels, changed.uid) == (endpoint, True, None, "main")


@exercises("endpoint.upsert")
async def upsert(sdk: Sdk) -> None:
    app = await sdk.app()
    endpoint = await sdk.endpoint_of(app, uid="main", disabled=True, metadata={"a": "b"})
    replaced = await sdk.endpoint.upsert(app, "main", EndpointUpsertIn(url=URL + "/2", uid="main"))
    assert (replaced.id, replaced.disabled, replaced.url, replaced.metadata) == (endpoint, False, URL + "/2", {})
    made = await sdk.endpoint.upsert(app, "another", EndpointUpsertIn(url=URL))
    assert made.id != endpoint and made.uid is None


@exercises("endpoint.delete")
async def delete(sdk: Sdk) -> None:
    app = await sdk.app()
    assert await sdk.endpoint.delete(app, await sdk.endpoint_of(app)) is None
    assert (await sdk.endpoint.list(app)).data == []


@exercises("endpoint.get_stats")
async def get_stats(sdk: Sdk) -> None:
    app, endpoint, _ = await sdk.delivered()
    sdk.server.recorder.outcomes = [REFUSED]
    await sdk.publish(app)
    await sdk.server.watch.settled(2)
    stats = await sdk.endpoint.get_stats(
        app, endpoint, EndpointGetStatsOptions(since=ago(1), until=ago(-1) - timedelta(hours=1))
    )
    assert (stats.success, stats.fail, stats.pending, stats.sending, stats.canceled) == (1, 1, 0, 0, 0)
    earlier = EndpointGetStatsOptions(since=ago(3), until=ago(2))
    assert (await sdk.endpoint.get_stats(app, endpoint, earlier)).success == 0


@exercises("endpoint.get_attempt_stats")
async def get_attempt_stats(sdk: Sdk) -> None:
    app, endpoint, message = await sdk.delivered()
    await sdk.message_attempt.resend(app, message, endpoint)
    await sdk.server.watch.settled(2)
    stats = await sdk.endpoint.get_attempt_stats(app, endpoint)
    assert (stats.success, stats.fail, stats.canceled) == (2, 0, 0)
    earlier = EndpointGetAttemptStatsOptions(since=ago(30), until=ago(3))
    assert (await sdk.endpoint.get_attempt_stats(app, endpoint, earlier)).success == 0


@exercises("endpoint.recover")
async def recover(sdk: Sdk) -> None:
    sdk.server.recorder.outcomes = [REFUSED, OK]
    app, endpoint, message = await sdk.delivered()
    task = await sdk.endpoint.recover(app, endpoint, RecoverIn(since=ago(1)))
    assert task.id.startswith("qtask_") and task.task is BackgroundTaskType.ENDPOINT_RECOVER
    await sdk.server.watch.settled(2)
    assert [sent.id for sent, _ in sdk.server.recorder.sent] == [message, message]


@exercises("endpoint.replay_missing")
async def replay_missing(sdk: Sdk) -> None:
    app = await sdk.app()
    message = await sdk.publish(app)
    endpoint = await sdk.endpoint_of(app)
    task = await sdk.endpoint.replay_missing(app, endpoint, ReplayIn(since=ago(1)))
    assert task.task is BackgroundTaskType.ENDPOINT_REPLAY
    await sdk.server.watch.settled(1)
    assert [sent.id for sent, _ in sdk.server.recorder.sent] == [message.id]


@exercises("endpoint.bulk_replay")
async def bulk_replay(sdk: Sdk) -> None:
    app, endpoint, message = await sdk.delivered(tags=["wanted"])
    await sdk.publish(app)
    await sdk.server.watch.settled(2)
    wanted = BulkReplayIn(since=ago(1), tag="wanted", event_types=["invoice.paid"], status=MessageStatus.SUCCESS)
    task = await sdk.endpoint.bulk_replay(app, endpoint, wanted)
    assert task.task is BackgroundTaskType.ENDPOINT_BULK_REPLAY
    await sdk.server.watch.settled(3)
    assert sdk.server.recorder.sent[-1][0].id == message


@exercises("endpoint.send_example")
async def send_example(sdk: Sdk) -> None:
    app = await sdk.app()
    endpoint = await sdk.endpoint_of(app)
    schema = {"type": "object", "examples": [{"n": 1}, {"n": 2}]}
    await sdk.event_type.create(EventTypeIn(name="a.b", description="d", schemas={"1": schema}))
    message = await sdk.endpoint.send_example(app, endpoint, EventExampleIn(event_type="a.b", example_index=1))
    assert (message.event_type, message.payload) == ("a.b", {})
    await sdk.server.watch.settled(1)
    assert sdk.server.recorder.sent[0][0].payload.replace(b" ", b"") == b'{"n":2}'
