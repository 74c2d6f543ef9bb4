"""Writing into an outbox: over every kind of connection, if and only if the transaction commits."""

import asyncio
import dataclasses
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from enum import StrEnum
from pathlib import Path
from typing import Any, get_args, get_type_hints

import asyncpg
import msgspec
import psycopg
import pytest
import sqlalchemy
from django.db import migrations
from django.db.migrations.state import ProjectState
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.orm import Session

from tenterhook import outbox
from tenterhook.api import messages, shapes
from tenterhook.errors import Invalid
from tenterhook.ids import is_id
from tenterhook.outbox import event
from tests import outboxes
from tests.outboxes import ON_POSTGRES, ON_SQLITE, Driver, query
from tests.test_cli import TIMEOUT
from tests.test_docs import ROOT, blocks

ROW = (
    "SELECT id, application, event_type, payload, key, event_id, channels, tags, attempts, error FROM tenterhook_outbox"
)
FULL = {"key": "order-7", "event_id": "paid-7", "channels": ["eu", "vip"], "tags": ("a/b",)}


def write_full(connection: Any) -> Any:
    return outbox.write(connection, "acme", "invoice.paid", '{"n": 1,  "€": "ü"}', **FULL)


def stored(url: str) -> list[tuple[Any, ...]]:
    return [row[1:] for row in query(url, ROW)]


WRITTEN = ("acme", "invoice.paid", '{"n": 1,  "€": "ü"}', "order-7", "paid-7", '["eu","vip"]', '["a/b"]', 0, None)


@pytest.mark.parametrize("driver", ON_SQLITE.values(), ids=ON_SQLITE)
def test_sqlite_keeps_what_commits(driver: Driver, tmp_path: Path) -> None:
    url = outboxes.new_sqlite(tmp_path / "app.db")
    driver(url, write_full, False)
    assert stored(url) == []
    driver(url, write_full, True)
    assert stored(url) == [WRITTEN]


@pytest.mark.parametrize("driver", ON_POSTGRES.values(), ids=ON_POSTGRES)
def test_postgresql_keeps_what_commits(driver: Driver, postgres_url: str) -> None:
    url = outboxes.make_in_postgres(postgres_url)
    driver(url, write_full, False)
    assert stored(url) == []
    driver(url, write_full, True)
    assert stored(url) == [WRITTEN]


@pytest.mark.parametrize("driver", [ON_POSTGRES["psycopg"], ON_POSTGRES["SQLAlchemy session"], ON_POSTGRES["Django"]])
def test_what_it_tells_of_shares_its_fate(driver: Driver, postgres_url: str) -> None:
    """The user's own statements are in the same transaction."""
    url = outboxes.make_in_postgres(postgres_url)
    query(url, "CREATE TABLE invoice (id int)")

    def pay(connection: Any) -> None:
        if hasattr(connection, "cursor"):
            connection.cursor().execute("INSERT INTO invoice VALUES (7)")
        else:
            connection.execute(sqlalchemy.text("INSERT INTO invoice VALUES (7)"))
        outbox.write(connection, "acme", "invoice.paid", {"id": 7})

    driver(url, pay, False)
    assert (query(url, "SELECT * FROM invoice"), stored(url)) == ([], [])
    driver(url, pay, True)
    assert query(url, "SELECT * FROM invoice") == [(7,)]
    assert len(stored(url)) == 1


def test_a_savepoint_that_is_rolled_back_takes_the_event_with_it(postgres_url: str) -> None:
    url = outboxes.make_in_postgres(postgres_url)
    with psycopg.connect(url) as connection:
        outbox.write(connection, "acme", "first", {}, key="k")
        with connection.transaction(force_rollback=True):
            outbox.write(connection, "acme", "second", {}, key="k")
        outbox.write(connection, "acme", "third", {}, key="k")
    assert [row[1] for row in stored(url)] == ["first", "third"]


# the docs, and migrations


