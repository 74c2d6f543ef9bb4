"""`message_attempt`."""

from datetime import UTC, datetime, timedelta

from svix.api import (
    MessageAttemptListAttemptedDestinationsOptions,
    MessageAttemptListAttemptedMessagesOptions,
    MessageAttemptListByEndpointOptions,
    MessageAttemptListByMsgOptions,
    MessageAttemptTriggerType,
    MessageStatus,
    MessageStatusText,
    StatusCodeClass,
)

from tests.api import REFUSED, URL
from tests.sdk.client import Sdk
from tests.sdk.operations import exercises


@exercises("message_attempt.list_by_endpoint")
async def list_by_endpoint(sdk: Sdk) -> None:
    app, endpoint, message = await sdk.delivered(tags=["t"])
    options = MessageAttemptListByEndpointOptions(
        with_content=True,
        with_msg=True,
        status=MessageStatus.SUCCESS,
        status_code_class=StatusCodeClass(200),
        tag="t",
    )
    (attempt,) = (await sdk.message_attempt.list_by_endpoint(app, endpoint, options)).data
    assert (attempt.response, attempt.response_status_code, attempt.url) == ("thanks", 200, URL)
    assert (attempt.status, attempt.status_text) == (MessageStatus.SUCCESS, MessageStatusText.SUCCESS)
    assert attempt.msg is not None and attempt.msg.id == message
    none = MessageAttemptListByEndpointOptions(status=MessageStatus.FAIL)
    assert (await sdk.message_attempt.list_by_endpoint(app, endpoint, none)).data == []


@exercises("message_attempt.list_by_msg")
async def list_by_msg(sdk: Sdk) -> None:
    app, endpoint, message = await sdk.delivered()
    soon = datetime.now(UTC) + timedelta(hours=1)
    options = MessageAttemptListByMsgOptions(endpoint_id=endpoint, before=soon, event_types=["invoice.paid"])
    (attempt,) = (await sdk.message_attempt.list_by_msg(app, message, options)).data
    assert (attempt.msg_id, attempt.endpoint_id, attempt.response) == (message, endpoint, "{}")
    assert attempt.trigger_type is MessageAttemptTriggerType.SCHEDULED


@exercises("message_attempt.list_attempted_messages")
async def list_attempted_messages(sdk: Sdk) -> None:
    app, endpoint, first = await sdk.delivered()
    sdk.server.recorder.outcomes = [REFUSED]
    second = (await sdk.publish(app)).id
    await sdk.server.watch.settled(2)
    found = (await sdk.message_attempt.list_attempted_messages(app, endpoint)).data
    assert [(one.id, one.status, one.next_attempt) for one in found] == [
        (second, MessageStatus.FAIL, None),
        (first, MessageStatus.SUCCESS, None),
    ]
    failed = MessageAttemptListAttemptedMessagesOptions(status=MessageStatus.FAIL, with_content=True)
    (only,) = (await sdk.message_attempt.list_attempted_messages(app, endpoint, failed)).data
    assert (only.id, only.payload) == (second, {"n": 1})


@exercises("message_attempt.list_attempted_destinations")
async def list_attempted_destinations(sdk: Sdk) -> None:
    app, endpoint, message = await sdk.delivered()
    options = MessageAttemptListAttemptedDestinationsOptions(limit=5)
    page = await sdk.message_attempt.list_attempted_destinations(app, message, options)
    assert [(one.id, one.status, one.next_attempt) for one in page.data] == [(endpoint, MessageStatus.SUCCESS, None)]
    assert page.done


@exercises("message_attempt.get")
async def get(sdk: Sdk) -> None:
    app, _, message = await sdk.delivered()
    (listed,) = (await sdk.message_attempt.list_by_msg(app, message)).data
    attempt = await sdk.message_attempt.get(app, message, listed.id)
    assert (attempt.msg_id, attempt.response) == (message, "thanks")


@exercises("message_attempt.expunge_content")
async def expunge_content(sdk: Sdk) -> None:
    app, _, message = await sdk.delivered()
    (attempt,) = (await sdk.message_attempt.list_by_msg(app, message)).data
    assert await sdk.message_attempt.expunge_content(app, message, attempt.id) is None
    assert (await sdk.message_attempt.get(app, message, attempt.id)).response == "EXPUNGED"


@exercises("message_attempt.resend")
async def resend(sdk: Sdk) -> None:
    app, endpoint, message = await sdk.delivered()
    await sdk.message_attempt.resend(app, message, endpoint)
    await sdk.server.watch.settled(2)
    attempts = (await sdk.message_attempt.list_by_msg(app, message)).data
    assert attempts[0].trigger_type is MessageAttemptTriggerType.MANUAL
