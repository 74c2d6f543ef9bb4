"""Bringing a PostgreSQL database up to date, and what a node checks before it uses one.

Everything is in a schema of its own, so that Tenterhook can share a database with the tables of its users. Nodes of two
versions run side by side over a migration: the first new node makes it, the old ones go on if it says that they can. It
takes its turn between two commits. Where something else keeps a table from it, it gives up soon, so that commits need not
wait behind it, and is tried again.
"""

import asyncio
import logging

from tenterhook.clock import MILLISECOND, until
from tenterhook.errors import ConfigurationError, SchemaMismatch, TenterhookError
from tenterhook.store import schema
from tenterhook.store.postgres_commit import DEFINITIONS, GATE, INSTALLED
from tenterhook.store.postgres_run import BUSY, Session
from tenterhook.vault import KeyMissing, SealBroken, Vault

log = logging.getLogger(__name__)

SCHEMA = "tenterhook"
OLDEST_SERVER = 140_000
_ONE_AT_A_TIME = 0x7E27E2_0001
_CANARY = "master_key"
_PATIENCE = "2s"  # after one second PostgreSQL calls off an autovacuum that is in the way
_PAUSE = 100 * MILLISECOND
_TRIES = 100


async def prepare(connection: Session, vault: Vault) -> None:
    """Migrate if need be, and check that this node may use the database. Raises SchemaMismatch, ConfigurationError."""
    server = int(await connection.fetchval("SHOW server_version_num"))
    if server < OLDEST_SERVER:
        raise SchemaMismatch(
            f"this is PostgreSQL {server // 10_000}: Tenterhook needs {OLDEST_SERVER // 10_000} or newer"
        )
    for tries in range(1, _TRIES + 1):
        try:
            await _prepare(connection, vault)
            return
        except BUSY:
            if tries == _TRIES:
                raise
        log.info("the tables are in use: they are brought up to date in a moment")
        await until(asyncio.Event(), _PAUSE)


async def _prepare(connection: Session, vault: Vault) -> None:
    async with connection.transaction():
        # nodes that start at the same moment go one after the other
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _ONE_AT_A_TIME)
        if await connection.fetchval("SELECT to_regnamespace($1) IS NULL", SCHEMA):
            await connection.execute(f"CREATE SCHEMA {SCHEMA}")
        await _migrate(connection)
        if not await connection.fetchval(INSTALLED):
            await connection.execute(DEFINITIONS)
        await _check_key(connection, vault)


async def _migrate(connection: Session) -> None:
    await connection.execute(
        "CREATE TABLE IF NOT EXISTS schema_version (version integer NOT NULL, oldest integer NOT NULL)"
    )
    found = await connection.fetchrow("SELECT version, oldest FROM schema_version")
    version, oldest = (0, 0) if found is None else (found[0], found[1])
    mine = len(schema.MIGRATIONS)
    if oldest > mine:
        raise SchemaMismatch(
            f"the database has schema version {version}, which needs nodes of version {oldest} or newer; this Tenterhook"
            f" knows {mine}: run a newer one"
        )
    if version >= mine:
        return
    await connection.execute(f"SET LOCAL lock_timeout = '{_PATIENCE}'")
    await connection.execute("SELECT pg_advisory_xact_lock($1)", GATE)
    for number, migration in enumerate(schema.MIGRATIONS[version:], version + 1):
        for statement in schema.postgres_statements(migration):
            await connection.execute(statement)
        oldest = oldest if migration.old_nodes and oldest else number
    await connection.execute("DELETE FROM schema_version")
    await connection.execute("INSERT INTO schema_version VALUES ($1, $2)", mine, oldest)


async def _check_key(connection: Session, vault: Vault) -> None:
    """Nodes with different master keys could not read each other's secrets."""
    sealed = await connection.fetchval("SELECT value FROM installation WHERE name = $1", _CANARY)
    if sealed is None:
        value = vault.seal(_CANARY.encode(), _CANARY)
        await connection.execute("INSERT INTO installation (name, value) VALUES ($1, $2)", _CANARY, value)
        return
    try:
        vault.open(sealed, _CANARY)
    except (KeyMissing, SealBroken) as error:
        raise _other_key() from error


def _other_key() -> TenterhookError:
    return ConfigurationError(
        "TENTERHOOK_SECRET is not the master key that this database was set up with: all nodes need the same"
    )
