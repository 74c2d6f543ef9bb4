"""The sender of kind `webhook`: one signed POST per attempt, by Standard Webhooks."""

from collections import OrderedDict
from functools import lru_cache
from importlib import metadata
from urllib.parse import quote

from msgspec import Struct
from msgspec.structs import replace

from tenterhook.clock import SECOND
from tenterhook.errors import Invalid
from tenterhook.headers import SENSITIVE, header_lines, without_credentials
from tenterhook.model import Endpoint, Message, Outcome, Reason, Result
from tenterhook.senders.base import Sender
from tenterhook.senders.http import HttpClient, Prepared
from tenterhook.senders.transforming import NotSent, transformed
from tenterhook.signing import Signer
from tenterhook.transformations.contract import Transform
from tenterhook.urls import UrlRefused

MOST_PREPARED = 10_000
"""For how many endpoints the fixed part of the request and the decoded keys are kept."""

UNKNOWN_CONTENT = "application/octet-stream"
LONGEST_CONTENT_TYPE = 1_024
"""Strangers send them, and the lines made of them are kept for a while."""

_VISIBLE = "!#$&'()*+,/:;=?@[]|^`{}<>\\"


class _Ready(Struct, frozen=True):
    """What the attempts of one endpoint share."""

    endpoint: Endpoint
    method: str
    prepared: Prepared
    signer: Signer
    hides: bool  # a header of it is a credential, which no record may show


def user_agent() -> str:
    """`Tenterhook/` and the installed version."""
    try:
        return f"Tenterhook/{metadata.version('tenterhook')}"
    except metadata.PackageNotFoundError:
        return "Tenterhook/0"


@lru_cache(maxsize=4_096)
def message_lines(content_type: str, event_type: str) -> bytes:
    """The header lines that tell what a message is. A content type that cannot stand in a line was never one;
    of an event type, what is not visible ASCII is percent-encoded."""
    event = ("tenterhook-event-type", quote(event_type, safe=_VISIBLE, errors="replace"))
    try:
        return header_lines((("content-type", content_type or UNKNOWN_CONTENT), event))
    except Invalid:
        return header_lines((("content-type", UNKNOWN_CONTENT), event))


class WebhookSender:
    """POSTs a message's payload as it is, or as the endpoint's transformation has it.

    Signed anew for each attempt with all secrets that have not expired.
    """

    def __init__(
        self,
        client: HttpClient,
        transform: Transform,
        *,
        agent: str | None = None,
        most_prepared: int = MOST_PREPARED,
    ) -> None:
        """`agent` is the value of `user-agent`; None takes `user_agent()`."""
        self._client, self._transform = client, transform
        self._agent = agent or user_agent()
        self._most = most_prepared
        self._ready: OrderedDict[str, _Ready] = OrderedDict()

    async def send(self, message: Message, endpoint: Endpoint, *, deadline: int, now: int) -> Outcome:
        """One attempt, as `senders.base.Sender` says."""
        method, sent_instead = "POST", None
        if endpoint.transformation is not None and endpoint.transformation.enabled:
            try:
                begun = await transformed(self._transform, message, endpoint, deadline)
            except NotSent as reason:
                return reason.outcome
            message, endpoint, method, deadline, sent_instead = begun
        try:
            ready = self._ready_for(endpoint, method, now)
            content_type = message.content_type
            if len(content_type) > LONGEST_CONTENT_TYPE:
                content_type = UNKNOWN_CONTENT
            lines = message_lines(content_type, message.event_type)
            lines += ready.signer.headers(message.id, now // SECOND, message.payload)
        except UrlRefused as refused:
            return _failed(endpoint, Reason.REFUSED_ADDRESS, refused.detail)
        except Invalid as invalid:
            return _failed(endpoint, Reason.INVALID_MESSAGE, invalid.detail)
        outcome = await self._client.send(ready.prepared, lines, message.payload, deadline=deadline, now=now)
        if sent_instead is not None:
            outcome = replace(outcome, request_body=sent_instead)
        if not ready.hides:
            return outcome
        return replace(outcome, request_head=without_credentials(outcome.request_head))

    async def close(self) -> None:
        """Forget the keys. The client is closed by whoever made it."""
        self._ready.clear()

    def _ready_for(self, endpoint: Endpoint, method: str, now: int) -> _Ready:
        """Raises Invalid for an endpoint that no request can be made for."""
        ready = self._ready.get(endpoint.id)
        if ready is not None:
            same = ready.method == method and (ready.endpoint is endpoint or ready.endpoint == endpoint)
            expires_at = ready.signer.expires_at
            if same and (expires_at is None or now < expires_at):
                self._ready.move_to_end(endpoint.id)
                return ready
        headers = (("user-agent", self._agent), *endpoint.headers)
        hides = any(name.lower() in SENSITIVE for name, _ in endpoint.headers)
        prepared = self._client.prepare(endpoint.url, headers, method)
        ready = _Ready(endpoint, method, prepared, Signer.of(endpoint.secrets, now), hides)
        self._ready[endpoint.id] = ready
        self._ready.move_to_end(endpoint.id)
        if len(self._ready) > self._most:
            self._ready.popitem(last=False)
        return ready


def _failed(endpoint: Endpoint, reason: Reason, detail: str) -> Outcome:
    return Outcome(result=Result.RETRY, reason=reason, detail=detail, url=endpoint.url)


_: type[Sender] = WebhookSender
