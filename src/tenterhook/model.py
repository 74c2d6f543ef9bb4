"""The words of Tenterhook, as values. Nothing here does anything; instants and spans are microseconds."""

from enum import StrEnum
from typing import Any

from msgspec import Struct

from tenterhook.clock import DAY, HOUR, MINUTE, SECOND
from tenterhook.ids import PREFIXES


class State(StrEnum):
    """Where a delivery is in its life; the moves between states are in `engine.lifecycle`."""

    WAITING = "waiting"  # behind another delivery of its FIFO line
    DUE = "due"  # to be attempted at `due_at`
    LEASED = "leased"  # a worker has it until `due_at`
    DELIVERED = "delivered"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Trigger(StrEnum):
    """Why an attempt is made."""

    SCHEDULED = "scheduled"
    MANUAL = "manual"


class Result(StrEnum):
    """What an attempt means for its delivery: the one thing that `engine.settle` decides by."""

    OK = "ok"  # accepted by the receiver
    RETRY = "retry"  # failed, try again by the schedule
    SLOW_DOWN = "slow_down"  # failed because we are too fast: the whole endpoint waits
    DROP = "drop"  # this message will never be accepted; the endpoint is healthy
    CANCELLED = "cancelled"  # the endpoint's transformation wants nothing sent; nobody is to blame
    GONE = "gone"  # the destination wants no more: disable the endpoint
    UNKNOWN = "unknown"  # the lease ended without a report: it may or may not have arrived


class Reason(StrEnum):
    """The class of an outcome, as shown to people and counted in metrics."""

    STATUS = "status"  # the receiver answered; see the status
    NAME = "name"  # the host name does not resolve
    REFUSED_ADDRESS = "refused_address"  # the target is not a public address
    CONNECT = "connect"
    TLS = "tls"
    TIMEOUT = "timeout"
    PROTOCOL = "protocol"  # the answer is not HTTP, or breaks a limit of ours
    CLOSED = "closed"  # the connection ended before the answer did
    INVALID_MESSAGE = "invalid_message"  # the sender cannot turn this message into a request
    TRANSFORMATION = "transformation"  # the endpoint's code failed, or cancelled this message: nothing was sent
    LEASE_EXPIRED = "lease_expired"
    EXPIRED = "expired"  # the payload was removed before this try: nothing was sent
    INTERNAL = "internal"  # a defect of ours; the log has the traceback


class Secret(Struct, frozen=True):
    """A signing secret in its shown form (`whsec_…`, `whsk_…`); it signs until `expires_at`, None is for ever."""

    key: str
    expires_at: int | None = None


class Application(Struct, frozen=True, kw_only=True):
    """One consumer of events: a customer, a team, a project.

    `rate_limit` is the most attempts per second to all its endpoints together. Retentions (µs) that are None are the server's.
    """

    id: str
    name: str
    uid: str | None = None
    rate_limit: int | None = None
    payload_retention: int | None = None
    record_retention: int | None = None
    metadata: dict[str, str] = {}
    created_at: int
    updated_at: int


OPERATIONAL = f"app_{1:027}"
"""The id of the server's own application. It is there from the beginning, and its endpoints are the operational webhooks'."""

OPERATIONAL_UID = "operational-webhooks"


class EventType(Struct, frozen=True, kw_only=True):
    """A named kind of event."""

    name: str
    description: str = ""
    archived: bool = False
    deprecated: bool = False
    schemas: dict[str, object] | None = None
    group_name: str | None = None
    feature_flags: tuple[str, ...] = ()
    created_at: int
    updated_at: int


class Transformation(Struct, frozen=True, kw_only=True):
    """JavaScript that changes each request to an endpoint before it is made; without code there is nothing to run yet.

    `variables` are what the code needs and should not contain. The whole is kept encrypted: either may hold credentials.
    """

    code: str | None = None
    enabled: bool = False
    variables: dict[str, str] = {}
    updated_at: int


class Endpoint(Struct, frozen=True, kw_only=True):
    """Where messages of an application go, which ones it wants, and how fast it takes them.

    `kind` names the sender. `retry_schedule` are the waits before each retry; None takes the server's. `concurrency`
    is the most requests at once, `rate_limit` the most per second. `ordered` asks for FIFO delivery.
    """

    id: str
    app: str
    kind: str = "webhook"
    url: str
    uid: str | None = None
    description: str = ""
    event_types: tuple[str, ...] | None = None
    channels: tuple[str, ...] | None = None
    disabled: bool = False
    disabled_reason: str | None = None
    ordered: bool = False
    rate_limit: int | None = None
    concurrency: int | None = None
    retry_schedule: tuple[int, ...] | None = None
    lifetime: int | None = None
    timeout: int | None = None
    headers: tuple[tuple[str, str], ...] = ()
    secrets: tuple[Secret, ...] = ()
    transformation: Transformation | None = None
    metadata: dict[str, str] = {}
    managed: bool = False
    created_at: int
    updated_at: int


