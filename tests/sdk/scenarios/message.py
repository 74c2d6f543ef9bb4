"""`message`."""

from datetime import UTC, datetime, timedelta

from svix.api import (
    ApplicationIn,
    BackgroundTaskType,
    BulkExpungeContentsIn,
    BulkExpungeStatus,
    EventTypeIn,
    MessageCreateOptions,
    MessageGetOptions,
    MessageIn,
    MessageListOptions,
    MessagePrecheckIn,
)
from svix.api.message import message_in_raw

from tests.sdk.client import Sdk
from tests.sdk.operations import exercises

CONTENT = MessageGetOptions(with_content=True)
EXPIRED = {"expired": True}


@exercises("message.create")
async def create(sdk: Sdk) -> None:
    app = await sdk.app()
    wanted = MessageIn(event_type="a.b", payload={"n": 1}, event_id="e1", channels=["x"], tags=["t"])
    message = await sdk.message.create(app, wanted, MessageCreateOptions(with_content=True))
    assert (message.event_type, message.payload, message.event_id) == ("a.b", {"n": 1}, "e1")
    assert (message.channels, message.tags) == (["x"], ["t"])


@exercises("message.create", "with an application that is not there")
async def create_with_application(sdk: Sdk) -> None:
    wanted = MessageIn(event_type="a.b", payload={}, application=ApplicationIn(name="Acme", uid="acme"))
    message = await sdk.message.create("acme", wanted)
    assert (await sdk.application.get("acme")).name == "Acme"
    assert await sdk.message.get("acme", message.id) == message


@exercises("message.create", "raw")
async def create_raw(sdk: Sdk) -> None:
    app = await sdk.app()
    await sdk.endpoint_of(app)
    await sdk.message.create(app, message_in_raw("a.b", "<a/>", "application/xml"))
    await sdk.server.watch.settled(1)
    sent = sdk.server.recorder.sent[0][0]
    assert (sent.payload, sent.content_type) == (b"<a/>", "application/xml")


@exercises("message.get")
async def get(sdk: Sdk) -> None:
    app = await sdk.app()
    message = await sdk.publish(app, event_id="e1")
    assert await sdk.message.get(app, message.id) == message
    assert (await sdk.message.get(app, "e1", CONTENT)).payload == {"n": 1}


@exercises("message.list")
async def listing(sdk: Sdk) -> None:
    app = await sdk.app()
    first = await sdk.publish(app, event_type="a.b", channels=["x"], tags=["t"])
    second = await sdk.publish(app)
    page = await sdk.message.list(app, MessageListOptions(limit=1))
    assert ([one.id for one in page.data], page.done) == ([second.id], False)
    naive = datetime.now(UTC).replace(tzinfo=None) - timedelta(hours=1)
    for options in (
        MessageListOptions(after=naive, event_types=["a.b", "c"]),
        MessageListOptions(channel="x", with_content=True),
        MessageListOptions(tag="t", before=naive + timedelta(hours=2)),
    ):
        assert [one.id for one in (await sdk.message.list(app, options)).data] == [first.id]


@exercises("message.precheck")
async def precheck(sdk: Sdk) -> None:
    app = await sdk.app()
    await sdk.event_type.create(EventTypeIn(name="a.b", description=""))
    await sdk.endpoint_of(app, event_types=["a.b"], channels=["x"])
    for wanted, active in (
        (MessagePrecheckIn(event_type="a.b", channels=["x", "y"]), True),
        (MessagePrecheckIn(event_type="a.b", channels=["y"]), False),
        (MessagePrecheckIn(event_type="c.d", channels=["x"]), False),
    ):
        assert (await sdk.message.precheck(app, wanted)).active is active


@exercises("message.expunge_content")
async def expunge_content(sdk: Sdk) -> None:
    app, _, message = await sdk.delivered()
    assert await sdk.message.expunge_content(app, message) is None
    assert (await sdk.message.get(app, message, CONTENT)).payload == EXPIRED


@exercises("message.bulk_expunge_content")
async def bulk_expunge_content(sdk: Sdk) -> None:
    app = await sdk.app()
    message, other = await sdk.publish(app), await sdk.publish(app, event_id="e1")
    unknown = message.id[:-1] + ("0" if message.id[-1] != "0" else "1")
    ids = BulkExpungeContentsIn(ids=[message.id, "e1", unknown])
    assert (await sdk.message.bulk_expunge_content(app, ids)).results == {
        message.id: BulkExpungeStatus.EXPUNGED, "e1": BulkExpungeStatus.EXPUNGED, unknown: BulkExpungeStatus.NOT_FOUND,
    }  # fmt: skip
    assert (await sdk.message.get(app, other.id, CONTENT)).payload == EXPIRED


@exercises("message.expunge_all_contents")
async def expunge_all_contents(sdk: Sdk) -> None:
    app = await sdk.app()
    messages = [await sdk.publish(app) for _ in range(3)]
    task = await sdk.message.expunge_all_contents(app)
    assert task.task is BackgroundTaskType.APPLICATION_PURGE_CONTENT
    assert (await sdk.finished(task.id)).data == {"messagesPurged": 3}
    for message in messages:
        assert (await sdk.message.get(app, message.id, CONTENT)).payload == EXPIRED