def test_the_examples_of_the_docs_run(postgres_url: str) -> None:
    url = outboxes.make_in_postgres(postgres_url)
    query(url, "CREATE TABLE invoice (id int, paid bool)")
    namespace: dict[str, object] = {"__name__": "outbox.md", "DATABASE_URL": url}
    for block in blocks(ROOT / "docs" / "outbox.md", "python postgresql"):
        exec(compile("\n" * block.line + block.text, block.page, "exec"), namespace)  # the page is our own
    assert query(url, "SELECT key FROM tenterhook_outbox ORDER BY position") == [*[("invoice-7",)] * 3, ("k",)]


def test_sqlalchemy_runs_the_ddl(postgres_url: str) -> None:
    """As Alembic's `op.execute` does."""
    engine = sqlalchemy.create_engine(postgres_url.replace("://", "+psycopg://", 1), poolclass=sqlalchemy.NullPool)
    for _ in range(2):
        with engine.begin() as connection:
            connection.execute(sqlalchemy.text(outbox.ddl("postgresql")))
    ON_POSTGRES["psycopg"](postgres_url, write_full, True)
    assert stored(postgres_url) == [WRITTEN]


@pytest.mark.parametrize("dialect", ["postgresql", "sqlite"])
def test_migrations_of_django_run_the_ddl(dialect: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/app.db" if dialect == "sqlite" else request.getfixturevalue("postgres_url")
    migration = migrations.RunSQL(outbox.ddl(dialect))
    for _ in range(2):
        with outboxes.django_connection(url) as connection, connection.schema_editor() as editor:
            migration.database_forwards("shop", editor, ProjectState(), ProjectState())
    outboxes.ON_POSTGRES["Django"](url, write_full, True)
    assert stored(url) == [WRITTEN]


# what is written


@pytest.fixture
def database() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(outbox.ddl("sqlite"))
        yield connection


def payload_of(database: sqlite3.Connection) -> str:
    [(payload,)] = database.execute("SELECT payload FROM tenterhook_outbox").fetchall()
    assert isinstance(payload, str)
    return payload


def test_the_id_of_the_row_is_returned(database: sqlite3.Connection) -> None:
    first = outbox.write(database, "acme", "invoice.paid", {})
    second = outbox.write(database, "acme", "invoice.paid", {})
    assert is_id(first, "out_")
    assert [row[0] for row in database.execute(ROW)] == [first, second]


def test_only_what_was_given_is_there(database: sqlite3.Connection) -> None:
    outbox.write(database, "acme", "invoice.paid", {"id": 7})
    [row] = database.execute(ROW)
    assert row[1:] == ("acme", "invoice.paid", '{"id":7}', None, None, "[]", "[]", 0, None)


def test_another_table(database: sqlite3.Connection) -> None:
    database.executescript(outbox.ddl("sqlite", "events"))
    outbox.write(database, "acme", "invoice.paid", {}, table="events")
    assert database.execute("SELECT count(*) FROM events").fetchone() == (1,)
    assert database.execute("SELECT count(*) FROM tenterhook_outbox").fetchone() == (0,)


class Kind(StrEnum):
    PAID = "invoice.paid"


def test_members_of_enumerations_are_text(database: sqlite3.Connection) -> None:
    outbox.write(database, "acme", Kind.PAID, {}, channels={Kind.PAID}, tags=frozenset({"x"}))
    [row] = database.execute(ROW)
    assert (row[2], row[6], row[7]) == ("invoice.paid", '["invoice.paid"]', '["x"]')


@dataclasses.dataclass
class Invoice:
    id: int


class Receipt(msgspec.Struct):
    id: int


@pytest.mark.parametrize(
    "payload", [Invoice(7), Receipt(7), {"id": 7}, b'{"id":7}', '{"id":7}', bytearray(b'{"id":7}')]
)
def test_objects_are_encoded(payload: object, database: sqlite3.Connection) -> None:
    outbox.write(database, "acme", "invoice.paid", payload)
    assert payload_of(database) == '{"id":7}'


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=8), JSON, max_size=4), st.sampled_from(["", " ", "\n\t"]))
def test_bytes_and_texts_stay_as_they_are(document: dict[str, Any], space: str) -> None:
    try:
        text = space + msgspec.json.format(msgspec.json.encode(document), indent=2).decode() + space
    except UnicodeEncodeError:
        with pytest.raises(Invalid, match="UTF-8"):
            event.json_object(document)
        return
    assert event.json_object(text) == event.json_object(text.encode()) == text
    assert msgspec.json.decode(event.json_object(document)) == msgspec.json.decode(text)


