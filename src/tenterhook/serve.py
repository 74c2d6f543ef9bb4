"""The one place that names implementations: settings → store, senders, engine, hub, ASGI, and the server around them."""

import asyncio
import contextlib
import gc
import logging
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from random import SystemRandom
from typing import IO, Any

import uvloop

from tenterhook import netguard
from tenterhook.addresses import Rules
from tenterhook.api.app import Api
from tenterhook.api.quota import Quotas
from tenterhook.catalog import Catalog
from tenterhook.clock import SECOND, Clock
from tenterhook.config import ConfiguredOutbox
from tenterhook.databases import open_store
from tenterhook.engine.committer import Committer
from tenterhook.engine.retention import Sweeper
from tenterhook.engine.tasks import TaskRunner
from tenterhook.engine.upkeep import Upkeep
from tenterhook.engine.worker import Worker
from tenterhook.errors import TenterhookError
from tenterhook.http_server import HttpServer, http_server, listen, raise_file_limit
from tenterhook.hub import Hub, Limits
from tenterhook.ids import IdMaker
from tenterhook.observe import AttemptLog, Gauge, Instrument, Instruments, Stats, prometheus
from tenterhook.operational import Notices
from tenterhook.outbox.databases import open_table
from tenterhook.outbox.publishing import Publisher
from tenterhook.outbox.relay import Relays
from tenterhook.registry import Registry, create_token
from tenterhook.senders import KINDS, SenderRegistry
from tenterhook.senders.http import HttpClient
from tenterhook.senders.limits import Limits as ResponseLimits
from tenterhook.settings import Settings
from tenterhook.store.base import Hint, Store
from tenterhook.transformations.runner import Runner

log = logging.getLogger("tenterhook")

_GARBAGE_THRESHOLD = 20_000
_SWITCH_INTERVAL = 0.0005
"""How long the event loop may keep the interpreter lock while the writer thread waits for it (5 ms by default)."""


def address_rules(settings: Settings) -> Rules:
    """What outbound connections may reach."""
    return Rules(
        allow=settings.allow_networks,
        deny=settings.deny_networks,
        nat64_prefixes=settings.nat64,
        https_only=settings.https_only,
        allowed_names=settings.allow_names,
    )


