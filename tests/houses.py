"""Databases of both kinds, empty or furnished, for tests that move from one to another."""

import secrets
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

from tenterhook.clock import HOUR, SECOND
from tenterhook.engine.lifecycle import step
from tenterhook.model import EventType, Health, State, Token
from tenterhook.moving import move
from tenterhook.settings import Settings
from tenterhook.store.base import Store
from tenterhook.store.copying.copy import Compared
from tenterhook.store.copying.tables import Table, tables
from tenterhook.store.postgres import PostgresStore
from tenterhook.store.queries import Cursor
from tenterhook.store.schema import MIGRATIONS, sqlite_statements
from tenterhook.store.sqlite import SqliteStore
from tenterhook.store.work import Accept, Remember, Settlement
from tenterhook.vault import Vault
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

KEY = "The master key of these tests: of some length"
VAULT = Vault.from_text(KEY)
SETTINGS = Settings(secret=KEY)
ALL = Cursor(limit=100)


# rows


def sample(kind: str, number: int, nullable: bool) -> Any:
    """A value that is easily changed on the way."""
    texts = ["", "ä€𐍈", "a,b", "\t\n\\N", "%s ? $1", "Z" * 3_000]
    numbers = [0, -1, 2**63 - 1, -(2**63), 7]
    blobs = [b"", b"\x00\xff\\", b"\xed\xa0\x80", bytes(range(256)) * 20]
    if nullable and number % 3 == 2:
        return None
    of_kind: dict[str, list[Any]] = {"TEXT": texts, "INTEGER": numbers, "BLOB": blobs}
    return of_kind[kind][number % len(of_kind[kind])]


def samples(table: Table, count: int = 8) -> list[tuple[Any, ...]]:
    """Rows for a table, whatever table it is."""
    db = sqlite3.connect(":memory:")
    for statement in (statement for migration in MIGRATIONS for statement in sqlite_statements(migration)):
        db.execute(statement)
    info = {row[1]: (row[2], not row[3]) for row in db.execute(f"PRAGMA table_info({table.name})")}
    db.close()
    rows = [
        {
            # different in each row, wherever that is asked for
            column: marked(sample(kind, number + place, nullable and column not in table.key), number)
            for place, (column, (kind, nullable)) in enumerate(info.items())
        }
        for number in range(count)
    ]
    for row in rows if table.seals else ():
        row["sealed"] = VAULT.seal(row["sealed"], row["id"])
    return [tuple(row.values()) for row in rows]


def marked(value: Any, number: int) -> Any:
    """Text and bytes with a number at the end."""
    if isinstance(value, str):
        return f"{value}~{number}"
    return value + f"~{number}".encode() if isinstance(value, bytes) else value


async def furnish(store: Store) -> None:
    """Objects and history as a server leaves them: every state of a delivery, secrets, keys, a key that was used."""
    app, other = new_app(uid="acme", metadata={"k": "ä"}), new_app()
    for each in (app, other):
        await store.create_application(each)
    await store.create_event_type(EventType(name="invoice.paid", created_at=NOW, updated_at=NOW))
    plain, ordered, off = new_endpoint(app, uid="p"), new_endpoint(app, ordered=True), new_endpoint(app, disabled=True)
    for endpoint in (plain, ordered, off):
        await store.create_endpoint(app.id, endpoint)
    source = new_source(app, uid="gh")
    await store.create_source(app.id, source)
    await store.create_token(Token(id="tok_1", name="ci", scope="admin", created_at=NOW), b"h" * 32)
    await store.create_token(Token(id="tok_2", name="x", scope="application", app=app.id, created_at=NOW), b"i" * 32)
    line = [new_message(app, event_id=f"e{n}", order_key="k") for n in range(3)]
    await store.commit([Accept(m, (new_delivery(m, ordered, order_key="k"),)) for m in line])
    done, failing, leased = (new_message(app, source=source.id) for _ in range(3))
    took = [new_delivery(m, plain, state=State.LEASED, due_at=NOW + LEASE, lease=4) for m in (done, failing, leased)]
    request = new_received(source, done, dedup_key="d-1")
    remember = Remember(b"key", b"hash", 202, b"{}", NOW + HOUR)
    await store.commit(
        [
            Accept(done, (took[0],), request, remember),
            *(Accept(d, (t,)) for d, t in ((failing, took[1]), (leased, took[2]))),
        ]
    )
    await store.commit([Accept(None, (), new_received(source, None))])
    retried = step(took[1], "retried", due_at=NOW + 5 * SECOND)
    failed = Health(1, NOW - 1)
    await store.commit(
        [
            Settlement(step(took[0], "delivered"), 4, new_attempt(took[0]), now=NOW),
            Settlement(retried, 4, new_attempt(took[1]), failed, now=NOW),
        ]
    )
    unfinished = new_message(app)
    await store.commit([Accept(unfinished, (new_delivery(unfinished, plain),))])
    await store.cancel_delivery(app.id, unfinished.id, plain.id, NOW)


