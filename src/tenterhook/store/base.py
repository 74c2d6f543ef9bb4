"""The seam to the database: domain verbs, never SQL.

One Protocol, one conformance suite (`tests/contracts/store.py`) that every implementation passes. Instants are given by
the caller (µs UTC). The verbs that tenants reach take the application as their first argument.

Work of the hot path goes through `commit`, which writes what many callers want in one transaction; see
`engine.committer`. Everything it returns is on the disk.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol

from msgspec import Struct

from tenterhook.clock import Clock
from tenterhook.model import (
    Application,
    Attempt,
    Delivery,
    Endpoint,
    EventType,
    Health,
    Integration,
    Message,
    Received,
    Source,
    Task,
    TaskState,
    Token,
)
from tenterhook.store.queries import (
    ApplicationFilter,
    AttemptFilter,
    Counts,
    Cursor,
    DeliveryCounts,
    DeliveryFilter,
    Found,
    MessageFilter,
)
from tenterhook.store.work import Accept, Done, Remember, Remembered, Work


class NextDue(Struct, frozen=True):
    """When the earliest pending delivery of an endpoint is due; `changed_at` is when the endpoint was changed last, None if it
    is gone."""

    endpoint: str
    due_at: int
    changed_at: int | None


class Lapsing(Struct, frozen=True):
    """A delivery whose lifetime is over, and what is to be told of it.

    That is how its message and its endpoint are named, and its last attempt: the id, the status, when it began (µs UTC).
    """

    delivery: Delivery
    event_id: str | None = None
    endpoint_uid: str | None = None
    attempt: tuple[str, int, int] | None = None


NOTHING_KNOWN: Mapping[str, int] = MappingProxyType({})


class Loaded(Struct, frozen=True):
    """An application with all that planning needs. Its revision rises with every change to it, its endpoints, its sources.

    `unchanged` are the ids of endpoints that the caller knows as they are; `endpoints` are the others.
    """

    application: Application
    revision: int
    endpoints: tuple[tuple[Endpoint, Health], ...]
    unchanged: tuple[str, ...] = ()


class Hint(Struct, frozen=True):
    """What another node did: `topic` is application, endpoint, event_type, token, task, due or health; `about` names which.

    Of event types it may be empty: any may have changed. The topic `all` means that hints may have been missed.
    """

    topic: str
    about: str = ""


class TaskPage(Struct, frozen=True):
    """What a page of a task has come to: see `model.Task`. `due` are the endpoints that have something to send now."""

    reached: str | None
    data: dict[str, Any]
    done: bool
    due: tuple[str, ...] = ()


class Advanced(Struct, frozen=True):
    """A task after a page, that page being on the disk; `done` if it was the last one."""

    task: Task
    done: bool
    due: tuple[str, ...] = ()


class Cutoff(Struct, frozen=True):
    """What of an application is too old: payloads from before `payloads`, everything from before `records` (µs UTC)."""

    app: str
    payloads: int
    records: int


class Swept(Struct, frozen=True):
    """One step of removing: of how many messages and received requests something went, and where the next step begins.

    With `after` None there was nothing more to do. `days` were dropped as a whole, with uncounted rows.
    """

    messages: int = 0
    requests: int = 0
    after: str | None = None
    days: int = 0


class Store(Protocol):
    """The database, as the rest of Tenterhook knows it. Any verb may raise StoreUnavailable.

    `clock` is what nodes that share the database agree on. `shared` tells whether others may work on it at the same time.
    `grace` is how much longer than wanted records may stay, because whole days of them are dropped at once (µs).
    """

    clock: Clock
    shared: bool
    grace: int

    # the engine: no application, because it serves them all

    async def listen(self, hear: Callable[[Hint], None]) -> None:
        """From now on call `hear` with what other nodes do, as far as it gets through."""

    async def commit(self, work: Sequence[Work]) -> list[Done]:
        """Do all of it in one transaction, settlements before accepts before claims; one answer for each, in order.

        What one piece of work runs into (a taken event id) is its answer; an exception means that nothing of it
        happened.
        """

    async def recover(self, now: int) -> int:
        """At the start: let the leases of a process that is certainly gone end now; how many there were.

        A shared store does nothing: the leases are those of others, and end by themselves.
        """

    async def next_dues(self, after: str | None, limit: int) -> list[NextDue]:
        """Endpoints with pending deliveries behind endpoint id `after`, by id."""

    async def list_lapsing(self, now: int, limit: int) -> list[Lapsing]:
        """Up to `limit` unleased deliveries whose lifetime is over."""

    async def lapse(self, now: int, over: Sequence[tuple[Delivery, Sequence[Accept]]]) -> list[Delivery]:
        """End those of the deliveries that are still as they were listed, each with its notices; FIFO lines move on."""

    async def load_endpoint(self, endpoint: str) -> tuple[Endpoint, Health] | None:
        """An endpoint with its health, for the worker; None if it was deleted."""

    async def abandon(self, endpoint: str) -> int:
        """Cancel what is pending for an endpoint that is gone; how many there were."""

    async def prune(self, now: int, rejections_kept: int, limit: int) -> int:
        """Forget expired idempotency keys and visits to the portal, and all but the newest rejections of each source.

        Returns how many rows went.
        """

    # retention, also of the engine: a pending delivery keeps its message and, but for `expire_due`, its payload.
    # `after` is "" at first, then what the step before answered; `limit` bounds the rows of each table that a step touches;
    # `dry` only counts

    async def add_days(self, now: int) -> None:
        """Where the history is kept in days: make those of today and of the next ones."""

    async def drop_days(self, before: int, limit: int) -> Swept:
        """Drop the oldest day that is over at `before`, or what hinders that; nothing where the history has no days."""

    async def overdue(self, cutoffs: Sequence[Cutoff]) -> list[Cutoff]:
        """Those of the applications that have something older."""

    async def list_retired(self, limit: int) -> list[str]:
        """Deleted applications of which something is left."""

    async def forget(self, cutoff: Cutoff, after: str, limit: int, dry: bool = False) -> Swept:
        """Delete messages with all that belongs to them, then received requests: what is older than `cutoff.records`."""

    async def expire(self, cutoff: Cutoff, after: str, limit: int, dry: bool = False) -> Swept:
        """Remove payloads and the bodies of their attempts, then bodies of requests: what is older than `cutoff.payloads`."""

    async def expire_due(self, now: int, limit: int) -> Swept:
        """Remove payloads that were to be kept until `now` at the longest, whoever still needs them."""

    async def counts(self) -> Counts:
        """For metrics."""

    async def close(self) -> None:
        """Finish what was begun and let go of the database."""

    # `notices` are messages that are written in the same transaction as the change that they tell of

    # applications

    async def create_application(self, app: Application, remember: Remember | None = None) -> None:
        """Raises Conflict for a taken uid."""

    # `seen` is the `updated_at` of what is replaced, None does not ask: ChangedMeanwhile is raised if another is there

    async def save_application(self, app: Application, seen: int | None = None) -> None:
        """Replace it. Raises NotFound, Conflict, ChangedMeanwhile."""

    async def delete_application(self, app: str, notices: Sequence[Accept] = ()) -> None:
        """Delete it with its endpoints and sources, and cancel what is pending. Raises NotFound."""

    async def get_application(self, app: str) -> Application | None:
        """By id or uid."""

    async def load_application(self, app: str, known: Mapping[str, int] = NOTHING_KNOWN) -> Loaded | None:
        """By id or uid, with its endpoints, for planning; `known` has the `updated_at` of endpoints that need not be read."""

    async def list_applications(self, cursor: Cursor) -> list[Application]:
        """By id, without the server's own."""

    async def search_applications(self, cursor: Cursor, wanted: ApplicationFilter) -> Found[Application]:
        """The same for those that fit."""

    # event types: of the whole installation

    async def create_event_type(self, event_type: EventType, remember: Remember | None = None) -> None:
        """Raises EventTypeExists unless the one there is archived."""

    async def save_event_type(self, event_type: EventType) -> None:
        """Create or replace it."""

    async def save_event_types(self, event_types: Sequence[EventType], remember: Remember | None = None) -> None:
        """Create or replace all of them, or none."""

    async def delete_event_type(self, name: str) -> None:
        """Remove it for good. Raises NotFound."""

    async def get_event_type(self, name: str) -> EventType | None:
        """By name, archived ones too."""

    async def list_event_types(self, cursor: Cursor, archived: bool) -> list[EventType]:
        """By name."""

    # endpoints

    async def create_endpoint(
        self, app: str, endpoint: Endpoint, remember: Remember | None = None, notices: Sequence[Accept] = ()
    ) -> None:
        """Raises Conflict for a taken uid."""

    async def save_endpoint(
        self,
        app: str,
        endpoint: Endpoint,
        clean: bool = False,
        notices: Sequence[Accept] = (),
        seen: int | None = None,
    ) -> None:
        """Replace it; `clean` begins a new health record. Raises NotFound, Conflict, ChangedMeanwhile."""

    async def delete_endpoint(self, app: str, endpoint: str, notices: Sequence[Accept] = ()) -> None:
        """Delete it and cancel what is pending. Raises NotFound."""

    async def get_endpoint(self, app: str, endpoint: str) -> Endpoint | None:
        """By id or uid."""

    async def list_endpoints(self, app: str, cursor: Cursor) -> list[Endpoint]:
        """By id."""

    async def load_endpoints(self, app: str) -> list[tuple[Endpoint, Health]]:
        """All endpoints of the application with their health."""

    # messages, deliveries, attempts

    async def get_message(self, app: str, message: str) -> Message | None:
        """By id or event id."""

    async def get_messages(self, app: str, messages: Sequence[str]) -> list[Message]:
        """Those of the messages with these ids that are there, by id."""

    async def list_messages(self, app: str, cursor: Cursor) -> list[Message]:
        """By id."""

    async def search_messages(self, app: str, cursor: Cursor, wanted: MessageFilter) -> Found[Message]:
        """By id."""

    async def settled_until(self) -> int | None:
        """Messages with ids of before this instant (µs UTC) are there or will never be; None: none will come before another.

        So whoever reads messages in the order of their ids, up to here, misses none.
        """

    async def get_delivery(self, app: str, message: str, endpoint: str) -> Delivery | None:
        """One delivery."""

    async def list_deliveries(self, app: str, message: str) -> list[Delivery]:
        """All deliveries of a message, by endpoint id."""

    async def search_deliveries(
        self, app: str, endpoint: str, cursor: Cursor, wanted: DeliveryFilter
    ) -> Found[tuple[Message, Delivery]]:
        """What was planned for an endpoint, each with its message; by message id."""

    async def request_attempt(
        self, app: str, message: str, endpoint: str, now: int, lifetime: int, ordered: bool
    ) -> Delivery:
        """Make one manual attempt due, outside the schedule. Raises NotFound, MissingPayload, DeliveryInFlight.

        The message may never have been planned for the endpoint; `ordered` says whether it then goes into its line.
        """

    async def cancel_delivery(self, app: str, message: str, endpoint: str, now: int) -> bool:
        """End a pending delivery without delivering it; whether there was one."""

    async def get_attempt(self, app: str, message: str, attempt: str) -> Attempt | None:
        """One attempt."""

    async def list_attempts(
        self, app: str, cursor: Cursor, *, message: str | None = None, endpoint: str | None = None
    ) -> list[Attempt]:
        """Of a message, an endpoint, or both; by id."""

    async def search_attempts(
        self,
        app: str,
        cursor: Cursor,
        wanted: AttemptFilter,
        *,
        message: str | None = None,
        endpoint: str | None = None,
    ) -> Found[Attempt]:
        """The same, with a filter."""

    async def count_deliveries(self, app: str, endpoint: str, since: int, until: int) -> DeliveryCounts:
        """Of the messages created from `since` to `until`, not included."""

    async def count_attempts(self, app: str, endpoint: str, since: int, until: int) -> tuple[int, int, int]:
        """Those of that time that have succeeded, and the others."""

    async def expunge_messages(self, app: str, refs: Sequence[str]) -> list[str]:
        """Remove the content of messages, given by id or event id; those of the `refs` that there are."""

    async def expunge_attempt(self, app: str, message: str, attempt: str) -> None:
        """Remove the bodies of an attempt; that of the answer reads EXPUNGED. Raises NotFound."""

    # sources and what they received

    async def create_source(self, app: str, source: Source, remember: Remember | None = None) -> None:
        """Raises Conflict for a taken uid or token."""

    async def save_source(self, app: str, source: Source, seen: int | None = None) -> None:
        """Replace it. Raises NotFound, Conflict, ChangedMeanwhile."""

    async def delete_source(self, app: str, source: str) -> None:
        """Delete it; what it received stays. Raises NotFound."""

    async def get_source(self, app: str, source: str) -> Source | None:
        """By id or uid."""

    async def list_sources(self, app: str, cursor: Cursor) -> list[Source]:
        """By id."""

    async def find_source(self, token: str) -> Source | None:
        """The source behind `/in/{token}`."""

    async def list_received(self, app: str, source: str, cursor: Cursor, verdict: str | None = None) -> list[Received]:
        """What reached a source, by id."""

    async def get_received(self, app: str, source: str, request: str) -> Received | None:
        """One received request, byte for byte."""

    # tasks: of the whole installation; a lease is compared as that of a delivery is

    async def create_task(self, task: Task, remember: Remember | None = None) -> None:
        """From now on it can be claimed."""

    async def get_task(self, task: str) -> Task | None:
        """One task."""

    async def list_tasks(self, cursor: Cursor, kind: str | None = None, state: TaskState | None = None) -> list[Task]:
        """By id."""

    async def claim_task(self, now: int, lease: int, until: int) -> Task | None:
        """Lease the running task that has waited longest, until `until`; None if there is none to be had."""

    async def advance_task(self, task: str, lease: int, now: int, until: int) -> Advanced | None:
        """Do its next page, and lease it until `until`; None if the lease was lost. What the page raises undoes it."""

    async def end_task(
        self, task: str, lease: int, now: int, error: str | None = None, notices: Sequence[Accept] = ()
    ) -> Task | None:
        """It is finished, or has failed with an error; None if the lease was lost."""

    # tokens and idempotency keys

    async def create_token(self, token: Token, token_hash: bytes) -> None:
        """Only the hash is stored."""

    async def find_token(self, token_hash: bytes) -> Token | None:
        """The token with this hash, revoked or not."""

    async def list_tokens(self) -> list[Token]:
        """All but those of visits to the portal, by id."""

    async def revoke_token(self, token: str, now: int) -> None:
        """Raises NotFound."""

    async def expire_tokens(self, app: str, sessions: Sequence[str] | None, end: int) -> int:
        """Let the tokens of an application end at `end` at the latest, or only those of some sessions; how many."""

    async def recall(self, key: bytes, now: int) -> Remembered | None:
        """The answer remembered under an idempotency key."""

    # who fetches messages

    async def save_position(self, app: str, endpoint: str, consumer: str, position: str) -> None:
        """A consumer has the messages of an endpoint up to this id. Raises NotFound without the endpoint."""

    async def get_position(self, app: str, endpoint: str, consumer: str) -> str | None:
        """What was saved last."""

    # integrations

    async def create_integration(self, app: str, integration: Integration, remember: Remember | None = None) -> None:
        """It has no key yet."""

    async def save_integration(self, app: str, integration: Integration) -> None:
        """Replace it; its key goes by it from now on. Raises NotFound."""

    async def delete_integration(self, app: str, integration: str) -> None:
        """With its key. Raises NotFound."""

    async def get_integration(self, app: str, integration: str) -> Integration | None:
        """By id."""

    async def list_integrations(self, app: str, cursor: Cursor) -> list[Integration]:
        """By id."""

    async def rotate_key(self, app: str, integration: str, key: Token, token_hash: bytes) -> None:
        """The token becomes its key, with its name and feature flags; the one before is no more. Raises NotFound."""
