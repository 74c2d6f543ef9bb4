"""Moving house: every row arrives as it was, from either database in either one, whatever happens on the way."""

import asyncio
import json
import re
import secrets
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

from tenterhook.clock import DAY, HOUR, SECOND
from tenterhook.engine.lifecycle import step
from tenterhook.errors import ConfigurationError, SchemaMismatch, StoreUnavailable
from tenterhook.ids import IdMaker
from tenterhook.model import EventType, Health, State, Token
from tenterhook.moving import move
from tenterhook.settings import Settings
from tenterhook.store.base import Accept, Claim, Cursor, Page, Remember, Settlement, Store
from tenterhook.store.copying import verbs
from tenterhook.store.copying.copy import Compared
from tenterhook.store.copying.tables import NOT_COPIED, Table, tables
from tenterhook.store.postgres import PostgresStore
from tenterhook.store.schema import MIGRATIONS, sqlite_statements
from tenterhook.store.sqlite import SqliteStore
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
from tests.test_cli import clean, process, run

KEY = "The master key of these tests: of some length"
VAULT = Vault.from_text(KEY)
SETTINGS = Settings(secret=KEY)
ALL = Cursor(limit=100)
BY_NAME = {table.name: table for table in tables()}


# the list of tables


def sqlite_catalog(path: Path) -> dict[str, dict[str, str]]:
    """The tables of a database with their columns and types, in the words of the schema."""
    db = sqlite3.connect(path)
    names = [name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    found = {name: {row[1]: row[2] for row in db.execute(f"PRAGMA table_info({name})")} for name in names}
    db.close()
    return found


def postgres_catalog(url: str) -> dict[str, dict[str, str]]:
    """The same of a PostgreSQL database; parts of a table are not tables of their own."""
    words = {"text": "TEXT", "bigint": "INTEGER", "bytea": "BLOB"}
    text = """
        SELECT c.relname, a.attname, format_type(a.atttypid, -1), l.collname
        FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0
            LEFT JOIN pg_collation AS l ON l.oid = a.attcollation
        WHERE c.relnamespace = 'tenterhook'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
    """
    found: dict[str, dict[str, str]] = {}
    with psycopg.connect(url) as db:
        for table, column, kind, collation in db.execute(text):
            assert kind != "text" or collation == "C", f"{table}.{column} does not sort by its bytes"
            found.setdefault(table, {})[column] = words.get(kind, kind)
    return found


async def test_every_table_of_both_databases_is_copied_or_has_a_reason(tmp_path: Path, postgres_url: str) -> None:
    await SqliteStore.open(tmp_path / "t.db", VAULT).close()
    await (await PostgresStore.open(postgres_url, VAULT)).close()
    there = sqlite_catalog(tmp_path / "t.db"), postgres_catalog(postgres_url)
    for catalog in there:
        assert set(catalog) - set(NOT_COPIED) == set(BY_NAME)
    for name, table in BY_NAME.items():
        assert there[0][name] == there[1][name], name
        assert set(table.columns) == set(there[0][name])
    assert set(NOT_COPIED) <= {name for catalog in there for name in catalog}


@pytest.mark.parametrize("table", tables(), ids=lambda table: table.name)
async def test_keys_tell_rows_apart_in_both_databases(table: Table, tmp_path: Path, postgres_url: str) -> None:
    await (await PostgresStore.open(postgres_url, VAULT)).close()
    primary = """
        SELECT a.attname, a.attnotnull FROM pg_index AS i, unnest(i.indkey) WITH ORDINALITY AS k (attnum, place)
            JOIN pg_attribute AS a ON a.attnum = k.attnum
        WHERE i.indrelid = %s::regclass AND a.attrelid = i.indrelid AND i.indisprimary ORDER BY place
    """
    with psycopg.connect(postgres_url) as db:
        found = db.execute(primary, (f"tenterhook.{table.name}",)).fetchall()
    assert found == [(column, True) for column in table.key]


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


# copying


@pairs
async def test_every_value_of_every_table_arrives_as_it_was(pair: Pair, houses: Houses) -> None:
    source, target = await filled(houses, pair[0]), houses(pair[1])
    found = await moved(source, target)
    assert [(each.table, each.source.rows, each.same) for each in found] == [(t.name, 8, True) for t in tables()]
    for table in tables():
        assert target.rows(table) == source.rows(table), table.name


@pairs
async def test_a_store_says_the_same_on_the_other_side(pair: Pair, houses: Houses) -> None:
    source, target = await furnished(houses, pair[0]), houses(pair[1])
    assert all(each.same for each in await moved(source, target))
    before, after = await source.open(), await target.open()
    app = await before.get_application("acme")
    assert app is not None
    assert await after.get_application("acme") == app
    assert await after.load_endpoints(app.id) == await before.load_endpoints(app.id)
    assert await after.list_sources(app.id, ALL) == await before.list_sources(app.id, ALL) != []
    messages = await before.list_messages(app.id, ALL)
    assert await after.list_messages(app.id, ALL) == messages
    assert await after.list_attempts(app.id, ALL) == await before.list_attempts(app.id, ALL) != []
    for message in messages:
        assert await after.list_deliveries(app.id, message.id) == await before.list_deliveries(app.id, message.id)
    (source_row,) = await after.list_sources(app.id, ALL)
    received = await after.list_received(app.id, source_row.id, ALL, None)
    assert received == await before.list_received(app.id, source_row.id, ALL, None) != []
    assert await after.find_token(b"h" * 32) == await before.find_token(b"h" * 32) is not None
    assert await after.recall(b"key", NOW) == await before.recall(b"key", NOW) is not None
    assert await after.get_message(app.id, "e1") == await before.get_message(app.id, "e1") is not None
    assert (await after.counts()).pending == (await before.counts()).pending == 5
    await before.close()
    await after.close()


@ways
async def test_what_was_pending_goes_on(pair: Pair, houses: Houses) -> None:
    """Also what a server had taken when it died: on a file at the next start, else when its lease ends."""
    source, target = await furnished(houses, pair[0]), houses(pair[1])
    await moved(source, target)
    store = await target.open()
    app = await store.get_application("acme")
    assert app is not None
    assert await store.recover(NOW) == (1 if target.path else 0)
    claimed = set()
    for endpoint, _ in await store.load_endpoints(app.id):
        later = NOW + 2 * HOUR
        (page,) = await store.commit([Claim(endpoint.id, 10, later, 9, later + LEASE)])
        assert isinstance(page, Page)
        claimed |= {c.message.id for c in page.claimed}
    # the head of a line, a retry, and what was leased
    assert len(claimed) == 3
    await store.close()


async def test_the_history_is_in_days_on_postgresql(houses: Houses) -> None:
    source, target = houses("sqlite"), houses("postgresql")
    store, app, old = await source.open(), new_app(), IdMaker()
    days = [NOW - n * DAY for n in (0, 1, 1, 40)]
    await store.commit([Accept(new_message(app, id=old.new("msg_", day), created_at=day)) for day in sorted(days)])
    await store.close()
    await moved(source, target)
    found = target.execute("SELECT tableoid::regclass::text, count(*) FROM message GROUP BY 1 ORDER BY 1")
    assert found == [("message_p20261206", 1), ("message_p20270114", 2), ("message_p20270115", 1)]


@ways
async def test_rows_of_any_size_go_in_pages_of_bounded_size(
    pair: Pair, houses: Houses, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verbs, "PAGE_BYTES", 5_000)
    source, target = houses(pair[0]), houses(pair[1])
    store, app = await source.open(), new_app()
    sizes = [10, 2_000, 2_000, 2_000, 9_000, 0, 4_999, 1, 1]
    await store.commit([Accept(new_message(app, payload=b"x" * size)) for size in sizes])
    await store.close()
    seen: list[tuple[str, int]] = []
    async with move(source.url, target.url, SETTINGS) as both:
        await both.copy(lambda table, done: seen.append((table.name, done)))
    done = [rows for table, rows in seen if table == "message"]
    assert [after - before for before, after in pairwise(done)] == [3, 1, 1, 3, 1]


# going on after an interruption


def dying(step: int, *urls: str) -> "subprocess.CompletedProcess[str]":
    """`tenterhook copy`, killed at a step of its code; 0 lets it live."""
    words = [sys.executable, "-m", "tests.dying", str(step), "copy", *urls, "--json"]
    environ = clean(TENTERHOOK_SECRET=KEY)
    return subprocess.run(words, env=environ, capture_output=True, text=True, timeout=60, check=False)


def copied(house: House) -> int:
    """How many rows of an unfinished copy are there."""
    ((rows,),) = house.execute("SELECT coalesce(sum(copied), -1) FROM copying")
    assert sum(len(house.rows(table)) for table in tables()) == max(rows, 0)
    return int(rows)


@ways
async def test_a_copy_that_is_killed_anywhere_goes_on(pair: Pair, houses: Houses) -> None:
    source, whole, target = await filled(houses, pair[0]), houses(pair[1]), houses(pair[1])
    lived = dying(0, source.url, whole.url)
    steps = int(re.findall(r"^steps (\d+)$", lived.stderr, re.MULTILINE)[0])
    await (await target.open()).close()
    random, seen = Random(f"{pair}"), [-1]
    while copied(target) < 8 * len(tables()):
        killed = dying(random.randrange(steps // 8, steps // 3), source.url, target.url)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        if copied(target) >= 0:
            with pytest.raises(StoreUnavailable, match="not complete"):
                await target.open()
        seen.append(copied(target))
    assert seen == sorted(seen)
    assert len(set(seen)) > 3
    killed = dying(random.randrange(steps // 8, steps // 3), source.url, target.url)  # while it compares
    assert killed.returncode == -signal.SIGKILL
    ended = dying(0, source.url, target.url)
    assert ended.returncode == 0, ended.stderr
    assert all(target.rows(table) == source.rows(table) for table in tables())
    await (await target.open()).close()


async def test_only_the_same_source_goes_on(houses: Houses) -> None:
    source, other, target = await furnished(houses, "sqlite"), await furnished(houses, "sqlite"), houses("sqlite")
    async with move(source.url, target.url, SETTINGS) as both:
        await both.target.run(verbs.begin(both.source.name))
    with pytest.raises(ConfigurationError, match=r"holds a part of a copy of sqlite:///.*Nothing was copied"):
        await moved(other, target)
    assert all(each.same for each in await moved(source, target))


# refusing


@pairs
async def test_a_target_that_holds_something_is_left_alone(pair: Pair, houses: Houses) -> None:
    source, target = await furnished(houses, pair[0]), await furnished(houses, pair[1])
    before = {table.name: target.rows(table) for table in tables()}
    with pytest.raises(ConfigurationError, match="is not empty: it has rows in application, event_type, endpoint"):
        await moved(source, target)
    assert {table.name: target.rows(table) for table in tables()} == before
    await (await target.open()).close()


async def test_a_server_on_the_file_must_be_stopped(houses: Houses) -> None:
    source = await furnished(houses, "sqlite")
    assert source.path is not None
    server = SqliteStore.open(source.path, VAULT, exclusive=True)
    for pair in ((source, houses("sqlite")), (houses("sqlite"), source)):
        if pair[0] is not source:
            await (await pair[0].open()).close()
        with pytest.raises(StoreUnavailable, match="another Tenterhook server is using"):
            await moved(*pair)
    await server.close()


async def test_nodes_on_the_database_must_be_stopped(houses: Houses, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tenterhook.store.postgres_nodes._PATIENCE_SECONDS", 0.1)
    source = await furnished(houses, "postgresql")
    node = await source.open()
    await node.commit([Accept(new_message(new_app()))])
    for pair in ((source, houses("sqlite")), (await furnished(houses, "sqlite"), source)):
        with pytest.raises(StoreUnavailable, match=r"1 node is connected to the database \(tenterhook \S+:\d+\): stop"):
            await moved(*pair)
    await node.close()
    assert all(each.same for each in await moved(source, houses("sqlite")))


@ways
async def test_nobody_uses_either_side_meanwhile(pair: Pair, houses: Houses, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tenterhook.store.sqlite.BUSY_SECONDS", 0.1)
    source, target = await furnished(houses, pair[0]), houses(pair[1])
    busy = "being copied" if source.path is None else "locked"
    early = await source.open()  # a command that was there already, and is no node
    async with move(source.url, target.url, SETTINGS) as both:
        with pytest.raises(StoreUnavailable, match=busy):
            await (await source.open()).create_token(Token(id="tok_9", name="", scope="admin", created_at=NOW), b"9")
        writing = asyncio.create_task(early.create_token(Token(id="t", name="", scope="admin", created_at=NOW), b"8"))
        await both.copy(lambda table, done: None)
        with pytest.raises(StoreUnavailable, match=r"not complete|being copied"):
            await target.open()
        found = await both.compare(lambda table, done: None)
        assert all(each.same for each in found)
        if source.path is None:
            assert not writing.done()
    await asyncio.gather(writing, return_exceptions=True)
    await early.close()


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_a_source_must_be_there_and_of_this_version(kind: str, houses: Houses) -> None:
    source, target = houses(kind), houses("sqlite")
    words = "there is no file" if source.path else "holds nothing of Tenterhook"
    with pytest.raises(ConfigurationError, match=words):
        await moved(source, target)
    assert not source.path or not source.path.exists()
    await (await source.open()).close()
    if source.path:
        source.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    else:
        source.execute(f"UPDATE schema_version SET version = {len(MIGRATIONS) + 1}")
    with pytest.raises(SchemaMismatch, match=f"the source has schema version {len(MIGRATIONS) + 1}"):
        await moved(source, target)
    assert target.path is not None
    assert not target.path.exists()


async def test_a_file_of_others_is_no_source(tmp_path: Path, houses: Houses) -> None:
    (tmp_path / "text.db").write_text("no database " * 99)
    with pytest.raises(StoreUnavailable, match="not a database"):
        await moved(House(f"sqlite:///{tmp_path / 'text.db'}"), houses("sqlite"))
    with closing(sqlite3.connect(tmp_path / "other.db")) as db:
        db.execute("CREATE TABLE a (b)")
    with pytest.raises(ConfigurationError, match="holds nothing of Tenterhook"):
        await moved(House(f"sqlite:///{tmp_path / 'other.db'}"), houses("sqlite"))


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("sqlite:///a.db", "sqlite:///a.db"),
        ("sqlite:///a.db", "sqlite:///./a.db"),
        ("postgresql://h/x", "postgresql://h/x"),
    ],
)
async def test_source_and_target_must_differ(source: str, target: str) -> None:
    with pytest.raises(ConfigurationError, match="are the same database"):
        async with move(source, target, SETTINGS):
            raise AssertionError


# secrets


@pairs
async def test_the_target_must_have_the_key_of_the_source(pair: Pair, houses: Houses) -> None:
    source, target = await furnished(houses, pair[0]), houses(pair[1])
    other = Settings(secret=KEY[::-1])
    with pytest.raises(ConfigurationError, match=r"4 of the secrets in .* cannot be opened") as refused:
        await moved(source, target, other)
    assert "Set TENTERHOOK_SECRET to the master key that the servers of the source have" in refused.value.detail
    # nothing was left behind that would refuse the right key
    assert all(each.same for each in await moved(source, target, Settings(secret=f"{KEY[::-1]},{KEY}")))


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_the_key_beside_a_file_is_the_next_step(kind: str, houses: Houses) -> None:
    source, target = await furnished(houses, "sqlite"), houses(kind)
    assert source.path is not None
    key = source.path.with_name(source.path.name + ".key")
    key.write_text(KEY)
    with pytest.raises(ConfigurationError, match="the target has no master key yet") as refused:
        await moved(source, target, Settings())
    command = refused.value.detail.splitlines()[1].partition(": ")[2]
    if target.path is not None:
        shell(command)
        assert all(each.same for each in await moved(source, target, Settings()))
    else:
        printed = shell(f'{command}; printf %s "$TENTERHOOK_SECRET"')
        assert all(each.same for each in await moved(source, target, Settings(secret=printed)))


def shell(command: str) -> str:
    return subprocess.run(command, shell=True, check=True, capture_output=True, text=True).stdout


async def test_each_postgresql_database_proves_its_own_key(houses: Houses) -> None:
    source, target, back = await furnished(houses, "postgresql"), houses("postgresql"), houses("sqlite")
    both = Settings(secret=f"{KEY[::-1]},{KEY}")  # the target is sealed with a new key from now on
    assert all(each.same for each in await moved(source, target, both))
    text = "SELECT value FROM installation WHERE name = 'master_key'"
    assert source.execute(text) != target.execute(text)
    await moved(target, back, both)
    assert back.execute(text) == []


# comparing


CHANGES = {
    "a value": "UPDATE delivery SET attempts = attempts + 1 WHERE message = (SELECT min(message) FROM delivery)",
    "a missing row": "DELETE FROM delivery WHERE message = (SELECT min(message) FROM delivery)",
    "nothing instead of an empty text": "UPDATE delivery SET order_key = '' WHERE order_key IS NULL",
}


@pytest.mark.parametrize("change", CHANGES)
@ways
async def test_a_difference_is_found(pair: Pair, change: str, houses: Houses) -> None:
    source, target = await furnished(houses, pair[0]), houses(pair[1])
    assert all((await compared_after(source, target, "SELECT 1")).values())
    different = await compared_after(source, target, CHANGES[change])
    assert [table for table, same in different.items() if not same] == ["delivery"]


async def compared_after(source: House, target: House, change: str) -> dict[str, bool]:
    if not target.path or not target.path.exists():
        with suppress(ConfigurationError):
            await moved(source, target)
    target.execute(change)
    return await compared(source, target)


async def test_no_server_starts_on_a_copy_that_differs(houses: Houses) -> None:
    source, target = await furnished(houses, "sqlite"), houses("sqlite")
    async with move(source.url, target.url, SETTINGS) as both:
        await both.copy(lambda table, done: None)
    target.execute("DELETE FROM attempt")
    assert not (await compared(source, target))["attempt"]
    with pytest.raises(StoreUnavailable, match="not complete"):
        await target.open()


# the command


def test_the_command_says_what_is_the_same_and_what_is_next(tmp_path: Path) -> None:
    environ = {"TENTERHOOK_SECRET": KEY}
    process(tmp_path, "token", "create", "--database", "sqlite:///a.db", **environ)
    done = run(tmp_path, "copy", "sqlite:///a.db", "sqlite:///b.db", **environ)
    assert (done.code, done.err) == (0, "")
    assert re.search(r"^token +1 +[0-9a-f]{32} +same$", done.out, re.MULTILINE)
    assert "1 rows are the same in both." in done.out
    assert "next: start: tenterhook serve --database sqlite:///b.db\n" in done.out
    again = run(tmp_path, "copy", "sqlite:///a.db", "sqlite:///b.db", **environ)
    assert (again.code, again.out) == (2, "")
    assert "b.db is not empty: it has rows in token. Nothing was copied" in again.err
    found = json.loads(
        run(tmp_path, "copy", "sqlite:///a.db", "sqlite:///b.db", "--verify-only", "--json", **environ).out
    )
    assert found["same"]
    assert {row["table"] for row in found["tables"]} == set(BY_NAME)


def test_the_command_fails_for_a_difference(tmp_path: Path) -> None:
    environ = {"TENTERHOOK_SECRET": KEY}
    process(tmp_path, "token", "create", "--database", "sqlite:///a.db", **environ)
    assert run(tmp_path, "copy", "sqlite:///a.db", "sqlite:///b.db", **environ).code == 0
    House(f"sqlite:///{tmp_path}/b.db").execute("UPDATE token SET hash = x'00'")
    done = run(tmp_path, "copy", "sqlite:///a.db", "sqlite:///b.db", "--verify-only", **environ)
    assert (done.code, done.err) == (1, "the databases differ in token: empty the target, then copy again\n")
    assert "DIFFERENT" in done.out
    assert "next:" not in done.out
    found = run(tmp_path, "copy", "sqlite:///a.db", "sqlite:///b.db", "--verify-only", "--json", **environ)
    assert found.code == 1
    assert [row["table"] for row in json.loads(found.out)["tables"] if not row["same"]] == ["token"]


@pytest.mark.parametrize(
    ("words", "code", "error"),
    [
        (["mysql://h/d", "sqlite:///b.db"], 2, "must be sqlite:///"),
        (["sqlite:///a.db", "sqlite:///b.db"], 2, "there is no file a.db"),
        (["postgresql://127.0.0.1:1/d", "sqlite:///b.db"], 1, "cannot open the database: "),
        (["postgresql://127.0.0.1:port/d", "sqlite:///b.db"], 2, "database: "),
    ],
)
def test_mistakes(words: list[str], code: int, error: str, tmp_path: Path) -> None:
    done = run(tmp_path, "copy", *words, TENTERHOOK_SECRET=KEY)
    assert (done.code, done.out) == (code, "")
    assert error in done.err
    assert not (tmp_path / "b.db").exists()
