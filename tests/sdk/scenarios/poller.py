"""`message.poller`: messages that a consumer fetches by itself."""

from datetime import UTC, datetime, timedelta

from svix.api import MessagePollerConsumerPollOptions, MessagePollerPollOptions, PollingEndpointConsumerSeekIn

from tests.sdk.client import Sdk
from tests.sdk.operations import exercises


async def one(sdk: Sdk) -> tuple[str, str]:
    """An application and an endpoint that is only polled."""
    app = await sdk.app()
    return app, await sdk.endpoint_of(app, disabled=True)


@exercises("message.poller.poll")
async def poll(sdk: Sdk) -> None:
    app, sink = await one(sdk)
    first = await sdk.publish(app, channels=["x"])
    second = await sdk.publish(app, event_type="a.b")
    page = await sdk.message.poller.poll(app, sink, MessagePollerPollOptions(limit=1))
    assert ([(found.id, found.payload) for found in page.data], page.done) == ([(first.id, {"n": 1})], False)
    page = await sdk.message.poller.poll(app, sink, MessagePollerPollOptions(iterator=page.iterator))
    assert ([found.id for found in page.data], page.done) == ([second.id], True)
    filtered = MessagePollerPollOptions(
        event_type="invoice.paid", channel="x", after=datetime.now(UTC) - timedelta(hours=1)
    )
    assert [found.id for found in (await sdk.message.poller.poll(app, sink, filtered)).data] == [first.id]


@exercises("message.poller.consumer_poll")
async def consumer_poll(sdk: Sdk) -> None:
    app, sink = await one(sdk)
    messages = [(await sdk.publish(app)).id for _ in range(2)]
    page = await sdk.message.poller.consumer_poll(app, sink, "me", MessagePollerConsumerPollOptions(limit=1))
    assert [found.id for found in page.data] == messages[:1]
    page = await sdk.message.poller.consumer_poll(
        app, sink, "me", MessagePollerConsumerPollOptions(iterator=page.iterator)
    )
    assert [found.id for found in page.data] == messages[1:]


@exercises("message.poller.consumer_seek")
async def consumer_seek(sdk: Sdk) -> None:
    app, sink = await one(sdk)
    message = await sdk.publish(app)
    assert [found.id for found in (await sdk.message.poller.consumer_poll(app, sink, "me")).data] == [message.id]
    back = PollingEndpointConsumerSeekIn(after=datetime.now(UTC) - timedelta(hours=1))
    iterator = (await sdk.message.poller.consumer_seek(app, sink, "me", back)).iterator
    again = MessagePollerConsumerPollOptions(iterator=iterator)
    assert [found.id for found in (await sdk.message.poller.consumer_poll(app, sink, "me", again)).data] == [message.id]
