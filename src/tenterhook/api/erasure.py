"""`…/content`: removing what messages and attempts hold, at once and for good."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta

from tenterhook.api import messages
from tenterhook.api.http import NO_CONTENT, Call, Response, json_response
from tenterhook.api.idempotency import RememberFor
from tenterhook.api.routes import Access, Route
from tenterhook.api.shapes import In, Out, Uid
from tenterhook.api.tasks import TaskOut, begun
from tenterhook.errors import NotFound
from tenterhook.model import Task, TaskKind

if TYPE_CHECKING:
    from tenterhook.api.app import Api


class Expunged(StrEnum):
    """What became of one of the messages."""

    EXPUNGED = "expunged"
    NOT_FOUND = "not-found"


class BulkExpungeContentsIn(In):
    """The ids of messages, or their `eventId`s."""

    ids: Annotated[list[Uid], Meta(max_length=1_000)] | None = None


class BulkExpungeContentsOut(Out):
    """What became of each of them."""

    results: dict[str, Expunged]


async def _app(api: "Api", call: Call) -> str:
    return (await api.registry.application(call.params["app_id"])).id


async def expunge_message(api: "Api", call: Call) -> Response:
    """Remove the payload, what attempts have sent of it, and the copies in received requests that repeat it."""
    if not await api.store.expunge_messages(await _app(api, call), [call.params["msg_id"]]):
        raise NotFound
    return NO_CONTENT


async def bulk_expunge(api: "Api", call: Call) -> Response:
    """The same for many messages."""
    app = await _app(api, call)

    async def act() -> Response:
        asked = (await call.json(BulkExpungeContentsIn)).ids or []
        found = set(await api.store.expunge_messages(app, asked))
        return json_response(
            200,
            BulkExpungeContentsOut(
                results={ref: Expunged.EXPUNGED if ref in found else Expunged.NOT_FOUND for ref in asked}
            ),
        )

    return await api.idempotency.once(call, act)


async def expunge_all(api: "Api", call: Call) -> Response:
    """The same for every message that the application has. The task's `data` has `messagesPurged`."""

    async def made(remember: RememberFor) -> Task:
        return await api.tasks.begin(TaskKind.PURGE, await _app(api, call), {}, remember)

    return await api.idempotency.creating(call, 202, made, begun)


async def expunge_attempt(api: "Api", call: Call) -> Response:
    """Remove the body of the answer, which reads `EXPUNGED` from then on, and of the request."""
    message = await messages.find(api, call)
    await api.store.expunge_attempt(message.app, message.id, call.params["attempt_id"])
    return NO_CONTENT


_MSG = "/api/v1/app/{app_id}/msg"
ROUTES = [
    Route("DELETE", _MSG + "/{msg_id}/content", expunge_message, "v1.message.expunge-content",
          "Remove the content of a message", {204: None}, Access.ORGANISATION),
    Route("POST", _MSG + "/bulk-expunge", bulk_expunge, "v1.message.bulk-expunge-content",
          "Remove the content of messages", {200: BulkExpungeContentsOut}, Access.ORGANISATION,
          body=BulkExpungeContentsIn),
    Route("POST", _MSG + "/expunge-all-contents", expunge_all, "v1.message.expunge-all-contents",
          "Remove the content of all messages", {202: TaskOut}, Access.ORGANISATION),
    Route("DELETE", _MSG + "/{msg_id}/attempt/{attempt_id}/content", expunge_attempt,
          "v1.message-attempt.expunge-content", "Remove the content of an attempt", {204: None}, Access.ORGANISATION),
]  # fmt: skip
