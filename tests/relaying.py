"""A server that relays from an outbox, for tests: both are real, only what is sent goes to a recorder."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from msgspec import Struct

from tenterhook import outbox
from tenterhook.clock import MILLISECOND
from tenterhook.config import ConfiguredOutbox
from tenterhook.model import Message
from tenterhook.store.postgres import PostgresStore
from tenterhook.store.queries import Cursor
from tenterhook.vault import Vault
from tests import api
from tests.outboxes import ON_POSTGRES, ON_SQLITE

VAULT = Vault([b"0" * 32])


class Place(Struct, frozen=True):
    """A server with an application `acme`, and a database with an outbox."""

    server: api.Server
    url: str
    app: str

    def write(self, *events: dict[str, Any], application: str = "acme") -> list[str]:
        """The ids of the rows, written in one transaction."""
        rows: list[str] = []

        def work(connection: Any) -> None:
            for fields in events:
                given = {"application": application, "event_type": "invoice.paid", "payload": {}} | fields
                rows.append(outbox.write(connection, **given))

        driver = ON_SQLITE["sqlite3"] if self.url.startswith("sqlite") else ON_POSTGRES["psycopg"]
        driver(self.url, work, True)
        return rows

    async def relay(self, **fields: Any) -> None:
        await self.server.node.relay([self.configured(**fields)])

    def configured(self, **fields: Any) -> ConfiguredOutbox:
        return ConfiguredOutbox(**{"name": "main", "database": self.url, "poll": 20 * MILLISECOND} | fields)

    async def rest(self) -> None:
        """Let the relay finish what it has read."""
        await self.server.node.relay([])

    async def messages(self) -> list[Message]:
        """By id, which is the order in which they were published."""
        return await self.server.store.list_messages(self.app, Cursor(limit=10_000))

    async def relayed(self, count: int) -> list[Message]:
        """The messages when there are so many; the relay has finished then."""
        await self.server.watch.settled(count)
        await self.rest()
        return await self.messages()


@asynccontextmanager
async def placed(path: Path, url: str, store: PostgresStore | None = None, **settings: Any) -> AsyncIterator[Place]:
    async with api.running(path, store, **settings) as server:
        app = await server.app(uid="acme")
        await server.endpoint(app)
        yield Place(server, url, app)
