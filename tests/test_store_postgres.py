"""PostgreSQL keeps the contract of the store, and what only a server with many clients can do."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import asyncpg
import pytest
from msgspec.structs import replace

from tenterhook import ids
from tenterhook.clock import HOUR, SECOND, SystemClock
from tenterhook.engine.committer import Committer
from tenterhook.engine.lifecycle import step
from tenterhook.errors import ConfigurationError, SchemaMismatch, StoreUnavailable
from tenterhook.ids import IdMaker
from tenterhook.model import OPERATIONAL, Application, Endpoint, Health, Message, State, Token
from tenterhook.observe import Instrument
from tenterhook.store import erasure, notices, objects, postgres_schema, schema
from tenterhook.store.base import Hint, Store
from tenterhook.store.postgres import PostgresStore
from tenterhook.store.postgres_commit import line_key
from tenterhook.store.postgres_run import run
from tenterhook.store.queries import Cursor
from tenterhook.store.sqlite import SqliteStore
from tenterhook.store.work import Accept, Accepted, Claim, Claimed, Done, Page, Remember, Settled, Settlement, Work
from tenterhook.vault import Vault
from tests.api import GRACE
from tests.contracts.everything import EveryContract
from tests.contracts.store import (
    LEASE,
    NOW,
    new_app,
    new_attempt,
    new_delivery,
    new_endpoint,
    new_message,
    new_received,
    new_source,
)
from tests.wire import Wire

VAULT = Vault([b"0" * 32])


class TestPostgres(EveryContract):
    @pytest.fixture(autouse=True)
    def database(self, postgres_url: str) -> None:
        self.url = postgres_url

    async def make(self, path: Path) -> PostgresStore:
        return await PostgresStore.open(self.url, VAULT)

    async def test_what_was_kept_before_its_answer_was_lost_is_answered_as_if_it_had_not_been(
        self, store: Store, app: Application
    ) -> None:
        endpoint, source = new_endpoint(app, ordered=True), new_source(app)
        await store.create_endpoint(app.id, endpoint)
        await store.create_source(app.id, source)
        loaded = await store.load_application(app.id)
        assert loaded is not None
        named, received, lined = new_message(app, event_id="e"), new_message(app, source=source.id), new_message(app)
        remember = Remember(b"key", b"hash", 202, b"{}", NOW + HOUR)
        work = [
            Accept(named, (new_delivery(named, endpoint),), None, remember, loaded.revision),
            Accept(received, (), new_received(source, received, dedup_key="k"), None, loaded.revision),
            Accept(lined, (new_delivery(lined, endpoint),), None, None, loaded.revision),
        ]
        first = await store.commit(work)
        assert first == [Accepted(named.id), Accepted(received.id), Accepted(lined.id, waiting=(endpoint.id,))]
        other = new_message(app)
        assert await store.commit([*work, Accept(other)]) == [*first, Accepted(other.id)]
        stored = await store.list_messages(app.id, Cursor(limit=9))
        assert {m.id for m in stored} == {named.id, received.id, lined.id, other.id}
        assert len(await store.list_received(app.id, source.id, Cursor(limit=9))) == 1
        delivery = await store.get_delivery(app.id, lined.id, endpoint.id)
        assert delivery is not None
        assert delivery.state is State.WAITING

    async def test_what_waited_in_a_line_when_the_answer_was_lost_is_not_taken_for_its_head(
        self, store: Store, app: Application
    ) -> None:
        """With an idempotency key too, which the lost commit has kept."""
        endpoint = new_endpoint(app, ordered=True)
        await store.create_endpoint(app.id, endpoint)
        leased = {"state": State.LEASED, "due_at": NOW + LEASE, "lease": 3}

        def publishing() -> tuple[str, list[Work]]:
            # one of them has no key: that it is there already shows that this is not the first time
            message, plain = new_message(app), new_message(app)
            key = Remember(message.id.encode(), b"h", 202, b"", NOW + 1)
            return message.id, [Accept(plain), Accept(message, (new_delivery(message, endpoint, **leased),), None, key)]

        head, first = publishing()
        second, behind = publishing()
        for _ in range(2):
            assert (await store.commit(first))[1] == Accepted(head)
        for _ in range(2):
            assert (await store.commit(behind))[1] == Accepted(second, waiting=(endpoint.id,))
        # the head is still leased to whoever asks again, whatever has come behind it
        assert (await store.commit(first))[1] == Accepted(head)


Pair = tuple[PostgresStore, PostgresStore]


@pytest.fixture
async def pair(postgres_url: str) -> AsyncIterator[Pair]:
    """The stores of two nodes."""
    stores = (
        await PostgresStore.open(postgres_url, VAULT),
        await PostgresStore.open(postgres_url, VAULT, worker=False),
    )
    yield stores
    for store in stores:
        await store.close()


@pytest.fixture
async def app(pair: Pair) -> Application:
    app = new_app(uid="acme")
    await pair[0].create_application(app)
    return app


async def added(store: PostgresStore, endpoint: Endpoint) -> Endpoint:
    await store.create_endpoint(endpoint.app, endpoint)
    return endpoint


async def claim(store: PostgresStore, endpoint: Endpoint, *, limit: int = 10, now: int = NOW, **rate: int) -> Page:
    (page,) = await store.commit([Claim(endpoint.id, limit, now, 7, now + LEASE, **rate)])
    assert isinstance(page, Page)
    return page


async def test_nodes_claim_side_by_side_and_share_nothing(pair: Pair, app: Application) -> None:
    endpoint = await added(pair[0], new_endpoint(app))
    messages = [new_message(app) for _ in range(60)]
    await pair[0].commit([Accept(m, (new_delivery(m, endpoint),)) for m in messages])
    pages = await asyncio.gather(*(claim(pair[n % 2], endpoint) for n in range(12)))
    claimed = [c.delivery.message for page in pages for c in page.claimed]
    assert sorted(claimed) == sorted(m.id for m in messages)


async def test_a_rate_is_shared_out_between_nodes(pair: Pair, app: Application) -> None:
    endpoint = await added(pair[0], new_endpoint(app, rate_limit=10))
    messages = [new_message(app) for _ in range(60)]
    await pair[0].commit([Accept(m, (new_delivery(m, endpoint),)) for m in messages])
    paced = {"rate": 10, "paced_until": NOW + 2 * SECOND}
    pages = await asyncio.gather(*(claim(pair[n % 2], endpoint, limit=7, **paced) for n in range(6)))
    instants = sorted(c.not_before for page in pages for c in page.claimed)
    assert instants == [NOW + n * SECOND // 10 for n in range(21)]
    # nothing is left of these two seconds: the next look is later, and finds what is left of the next ones
    page = await claim(pair[1], endpoint, **paced)
    assert page.claimed == ()
    assert page.next_due == NOW + SECOND + SECOND // 10
    later = NOW + 10 * SECOND
    page = await claim(pair[1], endpoint, limit=2, now=later, rate=10, paced_until=later + SECOND)
    assert [c.not_before for c in page.claimed] == [later, later + SECOND // 10]


async def test_one_node_at_a_time_probes(pair: Pair, app: Application) -> None:
    endpoint = await added(pair[0], new_endpoint(app))
    messages = [new_message(app) for _ in range(5)]
    await pair[0].commit([Accept(m, (new_delivery(m, endpoint),)) for m in messages])
    (first,) = (await claim(pair[0], endpoint, limit=1)).claimed
    retried = step(first.delivery, "retried", due_at=NOW)
    opened = Health(8, NOW, NOW + 5 * SECOND, 1)
    await pair[0].commit([Settlement(retried, 7, new_attempt(first.delivery), opened, now=NOW)])
    closed = await claim(pair[1], endpoint)
    assert (closed.claimed, closed.next_due, closed.health) == ((), NOW + 5 * SECOND, opened)
    assert closed.oldest == NOW, "it waits for the breaker, and will be claimed by when it was due"
    later = NOW + 5 * SECOND
    pages = await asyncio.gather(*(claim(store, endpoint, now=later) for store in pair))
    assert sorted(len(page.claimed) for page in pages) == [0, 1]
    (probe,) = [c for page in pages for c in page.claimed]
    healed = Settlement(step(probe.delivery, "delivered"), 7, new_attempt(probe.delivery), Health(), now=later)
    await pair[0].commit([healed])
    page = await claim(pair[1], endpoint, now=later)
    assert (len(page.claimed), page.health) == (4, Health())


async def test_a_claim_says_when_the_endpoint_was_changed(pair: Pair, app: Application) -> None:
    endpoint = await added(pair[0], new_endpoint(app))
    message = new_message(app)
    await pair[0].commit([Accept(message, (new_delivery(message, endpoint),))])
    await pair[1].save_endpoint(app.id, replace(endpoint, url="https://b.example/", updated_at=NOW + 5))
    (claimed,) = (await claim(pair[0], endpoint)).claimed
    assert claimed.changed_at == NOW + 5


async def test_a_batch_whose_answer_was_lost_can_be_committed_again(pair: Pair, app: Application) -> None:
    endpoint, source = await added(pair[0], new_endpoint(app)), new_source(app)
    await pair[0].create_source(app.id, source)
    message = new_message(app, event_id="once")
    leased = new_delivery(message, endpoint, state=State.LEASED, due_at=NOW + LEASE, lease=3)
    remember = Remember(b"k", b"h", 202, b"1", NOW + HOUR, NOW)
    work = [Accept(message, (leased,), new_received(source, message, dedup_key="d"), remember)]
    for _ in range(2):
        assert await pair[0].commit(work) == [Accepted(message.id)]
    assert await pair[1].get_delivery(app.id, message.id, endpoint.id) == leased


async def test_two_nodes_keep_the_order_of_a_line(pair: Pair, app: Application) -> None:
    """Accepting and ending race for the same lines: nothing may be left waiting without a head, and none overtakes."""
    endpoint = await added(pair[0], new_endpoint(app, ordered=True))
    keys, rng = ["a", "b"], Random(7)
    ids, sent = IdMaker(), dict[str, list[str]]()
    accepted: dict[str, list[str]] = {key: [] for key in keys}
    done = asyncio.Event()

    async def publish(store: PostgresStore, key: str) -> None:
        for _ in range(30):
            message = new_message(app, id=ids.new("msg_", NOW), order_key=key)
            delivery = new_delivery(message, endpoint, order_key=key)
            (answer,) = await store.commit([Accept(message, (delivery,))])
            assert isinstance(answer, Accepted)
            accepted[key].append(message.id)

    async def deliver(store: PostgresStore, lease: int) -> None:
        while not done.is_set():
            (page,) = await store.commit([Claim(endpoint.id, 5, NOW, lease, NOW + LEASE)])
            assert isinstance(page, Page)
            held = list(page.claimed)
            while held:
                one = held.pop()
                sent.setdefault(one.delivery.order_key or "", []).append(one.message.id)
                (answer,) = await store.commit([_end(one, rng.random() < 0.5)])
                assert isinstance(answer, Settled)
                assert answer.kept
                held += [] if answer.promoted is None else [answer.promoted]
            await asyncio.wait([asyncio.ensure_future(done.wait())], timeout=0.001)

    def _end(one: Claimed, lease: bool) -> Settlement:
        return Settlement(
            step(one.delivery, "delivered"), one.delivery.lease, None, now=NOW, next_lease=99 if lease else 0,
            next_until=NOW + LEASE,
        )  # fmt: skip

    workers = [asyncio.create_task(deliver(store, n + 1)) for n, store in enumerate(pair)]
    await asyncio.gather(*(publish(pair[n], key) for n, key in enumerate(keys)))
    async with asyncio.timeout(GRACE):
        while (await pair[0].counts()).pending:
            await asyncio.wait(workers, timeout=0.01)
    done.set()
    await asyncio.gather(*workers)
    assert sent == accepted


async def test_hints_reach_other_nodes(pair: Pair, app: Application) -> None:
    heard: asyncio.Queue[Hint] = asyncio.Queue()
    await pair[0].listen(heard.put_nowait)

    async def next_hint() -> Hint:
        return await asyncio.wait_for(heard.get(), GRACE)

    assert await next_hint() == Hint("all")
    endpoint = await added(pair[1], new_endpoint(app))
    assert await next_hint() == Hint("application", app.id)
    message = new_message(app)
    # the second node has no worker, so whoever has one must hear what is due
    await pair[1].commit([Accept(message, (new_delivery(message, endpoint),))])
    assert await next_hint() == Hint("due", endpoint.id)
    await pair[1].save_endpoint(app.id, endpoint)
    assert {(await next_hint()).topic for _ in range(2)} == {"application", "endpoint"}


async def test_a_revocation_is_not_written_over(pair: Pair, app: Application) -> None:
    """By a node that lets all tokens of the application end at that moment."""
    token = Token(id="tok_1", name="a", scope="application", app=app.id, created_at=NOW)
    await pair[0].create_token(token, b"hash")
    one = await pair[0]._connect({})
    async with one.transaction():
        await run(one, objects.revoke_token(token.id, NOW))
        ending = asyncio.create_task(pair[1].expire_tokens(app.id, None, NOW + HOUR))
        async with asyncio.timeout(GRACE):
            while not await one.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
                pass
    assert await ending == 1
    found = await pair[0].find_token(b"hash")
    assert found is not None
    assert (found.revoked_at, found.expires_at) == (NOW, NOW + HOUR)
    await one.close()


async def test_nothing_comes_back_that_is_expunged_while_an_attempt_is_written(pair: Pair, app: Application) -> None:
    endpoint, message = await added(pair[0], new_endpoint(app)), new_message(app)
    leased = new_delivery(message, endpoint, state=State.LEASED, due_at=NOW + LEASE, lease=3)
    await pair[0].commit([Accept(message, (leased,))])
    attempt = new_attempt(leased)
    one = await pair[0]._connect({})
    async with one.transaction():
        await run(one, erasure.expunge_messages(app.id, [message.id]))
        work = Settlement(step(leased, "delivered"), 3, attempt, now=NOW)
        settling = asyncio.create_task(pair[1].commit([work]))
        async with asyncio.timeout(GRACE):
            while not await one.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
                pass
    assert await settling == [Settled(True)]
    found = await pair[0].get_attempt(app.id, message.id, attempt.id)
    assert found is not None
    assert (found.number, found.outcome.request_body) == (1, None)
    await one.close()


async def test_readers_keep_clear_of_a_notice_until_it_can_be_seen(pair: Pair) -> None:
    """However long the change takes that it is written with."""
    own = await pair[0].get_application(OPERATIONAL)
    assert own is not None
    made_at = pair[0].clock.now() - HOUR
    message = new_message(own, id=IdMaker().new("msg_", made_at))
    one = await pair[0]._connect({})
    async with one.transaction():
        await run(one, notices.announce([Accept(message, deadline=made_at + 2 * HOUR)]))
        until = await pair[1].settled_until()
        assert until is not None
        assert ids.ceiling("msg_", until) < message.id
    assert (await pair[1].settled_until() or 0) > made_at
    await one.close()


# round trips


async def test_a_batch_is_one_round_trip_whatever_is_in_it(postgres_url: str) -> None:
    async with Wire(postgres_url) as wire:
        store = await PostgresStore.open(wire.url, VAULT)
        app, plain = new_app(), new_endpoint(new_app())
        endpoint, line = replace(plain, app=app.id), new_endpoint(app, ordered=True)
        for create in (store.create_application(app), *(store.create_endpoint(app.id, e) for e in (endpoint, line))):
            await create
        source = new_source(app)

        async def everything() -> None:
            messages = [new_message(app, event_id=new_message(app).id) for _ in range(100)]
            accepts = [
                Accept(m, (new_delivery(m, endpoint), new_delivery(m, line)), new_received(source, m)) for m in messages
            ]
            claims = [Claim(e.id, 50, NOW, 5, NOW + LEASE) for e in (endpoint, line)]
            pages = [page for page in await store.commit([*accepts, *claims]) if isinstance(page, Page)]
            held = [c.delivery for page in pages for c in page.claimed]
            ends = [Settlement(step(d, "delivered"), d.lease, new_attempt(d), Health(), next_lease=8) for d in held]
            assert all(isinstance(done, Settled) and done.kept for done in await store.commit(ends))

        await everything()  # connects, and prepares the two statements
        before = wire.round_trips
        await everything()
        assert wire.round_trips - before == 2
        await store.close()


async def test_under_load_a_message_costs_a_small_part_of_a_round_trip(postgres_url: str) -> None:
    async with Wire(postgres_url) as wire:
        store = await PostgresStore.open(wire.url, VAULT)
        app = new_app()
        await store.create_application(app)
        committer = Committer(store, Instrument())
        committer.start()
        await committer.accept(Accept(new_message(app)))
        before = wire.round_trips
        await asyncio.gather(*(committer.accept(Accept(new_message(app))) for _ in range(1_000)))
        assert wire.round_trips - before <= 3
        await committer.close()
        await store.close()


async def test_plans_for_an_empty_database_do_not_outlive_it(postgres_url: str) -> None:
    store, app = await PostgresStore.open(postgres_url, VAULT), new_app()
    endpoint = new_endpoint(app)
    await store.create_application(app)
    await store.create_endpoint(app.id, endpoint)
    watcher = await asyncpg.connect(postgres_url, server_settings={"search_path": postgres_schema.SCHEMA})
    await watcher.execute("ANALYZE")
    for _ in range(40):
        messages = [new_message(app, event_id=new_message(app).id) for _ in range(100)]
        await store.commit([Accept(m, (new_delivery(m, endpoint),)) for m in messages])
        (page,) = await store.commit([Claim(endpoint.id, 100, NOW, 5, NOW + LEASE)])
        assert isinstance(page, Page)
        held = [one.delivery for one in page.claimed]
        await store.commit([Settlement(step(d, "delivered"), d.lease, new_attempt(d), now=NOW) for d in held])
    await store.close()
    read = written = 0
    async with asyncio.timeout(GRACE):
        while written < 4_000:  # what a session has counted is to be seen when it has ended
            written = await watcher.fetchval("SELECT n_tup_ins FROM pg_stat_user_tables WHERE relname = 'delivery'")
            read = await watcher.fetchval(
                "SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE relname IN ('delivery', 'event_id')"
            )
    assert read < 20 * written
    await watcher.close()


async def test_what_lapses_holds_its_lines_for_a_few_round_trips(postgres_url: str) -> None:
    async with Wire(postgres_url) as wire:
        store = await PostgresStore.open(wire.url, VAULT)
        app = new_app()
        endpoint = new_endpoint(app, ordered=True)
        await store.create_application(app)
        await store.create_endpoint(app.id, endpoint)
        over = [(new_message(app), str(n % 30)) for n in range(300)]
        await store.commit([Accept(m, (new_delivery(m, endpoint, expires_at=NOW, order_key=key),)) for m, key in over])
        living = new_message(app)
        await store.commit([Accept(living, (new_delivery(living, endpoint, order_key="0"),))])
        lapsing = [(one.delivery, ()) for one in await store.list_lapsing(NOW, 1_000)]
        before = wire.round_trips
        assert len(await store.lapse(NOW, lapsing)) == 300
        assert wire.round_trips - before < 20
        head = await store.get_delivery(app.id, living.id, endpoint.id)
        assert head is not None
        assert (head.state, head.due_at) == (State.DUE, NOW)
        await store.close()


# the schema, and who may use it


async def test_nodes_with_another_master_key_are_refused(postgres_url: str) -> None:
    await (await PostgresStore.open(postgres_url, VAULT)).close()
    await (await PostgresStore.open(postgres_url, Vault([b"1" * 32, b"0" * 32]))).close()
    with pytest.raises(ConfigurationError, match="master key"):
        await PostgresStore.open(postgres_url, Vault([b"2" * 32]))


async def test_an_old_node_goes_on_beside_a_migration_that_lets_it(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = await PostgresStore.open(postgres_url, VAULT)
    app = new_app(uid="acme")
    await old.create_application(app)
    before = list(schema.MIGRATIONS)
    monkeypatch.setattr(schema, "MIGRATIONS", [*before, schema.Migration("ALTER TABLE message ADD COLUMN more TEXT")])
    new = await PostgresStore.open(postgres_url, VAULT)
    for store in (old, new):
        message = new_message(app)
        assert await store.commit([Accept(message)]) == [Accepted(message.id)]
        assert await store.get_message(app.id, message.id) == message
    monkeypatch.setattr(schema, "MIGRATIONS", before)
    restarted = await PostgresStore.open(postgres_url, VAULT)
    for store in (old, new, restarted):
        await store.close()


async def test_a_migration_gets_its_turn_between_commits(
    pair: Pair, app: Application, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the first try, though it wants the tables in another order than they do."""
    endpoint = await added(pair[0], new_endpoint(app))
    ended = asyncio.Event()

    async def busy(store: PostgresStore) -> int:
        count = 0
        while not ended.is_set():
            messages = [new_message(app) for _ in range(20)]
            leased = [new_delivery(m, endpoint, state=State.LEASED, due_at=NOW, lease=7) for m in messages]
            await store.commit([Accept(m, (d,)) for m, d in zip(messages, leased, strict=True)])
            await store.commit([Settlement(step(d, "delivered"), 7, new_attempt(d), now=NOW) for d in leased])
            count += len(messages)
        return count

    monkeypatch.setattr(postgres_schema, "_TRIES", 1)
    work = [asyncio.create_task(busy(pair[n % 2])) for n in range(6)]
    before = list(schema.MIGRATIONS)
    for n in range(8):
        changes = "; ".join(
            f"ALTER TABLE {table} ADD COLUMN more_{n} TEXT" for table in ("delivery", "message", "attempt")
        )
        monkeypatch.setattr(schema, "MIGRATIONS", [*before, schema.Migration(changes)])
        before = list(schema.MIGRATIONS)
        await (await PostgresStore.open(postgres_url, VAULT)).close()
    ended.set()
    assert min(await asyncio.gather(*work)) > 0


