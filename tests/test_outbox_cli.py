"""Outboxes for operators: the command that makes the table, the configuration, and a server that relays."""

import asyncio
import signal
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from bench.postgres import free_port

from tenterhook import outbox
from tenterhook.clock import MINUTE, SECOND
from tenterhook.config import parse
from tenterhook.config_keys import TABLES
from tenterhook.errors import ConfigurationError
from tests import outboxes
from tests.outboxes import query
from tests.test_cli import TIMEOUT, Serving, run, servers
from tests.wire import Wire

__all__ = ["servers"]  # a fixture

FILE = f"""\
[[application]]
uid = "acme"

[[endpoint]]
name = "audit"
application = "acme"
url = "http://127.0.0.1:{free_port()}/hooks"

"""
OUTBOX = """\
[[outbox]]
name = "main"
database = "env:APP_DATABASE_URL"
poll = "20ms"
"""


# the command


def test_create_prints_what_goes_into_a_migration(tmp_path: Path) -> None:
    done = run(tmp_path, "outbox", "create")
    assert (done.code, done.err) == (0, "")
    assert done.out == outbox.ddl("postgresql")
    assert run(tmp_path, "outbox", "create", "--dialect", "sqlite", "--table", "events").out == outbox.ddl(
        "sqlite", "events"
    )
    assert run(tmp_path, "outbox", "create", "--database", "sqlite:///app.db").out == outbox.ddl("sqlite")
    assert not (tmp_path / "app.db").exists()


def test_create_makes_the_table_in_sqlite(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "app.db")) as connection:
        connection.execute("CREATE TABLE invoice (id)")
        for _ in range(2):
            done = run(tmp_path, "outbox", "create", "--database", "sqlite:///app.db", "--apply")
            assert (done.code, done.out) == (0, "tenterhook_outbox is in sqlite:///app.db\n")
        outbox.write(connection, "acme", "invoice.paid", {})


def test_create_makes_the_table_in_postgresql(tmp_path: Path, postgres_url: str) -> None:
    words = ["outbox", "create", "--database", "env:APP_DATABASE_URL", "--table", "events", "--apply"]
    for _ in range(2):
        done = run(tmp_path, *words, APP_DATABASE_URL=postgres_url)
        assert done.code == 0, done.err
        assert done.out.startswith("events is in postgresql://tenterhook:***@")
    with psycopg.connect(postgres_url) as connection:
        outbox.write(connection, "acme", "invoice.paid", {}, table="events")


@pytest.mark.parametrize(
    ("words", "code", "error"),
    [
        (["--apply"], 2, "--apply needs --database"),
        (["--database", "mysql://h/db"], 2, "must be"),
        (["--database", "env:NOWHERE"], 2, "the environment variable NOWHERE is not set"),
        (["--database", "sqlite:///a.db", "--dialect", "postgresql"], 2, "is of the dialect sqlite"),
        (["--dialect", "oracle"], 2, "oracle"),
        (["--table", "Events"], 2, "lower-case"),
        (["--dialect", "sqlite", "--table", "a.b"], 2, "in no schema"),
        (["--database", "sqlite:///none.db", "--apply"], 1, "there is no database"),
        (["--database", "postgresql://u:hush@127.0.0.1:1/db", "--apply"], 1, "Connect call failed"),
    ],
)
def test_create_mistakes(words: list[str], code: int, error: str, tmp_path: Path) -> None:
    done = run(tmp_path, "outbox", "create", *words)
    assert done.code == code
    assert error in done.err
    assert "hush" not in done.err


# the configuration


def problems(*lines: str) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        parse("\n".join(["[[outbox]]", *lines]), "t.toml", {"APP": "postgresql://u:hush@h/db"})
    return caught.value.detail.splitlines()


GOOD = ('name = "main"', 'database = "sqlite:///app.db"')


