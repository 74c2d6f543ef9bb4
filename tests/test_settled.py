"""Messages in the order of their ids on PostgreSQL: whoever reads up to what is settled misses none, however late it is."""

import asyncio
from collections.abc import AsyncIterator
from random import Random

import asyncpg
import pytest

from tenterhook.clock import SECOND
from tenterhook.errors import Late
from tenterhook.ids import IdMaker, floor
from tenterhook.model import Application, Message
from tenterhook.store.postgres import PostgresStore
from tenterhook.store.postgres_commit import Batch
from tenterhook.store.queries import Cursor
from tenterhook.store.work import Accept, Accepted
from tenterhook.vault import Vault
from tests.api import GRACE
from tests.contracts.store import new_app

VAULT = Vault([b"0" * 32])


@pytest.fixture
async def store(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[PostgresStore]:
    """Where a message is on the disk 100 ms after its id was made, or never."""
    monkeypatch.setattr("tenterhook.store.postgres.WRITTEN_WITHIN", SECOND // 10)
    store = await PostgresStore.open(postgres_url, VAULT)
    yield store
    await store.close()


@pytest.fixture
async def app(store: PostgresStore) -> Application:
    app = new_app()
    await store.create_application(app)
    return app


def made(app: Application, ids: IdMaker, now: int) -> Message:
    return Message(id=ids.new("msg_", now), app=app.id, event_type="a", payload=b"{}", created_at=now)


async def settled(store: PostgresStore, message: Message) -> None:
    """Until readers may see all that has an id up to this one."""
    async with asyncio.timeout(GRACE):
        while message.id >= floor("msg_", await store.settled_until() or 0):
            """Each look is a round trip."""


class Writer:
    """A node whose commits take as long as the test says."""

    def __init__(self, url: str) -> None:
        self._url, self.ids = url, IdMaker()

    async def __aenter__(self) -> "Writer":
        self.connection = await asyncpg.connect(self._url, server_settings={"search_path": "tenterhook"})
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.connection.close()

    async def write(self, message: Message, deadline: int) -> object:
        batch = Batch([Accept(message, deadline=deadline)], tell=False)
        (answer,) = batch.answers(await self.connection.fetch(batch.statement, *batch.values))
        return answer

    async def wait(self, seconds: float) -> None:
        await self.connection.execute("SELECT pg_sleep($1)", seconds)


async def test_an_uncommitted_message_holds_readers_back(
    store: PostgresStore, app: Application, postgres_url: str
) -> None:
    async with Writer(postgres_url) as writer:
        slow = made(app, writer.ids, store.clock.now())
        async with writer.connection.transaction():
            assert await writer.write(slow, slow.created_at + GRACE * SECOND) == Accepted(slow.id)
            later = made(app, IdMaker(), slow.created_at + SECOND // 100)
            await store.commit([Accept(later)])
            async with asyncio.timeout(GRACE):
                while True:
                    until = await store.settled_until()
                    assert until is not None
                    page = await store.list_messages(app.id, Cursor(limit=9, until=until))
                    assert page == [], "the later one was seen first"
                    if store.clock.now() >= slow.created_at + SECOND // 2:
                        break
        await settled(store, later)
        assert await store.list_messages(app.id, Cursor(limit=9)) == [slow, later]


async def test_a_message_that_comes_too_late_is_not_taken(store: PostgresStore, app: Application) -> None:
    ids, now = IdMaker(), store.clock.now()
    late, early = made(app, ids, now - SECOND), made(app, ids, now)
    done = await store.commit([Accept(late, deadline=now - 1), Accept(early, deadline=now + GRACE * SECOND)])
    assert isinstance(done[0], Late) and done[1] == Accepted(early.id)
    assert await store.list_messages(app.id, Cursor(limit=9)) == [early]


async def test_one_that_was_taken_before_is_never_too_late(store: PostgresStore, app: Application) -> None:
    message = made(app, IdMaker(), store.clock.now())
    await store.commit([Accept(message)])
    batch = Batch([Accept(message, deadline=message.created_at - 1)], tell=False, again=True)
    assert batch.answers(await store._fetch(batch)) == [Accepted(message.id)]


async def test_a_reader_misses_nothing(store: PostgresStore, app: Application, postgres_url: str) -> None:
    """Several nodes make ids, write some of them too late, and take their time to commit; one reads on from where it was."""
    written: list[str] = []
    seen: list[str] = []
    done = asyncio.Event()

    async def write(seed: int) -> None:
        rng = Random(seed)
        async with Writer(postgres_url) as writer:
            for _ in range(40):
                message = made(app, writer.ids, store.clock.now())
                await writer.wait(rng.choice([0, 0, 0, 0, 0.2]))
                async with writer.connection.transaction():
                    answer = await writer.write(message, message.created_at + SECOND // 10)
                    await writer.wait(rng.choice([0, 0, 0.01, 0.3]))
                if not isinstance(answer, Late):
                    written.append(message.id)

    async def read() -> None:
        after = None
        while True:
            last = done.is_set()
            until = await store.settled_until()
            page = await store.list_messages(app.id, Cursor(limit=5, after=after, until=until))
            seen.extend(message.id for message in page)
            after = seen[-1] if seen else None
            if last and len(seen) >= len(written):
                return

    reader = asyncio.create_task(read())
    async with asyncio.timeout(GRACE):
        await asyncio.gather(*(write(seed) for seed in range(4)))
        done.set()
        await reader
    assert len(written) > 20
    assert seen == sorted(written)
