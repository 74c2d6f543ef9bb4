"""Fixtures of the faults, and how far they go: briefly in `make test`, at full length in `make faults`."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import asyncpg
import pytest
from bench.postgres import QUICK, SUPERUSER, PostgresServer

from tests.faults.nodes import Nodes


class Scale(NamedTuple):
    """How far the faults go. `outage` is how long the database is away (s), `load` how many messages are between faults."""

    outage: float
    load: int
    kills: int
    cuts: int


BRIEF = Scale(outage=6, load=100, kills=3, cuts=2)
FULL = Scale(outage=60, load=500, kills=100, cuts=20)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="the faults at full length")


@pytest.fixture(scope="session")
def scale(pytestconfig: pytest.Config) -> Scale:
    return FULL if pytestconfig.getoption("--full", False) else BRIEF


@pytest.fixture(scope="session")
def server() -> Iterator[PostgresServer]:
    """A server that tests may kill, stop and freeze; each leaves it running."""
    with PostgresServer(QUICK) as server:
        yield server


async def empty_database(server: PostgresServer) -> str:
    """The URL of a new one."""
    name = f"faults_{secrets.token_hex(8)}"
    connection = await asyncpg.connect(server.url())
    await connection.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'")
    await connection.close()
    return server.url(name)


@pytest.fixture
async def url(server: PostgresServer) -> str:
    """The URL of an empty database on it."""
    return await empty_database(server)


@pytest.fixture
async def superuser(server: PostgresServer) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """A connection that may do everything."""
    connection = await asyncpg.connect(server.url(role=SUPERUSER))
    yield connection
    await connection.close()


@pytest.fixture
def nodes(url: str, tmp_path: Path) -> Iterator[Nodes]:
    """The nodes of the test, which are gone at its end; what they logged is shown if it fails."""
    nodes = Nodes(url, tmp_path)
    yield nodes
    nodes.end()


@contextmanager
def for_a_module(
    server: PostgresServer, folder: pytest.TempPathFactory, start: Callable[[Nodes], Awaitable[object]]
) -> Iterator[Nodes]:
    """Nodes on a database of their own that the tests of a module share, because none of them breaks anything."""

    async def begin() -> None:
        nodes.url = await empty_database(server)
        await start(nodes)

    nodes = Nodes("", folder.mktemp("nodes"))
    asyncio.run(begin())
    yield nodes
    nodes.end()