class Message(Struct, frozen=True, kw_only=True):
    """One event. Immutable; `payload` is byte for byte what came in, and empty once it has `expired`.

    It is not sent before `deliver_at`. `payload_until` is when the payload goes even if a delivery still needs it; None
    leaves that to the retention. `source` is the id of what it came from, where that is not the API: a source, or the
    endpoint that it is an example for.
    """

    id: str
    app: str
    event_type: str
    payload: bytes
    content_type: str = "application/json"
    event_id: str | None = None
    channels: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    order_key: str | None = None
    source: str | None = None
    payload_until: int | None = None
    created_at: int
    deliver_at: int | None = None
    expired: bool = False

    @property
    def example_for(self) -> str | None:
        """The endpoint that alone may take it for an event, None for all."""
        return self.source if self.source is not None and self.source.startswith(PREFIXES["endpoint"]) else None


class Delivery(Struct, frozen=True, kw_only=True):
    """One message owed to one endpoint.

    `due_at` is when it may next be claimed: the next try while DUE, the end of the lease while LEASED, else None.
    `lease` is drawn anew for each claim, so that a late worker overwrites nothing. `step` is the position in the retry
    schedule, `attempts` counts all tries. `order_key` is the FIFO line, None if order does not matter. `resume_at` is
    the planned try that a manual one must not cancel.
    """

    message: str
    endpoint: str
    app: str
    state: State = State.DUE
    due_at: int | None
    lease: int = 0
    attempts: int = 0
    step: int = 0
    order_key: str | None = None
    trigger: Trigger = Trigger.SCHEDULED
    resume_at: int | None = None
    created_at: int
    expires_at: int


class Timing(Struct, frozen=True):
    """How long the phases of an attempt took (µs); a phase that did not happen is None."""

    total: int = 0
    dns: int | None = None
    connect: int | None = None
    tls: int | None = None
    first_byte: int | None = None


class Outcome(Struct, frozen=True, kw_only=True):
    """What a sender reports of one try. `status` is 0 where nothing answered; heads and body are bytes of the wire.

    `retry_after` is the wait that the receiver asked for (µs, unclamped but finite). `detail` is for people.
    """

    result: Result
    reason: Reason = Reason.STATUS
    status: int = 0
    detail: str = ""
    retry_after: int | None = None
    url: str = ""
    request_head: bytes = b""
    request_body: bytes | None = None  # None: the message's payload, as it is
    response_head: bytes = b""
    response_body: bytes = b""
    response_cut: bool = False
    timing: Timing = Timing()


EXPUNGED = b"EXPUNGED"
"""What an attempt shows in place of the body of an answer that somebody had removed (as in the wire API)."""


class Attempt(Struct, frozen=True, kw_only=True):
    """One try of a delivery, never changed once written, but that its bodies go when they have `expired` or are expunged."""

    id: str
    app: str
    message: str
    endpoint: str
    number: int
    trigger: Trigger
    started_at: int
    outcome: Outcome
    expired: bool = False


class Health(Struct, frozen=True):
    """What an endpoint's recent attempts say of it; a row that changes in the same transaction as the attempt.

    `failures` counts in a row. `open_until` is when the breaker (or a receiver's 429) lets the next attempt through;
    `opened` counts how often in a row the breaker has opened.
    """

    failures: int = 0
    failing_since: int | None = None
    open_until: int | None = None
    opened: int = 0


class Signal(Struct, frozen=True):
    """Something that operators or customers want to hear of; the kinds are among `engine.notices.EVENTS`."""

    kind: str
    app: str
    endpoint: str
    message: str | None = None
    detail: str = ""


class Source(Struct, frozen=True, kw_only=True):
    """A URL that receives webhooks from a provider; every accepted request becomes a message of `app`."""

    id: str
    app: str
    name: str
    token: str
    provider: str
    secrets: tuple[str, ...] = ()
    options: dict[str, str] = {}
    uid: str | None = None
    managed: bool = False
    created_at: int
    updated_at: int


class Request(Struct, frozen=True, kw_only=True):
    """A received HTTP request, byte-exact: header lines in order and in their own letter case."""

    method: str
    path: str
    query: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes

    def header(self, name: str) -> list[bytes]:
        """All values of a header, in order; the name in any case."""
        wanted = name.lower().encode()
        return [value for key, value in self.headers if key.lower() == wanted]


