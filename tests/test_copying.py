"""Moving house: every row arrives as it was, from either database in either one, whatever happens on the way."""

import json
import re
import sqlite3
from itertools import pairwise
from pathlib import Path

import psycopg
import pytest

from tenterhook.clock import DAY, HOUR
from tenterhook.errors import StoreUnavailable
from tenterhook.ids import IdMaker
from tenterhook.moving import move
from tenterhook.store.copying import verbs
from tenterhook.store.copying.tables import NOT_COPIED, Table, tables
from tenterhook.store.postgres import PostgresStore
from tenterhook.store.sqlite import SqliteStore
from tenterhook.store.work import Accept, Claim, Page
from tests.contracts.store import (
    LEASE,
    NOW,
    new_app,
    new_message,
)
from tests.houses import ALL, KEY, SETTINGS, VAULT, House, Houses, Pair, compared, filled, furnished, moved, pairs, ways
from tests.test_cli import process, run

TABLES = {table.name: table for table in tables()}


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
        assert set(catalog) - set(NOT_COPIED) == set(TABLES)
    for name, table in TABLES.items():
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


# copying


@pairs
async def test_every_value_of_every_table_arrives_as_it_was(pair: Pair, houses: Houses) -> None:
    source, target = await filled(houses, pair[0]), houses(pair[1])
    found = await moved(source, target)
    assert [(each.table, each.source.rows, each.same) for each in found] == [
        (t.name, 9 if t.besides else 8, True) for t in tables()
    ]
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


# comparing


CHANGES = {
    "a value": "UPDATE delivery SET attempts = attempts + 1 WHERE message = (SELECT min(message) FROM delivery)",
    "a missing row": "DELETE FROM delivery WHERE message = (SELECT min(message) FROM delivery)",
    "nothing instead of an empty text": "UPDATE delivery SET order_key = '' WHERE order_key IS NULL",
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_a_difference_is_found(kind: str, change: str, houses: Houses) -> None:
    source, target = await furnished(houses, "sqlite"), houses(kind)
    await moved(source, target)
    assert all((await compared(source, target)).values())
    target.execute(CHANGES[change])
    assert [table for table, same in (await compared(source, target)).items() if not same] == ["delivery"]


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
    assert "2 rows are the same in both." in done.out
    assert "next: start: tenterhook serve --database sqlite:///b.db\n" in done.out
    again = run(tmp_path, "copy", "sqlite:///a.db", "sqlite:///b.db", **environ)
    assert (again.code, again.out) == (2, "")
    assert "b.db is not empty: it has rows in token. Nothing was copied" in again.err
    found = json.loads(
        run(tmp_path, "copy", "sqlite:///a.db", "sqlite:///b.db", "--verify-only", "--json", **environ).out
    )
    assert found["same"]
    assert {row["table"] for row in found["tables"]} == set(TABLES)


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
