"""Rows ↔ words: the columns of each table, and the functions that turn a value into a row and back."""

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from tenterhook.model import (
    Attempt,
    Delivery,
    Endpoint,
    Health,
    Message,
    Outcome,
    Reason,
    Received,
    Request,
    Result,
    Secret,
    Source,
    State,
    Task,
    TaskState,
    Timing,
    Transformation,
    Trigger,
)
from tenterhook.store.work import Remember
from tenterhook.vault import Vault

Row = tuple[Any, ...]

MESSAGE = (
    "id, app, event_type, payload, content_type, event_id, channels, tags, order_key, source, created_at, deliver_at,"
    " payload_until"
)
DELIVERY = 'message, endpoint, app, state, due_at, lease, attempts, step, order_key, "trigger", resume_at, created_at, expires_at'
ATTEMPT = (
    'id, app, message, endpoint, number, "trigger", started_at, result, reason, status, detail, retry_after, url, '
    "request_head, request_body, response_head, response_body, response_cut, total, dns, connect, tls, first_byte"
)
RECEIVED = "id, app, source, verdict, reason, dedup_key, message, received_at, method, path, query, headers, body"
ENDPOINT = "disabled, disabled_reason, updated_at, document, sealed"
HEALTH = "endpoint, failures, failing_since, open_until, opened"
HEALTH_AGAIN = (
    "(endpoint) DO UPDATE SET failures = excluded.failures, failing_since = excluded.failing_since,"
    " open_until = excluded.open_until, opened = excluded.opened"
)
TASK = "id, kind, app, parameters, state, reached, data, error, tries, created_at, updated_at"
REMEMBER = "key, body_hash, status, answer, expires_at"
EVENT_ID = "app, event_id, message"
RECEIVED_KEY = "source, dedup_key, message"

EVENT_ID_TAKEN = "a message with this eventId exists already"


def of(alias: str, columns: str) -> str:
    """The columns of a table that is called `alias` in a statement."""
    return ", ".join(f"{alias}.{column}" for column in columns.split(", "))


STATES = {state.value: state for state in State}
TRIGGERS = {trigger.value: trigger for trigger in Trigger}


def message_row(m: Message) -> Row:
    return (
        m.id, m.app, storable(m.event_type), None if m.expired else m.payload, storable(m.content_type), m.event_id,
        _join(m.channels), _join(m.tags), m.order_key, m.source, m.created_at, m.deliver_at, m.payload_until,
    )  # fmt: skip


def message(row: Sequence[Any]) -> Message:
    return Message(
        id=row[0], app=row[1], event_type=row[2], payload=row[3] or b"", content_type=row[4], event_id=row[5],
        channels=split(row[6]), tags=split(row[7]), order_key=row[8], source=row[9], created_at=row[10],
        deliver_at=row[11], payload_until=row[12], expired=row[3] is None,
    )  # fmt: skip


def delivery_row(d: Delivery) -> Row:
    return (
        d.message, d.endpoint, d.app, d.state.value, d.due_at, d.lease, d.attempts, d.step, d.order_key, d.trigger.value,
        d.resume_at, d.created_at, d.expires_at,
    )  # fmt: skip


def delivery(row: Sequence[Any]) -> Delivery:
    return Delivery(
        message=row[0], endpoint=row[1], app=row[2], state=STATES[row[3]], due_at=row[4], lease=row[5], attempts=row[6],
        step=row[7], order_key=row[8], trigger=TRIGGERS[row[9]], resume_at=row[10], created_at=row[11],
        expires_at=row[12],
    )  # fmt: skip


def attempt_row(a: Attempt) -> Row:
    o, t = a.outcome, a.outcome.timing
    return (
        a.id, a.app, a.message, a.endpoint, a.number, a.trigger.value, a.started_at, o.result.value, o.reason.value,
        o.status, storable(o.detail), o.retry_after, storable(o.url), o.request_head, o.request_body, o.response_head,
        None if a.expired else o.response_body, int(o.response_cut), t.total, t.dns, t.connect, t.tls, t.first_byte,
    )  # fmt: skip


def attempt(row: Sequence[Any]) -> Attempt:
    outcome = Outcome(
        result=Result(row[7]), reason=Reason(row[8]), status=row[9], detail=row[10], retry_after=row[11], url=row[12],
        request_head=row[13], request_body=row[14], response_head=row[15], response_body=row[16] or b"",
        response_cut=bool(row[17]), timing=Timing(*row[18:23]),
    )  # fmt: skip
    return Attempt(
        id=row[0], app=row[1], message=row[2], endpoint=row[3], number=row[4], trigger=TRIGGERS[row[5]],
        started_at=row[6], outcome=outcome, expired=row[16] is None,
    )  # fmt: skip


