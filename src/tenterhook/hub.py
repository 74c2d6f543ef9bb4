"""The use-cases that touch more than one noun: publish a message, receive a webhook, try again.

What a face (REST, CLI, a source URL) wants goes through here, so that every way in does the same: route, plan, commit,
then hand the fresh deliveries to the worker.
"""

import logging
from collections.abc import Callable

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from tenterhook import providers, receive, schemas
from tenterhook.catalog import Catalog, Entry
from tenterhook.clock import MINUTE, Clock
from tenterhook.engine.committer import Committer
from tenterhook.engine.worker import Worker
from tenterhook.errors import (
    EndpointDisabled,
    Invalid,
    InvalidPayload,
    Late,
    MissingPayload,
    NotFound,
    OutcomeUnknown,
    OutdatedPlan,
    SignatureRefused,
    TooLarge,
)
from tenterhook.ids import PREFIXES, IdMaker
from tenterhook.model import Delivery, Endpoint, EventType, Message, Policy, Received, Request, Source
from tenterhook.observe import Instrument, Stats
from tenterhook.receive import Outcome, Reply, Verdict
from tenterhook.store.base import Store
from tenterhook.store.work import WRITTEN_WITHIN, Accept, Accepted, Remember, Remembered

log = logging.getLogger(__name__)

PLANS = 5
"""How often a message is planned anew because its application was changed meanwhile."""
REJECTIONS_PER_MINUTE = 120
"""How many rejected requests of one source are recorded per minute; more are answered and counted, not kept."""


class Draft(Struct, frozen=True, kw_only=True):
    """A message that somebody wants to publish; its payload goes after `payload_retention` (µs) at the latest."""

    event_type: str
    payload: bytes
    content_type: str = "application/json"
    event_id: str | None = None
    channels: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    order_key: str | None = None
    deliver_at: int | None = None
    payload_retention: int | None = None


class Published(Struct, frozen=True):
    """The stored message, or the answer that an earlier request with the same idempotency key got."""

    message: Message
    remembered: Remembered | None = None


class Limits(Struct, frozen=True):
    """What the hub keeps of what strangers send, and what it does about payloads that do not fit their schema."""

    max_received: int = 25 << 20
    rejection_body: int = 64 << 10
    validate_payloads: str = "off"


class Rejections:
    """Bounds what a flood of bad requests can write: so many per source and minute."""

    def __init__(self) -> None:
        self._minute = 0
        self._counts: dict[str, int] = {}

    def allow(self, source: str, now: int) -> bool:
        """Whether one more may be recorded now."""
        minute = now // MINUTE
        if minute != self._minute:
            self._minute, self._counts = minute, {}
        count = self._counts.get(source, 0) + 1
        self._counts[source] = count
        return count <= REJECTIONS_PER_MINUTE