# what is refused


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        ("[1]", "must be a JSON object"),
        (b"7", "must be a JSON object"),
        (None, "must be a JSON object"),
        ([{"id": 7}], "must be a JSON object"),
        ("", "not JSON"),
        ("{'id': 7}", "not JSON"),
        (b'{"id": 7', "not JSON"),
        (b'\xef\xbb\xbf{"id": 7}', "not JSON"),
        ('{"id": 7} x', "not JSON"),
        ('{"a":' * 100_000, "not JSON"),
        (b'{"name": "\xff"}', "not UTF-8"),
        ('{"name": "\ud800"}', "not UTF-8"),
        ({"name": "\ud800"}, "not UTF-8"),
        ({"name": object()}, "cannot be written as JSON"),
        ({(1, 2): 3}, "cannot be written as JSON"),
    ],
)
def test_bad_payloads_are_refused(payload: object, words: str, database: sqlite3.Connection) -> None:
    with pytest.raises(Invalid, match=words):
        outbox.write(database, "acme", "invoice.paid", payload)
    assert database.execute(ROW).fetchall() == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("application", ""),
        ("application", "a b"),
        ("application", None),
        ("event_type", "invoice paid"),
        ("event_type", "invoice.paid\n"),
        ("event_type", "x" * 257),
        ("event_type", b"invoice.paid"),
        ("event_id", "ä"),
        ("event_id", "msg_1"),
        ("event_id", ""),
        ("key", ""),
        ("key", "a\x00b"),
        ("key", "x" * 257),
        ("key", "\ud800"),
        ("key", 7),
        ("channels", "eu"),
        ("channels", ["e u"]),
        ("channels", ["x"] * 11),
        ("tags", ["x"] * 6),
        ("tags", [None]),
    ],
)
def test_bad_fields_are_refused_by_name(field: str, value: object, database: sqlite3.Connection) -> None:
    fields: dict[str, Any] = {"application": "acme", "event_type": "invoice.paid"} | {field: value}
    with pytest.raises(Invalid, match=field):
        outbox.write(database, payload={}, **fields)
    assert database.execute(ROW).fetchall() == []


@pytest.mark.parametrize("table", ["Outbox", "a.b.c", 'x"; DROP TABLE y; --', "", "x" * 49, "1st"])
def test_bad_tables_are_refused(table: str, database: sqlite3.Connection) -> None:
    with pytest.raises(Invalid, match="table of an outbox"):
        outbox.write(database, "acme", "invoice.paid", {}, table=table)


def limits(annotation: Any) -> tuple[int, int, str]:
    [meta] = annotation.__metadata__
    return meta.min_length, meta.max_length, meta.pattern


def test_the_limits_are_those_of_the_api() -> None:
    assert limits(event.Name) == limits(shapes.Name) == limits(shapes.Uid)
    assert limits(event.Channel) == limits(shapes.Channel)
    assert limits(event.Tag) == limits(shapes.Tag)
    [key, _] = get_args(get_type_hints(messages.MessageIn, include_extras=True)["ordering_key"])
    assert limits(event.Key) == limits(key)