# the databases


def quoted(table: Table) -> str:
    return ", ".join(f'"{column}"' for column in table.columns)


class House:
    """A database under test, by its URL."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.path = Path(url.removeprefix("sqlite:///")) if url.startswith("sqlite") else None

    async def open(self) -> Store:
        if self.path is not None:
            return SqliteStore.open(self.path, VAULT)
        return await PostgresStore.open(self.url, VAULT)

    def rows(self, table: Table) -> list[tuple[Any, ...]]:
        """All rows, read by a driver that the copy does not use in this way."""
        text = f"SELECT {quoted(table)} FROM {table.name}"
        if table.only:
            text += f" WHERE {table.only}"
        found = self.execute(text)
        return sorted(found, key=lambda row: [str(row[table.columns.index(c)]) for c in table.key])

    def insert(self, table: Table, rows: list[tuple[Any, ...]]) -> None:
        marks = ", ".join(["?" if self.path else "%s"] * len(table.columns))
        text = f"INSERT INTO {table.name} ({quoted(table)}) VALUES ({marks})"
        if self.path is not None:
            with closing(sqlite3.connect(self.path)) as db, db:
                db.executemany(text, rows)
        else:
            with psycopg.connect(self.url, options="-c search_path=tenterhook") as connection:
                connection.cursor().executemany(text, rows)  # type: ignore[arg-type]

    def execute(self, text: str) -> list[tuple[Any, ...]]:
        if self.path is not None:
            with closing(sqlite3.connect(self.path)) as db, db:
                return db.execute(text).fetchall()
        with psycopg.connect(self.url, options="-c search_path=tenterhook") as connection:
            cursor = connection.execute(text)  # type: ignore[call-overload]
            return cursor.fetchall() if cursor.description else []


@pytest.fixture
def houses(tmp_path: Path, postgres: str) -> Iterator[Callable[[str], House]]:
    """Makes databases: `sqlite` or `postgresql`."""
    made: list[str] = []

    def make(kind: str) -> House:
        name = f"tenterhook_move_{secrets.token_hex(8)}"
        if kind == "sqlite":
            return House(f"sqlite:///{tmp_path / name}.db")
        with psycopg.connect(postgres, autocommit=True) as admin:
            admin.execute(f"CREATE DATABASE \"{name}\" TEMPLATE template0 ENCODING 'UTF8'")
        made.append(name)
        return House(urlsplit(postgres)._replace(path=f"/{name}").geturl())

    yield make
    with psycopg.connect(postgres, autocommit=True) as admin:
        for name in made:
            admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


Houses = Callable[[str], House]
PAIRS = [(a, b) for a in ("sqlite", "postgresql") for b in ("sqlite", "postgresql")]
pairs = pytest.mark.parametrize("pair", PAIRS, ids=[f"{a} to {b}" for a, b in PAIRS])
ways = pytest.mark.parametrize("pair", PAIRS[1:3], ids=[f"{a} to {b}" for a, b in PAIRS[1:3]])
Pair = tuple[str, str]


async def moved(source: House, target: House, settings: Settings = SETTINGS) -> list[Compared]:
    """A whole copy."""
    async with move(source.url, target.url, settings) as both:
        await both.copy(lambda table, done: None)
        return await both.compare(lambda table, done: None)


async def compared(source: House, target: House) -> dict[str, bool]:
    """Which tables are the same."""
    async with move(source.url, target.url, SETTINGS) as both:
        return {each.table: each.same for each in await both.compare(lambda table, done: None)}


async def furnished(houses: Houses, kind: str) -> House:
    """A database as a server left it."""
    house = houses(kind)
    store = await house.open()
    await furnish(store)
    await store.close()
    return house


async def filled(houses: Houses, kind: str) -> House:
    """A database with rows in every table; no server could have made them all."""
    house = houses(kind)
    await (await house.open()).close()
    for table in tables():
        house.insert(table, samples(table))
    return house
