"""An attempt at an endpoint with a transformation: what is sent to whom, once its code has had its say."""

import asyncio
from typing import NamedTuple

from msgspec.structs import replace

from tenterhook.clock import SECOND
from tenterhook.model import Endpoint, Message, Outcome, Reason, Result
from tenterhook.transformations.contract import Changed, Failed, Transform, Webhook

CANCELLED = "the transformation set webhook.cancel: nothing was sent"


class NotSent(Exception):
    """The attempt has ended already: the transformation cancelled the message, or failed."""

    def __init__(self, result: Result, detail: str, url: str) -> None:
        super().__init__(detail)
        self.outcome = Outcome(result=result, reason=Reason.TRANSFORMATION, detail=detail, url=url)


class Begun(NamedTuple):
    """What the rest of the attempt works with. `payload` is what is sent instead of the message's, None where that is it."""

    message: Message
    endpoint: Endpoint
    method: str
    deadline: int
    payload: bytes | None


async def transformed(transform: Transform, message: Message, endpoint: Endpoint, deadline: int) -> Begun:
    """Run the endpoint's code on a message within `deadline` µs, of which the rest is left. Raises NotSent."""
    transformation = endpoint.transformation
    if transformation is None or transformation.code is None:
        return Begun(message, endpoint, "POST", deadline, None)
    webhook = Webhook(
        url=endpoint.url,
        event_type=message.event_type,
        payload=message.payload,
        content_type=message.content_type,
    )
    loop = asyncio.get_running_loop()
    began = loop.time()
    try:
        changed = await transform((endpoint.id, endpoint.app), transformation, webhook, deadline=deadline)
    except Failed as failed:
        raise NotSent(Result.RETRY, failed.detail, endpoint.url) from None
    if changed is None:
        raise NotSent(Result.CANCELLED, CANCELLED, endpoint.url)
    rest = max(1, deadline - round((loop.time() - began) * SECOND))
    if changed.payload is not None:
        message = replace(message, payload=changed.payload, content_type=changed.content_type)
    return Begun(message, _towards(endpoint, changed), changed.method, rest, changed.payload)


def _towards(endpoint: Endpoint, changed: Changed) -> Endpoint:
    """The endpoint with the URL and the headers of the transformation, which win over its own."""
    named = {name.lower() for name, _ in changed.headers}
    kept = tuple(pair for pair in endpoint.headers if pair[0].lower() not in named)
    return replace(endpoint, url=changed.url, headers=(*kept, *changed.headers))