def test_an_outbox_is_configured() -> None:
    text = '[[outbox]]\nname = "a"\ndatabase = "env:APP"\ntable = "app.events"\npoll = "1m"\nbatch = 10\n'
    text += '[[outbox]]\nname = "b"\ndatabase = "sqlite:///app.db"'
    first, second = parse(text, "t.toml", {"APP": "postgres://u:hush@h/db"}).outboxes
    assert (first.name, first.database, first.table) == ("a", "postgresql://u:hush@h/db", "app.events")
    assert (first.poll, first.batch, first.line) == (MINUTE, 10, 1)
    assert (second.table, second.poll, second.batch, second.line) == ("tenterhook_outbox", SECOND, 1_000, 7)
    assert "hush" not in repr(first)


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        (['name = "a"'], "t.toml:1: outbox: `database` is missing: add it"),
        (['database = "sqlite:///app.db"'], "t.toml:1: outbox: `name` is missing: add it"),
        ([*GOOD, 'poll = "1ms"'], "t.toml:4: outbox.poll: 1ms is out of range"),
        ([*GOOD, "batch = 0"], "t.toml:4: outbox.batch: 0 is out of range"),
        ([*GOOD, 'table = "Events"'], "t.toml:4: outbox.table: 'Events' cannot be the table of an outbox"),
        ([*GOOD, "table = 7"], "t.toml:4: outbox.table: must be a string"),
        ([*GOOD, 'tabel = "x"'], "t.toml:4: outbox.tabel: is not a key of [[outbox]]; did you mean 'table'?"),
        (['name = "a"', 'database = "mysql://u:hush@h"'], "t.toml:3: outbox.database: must be"),
        ([*GOOD, "[[outbox]]", *GOOD], "t.toml:5: outbox.name: 'main' is used already in line 2"),
    ],
)
def test_mistakes_have_their_line(lines: list[str], problem: str) -> None:
    [found] = problems(*lines)
    assert found.startswith(problem)
    assert "hush" not in found


def test_a_driver_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tenterhook.toml").write_text(FILE + OUTBOX)
    monkeypatch.setitem(sys.modules, "asyncpg", None)
    done = run(tmp_path, "check", APP_DATABASE_URL="postgresql://h/db")
    assert done.code == 2
    assert "tenterhook.toml:9: outbox.database: PostgreSQL needs a driver" in done.err
    assert "tenterhook[postgres]" in done.err


def test_outboxes_are_counted(tmp_path: Path) -> None:
    (tmp_path / "tenterhook.toml").write_text(OUTBOX)
    assert "0 endpoints, 1 outbox" in run(tmp_path, "check", APP_DATABASE_URL="sqlite:///app.db").out
    assert set(TABLES) >= {"outbox"}


# the server


def written(url: str) -> None:
    with closing(sqlite3.connect(outboxes.path_of(url))) as connection, connection:
        outbox.write(connection, "acme", "invoice.paid", {"id": 7})


def test_a_server_relays_from_its_start_and_follows_the_file(tmp_path: Path, servers: list[Serving]) -> None:
    url = outboxes.new_sqlite(tmp_path / "app.db")
    written(url)
    file = tmp_path / "tenterhook.toml"
    file.write_text(FILE + OUTBOX)
    servers.append(server := Serving(tmp_path, "--allow-networks", "127.0.0.0/8", APP_DATABASE_URL=url))
    server.url()
    server.logged(r"msg_\w+")
    file.write_text(FILE)
    server.process.send_signal(signal.SIGHUP)
    server.logged("reloaded")
    assert query(url, "SELECT count(*) FROM tenterhook_outbox") == [(0,)]
    written(url)
    file.write_text(FILE + OUTBOX)
    server.process.send_signal(signal.SIGHUP)
    server.logged(r"msg_\w+")
    assert server.end() == 0
    assert query(url, "SELECT count(*) FROM tenterhook_outbox") == [(0,)]


async def test_a_server_that_is_killed_before_it_deletes_repeats_nothing(
    tmp_path: Path,
    postgres_url: str,
    servers: list[Serving],
) -> None:
    url, count = outboxes.make_in_postgres(postgres_url), 50
    with psycopg.connect(url) as connection:
        for n in range(count):
            outbox.write(connection, "acme", "invoice.paid", {"n": n}, key=f"k{n % 7}")
    (tmp_path / "tenterhook.toml").write_text(FILE + OUTBOX)
    words = (tmp_path, "--allow-networks", "127.0.0.0/8")
    async with Wire(url) as wire:
        trap = wire.cut_before(b"DELETE FROM")
        servers.append(Serving(*words, APP_DATABASE_URL=wire.url))
        await asyncio.wait_for(trap.struck.wait(), TIMEOUT)
        servers[0].process.kill()
        servers[0].process.wait()
    assert messages(tmp_path) == count
    assert query(url, "SELECT count(*) FROM tenterhook_outbox") == [(count,)]
    servers.append(server := Serving(*words, APP_DATABASE_URL=url))
    server.url()
    with psycopg.connect(url) as connection:
        outbox.write(connection, "acme", "last", {})
    server.logged(r"msg_\w+")
    async with asyncio.timeout(TIMEOUT):
        while await asyncio.to_thread(query, url, "SELECT count(*) FROM tenterhook_outbox") != [(0,)]:
            """Each look is a round trip."""
    assert server.end() == 0
    assert messages(tmp_path) == count + 1


def messages(folder: Path) -> int:
    with closing(sqlite3.connect(folder / "tenterhook.db")) as connection:
        [found] = connection.execute("SELECT count(*) FROM message").fetchone()
    return int(found)
