"""What all chat destinations share: which words an event becomes, what a service's answers mean, what to hide of a URL.

The URL of an incoming webhook is its only secret, so it appears in no outcome.
"""

import re
from functools import cache
from importlib.resources import files
from urllib.parse import SplitResult, urlsplit

from msgspec import Struct
from msgspec.structs import replace

from tenterhook import providers
from tenterhook.markup import text_of
from tenterhook.model import Message, Outcome, Reason, Result
from tenterhook.receive import json_document
from tenterhook.receive.facts import decoded_within
from tenterhook.templates import Card, Chat, Templates

GENERIC = "generic"
MASK = "***"
MOST_PARSED = 2 * 1024 * 1024
"""Of a larger payload only the members that fit into so many bytes are shown: it is parsed between other work."""


class Answer(Struct, frozen=True):
    """What a status with a body means: `words` are the bodies it is true for, `...` any single word, None any body."""

    statuses: frozenset[int]
    words: frozenset[str] | None
    result: Result
    meaning: str


ANY_WORD = "..."


def _answer(status: int, words: str | None, result: Result, meaning: str) -> Answer:
    return Answer(frozenset([status]), None if words is None else frozenset(words.split()), result, meaning)


# The first row that fits counts; an answer without a row means what it means for any webhook, but is no success.
ANSWERS: dict[str, tuple[Answer, ...]] = {
    "slack": (
        _answer(200, "ok", Result.OK, ""),
        _answer(
            400,
            "invalid_payload no_text missing_text_or_fallback_or_attachments invalid_blocks invalid_blocks_format"
            " invalid_attachments too_many_attachments msg_blocks_too_long msg_too_long",
            Result.DROP,
            "Slack will never take this message",
        ),
        _answer(400, "user_not_found channel_not_found", Result.GONE, "the user or channel is gone"),
        _answer(403, ANY_WORD, Result.GONE, "the workspace does not allow this until an administrator changes it"),
        _answer(404, ANY_WORD, Result.GONE, "the webhook was revoked, or its URL is wrong"),
        _answer(410, None, Result.GONE, "the channel is archived, or the webhook retired"),
        _answer(413, None, Result.DROP, "the message is too large"),
        _answer(429, None, Result.SLOW_DOWN, "too many messages; Slack takes about one a second"),
        _answer(500, None, Result.RETRY, "Slack failed; the message may have been posted"),
    ),
}
_TARGET = re.compile(rb"\A(\S+ )\S+(?= HTTP/)")
_WORD = re.compile(r"[a-z][a-z0-9_]{0,99}")


def classify(service: str, status: int, body: bytes) -> Answer | None:
    """What a service's answer means by its table; None if the table has no row for it."""
    word = body[:200].decode("utf-8", "replace").strip()
    for answer in ANSWERS[service]:
        if status not in answer.statuses:
            continue
        if answer.words is None or word in answer.words:
            return answer
        if ANY_WORD in answer.words and _WORD.fullmatch(word):
            return answer
    return None


def judged(service: str, outcome: Outcome) -> Outcome:
    """The outcome of a request to a chat service, by what its answer says. Nothing changes where none came."""
    if outcome.status == 0 or outcome.reason is not Reason.STATUS:
        return outcome
    answer = classify(service, outcome.status, outcome.response_body)
    word = text_of(outcome.response_body[:100].decode("utf-8", "replace"))
    said = f"{outcome.status} {word}".strip()
    if answer is None:
        general = Result.RETRY if outcome.result is Result.OK else outcome.result
        return replace(outcome, result=general, detail=outcome.detail or f"unexpected answer: {said}")
    return replace(outcome, result=answer.result, detail=f"{said}: {answer.meaning}" if answer.meaning else "")


def mask_url(url: str) -> str:
    """A URL that may be shown: all of the path after its first segment, and the query, are masked.

    `https://hooks.slack.com/services/T0/B0/x` → `https://hooks.slack.com/services/***`. A path of one segment is
    masked whole, and so is what is no URL.
    """
    parts = _split(url)
    host = parts.netloc.rpartition("@")[2]
    if not parts.scheme or not host:
        return MASK
    return f"{parts.scheme}://{host}{_masked_path(url)}"


def masked(outcome: Outcome, url: str, body: bytes) -> Outcome:
    """The outcome with `body` as what was sent, and without the secret parts of the endpoint's URL anywhere in it."""
    secrets = _secret_parts(url)
    shown = _masked_path(url).encode()

    def hidden(data: bytes) -> bytes:
        for secret in secrets:
            data = data.replace(secret.encode(), MASK.encode())
        return data

    return replace(
        outcome,
        url=mask_url(url),
        detail=hidden(outcome.detail.encode()).decode(),
        request_head=hidden(_TARGET.sub(lambda found: found[1] + shown, outcome.request_head)),
        request_body=body,
        response_head=hidden(outcome.response_head),
        response_body=hidden(outcome.response_body),
    )


def _split(url: str) -> SplitResult:
    """The parts of a URL; all of it is path where it is none."""
    try:
        return urlsplit(url)
    except ValueError:
        return SplitResult("", "", url, "", "")


def _masked_path(url: str) -> str:
    first, _, rest = _split(url).path.lstrip("/").partition("/")
    return f"/{first}/{MASK}" if rest else f"/{MASK}"


def _secret_parts(url: str) -> list[str]:
    """What of a URL must not be shown, the longest first: the masked part as a whole, and long steps of it alone."""
    parts = _split(url)
    first, _, rest = parts.path.lstrip("/").partition("/")
    whole = (rest or first) + (f"?{parts.query}" if parts.query else "")
    steps = [step for step in re.split(r"[/?&=]", whole) if len(step) >= 12]
    return sorted({part for part in [whole, *steps] if len(part) >= 4}, key=len, reverse=True)


@cache
def template_names() -> frozenset[str]:
    """The providers that have a template file."""
    entries = (entry.name for entry in (files("tenterhook.senders") / "templates").iterdir())
    return frozenset(name.removesuffix(".toml") for name in entries if name.endswith(".toml")) - {GENERIC}


@cache
def chat(service: str) -> Chat:
    """The chat file of that name. Raises ConfigurationError if it is wrong."""
    return Chat(service, (files("tenterhook.senders") / "chats" / f"{service}.toml").read_text("utf-8"))


@cache
def templates(provider: str, service: str) -> Templates:
    """The template file of a provider, for one service. Raises ConfigurationError if it is wrong."""
    text = (files("tenterhook.senders") / "templates" / f"{provider}.toml").read_text("utf-8")
    return Templates(provider, text, chat(service).marks)


def card_of(message: Message, service: str, now: int) -> Card | None:
    """What a message says in a chat; None if it says nothing there, such as a push without commits."""
    provider, _, event = message.event_type.partition(".")
    payload = document_of(message, provider)
    text = "" if payload is not None else message.payload[:16_384].decode("utf-8", "replace")
    if provider in template_names() and payload is not None:
        try:
            return templates(provider, service).render(event, payload, event_type=message.event_type, now=now)
        except LookupError:
            pass
    return templates(GENERIC, service).render(
        message.event_type, payload, event_type=message.event_type, text=text, now=now
    )


def document_of(message: Message, provider: str) -> object | None:
    """The payload as JSON, taken out of the form that this provider may put it in; None if it is not JSON."""
    if provider in providers.names():
        return json_document(providers.load(provider), message.content_type, message.payload, MOST_PARSED)
    return decoded_within(message.payload, MOST_PARSED)