class Received(Struct, frozen=True, kw_only=True):
    """A request that reached a source, and what was made of it.

    `verdict` is accepted, duplicate, ping or rejected; `reason` says why. `message` is the message that it became, or
    that it repeats. The body is empty once it has `expired`.
    """

    id: str
    app: str
    source: str
    request: Request
    verdict: str
    reason: str = ""
    dedup_key: str | None = None
    message: str | None = None
    received_at: int
    expired: bool = False


class Token(Struct, frozen=True, kw_only=True):
    """A bearer token of the API: `scope` is admin, application or read-only; `app` limits it to one application.

    `portal` marks one that was made for a visit to the portal, perhaps under the name `session`; it is forgotten when it
    has expired. `capabilities` None is all of them. `feature_flags` open the event types behind those flags.
    """

    id: str
    name: str
    scope: str
    app: str | None = None
    portal: bool = False
    session: str | None = None
    capabilities: tuple[str, ...] | None = None
    feature_flags: tuple[str, ...] = ()
    created_at: int
    expires_at: int | None = None
    revoked_at: int | None = None


class TaskState(StrEnum):
    """How a task stands. None waits: it runs from the moment it is asked for, whoever comes to it first."""

    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"


class TaskKind(StrEnum):
    """What a task can be, under the names of the wire API; what each does is in `store.tasks`."""

    RECOVER = "endpoint.recover"
    REPLAY_MISSING = "endpoint.replay"
    BULK_REPLAY = "endpoint.bulk-replay"
    PURGE = "application.purge_content"
    APP_STATS = "application.stats"
    EVENT_TYPES = "event-type.aggregate"


class Task(Struct, frozen=True, kw_only=True):
    """Work that takes longer than a request may. It is done in pages, and survives the end of whoever does it.

    `reached` is the id behind which it goes on, None at the beginning; `data` is what has come of it so far. `tries` counts
    how often it was taken up since it last got further. `error` says why it has failed.
    """

    id: str
    kind: str
    app: str | None = None
    parameters: dict[str, Any] = {}
    state: TaskState = TaskState.RUNNING
    reached: str | None = None
    data: dict[str, Any] = {}
    error: str | None = None
    tries: int = 0
    created_at: int
    updated_at: int


class Replay(Struct, frozen=True, kw_only=True):
    """The parameters of a replay: which messages of its application an endpoint gets again, each with a fresh schedule.

    Of the messages created from `since` to `until` (not included): those whose delivery has ended in one of `states`,
    and with `missing` those that were never planned for the endpoint and that it wants. The rest narrows that down:
    `status_class` is 100 to 500, or 0 for no answer, of the last attempt.
    """

    endpoint: str
    since: int
    until: int
    lifetime: int
    states: tuple[State, ...] = ()
    missing: bool = False
    event_types: tuple[str, ...] = ()
    channel: str | None = None
    tag: str | None = None
    status_class: int | None = None


class Retention(Struct, frozen=True, kw_only=True):
    """How long things are kept (spans, µs): `payloads` the bytes of what came and went, `records` everything."""

    payloads: int = 90 * DAY
    records: int = 90 * DAY

    def of(self, app: Application) -> "Retention":
        """What holds for an application."""
        return Retention(
            payloads=self.payloads if app.payload_retention is None else app.payload_retention,
            records=self.records if app.record_retention is None else app.record_retention,
        )


class Integration(Struct, frozen=True, kw_only=True):
    """A named credential of an application: its key is a token for the application, which opens its feature flags."""

    id: str
    app: str
    name: str
    feature_flags: tuple[str, ...] = ()
    created_at: int
    updated_at: int


class Policy(Struct, frozen=True, kw_only=True):
    """The engine's rules where an endpoint does not name its own; the defaults of the settings table."""

    retry_schedule: tuple[int, ...] = (
        5 * SECOND,
        5 * MINUTE,
        30 * MINUTE,
        2 * HOUR,
        5 * HOUR,
        10 * HOUR,
        14 * HOUR,
        20 * HOUR,
        24 * HOUR,
    )
    lifetime: int = 96 * HOUR
    timeout: int = 15 * SECOND
    lease: int = 60 * SECOND
    concurrency: int = 64
    global_concurrency: int = 1_000
    retry_after_cap: int = HOUR
    breaker_failures: int = 8
    breaker_open: int = 5 * SECOND
    breaker_open_cap: int = 10 * MINUTE
    disable_after: int = 120 * HOUR
