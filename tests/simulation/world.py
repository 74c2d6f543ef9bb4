"""Runs a scenario: processes that live and die on one database, and people who use them. Everything is noted."""

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
from msgspec.structs import replace

from tenterhook.catalog import Catalog
from tenterhook.clock import MILLISECOND, MINUTE, SECOND
from tenterhook.engine.committer import Committer
from tenterhook.engine.tasks import TaskRunner
from tenterhook.engine.upkeep import Upkeep
from tenterhook.engine.worker import Worker
from tenterhook.errors import DeliveryInFlight, NotFound, OutcomeUnknown, StoreUnavailable
from tenterhook.ids import IdMaker
from tenterhook.model import (
    OPERATIONAL,
    Application,
    Attempt,
    Delivery,
    Endpoint,
    Health,
    Message,
    Replay,
    Signal,
    State,
    Task,
    TaskKind,
    TaskState,
)
from tenterhook.observe import Instrument
from tenterhook.operational import Notices
from tenterhook.store import replays
from tenterhook.store.queries import Cursor
from tenterhook.store.sqlite import SqliteStore
from tenterhook.store.work import Accept
from tenterhook.vault import Vault
from tests.simulation.faults import Line, Written
from tests.simulation.loop import START, Owner, VirtualClock, VirtualLoop, pause, track_tasks
from tests.simulation.receivers import Ledger, Network
from tests.simulation.scenario import APP, Scenario, Step

VAULT = Vault([b"0" * 32], random_bytes=bytes)
SLACK = 5 * MINUTE
_RESTART = 500 * MILLISECOND
_GRACE = 2 * SECOND
ENDED = (State.DELIVERED, State.FAILED, State.CANCELLED)


class Notes(Instrument):
    """Notes what one process says of its work, while it lives."""

    def __init__(self, node: "Node") -> None:
        self._node = node

    def attempt_settled(self, delivery: Delivery, attempt: Attempt, kept: bool) -> None:
        self._node.note("settled", delivery.message, delivery.endpoint, delivery.state, attempt.outcome.result, kept)

    def signalled(self, signal: Signal) -> None:
        self._node.note("signal", signal.kind, signal.endpoint, signal.message)
        self._node.world.signals.append(signal)


class Node:
    """One process: its own view of the store, its own engine. It can die at any instant."""

    def __init__(self, world: "World", number: int) -> None:
        self.world, self.number = world, number
        self.tasks: dict[asyncio.Task[Any], None] = {}
        self.context = contextvars.copy_context()
        self.context.run(Owner.set, self.tasks)
        s = world.scenario
        rng = Random(f"{s.seed}/node/{number}")
        self.line = Line(world.store, s.faults, Random(rng.getrandbits(60)), world.clock, world.written)
        self.network = Network(number, s.receivers, world.ledger, world.clock)
        notes = Notes(self)
        self.ids = IdMaker(Random(rng.getrandbits(60)))
        self.committer = Committer(self.line, notes)
        self.notices = Notices(
            self.line, lambda app: self.catalog.application(app),
            lambda message, endpoints, now: self.worker.plan(message, endpoints, now, lease=False),
            lambda endpoint, due_at: self.worker.note_due(endpoint, due_at), world.clock, self.ids, notes,
        )  # fmt: skip
        self.worker = Worker(
            self.line, self.committer, lambda _: self.network, world.clock, self.ids, Random(rng.getrandbits(60)), notes,
            s.policy, memory_deliveries=s.memory_deliveries, disabled=self._disabled, notices=self.notices,
        )  # fmt: skip
        self.upkeep = Upkeep(self.line, self.worker, world.clock, notes, interval=s.upkeep, notices=self.notices)
        self.catalog = Catalog(self.line, self.worker.adopt, self.worker.throttle)
        self.runner = TaskRunner(
            self.line,
            world.clock,
            self.ids,
            Random(rng.getrandbits(60)),
            notes,
            self.worker.note_due,
            self.notices,
            s.upkeep,
        )

    def note(self, *what: object) -> None:
        self.world.ledger.note(self.world.clock.now(), self.number, *what)

    def _disabled(self, endpoint: Endpoint) -> None:
        self.catalog.endpoint_changed(endpoint)
        self.world.ever_disabled.add(endpoint.id)

    def run(self, work: Awaitable[Any]) -> asyncio.Task[Any]:
        """Run something inside this process."""
        return asyncio.get_running_loop().create_task(work, context=self.context.copy())

    async def start(self, recover: bool) -> None:
        """Raises StoreUnavailable."""
        self.committer.start()
        if recover:
            await self.line.recover(self.world.clock.now())
        await self.worker.start()
        self.upkeep.start()
        self.runner.start()

    async def stop(self) -> None:
        """Go in order, as a server does at SIGTERM."""
        await self.upkeep.stop()
        await self.runner.stop()
        await self.worker.stop(_GRACE)
        await self.committer.close()

    def die(self) -> None:
        """From now on nothing of this process reaches the store or a receiver."""
        self.line.dead = self.network.dead = True
        for task in list(self.tasks):
            task.cancel()


