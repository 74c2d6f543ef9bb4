"""What receives in the demonstration: a stand-in for Slack, and a receiver of signed webhooks, both on this machine."""

import asyncio
import contextlib
import html
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from tenterhook.http_server import http_server, listen
from tenterhook.signing import Webhook, WebhookVerificationError

MOST_ATTACHMENTS = 100
MOST_BLOCKS = 50
MOST_TEXT = 40_000


class Receiver:
    """An ASGI application that answers POSTs; `received` are headers (names in lower case) and bodies, in order."""

    def __init__(self) -> None:
        self.received: list[tuple[dict[str, str], bytes]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        parts, more = [], True
        while more:
            event = await receive()
            parts.append(event.get("body", b""))
            more = event.get("more_body", False)
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        status, text = self.answer(headers, b"".join(parts))
        head = [(b"content-type", b"text/plain"), (b"content-length", str(len(text)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": head})
        await send({"type": "http.response.body", "body": text.encode()})

    def answer(self, headers: dict[str, str], body: bytes) -> tuple[int, str]:
        """Status and text; keeps what it accepts."""
        raise NotImplementedError


class SlackStandIn(Receiver):
    """Answers as an incoming webhook of Slack does: `ok`, or 400 with Slack's word for what is wrong."""

    def answer(self, headers: dict[str, str], body: bytes) -> tuple[int, str]:
        problem = slack_problem(headers.get("content-type", ""), body)
        if problem is not None:
            return 400, problem
        self.received.append((headers, body))
        return 200, "ok"

    def text(self) -> str:
        """The last message as it reads in a channel."""
        return slack_text(msgspec.json.decode(self.received[-1][1]))


class SignedReceiver(Receiver):
    """Takes what its secret verifies, and refuses the rest with 401."""

    def __init__(self, secret: str) -> None:
        super().__init__()
        self._webhook = Webhook(secret)

    def answer(self, headers: dict[str, str], body: bytes) -> tuple[int, str]:
        try:
            self._webhook.verify_bytes(body, headers)
        except WebhookVerificationError as error:
            return 401, str(error)
        self.received.append((headers, body))
        return 200, "verified"


def slack_problem(content_type: str, body: bytes) -> str | None:
    """Slack's word for what is wrong with a message, None if nothing is.

    https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks lists the words.
    """
    try:
        document = msgspec.json.decode(body)
    except msgspec.DecodeError:
        return "invalid_payload"
    if not content_type.startswith("application/json") or not isinstance(document, dict):
        return "invalid_payload"
    attachments, blocks, text = (document.get(key) for key in ("attachments", "blocks", "text"))
    if not (attachments or blocks or text):
        return "no_text"
    if len(attachments or ()) > MOST_ATTACHMENTS:
        return "too_many_attachments"
    if len(blocks or ()) > MOST_BLOCKS:
        return "invalid_blocks"
    return "msg_too_long" if len(text or "") > MOST_TEXT else None


def slack_text(document: Mapping[str, Any]) -> str:
    """The words of a message: its text, and of each attachment pretext, title, text, fields and footer."""
    lines = [document.get("text", "")]
    for attachment in document.get("attachments", ()):
        lines += [attachment.get(part, "") for part in ("pretext", "title", "text")]
        lines += [f"{field['title']}: {field['value']}" for field in attachment.get("fields", ())]
        lines.append(attachment.get("footer", ""))
    return "\n".join(_plain(line) for line in lines if line)


def _plain(text: str) -> str:
    """Slack's markup without links: `<https://a.example|label> &amp; more` → `label & more`."""
    return html.unescape(re.sub(r"<(?:[^<>|]*\|)?([^<>]*)>", r"\1", text))


@asynccontextmanager
async def listening(app: Any, port: int = 0) -> AsyncIterator[str]:
    """Serve an ASGI application on this machine; gives its URL. Raises ConfigurationError for a port in use."""
    with contextlib.closing(listen("127.0.0.1", port)) as sock:
        server = http_server(app)
        task = asyncio.get_running_loop().create_task(server.serve([sock]))
        try:
            yield f"http://127.0.0.1:{sock.getsockname()[1]}"
        finally:
            server.should_exit = True
            await task