class Node:
    """One server's parts, wired. `start`, then serve `api`, then `stop`."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        *,
        clock: Clock | None = None,
        log_to: IO[bytes] | None = None,
        watch: Instrument | None = None,
    ) -> None:
        self.settings, self.store = settings, store
        self.clock = clock or store.clock
        self.stats = Stats()
        self.ready = False
        self._heard: set[asyncio.Task[None]] = set()
        self._ids, self._policy = IdMaker(), settings.policy()
        self._instrument: Instrument = self.stats
        if settings.log_level in ("debug", "info"):
            self._instrument = Instruments(self.stats, AttemptLog(log_to))
        if watch is not None:
            self._instrument = Instruments(self._instrument, watch)
        self._make_senders()
        self._make_engine()
        self._make_faces()

    def _make_senders(self) -> None:
        self.guard = netguard.Guard.of_machine(address_rules(self.settings))
        for warning in self.guard.rules.warnings:
            log.warning("%s", warning)
        self.transformations = Runner(self.settings.max_payload)
        client = HttpClient(self.guard, limits=ResponseLimits(body=self.settings.max_response))
        self.senders = SenderRegistry(client, self.transformations)

    def _make_engine(self) -> None:
        settings, store, clock, ids, instrument = self.settings, self.store, self.clock, self._ids, self._instrument
        self.committer = Committer(store, instrument)
        self.notices = Notices(
            store, lambda app: self.catalog.application(app),
            lambda message, endpoints, now: self.worker.plan(message, endpoints, now, lease=False),
            lambda endpoint, due_at: self.worker.note_due(endpoint, due_at), clock, ids, instrument,
        )  # fmt: skip
        self.worker = Worker(
            store, self.committer, self.senders, clock, ids, SystemRandom(), instrument, self._policy,
            memory_deliveries=settings.memory_deliveries, memory_bytes=settings.memory_bytes,
            disabled=lambda endpoint: self.catalog.endpoint_changed(endpoint), notices=self.notices,
            send=settings.role != "api",
        )  # fmt: skip
        self.catalog = Catalog(store, self.worker.adopt, self.worker.throttle)
        self.tasks = TaskRunner(store, clock, ids, SystemRandom(), instrument, self.worker.note_due, self.notices)
        self.upkeep = Upkeep(store, self.worker, clock, instrument, settings.rejections_kept, notices=self.notices)
        self.sweeper = Sweeper(store, clock, instrument, settings.retention())

    def _make_faces(self) -> None:
        settings, store, policy = self.settings, self.store, self._policy
        limits = Limits(settings.max_received, settings.rejection_body, settings.validate_payloads)
        self.hub = Hub(
            store, self.committer, self.worker, self.catalog, self.clock, self._ids, self._instrument, self.stats, policy,
            limits,
        )  # fmt: skip
        self.registry = Registry(
            store, self.catalog, self.worker, self.clock, self._ids, tuple(KINDS), self._check_url,
            self.transformations.check, settings.longest_timeout(), policy.lifetime, self.notices,
        )  # fmt: skip
        publisher = Publisher(self.hub.publish, self.clock, settings.max_payload)
        self.relays = Relays(publisher, self.clock, open_table, self.stats)
        self.api = Api(
            self.hub, self.registry, self.tasks, store, self.clock, settings.admin_token,
            lambda: self.ready and self.worker.alive, self.metrics, settings.max_payload, settings.public_url,
            answers=settings.role != "worker", quotas=Quotas(settings.operator_rate, settings.application_rate),
        )  # fmt: skip

    async def _check_url(self, url: str) -> None:
        """Refuse what will never be called; a name that does not resolve right now may do so later."""
        target = self.guard.target(url)
        try:
            await self.guard.addresses(target)
        except netguard.NameFailed as error:
            log.warning("an endpoint was saved whose name does not resolve now: %s", error.diagnosis)

    async def start(self) -> None:
        """Take over what an earlier process left, and begin to deliver."""
        now = self.clock.now()
        await self.store.add_days(now)
        recovered = await self.store.recover(now)
        if recovered:
            log.info("%d deliveries were in flight when the last process ended: they go on", recovered)
        self.committer.start()
        await self.store.listen(self._hear)
        await self.worker.start()
        if self.settings.role != "api":
            self.upkeep.start()
            self.tasks.start()
            self.sweeper.start()
        self.ready = True

    def _hear(self, hint: Hint) -> None:
        """Another node did something that this one may know otherwise."""
        match hint.topic:
            case "application":
                self.catalog.forget_application(hint.about)
                self._follow(self.worker.hear_of_application(hint.about))
            case "event_type":
                self.catalog.forget_event_type(hint.about)
            case "token":
                self.api.auth.forget()
            case "task":
                self.tasks.wake()
            case "due":
                self.worker.note_due(hint.about, self.clock.now())
            case "endpoint" | "health":
                self._follow(self.worker.hear_of(hint.about))
            case "all":
                self.catalog.forget_all()
                self.api.auth.forget()
                self.tasks.wake()
                self._follow(self.worker.hear_of_all())

    def _follow(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(_best_effort(work))
        self._heard.add(task)
        task.add_done_callback(self._heard.discard)

    async def relay(self, outboxes: Iterable[ConfiguredOutbox]) -> None:
        """Relay from these outboxes, and from no others; a node that only answers leaves that to those that work."""
        if self.settings.role != "api":
            await self.relays.apply(outboxes)

    async def stop(self) -> None:
        """Start nothing more, let what is in flight end, write everything down; each step whatever became of the others."""
        self.ready = False
        async with AsyncExitStack() as last_first:
            last_first.push_async_callback(self.store.close)
            last_first.push_async_callback(self.transformations.close)
            last_first.push_async_callback(self.senders.close)
            last_first.push_async_callback(self.committer.close)
            last_first.push_async_callback(self.worker.stop, self.settings.shutdown_timeout)
            last_first.push_async_callback(self.upkeep.stop)
            last_first.push_async_callback(self.tasks.stop)
            last_first.push_async_callback(self.sweeper.stop)
            last_first.push_async_callback(self.relays.stop)

    async def metrics(self) -> bytes:
        """The page behind `/metrics`."""
        counts = await self.store.counts()
        return prometheus(
            self.stats,
            [
                Gauge("tenterhook_deliveries_pending", "Deliveries that have not ended.", {(): counts.pending}),
                Gauge(
                    "tenterhook_oldest_due_seconds", "How long the most overdue delivery has waited.",
                    {(): self._age(counts.oldest_due)},
                ),
                Gauge("tenterhook_attempts_in_flight", "Attempts under way.", {(): self.worker.in_flight}),
                *self._outbox_gauges(),
            ],
        )  # fmt: skip

    def _outbox_gauges(self) -> list[Gauge]:
        relayed = {name: waiting for name, waiting in self.relays.waiting.items() if waiting is not None}
        return [
            Gauge(
                "tenterhook_outbox_relaying", "Whether this node relays from the outbox.",
                {(name,): name in relayed for name in self.relays.names}, ("outbox",),
            ),
            Gauge(
                "tenterhook_outbox_waiting", "Rows that wait in the outbox.",
                {(name,): waiting.rows for name, waiting in relayed.items()}, ("outbox",),
            ),
            Gauge(
                "tenterhook_outbox_oldest_seconds", "How long the oldest of them has waited.",
                {(name,): self._age(waiting.oldest) for name, waiting in relayed.items()}, ("outbox",),
            ),
        ]  # fmt: skip

    def _age(self, since: int | None) -> float:
        """In seconds; 0 where there is nothing."""
        return 0.0 if since is None else max(0.0, (self.clock.now() - since) / SECOND)


async def _best_effort(work: Coroutine[Any, Any, None]) -> None:
    """Hints may get lost, so what follows from one may too."""
    try:
        await work
    except TenterhookError as error:
        log.warning("a hint of another node came to nothing: %s", error)


async def first_token(store: Store, settings: Settings, clock: Clock) -> str | None:
    """The text of a new admin token, if nobody could call the API otherwise: at the first start."""
    if settings.admin_token is not None or await store.list_tokens():
        return None
    return (await create_token(store, clock, name="first admin", scope="admin"))[1]


@asynccontextmanager
async def running(
    settings: Settings, log_to: IO[bytes] | None = None, watch: Instrument | None = None
) -> AsyncIterator[Node]:
    """A started node, stopped at the end; `watch` is told what its engine does.

    Raises ConfigurationError, StoreUnavailable, SchemaMismatch.
    """
    store = await open_store(settings, exclusive=True)
    node = Node(settings, store, log_to=log_to, watch=watch)
    try:
        await node.start()
        yield node
    finally:
        await node.stop()


async def _nothing(node: Node) -> None:
    """No configuration to apply."""


async def serve(
    settings: Settings,
    started: Callable[[Node, str], None] = lambda node, url: None,
    reload: Callable[[Node], None] = lambda node: None,
    configure: Callable[[Node], Awaitable[None]] = _nothing,
) -> None:
    """Serve until SIGTERM or SIGINT; SIGHUP calls `reload`.

    `configure` is awaited before the first request is answered, then `started` is told the node and its base URL.
    """
    _tune_interpreter()
    raise_file_limit()
    with contextlib.closing(listen(settings.host, settings.port)) as sock:
        async with running(settings) as node:
            server = http_server(node.api)
            loop = asyncio.get_running_loop()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, _stop, server)
            loop.add_signal_handler(signal.SIGHUP, reload, node)
            await configure(node)
            host, port = sock.getsockname()[:2]
            started(node, f"http://{f'[{host}]' if ':' in host else host}:{port}")
            await server.serve([sock])


def _tune_interpreter() -> None:
    """For a process that is an event loop and a database thread: quick hand-overs, and few searches for cycles.

    What the program consists of never becomes garbage; the objects of a request die by reference count.
    """
    sys.setswitchinterval(_SWITCH_INTERVAL)
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GARBAGE_THRESHOLD, 20, 50)


def _stop(server: HttpServer) -> None:
    server.should_exit = True


def run(
    settings: Settings,
    started: Callable[[Node, str], None],
    reload: Callable[[Node], None],
    configure: Callable[[Node], Awaitable[None]],
) -> None:
    """`serve` on its own event loop."""
    uvloop.run(serve(settings, started, reload, configure))