class Hub:
    """One per server."""

    def __init__(
        self,
        store: Store,
        committer: Committer,
        worker: Worker,
        catalog: Catalog,
        clock: Clock,
        ids: IdMaker,
        instrument: Instrument,
        stats: Stats,
        policy: Policy,
        limits: Limits,
    ) -> None:
        self.store, self.catalog, self.worker, self.clock, self.ids = store, catalog, worker, clock, ids
        self._committer, self._instrument, self._stats = committer, instrument, stats
        self.policy, self.limits = policy, limits
        self._rejections = Rejections()

    # publishing

    async def publish(
        self,
        app: str,
        draft: Draft,
        remember: Callable[[Message], Remember] | None = None,
        *,
        example_for: str | None = None,
    ) -> Published:
        """Accept a message: when this returns, it and its deliveries are on the disk.

        `app` is an id or uid. `example_for` is the id of an endpoint that alone gets it, whatever its filters say. Raises
        NotFound, EndpointDisabled, Invalid (archived event type, or a payload that does not fit), Conflict (event id
        taken), IdempotencyInProgress, StoreUnavailable.
        """
        self._judge(draft, await self.catalog.event_type(draft.event_type))
        for _ in range(PLANS):
            entry = self.catalog.known(app) or await self.catalog.application(app)
            try:
                published = await self._publish(entry, draft, remember, example_for)
            except Late:
                continue
            except OutdatedPlan:
                self.catalog.forget_application(entry.application.id)
                continue
            if example_for is not None and published.remembered is None:
                self.worker.probe_now(example_for)
            return published
        raise OutdatedPlan

    def _judge(self, draft: Draft, event_type: EventType | None) -> None:
        """Raises Invalid for what may not be published."""
        if event_type is None:
            return
        if event_type.archived:
            raise Invalid("this event type is archived: create it again to use it", ("body", "eventType"))
        schema = None if self.limits.validate_payloads == "off" else schemas.newest(event_type.schemas)
        if schema is None or not draft.content_type.startswith("application/json"):
            return
        found = schemas.problems(schema, draft.payload)
        if found and self.limits.validate_payloads == "reject":
            raise InvalidPayload([(tuple(one.path.split("/")[1:]), one.message) for one in found])
        if found:
            self._stats.payload_invalid(draft.event_type)
            words = "; ".join(f"{one.path or '/'}: {one.message}" for one in found)
            log.warning("a payload does not fit the schema of %s: %s", draft.event_type, words)

    async def _publish(
        self, entry: Entry, draft: Draft, remember: Callable[[Message], Remember] | None, example_for: str | None
    ) -> Published:
        now = self.clock.now()
        message = Message(
            id=self.ids.new("msg_", now),
            app=entry.application.id,
            event_type=draft.event_type,
            payload=draft.payload,
            content_type=draft.content_type,
            event_id=draft.event_id,
            channels=draft.channels,
            tags=draft.tags,
            order_key=draft.order_key,
            deliver_at=draft.deliver_at,
            source=example_for,
            payload_until=None if draft.payload_retention is None else now + draft.payload_retention,
            created_at=now,
        )
        remembered = None if remember is None else remember(message)
        accepted = await self._accept(entry, message, now, None, remembered)
        return Published(message, accepted.remembered)

    async def wanted(self, app: str, event_type: str, channels: tuple[str, ...]) -> bool:
        """Whether any endpoint would get such a message now. Raises NotFound."""
        return bool((await self.catalog.application(app)).router.match(event_type, channels))

    async def _accept(
        self, entry: Entry, message: Message, now: int, received: Received | None, remember: Remember | None
    ) -> Accepted:
        endpoints = _wanting(entry, message)
        deliveries = self.worker.plan(message, endpoints, now)
        stored: bool | None = False
        waiting: tuple[str, ...] = ()
        try:
            revision, deadline = entry.revision, now + WRITTEN_WITHIN
            planned = Accept(message, deliveries, received, remember, revision, deadline=deadline)
            accepted = await self._committer.accept(planned)
            stored, waiting = not (accepted.duplicate or accepted.remembered), accepted.waiting
        except OutcomeUnknown:
            stored = None
            raise
        finally:
            self.worker.planned(message, deliveries, waiting, stored)
        if stored:
            self._instrument.message_accepted(message, len(deliveries))
        return accepted

    # receiving

    async def receive(self, token: str, request: Request) -> Reply:
        """What a source answers to a request, after the commit. Raises NotFound, TooLarge, StoreUnavailable."""
        for _ in range(PLANS):
            entry, source = await self.catalog.source(token)
            try:
                return await self._receive(entry, source, request)
            except Late:
                continue
            except OutdatedPlan:
                # the source may have other secrets by now, or be gone: everything is judged anew
                self.catalog.forget_application(source.app)
        raise OutdatedPlan

    async def _receive(self, entry: Entry, source: Source, request: Request) -> Reply:
        provider = providers.load(source.provider)
        if len(request.body) > self.size_limit(source):
            raise TooLarge(f"this source takes at most {self.size_limit(source)} bytes")
        now = self.clock.now()
        verdict = receive.verify(provider, request, source.secrets, now=now, options=source.options)
        if verdict.outcome is Outcome.ACCEPTED:
            return await self._received(entry, source, request, verdict, now)
        self._stats.request_received(source.provider, verdict.outcome.value)
        if verdict.outcome is not Outcome.CHALLENGE:
            await self._record(entry, source, request, verdict, now)
        return _reply(verdict)

    def size_limit(self, source: Source) -> int:
        """The most bytes that a request to this source may have."""
        own = providers.load(source.provider).max_body
        return self.limits.max_received if own is None else min(own, self.limits.max_received)

    async def _received(self, entry: Entry, source: Source, request: Request, verdict: Verdict, now: int) -> Reply:
        message = Message(
            id=self.ids.new("msg_", now),
            app=source.app,
            event_type=verdict.event_type or "",
            payload=request.body,
            content_type=_content_type(request),
            source=source.id,
            created_at=now,
        )
        received = self._noted(source, request, "accepted", "", verdict.dedup_key, message.id, now)
        accepted = await self._accept(entry, message, now, received, None)
        status = "duplicate" if accepted.duplicate else "accepted"
        self._stats.request_received(source.provider, status)
        return _json_reply(200, {"status": status, "id": accepted.message})

    def _noted(
        self,
        source: Source,
        request: Request,
        verdict: str,
        reason: str,
        dedup: str | None,
        message: str | None,
        now: int,
    ) -> Received:
        return Received(
            id=self.ids.new(PREFIXES["request"], now),
            app=source.app,
            source=source.id,
            request=request,
            verdict=verdict,
            reason=reason,
            dedup_key=dedup,
            message=message,
            received_at=now,
        )

    async def _record(self, entry: Entry, source: Source, request: Request, verdict: Verdict, now: int) -> None:
        """Pings and rejections are shown, not delivered; rejections are bounded in number and size."""
        kept = request
        if verdict.outcome is Outcome.REJECTED:
            if not self._rejections.allow(source.id, now):
                return
            kept = replace(request, body=request.body[: self.limits.rejection_body])
        reason = "" if verdict.reason is None else f"{verdict.reason.value}: {verdict.detail}"
        noted = self._noted(source, kept, verdict.outcome.value, reason, verdict.dedup_key, None, now)
        await self._committer.accept(Accept(None, (), noted, None, entry.revision))

    # trying again

    async def retry(self, app: str, message: str, endpoint: str) -> Delivery:
        """One more attempt by hand, at once, beside the schedule, whatever the endpoint's filters say.

        Raises NotFound, EndpointDisabled, MissingPayload, DeliveryInFlight.
        """
        found = await self.endpoint(app, endpoint)
        stored = await self.store.get_message(app, message)
        if stored is None:
            raise NotFound
        if stored.expired:
            raise MissingPayload
        now = self.clock.now()
        delivery = await self.store.request_attempt(app, stored.id, found.id, now, self.lifetime(found), found.ordered)
        self.worker.note_due(found.id, now)
        self.worker.probe_now(found.id)
        return delivery

    async def endpoint(self, app: str, endpoint: str) -> Endpoint:
        """An endpoint that can be sent to. Raises NotFound, EndpointDisabled."""
        found = await self.store.get_endpoint(app, endpoint)
        if found is None:
            raise NotFound
        if found.disabled:
            raise EndpointDisabled
        return found

    def lifetime(self, endpoint: Endpoint) -> int:
        """How long a delivery to it may take (µs)."""
        return endpoint.lifetime or self.policy.lifetime


def _wanting(entry: Entry, message: Message) -> tuple[Endpoint, ...]:
    """Who gets a message. Raises NotFound, EndpointDisabled where it is an example for one that cannot get it."""
    if message.example_for is None:
        return entry.router.match(message.event_type, message.channels)
    endpoint = entry.endpoints.get(message.example_for)
    if endpoint is None:
        raise NotFound
    if endpoint.disabled:
        raise EndpointDisabled
    return (endpoint,)


def _content_type(request: Request) -> str:
    values = request.header("content-type")
    return values[0].decode("latin-1") if values else "application/octet-stream"


def _reply(verdict: Verdict) -> Reply:
    if verdict.outcome is not Outcome.REJECTED:
        return verdict.reply or Reply()
    status = SignatureRefused.status if verdict.reply is None else verdict.reply.status
    reason = "rejected" if verdict.reason is None else verdict.reason.value
    return _json_reply(status, {"code": SignatureRefused.code, "detail": f"{reason}: {verdict.detail}"})


def _json_reply(status: int, document: dict[str, str | None]) -> Reply:
    return Reply(status, (("content-type", "application/json"),), msgspec.json.encode(document))
