"""What a genuine request means: its event type, its duplicate key, and whether it is a handshake."""

import hashlib
import re
from collections.abc import Callable
from typing import Literal

from msgspec import Struct

from tenterhook.receive.facts import Facts
from tenterhook.receive.locate import KINDS, Template, Variables, template
from tenterhook.receive.verdict import Reason, Refused, Reply

MAX_ANSWER = 1_024
"""Longest answer to a challenge (bytes): it echoes what a stranger sent."""

MAX_NAME = 256
"""Longest event type and duplicate key (characters)."""

_UNUSUAL = re.compile(r"[^A-Za-z0-9_.-]")


class When(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Conditions that must all hold; a value is the exact text, or `*` for any."""

    method: str | None = None
    header: dict[str, str] = {}
    query: dict[str, str] = {}
    form: dict[str, str] = {}
    json: dict[str, str] = {}


class ReplySpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The answer to a handshake; `text` and the values of `headers` are templates."""

    status: int = 200
    text: str = ""
    headers: dict[str, str] = {}


class ChallengeSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A request that is answered instead of routed; a `signed` one must carry the usual proof."""

    kind: Literal["challenge", "ping"]
    when: When
    signed: bool = True
    reply: ReplySpec = ReplySpec()


class Challenge(Struct, frozen=True):
    """A compiled ChallengeSpec."""

    kind: Literal["challenge", "ping"]
    signed: bool
    applies: Callable[[Facts], bool]
    reply: Callable[[Facts], Reply]


def _conditions(when: When) -> Callable[[Facts], bool]:
    reads = [
        (KINDS[kind](name), None if wanted == "*" else wanted.encode())
        for kind in KINDS
        for name, wanted in getattr(when, kind).items()
    ]

    def applies(facts: Facts) -> bool:
        if when.method is not None and facts.request.method != when.method:
            return False
        for read, wanted in reads:
            try:
                value = read(facts)
            except Refused:
                return False
            if value is None or (wanted is not None and value != wanted):
                return False
        return True

    return applies


def _rendered(render: Template, facts: Facts) -> bytes:
    value = render(Variables(facts))
    if value is None:
        raise Refused(Reason.MALFORMED_CHALLENGE, "the challenge lacks what its answer must repeat")
    if len(value) > MAX_ANSWER:
        raise Refused(
            Reason.MALFORMED_CHALLENGE, f"the answer to the challenge would be longer than {MAX_ANSWER} bytes"
        )
    return value


def _header_text(value: bytes) -> str:
    text = value.decode("latin-1")
    if not text.isprintable():
        raise Refused(Reason.MALFORMED_CHALLENGE, "the challenge has control characters that a header cannot repeat")
    return text


def _answers(spec: ReplySpec) -> Callable[[Facts], Reply]:
    text = template(spec.text)
    headers = [(name, template(value)) for name, value in spec.headers.items()]

    def reply(facts: Facts) -> Reply:
        body = _rendered(text, facts)
        lines = [(name, _header_text(_rendered(value, facts))) for name, value in headers]
        if body:
            # what it repeats is a stranger's: no browser may take it for a page
            lines += [("content-type", "text/plain; charset=utf-8"), ("x-content-type-options", "nosniff")]
        return Reply(spec.status, tuple(lines), body)

    return reply


def challenge(spec: ChallengeSpec) -> Challenge:
    """A compiled challenge. Raises Invalid."""
    return Challenge(spec.kind, spec.signed, _conditions(spec.when), _answers(spec.reply))


def _readable(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def event_type(parts: tuple[bytes, ...], namespace: str, fallback: str) -> str:
    """The event type from its parts: `github`, (`issues`, `opened`) → `github.issues.opened`.

    Below a namespace it is in lower case.
    """
    text = ".".join(_readable(part) for part in parts)
    if not text:
        return fallback
    if namespace:
        text = f"{namespace}.{text[:MAX_NAME].lower()}"
    return cleaned(text)


def cleaned(text: str) -> str:
    """A text as an event type: `orders/create` → `orders.create`, `Push Hook` → `Push_Hook`."""
    return _UNUSUAL.sub("_", text[:MAX_NAME].replace("/", "."))


def dedup_key(parts: tuple[bytes, ...]) -> str | None:
    """The duplicate key from its parts; one that is too long, or cannot be shown, is hashed."""
    raw = b".".join(parts)
    if not raw:
        return None
    text = _readable(raw)
    if len(text) > MAX_NAME or not text.isprintable():
        return "sha256:" + hashlib.sha256(raw).hexdigest()
    return text
