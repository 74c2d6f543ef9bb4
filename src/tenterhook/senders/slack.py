"""Endpoints of kind `slack`: a message becomes words, and the words a post to an incoming webhook."""

from collections.abc import Sequence
from typing import Protocol

import msgspec

from tenterhook.errors import Invalid
from tenterhook.model import Endpoint, Message, Outcome, Reason, Result
from tenterhook.senders import chat
from tenterhook.senders.base import Sender
from tenterhook.senders.webhook import user_agent

SERVICE = "slack"


class Client(Protocol):
    """What posts: never raises for what a receiver or a network does."""

    async def post(self, url: str, headers: Sequence[tuple[str, str]], body: bytes, *, deadline: int) -> Outcome:
        """One request within `deadline` µs. Raises Invalid for headers that cannot be sent."""


class SlackSender:
    """Posts to the incoming webhook that the endpoint's URL is. The client belongs to whoever made it."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._agent = user_agent()

    async def send(self, message: Message, endpoint: Endpoint, *, deadline: int, now: int) -> Outcome:
        """One attempt; an event that says nothing in a chat is done without a request."""
        document = render(message)
        if document is None:
            detail = "this event is no message in Slack, so nothing was sent"
            return Outcome(result=Result.OK, detail=detail, url=chat.mask_url(endpoint.url), request_body=b"")
        body = msgspec.json.encode(document)
        headers = (("user-agent", self._agent), ("content-type", "application/json"), *endpoint.headers)
        try:
            outcome = await self._client.post(endpoint.url, headers, body, deadline=deadline)
        except Invalid as invalid:
            outcome = Outcome(result=Result.RETRY, reason=Reason.INVALID_MESSAGE, detail=invalid.detail)
        # masked first: what is said of an answer quotes its beginning, which may end inside of a secret
        return chat.judged(SERVICE, chat.masked(outcome, endpoint.url, body))

    async def close(self) -> None:
        """Nothing is kept open here."""


def render(message: Message) -> dict[str, object] | None:
    """The document that Slack is sent for a message; None for an event that says nothing in a chat."""
    card = chat.card_of(message, SERVICE, message.created_at)
    return None if card is None else chat.chat(SERVICE).document(card)


_: type[Sender] = SlackSender