@dataclass
class World:
    """The database, the network, the people; and what is known of all that happened."""

    scenario: Scenario
    store: SqliteStore
    clock: VirtualClock
    ledger: Ledger = field(default_factory=Ledger)
    written: Written = field(default_factory=Written)
    signals: list[Signal] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    up: Node | None = None
    died_at: dict[int, int] = field(default_factory=dict)
    messages: dict[str, Message] = field(default_factory=dict)
    planned: dict[str, tuple[str, ...]] = field(default_factory=dict)
    accepted: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    touched: dict[tuple[str, str], list[tuple[int, int]]] = field(default_factory=dict)
    manual: dict[tuple[str, str], int] = field(default_factory=dict)
    replayed: dict[tuple[str, str], int] = field(default_factory=dict)
    rates: list[tuple[int, int | None]] = field(default_factory=list)
    throttling: int = 0
    ever_disabled: set[str] = field(default_factory=set)
    deleted: set[str] = field(default_factory=set)
    last_begin: int = START
    idle_at: int | None = None
    defects: list[str] = field(default_factory=list)
    stored: set[str] = field(default_factory=set)
    deliveries: dict[tuple[str, str], Delivery] = field(default_factory=dict)
    attempts: list[Attempt] = field(default_factory=list)
    tasks: list[Task] = field(default_factory=list)
    told: dict[tuple[str, str | None, str | None], int] = field(default_factory=dict)

    # the life of processes

    async def boot(self) -> None:
        while True:
            node = Node(self, len(self.nodes))
            self.nodes.append(node)
            recover = self.scenario.recovers
            try:
                await asyncio.shield(node.run(node.start(recover)))
            except StoreUnavailable:
                self._dead(node)
                await pause(SECOND)
                continue
            self.up = node
            return

    def _dead(self, node: Node) -> None:
        node.die()
        self.died_at[node.number] = self.clock.now()
        self.ledger.note(self.clock.now(), "death", node.number)

    async def die(self, _: Step) -> None:
        node, self.up = self.up, None
        if node is not None:
            self._dead(node)
            await pause(_RESTART)
            await self.boot()

    async def restart(self, _: Step) -> None:
        node, self.up = self.up, None
        if node is not None:
            await asyncio.shield(node.run(node.stop()))
            self._dead(node)
            await pause(_RESTART)
            await self.boot()

    # what people do

    async def publish(self, node: Node, step: Step) -> None:
        entry = await node.catalog.application(APP)
        now = self.clock.now()
        message = Message(
            id=node.ids.new("msg_", now), app=APP, event_type="e", payload=b"{}", order_key=step.key, created_at=now
        )
        endpoints = entry.router.match("e", ())
        self.messages[message.id] = message
        self.planned[message.id] = tuple(endpoint.id for endpoint in endpoints)
        self.last_begin = max(self.last_begin, now)
        node.note("publish", message.id)
        deliveries = node.worker.plan(message, endpoints, now)
        try:
            accepted = await node.committer.accept(Accept(message, deliveries))
        except StoreUnavailable as error:
            node.worker.planned(message, deliveries, (), stored=None if isinstance(error, OutcomeUnknown) else False)
            self.refused.add(message.id)
        else:
            node.worker.planned(message, deliveries, accepted.waiting, stored=True)
            self.accepted.add(message.id)

    async def retry(self, node: Node, step: Step) -> None:
        endpoint = await node.line.get_endpoint(APP, step.target)
        if endpoint is None or endpoint.disabled or not self.messages:
            return
        line = (self._pick(step), step.target)
        with self._touching(line):
            self.manual[line] = self.manual.get(line, 0) + 1
            now = self.clock.now()
            try:
                await node.line.request_attempt(APP, *line, now, self._lifetime(endpoint), endpoint.ordered)
            except (NotFound, DeliveryInFlight):
                return
            node.worker.note_due(step.target, now)
            node.worker.probe_now(step.target)

    async def replay(self, node: Node, step: Step) -> None:
        endpoint = await node.line.get_endpoint(APP, step.target)
        if endpoint is None or endpoint.disabled:
            return
        now = self.clock.now()
        self.last_begin = max(self.last_begin, now)
        replay = Replay(
            endpoint=step.target, since=START, until=now + SECOND, lifetime=self._lifetime(endpoint), states=ENDED,
            missing=True,
        )  # fmt: skip
        await node.runner.begin(TaskKind.BULK_REPLAY, APP, msgspec.to_builtins(replay))

    async def cancel(self, node: Node, step: Step) -> None:
        if self.messages:
            line = (self._pick(step), step.target)
            with self._touching(line):
                await node.line.cancel_delivery(APP, *line, self.clock.now())

    def _pick(self, step: Step) -> str:
        return Random(step.at).choice(list(self.messages))

    def _lifetime(self, endpoint: Endpoint) -> int:
        return endpoint.lifetime or self.scenario.policy.lifetime

    @contextmanager
    def _touching(self, *lines: tuple[str, str]) -> Iterator[None]:
        """While this runs, and from then on, these deliveries need not follow the schedule alone."""
        begin = self.clock.now()
        try:
            yield
        finally:
            self.last_begin = max(self.last_begin, self.clock.now())
            for line in lines:
                self.touched.setdefault(line, []).append((begin, self.clock.now()))

    async def disable(self, node: Node, step: Step) -> None:
        self.ever_disabled.add(step.target)
        await self._change(node, step, disabled=True)

    async def enable(self, node: Node, step: Step) -> None:
        await self._change(node, step, disabled=False, disabled_reason=None)

    async def reconfigure(self, node: Node, step: Step) -> None:
        rng = Random(step.at)
        await self._change(node, step, description=str(rng.random()), url=f"https://{rng.random()}.example/")

    async def _change(self, node: Node, step: Step, **changes: Any) -> None:
        endpoint = await node.line.get_endpoint(APP, step.target)
        if endpoint is None:
            return
        changed = replace(endpoint, updated_at=self.clock.now(), **changes)
        clean = endpoint.disabled and not changed.disabled
        await node.line.save_endpoint(APP, changed, clean=clean)
        node.catalog.forget_application(APP)
        node.worker.adopt(changed, Health())

    async def throttle(self, node: Node, step: Step) -> None:
        rate = int(step.target) if step.target else None
        self.throttling += 1
        self.rates.append((self.clock.now(), None))  # until it is known what became of this, there may be none
        app = await node.line.get_application(APP)
        await node.line.save_application(replace(app, rate_limit=rate, updated_at=self.clock.now()))
        node.catalog.forget_application(APP)
        await node.worker.hear_of_application(APP)
        self.throttling -= 1
        if not self.throttling:
            stored = await self.store.get_application(APP)
            self.rates.append((self.clock.now(), stored and stored.rate_limit))

    async def delete(self, node: Node, step: Step) -> None:
        self.deleted.add(step.target)
        try:
            await node.line.delete_endpoint(APP, step.target)
        except NotFound:
            return
        node.catalog.forget_application(APP)
        node.worker.dismiss(step.target)

    # the run

    async def perform(self, step: Step) -> None:
        if step.what in ("die", "restart"):
            await getattr(self, step.what)(step)
        elif self.up is not None:
            action: Callable[[Node, Step], Awaitable[None]] = getattr(self, step.what)
            self.up.run(_answered(action(self.up, step)))

    async def run(self) -> None:
        for endpoint in self.scenario.endpoints:
            await self.store.create_endpoint(APP, endpoint)
        self.rates.append((START, self.scenario.throttle))
        app = await self.store.get_application(APP)
        assert app is not None
        await self.store.save_application(replace(app, rate_limit=self.scenario.throttle))
        if self.scenario.told:
            ears = Endpoint(
                id="ep_told", app=OPERATIONAL, url="https://told.example/", created_at=START, updated_at=START
            )
            await self.store.create_endpoint(OPERATIONAL, ears)
        await self.boot()
        killers = []
        for step in self.scenario.script:
            await pause(max(0, step.at - self.clock.now()))
            work = asyncio.ensure_future(self.perform(step))
            killers.append(work)
            if step.what not in ("die", "restart"):
                await work
        await asyncio.gather(*killers)
        await self._until_idle()
        await self._collect()

    async def _until_idle(self) -> None:
        """Until nothing is pending, or the time by which everything must have ended is over."""
        while self.clock.now() <= self._latest():
            await pause(5 * SECOND)
            if self.clock.now() < self._last_outage() + _GRACE:
                continue  # what could not be written yet is written now
            tasks = await self.store.list_tasks(Cursor(limit=1_000_000))
            self.last_begin = max(self.last_begin, *(task.updated_at for task in tasks), START)
            if any(task.state is TaskState.RUNNING for task in tasks):
                continue
            if self.up is not None and not (await self.store.counts()).pending and not self.up.worker.in_flight:
                self.idle_at = self.clock.now()
                break
        if self.up is not None:
            await asyncio.shield(self.up.run(self.up.stop()))

    def _last_outage(self) -> int:
        return max((end for _, end in self.scenario.faults.outages), default=0)

    def _latest(self) -> int:
        p = self.scenario.policy
        return max(self.last_begin, self._last_outage()) + p.lifetime + 3 * p.lease + 2 * self.scenario.upkeep + SLACK

    async def _collect(self) -> None:
        self.stored = {message.id for message in await self.store.list_messages(APP, Cursor(limit=1_000_000))}
        for message in self.messages:
            for delivery in await self.store.list_deliveries(APP, message):
                self.deliveries[message, delivery.endpoint] = delivery
        self.attempts = await self.store.list_attempts(APP, Cursor(limit=1_000_000))
        for message in await self.store.list_messages(OPERATIONAL, Cursor(limit=1_000_000)):
            body = msgspec.json.decode(message.payload)
            about = body["data"].get("endpointId"), body["data"].get("msgId")
            self.told[body["type"], *about] = self.told.get((body["type"], *about), 0) + 1
        self.tasks = await self.store.list_tasks(Cursor(limit=1_000_000))
        for task in self.tasks:
            for line in ((message, task.parameters["endpoint"]) for message in self.messages):
                self.replayed[line] = self.replayed.get(line, 0) + 1
                self.touched.setdefault(line, []).append((task.created_at, task.updated_at))


