"""The PostgreSQL servers of tests and benchmarks do what fault tests ask of them, and none is left behind."""

import asyncio
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg
import psutil
import psycopg
import pytest
from bench.harness import Failed, disk
from bench.postgres import DURABLE, SIGNALS, PostgresServer

from tests.api import GRACE

Private = Callable[..., PostgresServer]

ROOT = Path(__file__).parent.parent
ORPHANED = """
import os, sys
from bench.postgres import PostgresServer
server = PostgresServer()
server.start()
if "frozen" in sys.argv:
    server.freeze()
print(server.pid, flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """One for all tests that leave it running."""
    with PostgresServer() as server:
        yield server


@pytest.fixture
def reachable() -> Iterator[Path]:
    """A folder for temporary files that every user can reach, other than `tmp_path`."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)
        yield Path(folder)


def execute(url: str, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


def test_a_database_is_empty_and_its_own(postgres_url: str, postgres: str) -> None:
    assert execute(postgres_url, "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace") == [(0,)]
    execute(postgres_url, "CREATE TABLE mark ()")
    assert execute(postgres, "SELECT to_regclass('mark')") == [(None,)]


def test_the_role_is_a_plain_one(server: PostgresServer) -> None:
    assert execute(server.url(), "SELECT rolsuper, rolcreatedb FROM pg_roles WHERE rolname = user") == [(False, True)]
    assert execute(server.url(role="postgres"), "SELECT rolsuper FROM pg_roles WHERE rolname = user") == [(True,)]


def test_the_password_is_asked_for(server: PostgresServer) -> None:
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(server.url().replace(server.password, "wrong"))


def test_committed_rows_outlive_a_kill(server: PostgresServer) -> None:
    execute(server.url(), "CREATE TABLE kept (n int)")
    execute(server.url(), "INSERT INTO kept VALUES (7)")
    family = psutil.Process(server.pid).children()
    server.kill()
    assert not server.running
    assert [process for process in family if process.is_running()] == []
    with pytest.raises(psycopg.OperationalError, match="refused"):
        psycopg.connect(server.url())
    server.start()
    assert execute(server.url(), "SELECT n FROM kept") == [(7,)]
    assert "automatic recovery in progress" in server.last_words()


@pytest.mark.parametrize("mode", SIGNALS)
def test_stopped_servers_start_again(mode: str, server: PostgresServer) -> None:
    execute(server.url(), f"CREATE TABLE {mode} ()")
    server.stop(mode)
    assert not server.running
    assert f"received {mode} shutdown request" in server.last_words()
    server.start()
    assert execute(server.url(), f"SELECT * FROM {mode}") == []


async def test_a_frozen_server_answers_when_it_thaws(server: PostgresServer) -> None:
    connection = await asyncpg.connect(server.url())
    server.freeze()
    answer = asyncio.create_task(connection.fetchval("SELECT 7"))
    done, _ = await asyncio.wait([answer], timeout=0.2)
    assert not done
    server.thaw()
    assert await asyncio.wait_for(answer, GRACE) == 7
    await connection.close()


def test_a_frozen_server_can_be_killed(server: PostgresServer) -> None:
    server.freeze()
    server.kill()
    server.start()
    assert execute(server.url(), "SELECT 7") == [(7,)]


def test_settings_are_those_of_the_next_start(server: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(server.settings, "default_transaction_read_only", "on")
    execute(server.url(), "CREATE TABLE before ()")
    server.stop()
    server.start()
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        execute(server.url(), "CREATE TABLE after ()")
    monkeypatch.undo()
    server.stop()
    server.start()
    execute(server.url(), "CREATE TABLE after ()")


def test_a_wrong_setting_is_told(server: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.stop()
    monkeypatch.setitem(server.settings, "max_connections", "many")
    with pytest.raises(Failed, match='invalid value for parameter "max_connections": "many"'):
        server.start()
    monkeypatch.undo()
    server.start()


def test_servers_live_side_by_side(server: PostgresServer, private_postgres: Private) -> None:
    other = private_postgres(max_connections="7")
    assert execute(other.url(), "SHOW max_connections") == [("7",)]
    assert other.port != server.port
    other.kill()
    assert execute(server.url(), "SELECT 7") == [(7,)]


def test_a_durable_server_is_on_a_disk() -> None:
    with PostgresServer.durable() as server:
        assert server.folder.is_relative_to(disk())
        for name, value in DURABLE.items():
            assert execute(server.url(), f"SHOW {name}") == [(value,)]
    assert not server.folder.exists()


@pytest.mark.parametrize("state", ["running", "frozen"])
def test_it_ends_with_who_started_it_and_leaves_nothing(state: str, reachable: Path) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", ORPHANED, state],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(reachable)},
        text=True,
        start_new_session=True,
    )
    with parent:
        assert parent.stdout is not None
        postmaster = psutil.Process(int(parent.stdout.readline()))
        family = [postmaster, *postmaster.children()]
        assert len(family) > 5
        supervisor = os.pidfd_open(postmaster.ppid())
        os.killpg(parent.pid, signal.SIGKILL)
    ended, _, _ = select.select([supervisor], [], [], GRACE)
    os.close(supervisor)
    assert ended
    assert [process for process in family if process.is_running()] == []
    assert list(reachable.iterdir()) == []