def test_what_cannot_be_sent_is_refused_before_it_is_awaited(postgres_url: str) -> None:
    def wrong(connection: Any) -> Any:
        with pytest.raises(Invalid):
            outbox.write(connection, "acme", "invoice.paid", "[]")
        return outbox.write(connection, "acme", "invoice.paid", {})

    url = outboxes.make_in_postgres(postgres_url)
    ON_POSTGRES["psycopg async"](url, wrong, True)
    assert len(stored(url)) == 1


@pytest.mark.parametrize("thing", [None, "sqlite:///app.db", sqlalchemy.create_engine("sqlite://"), object()])
def test_what_is_no_connection_is_refused(thing: object) -> None:
    with pytest.raises(Invalid, match=r"no connection to write with: .*psycopg\.Connection"):
        outbox.write(thing, "acme", "invoice.paid", {})


# no transaction


def test_sqlite_without_a_transaction_is_refused(tmp_path: Path) -> None:
    url = outboxes.new_sqlite(tmp_path / "app.db")
    with (
        closing(sqlite3.connect(outboxes.path_of(url), isolation_level=None)) as connection,
        pytest.raises(Invalid, match="no transaction is open"),
    ):
        outbox.write(connection, "acme", "invoice.paid", {})
    assert stored(url) == []


def test_django_without_a_transaction_is_refused(tmp_path: Path) -> None:
    url = outboxes.new_sqlite(tmp_path / "app.db")
    with outboxes.django_connection(url) as connection, pytest.raises(Invalid, match=r"atomic\(\)"):
        outbox.write(connection, "acme", "invoice.paid", {})
    assert stored(url) == []


def _psycopg_alone(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        outbox.write(connection, "acme", "invoice.paid", {})


def _psycopg_async_alone(url: str) -> None:
    async def run() -> None:
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            await outbox.write(connection, "acme", "invoice.paid", {})

    asyncio.run(run())


def _asyncpg_alone(url: str) -> None:
    async def run() -> None:
        connection = await asyncpg.connect(url)
        try:
            await outbox.write(connection, "acme", "invoice.paid", {})
        finally:
            await connection.close()

    asyncio.run(run())


def _sqlalchemy_alone(url: str) -> None:
    engine = sqlalchemy.create_engine(url.replace("://", "+psycopg://", 1), poolclass=sqlalchemy.NullPool)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        outbox.write(connection, "acme", "invoice.paid", {})


def _sqlalchemy_engine_alone(url: str) -> None:
    address = url.replace("://", "+psycopg://", 1)
    engine = sqlalchemy.create_engine(address, poolclass=sqlalchemy.NullPool, isolation_level="AUTOCOMMIT")
    with Session(engine) as session:
        outbox.write(session, "acme", "invoice.paid", {})


@pytest.mark.parametrize(
    "alone", [_psycopg_alone, _psycopg_async_alone, _asyncpg_alone, _sqlalchemy_alone, _sqlalchemy_engine_alone]
)
def test_postgresql_without_a_transaction_is_refused(alone: Callable[[str], None], postgres_url: str) -> None:
    url = outboxes.make_in_postgres(postgres_url)
    with pytest.raises(Invalid, match="no transaction is open"):
        alone(url)
    assert stored(url) == []


# ids


FORKED = """
import os, sqlite3
from pathlib import Path
from tenterhook import outbox
connection = sqlite3.connect(":memory:")
connection.executescript(outbox.ddl("sqlite"))
children = range(4)
for child in children:
    if os.fork() == 0:
        ids = [outbox.write(connection, "a", "b", {}) for _ in range(300)]
        Path(f"ids-{child}").write_text(" ".join(ids))
        os._exit(0)
for child in children:
    os.wait()
"""


def test_processes_that_forked_make_ids_of_their_own(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", FORKED], cwd=tmp_path, check=True, timeout=TIMEOUT)
    ids = [name for file in tmp_path.glob("ids-*") for name in file.read_text().split()]
    assert len(ids) == len(set(ids)) == 1_200