async def _answered(work: Awaitable[None]) -> None:
    """An API call may fail with the database, or find its object gone; its caller is told, that is all."""
    with suppress(StoreUnavailable, NotFound):
        await work


@cache
def _template() -> bytes:
    """The file of an empty database with the application, made once: a copy is quicker than the schema."""

    async def build(path: Path) -> None:
        store = SqliteStore.open(path, VAULT, inline=True, synchronous="OFF")
        await store.create_application(Application(id=APP, name="a", created_at=START, updated_at=START))
        await store.close()

    with TemporaryDirectory(dir=memory_folder()) as folder, asyncio.Runner() as runner:
        runner.run(build(Path(folder, "t.db")))
        return Path(folder, "t.db").read_bytes()


def memory_folder() -> str | None:
    """Where files never touch a disk, if this machine has such a place."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def run(scenario: Scenario) -> World:
    """Everything that happens in a scenario."""
    template = _template()
    with TemporaryDirectory(dir=memory_folder()) as folder:
        path = Path(folder, "t.db")
        path.write_bytes(template)
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            loop = runner.get_loop()
            loop.set_task_factory(track_tasks)
            store = SqliteStore.open(path, VAULT, inline=True, synchronous="OFF")
            world = World(scenario, store, VirtualClock(loop))
            loop.set_exception_handler(
                lambda _, problem: world.defects.append(repr(problem.get("exception") or problem))
            )
            try:
                with _small_pages():
                    runner.run(world.run())
            finally:
                runner.run(store.close())
    return world


@contextmanager
def _small_pages() -> Iterator[None]:
    """A replay has so many pages that a process can die between them."""
    usual, replays.PAGE = replays.PAGE, 3
    try:
        yield
    finally:
        replays.PAGE = usual