async def test_an_old_node_is_refused_after_a_migration_that_it_cannot_live_with(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = list(schema.MIGRATIONS)
    breaking = schema.Migration("CREATE TABLE more (id TEXT PRIMARY KEY)", old_nodes=False)
    monkeypatch.setattr(schema, "MIGRATIONS", [*before, breaking])
    await (await PostgresStore.open(postgres_url, VAULT)).close()
    monkeypatch.setattr(schema, "MIGRATIONS", before)
    with pytest.raises(SchemaMismatch, match="run a newer one"):
        await PostgresStore.open(postgres_url, VAULT)


async def test_nodes_that_start_together_migrate_once(postgres_url: str) -> None:
    stores = await asyncio.gather(*(PostgresStore.open(postgres_url, VAULT) for _ in range(4)))
    for store in stores:
        await store.close()


async def test_a_database_that_is_not_there_is_a_clear_error(postgres_url: str) -> None:
    for url in (f"{postgres_url}_none", "postgresql://u:p@127.0.0.1:1/x"):
        with pytest.raises(StoreUnavailable, match="cannot open the database"):
            await PostgresStore.open(url, VAULT)


async def test_nodes_go_by_the_clock_of_the_database(pair: Pair) -> None:
    here = SystemClock().now()
    assert all(abs(store.clock.now() - here) < SECOND for store in pair)


async def test_an_old_server_is_refused(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_schema, "OLDEST_SERVER", 990_000)
    with pytest.raises(SchemaMismatch, match="needs 99 or newer"):
        await PostgresStore.open(postgres_url, VAULT)


# the same answers as SQLite


OUTDATED, CURRENT = 0, 2
"""Revisions of an application that was given two endpoints."""


class Game:
    """A seeded sequence of batches, built from what earlier batches were answered.

    No two deliveries are due at the same instant: in which order such are claimed is up to the database.
    """

    def __init__(self, seed: int, app: Application, endpoints: list[Endpoint]) -> None:
        self.rng, self.app, self.endpoints = Random(seed), app, endpoints
        self.ids, self.now, self.lease, self._instants = IdMaker(Random(seed)), NOW, 0, 0
        self.source = new_source(app)
        self.leased: list[Claimed] = []
        self.health: dict[str, Health] = {}

    def batch(self) -> list[Work]:
        self.now += self.rng.choice([SECOND, 2 * SECOND, LEASE])
        kinds = self.rng.choices([self.accept, self.claim, self.settle], [5, 2, 3], k=self.rng.randint(1, 8))
        work = [made for kind in kinds if (made := kind()) is not None]
        seen: set[tuple[str, str]] = set()
        # one delivery is settled once in a batch, as the worker does it
        return [w for w in work if not (isinstance(w, Settlement) and (key := self._key(w)) in seen) or seen.add(key)]

    def instant(self) -> int:
        """A moment ago, and never the same one again."""
        self._instants += 1
        return self.now - SECOND + self._instants

    def _key(self, w: Settlement) -> tuple[str, str]:
        return (w.delivery.message, w.delivery.endpoint)

    def accept(self) -> Work:
        rng = self.rng
        message = Message(
            id=self.ids.new("msg_", self.now), app=self.app.id, event_type="a", payload=b"{}", created_at=self.now,
            event_id=rng.choice([None, None, "e1", "e2", "e3"]), order_key=rng.choice([None, "k"]),
        )  # fmt: skip
        deliveries = tuple(
            new_delivery(
                message, endpoint, due_at=self.instant(), created_at=self.now, expires_at=self.now + HOUR,
                order_key=(message.order_key or "") if endpoint.ordered else None,
            )
            for endpoint in self.endpoints
            if rng.random() < 0.7
        )  # fmt: skip
        received = None
        if rng.random() < 0.3:
            key = rng.choice([None, "d1", "d2", "d3"])
            received = new_received(self.source, message, id=self.ids.new("req_", self.now), dedup_key=key)
        name = rng.choice([None, None, b"k1", b"k2", b"k3", b"k4"])
        remember = None if name is None else Remember(name, b"h", 202, message.id.encode(), self.now + LEASE, self.now)
        revision = rng.choice([None, OUTDATED, CURRENT])
        # a key that is used twice in a batch is where they may differ: one may be asked to try again; and no source has keys
        keyed = revision != OUTDATED and received is None
        return Accept(message, deliveries, received, remember if keyed else None, revision)

    def claim(self) -> Work:
        self.lease += 1
        endpoint = self.rng.choice(self.endpoints)
        return Claim(endpoint.id, 1, self.now, self.lease, self.instant() + LEASE)

    def settle(self) -> Work | None:
        if not self.leased:
            return None
        one = self.leased.pop(self.rng.randrange(len(self.leased)))
        d = one.delivery
        event = self.rng.choice(["delivered", "retried", "exhausted", "released"])
        after = step(d, event, due_at=self.instant() if event in ("retried", "released") else None)
        self.lease += 1
        attempt = None
        if event != "released":
            attempt = new_attempt(d, id=self.ids.new("atmpt_", self.now), started_at=self.now)
        return Settlement(
            replace(after, attempts=d.attempts + 1), d.lease, attempt, now=self.now,
            next_lease=self.rng.choice([0, self.lease]), next_until=self.instant() + LEASE,
        )  # fmt: skip

    def learn(self, done: list[Done]) -> None:
        for answer in done:
            if isinstance(answer, Page):
                self.leased += answer.claimed
            elif isinstance(answer, Settled) and answer.promoted is not None:
                self.leased.append(answer.promoted)


def comparable(answer: Done) -> object:
    """What both stores must agree on; only a shared one says when an endpoint was changed, and its health."""
    match answer:
        case Page(claimed, next_due):
            return (sorted((replace(c, changed_at=None) for c in claimed), key=lambda c: c.message.id), next_due)
        case Settled(kept, promoted):
            return (kept, None if promoted is None else replace(promoted, changed_at=None))
        case Accepted():
            return answer
        case _:
            return (type(answer), str(answer))


@pytest.mark.parametrize("seed", range(6))
async def test_both_databases_answer_alike(seed: int, pair: Pair, tmp_path: Path) -> None:
    sqlite = SqliteStore.open(tmp_path / "t.db", VAULT, inline=True, synchronous="OFF")
    app = new_app()
    endpoints = [new_endpoint(app), new_endpoint(app, ordered=True)]
    for store in (pair[0], sqlite):
        await store.create_application(app)
        for endpoint in endpoints:
            await store.create_endpoint(app.id, endpoint)
    game = Game(seed, app, endpoints)
    for n in range(60):
        work = game.batch()
        if not work:
            continue
        theirs = await sqlite.commit(work)
        ours = await pair[n % 2].commit(work)
        assert [comparable(a) for a in ours] == [comparable(a) for a in theirs], f"batch {n}: {work}"
        game.learn(theirs)
    assert await pair[0].counts() == await sqlite.counts()
    await sqlite.close()


def test_lines_are_locked_by_their_whole_name() -> None:
    assert line_key("ep_1", "2") != line_key("ep_12", "")
