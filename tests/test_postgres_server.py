"""The PostgreSQL servers of tests and benchmarks do what fault tests ask of them, and none is left behind."""

import asyncio
import os
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

Private = Callable[..., PostgresServer]

ROOT = Path(__file__).parent.parent
GRACE = 30
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


def test_the_role_is_a_plain_one(private_postgres: Private) -> None:
    server = private_postgres()
    assert execute(server.url(), "SELECT rolsuper, rolcreatedb FROM pg_roles WHERE rolname = user") == [(False, True)]
    assert execute(server.url(role="postgres"), "SELECT rolsuper FROM pg_roles WHERE rolname = user") == [(True,)]


def test_the_password_is_asked_for(private_postgres: Private) -> None:
    url = private_postgres().url()
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(url.replace(url.split(":")[2].split("@")[0], "wrong"))


def test_committed_rows_outlive_a_kill(private_postgres: Private) -> None:
    server = private_postgres()
    execute(server.url(), "CREATE TABLE mark (n int)")
    execute(server.url(), "INSERT INTO mark VALUES (7)")
    family = psutil.Process(server.pid).children()
    server.kill()
    assert not server.running
    assert [process for process in family if process.is_running()] == []
    with pytest.raises(psycopg.OperationalError, match="refused"):
        psycopg.connect(server.url())
    server.start()
    assert execute(server.url(), "SELECT n FROM mark") == [(7,)]
    assert "automatic recovery in progress" in server.last_words()


@pytest.mark.parametrize("mode", SIGNALS)
def test_stopped_servers_start_again(mode: str, private_postgres: Private) -> None:
    server = private_postgres()
    execute(server.url(), "CREATE TABLE mark ()")
    server.stop(mode)
    assert not server.running
    server.start()
    assert execute(server.url(), "SELECT * FROM mark") == []


async def test_a_frozen_server_answers_when_it_thaws(private_postgres: Private) -> None:
    server = private_postgres()
    connection = await asyncpg.connect(server.url())
    server.freeze()
    answer = asyncio.create_task(connection.fetchval("SELECT 7"))
    done, _ = await asyncio.wait([answer], timeout=0.2)
    assert not done
    server.thaw()
    assert await asyncio.wait_for(answer, GRACE) == 7
    await connection.close()


def test_a_frozen_server_can_be_killed(private_postgres: Private) -> None:
    server = private_postgres()
    server.freeze()
    server.kill()
    server.start()
    assert execute(server.url(), "SELECT 7") == [(7,)]


def test_settings_are_those_of_the_next_start(private_postgres: Private) -> None:
    server = private_postgres(max_connections="7")
    assert execute(server.url(), "SHOW max_connections") == [("7",)]
    server.stop()
    server.settings["default_transaction_read_only"] = "on"
    server.start()
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        execute(server.url(), "CREATE TABLE mark ()")


def test_a_wrong_setting_is_told(private_postgres: Private) -> None:
    with pytest.raises(Failed, match='invalid value for parameter "max_connections": "many"'):
        private_postgres(max_connections="many")


def test_servers_live_side_by_side(private_postgres: Private) -> None:
    one, other = private_postgres(), private_postgres()
    assert one.port != other.port
    one.kill()
    assert execute(other.url(), "SELECT 7") == [(7,)]


def test_a_durable_server_is_on_a_disk() -> None:
    with PostgresServer.durable() as server:
        assert server.folder.is_relative_to(disk())
        for name, value in DURABLE.items():
            assert execute(server.url(), f"SHOW {name}") == [(value,)]
    assert not server.folder.exists()


@pytest.mark.parametrize("state", ["running", "frozen"])
def test_it_dies_with_who_started_it(state: str, reachable: Path) -> None:
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
        os.killpg(parent.pid, signal.SIGKILL)
    _, alive = psutil.wait_procs(family, timeout=GRACE)
    assert alive == []