def received_row(r: Received) -> Row:
    """The body is left out where the message holds the same bytes: an accepted request is stored once."""
    q = r.request
    body = None if r.verdict == "accepted" or r.expired else q.body
    return (
        r.id, r.app, r.source, r.verdict, storable(r.reason), None if r.dedup_key is None else storable(r.dedup_key), r.message,
        r.received_at, storable(q.method), q.path.encode("utf-8", "surrogatepass"), q.query, header_lines(q.headers), body,
    )  # fmt: skip


def is_keyed(r: Received) -> bool:
    """Whether a second request with the same duplicate key would be a duplicate of this one."""
    return r.verdict == "accepted" and r.dedup_key is not None and r.message is not None


def received_key_row(r: Received) -> Row:
    return (r.source, storable(r.dedup_key or ""), r.message)


def received(row: Sequence[Any], payload: bytes | None) -> Received:
    """`payload` is that of the message that an accepted request became."""
    body = payload if row[3] == "accepted" else row[12]
    request = Request(
        method=row[8],
        path=row[9].decode("utf-8", "surrogatepass"),
        query=row[10],
        headers=header_pairs(row[11]),
        body=body or b"",
    )
    return Received(
        id=row[0], app=row[1], source=row[2], verdict=row[3], reason=row[4], dedup_key=row[5], message=row[6],
        received_at=row[7], request=request, expired=body is None,
    )  # fmt: skip


def header_lines(headers: Sequence[tuple[bytes, bytes]]) -> bytes:
    """`name:value` lines; neither side can hold a line feed, and only a value can hold a colon."""
    return b"\n".join([name + b":" + value for name, value in headers])


def header_pairs(lines: bytes) -> tuple[tuple[bytes, bytes], ...]:
    pairs = [line.partition(b":") for line in lines.split(b"\n")] if lines else []
    return tuple((name, value) for name, _, value in pairs)


def health_row(endpoint: str, h: Health) -> Row:
    return (endpoint, h.failures, h.failing_since, h.open_until, h.opened)


def task_row(t: Task) -> Row:
    return (
        t.id, t.kind, t.app, msgspec.json.encode(t.parameters), t.state.value, t.reached, msgspec.json.encode(t.data),
        None if t.error is None else storable(t.error), t.tries, t.created_at, t.updated_at,
    )  # fmt: skip


def task(row: Sequence[Any]) -> Task:
    return Task(
        id=row[0], kind=row[1], app=row[2], parameters=msgspec.json.decode(row[3]), state=TaskState(row[4]),
        reached=row[5], data=msgspec.json.decode(row[6]), error=row[7], tries=row[8], created_at=row[9],
        updated_at=row[10],
    )  # fmt: skip


def remember_row(r: Remember) -> Row:
    return (r.key, r.body_hash, r.status, r.answer, r.expires_at)


class _EndpointSecrets(Struct):
    url: str
    headers: tuple[tuple[str, str], ...]
    secrets: tuple[Secret, ...]
    transformation: Transformation | None = None


def endpoint_row(e: Endpoint, vault: Vault) -> Row:
    hidden = _EndpointSecrets(e.url, e.headers, e.secrets, e.transformation)
    shown = replace(e, url="", headers=(), secrets=(), transformation=None, disabled=False, disabled_reason=None)
    document = msgspec.json.encode(shown)
    sealed = vault.seal(msgspec.json.encode(hidden), e.id)
    return (e.id, e.app, e.uid, int(e.disabled), e.disabled_reason, e.updated_at, document, sealed)


def endpoint(row: Sequence[Any], vault: Vault) -> Endpoint:
    """From the columns of ENDPOINT; what a verdict changes are columns of their own."""
    disabled, reason, updated_at, document, sealed = row
    shown = msgspec.json.decode(document, type=Endpoint)
    hidden = msgspec.json.decode(vault.open(sealed, shown.id), type=_EndpointSecrets)
    return replace(
        shown, url=hidden.url, headers=hidden.headers, secrets=hidden.secrets, transformation=hidden.transformation,
        disabled=bool(disabled), disabled_reason=reason, updated_at=updated_at,
    )  # fmt: skip


def source_row(s: Source, vault: Vault) -> Row:
    document = msgspec.json.encode(replace(s, secrets=()))
    return (s.id, s.app, s.uid, s.token, document, vault.seal(msgspec.json.encode(s.secrets), s.id))


def source(document: bytes, sealed: bytes, vault: Vault) -> Source:
    shown = msgspec.json.decode(document, type=Source)
    return replace(shown, secrets=msgspec.json.decode(vault.open(sealed, shown.id), type=tuple[str, ...]))


def storable(text: str) -> str:
    """Words from outside: PostgreSQL's text cannot hold NUL, and takes UTF-8 only. What must stay exact is kept as bytes."""
    if "\0" in text:
        text = text.replace("\0", "\ufffd")
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _join(words: tuple[str, ...]) -> str | None:
    """Channels and tags cannot hold a comma."""
    return ",".join(words) if words else None


def split(text: str | None) -> tuple[str, ...]:
    return tuple(text.split(",")) if text else ()
