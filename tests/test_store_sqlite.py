"""SQLite keeps the contract of the store, and what only a file can do."""

import asyncio
import sqlite3
from pathlib import Path

import pytest

from tenterhook.engine.committer import Committer, Unstorable
from tenterhook.errors import SchemaMismatch, StoreUnavailable
from tenterhook.observe import Instrument
from tenterhook.store.schema import MIGRATIONS
from tenterhook.store.sqlite import SqliteStore
from tenterhook.store.work import Accept, Accepted
from tenterhook.vault import Vault
from tests.api import GRACE
from tests.contracts.everything import EveryContract
from tests.contracts.store import new_app, new_endpoint, new_message

VAULT = Vault([b"0" * 32])


class TestSqlite(EveryContract):
    async def make(self, path: Path) -> SqliteStore:
        return SqliteStore.open(path / "t.db", VAULT)


class TestSqliteInline(EveryContract):
    """The form that simulations use."""

    async def make(self, path: Path) -> SqliteStore:
        return SqliteStore.open(path / "t.db", VAULT, inline=True, synchronous="OFF")


async def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    db = sqlite3.connect(tmp_path / "t.db")
    db.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    db.close()
    with pytest.raises(SchemaMismatch, match="newer"):
        SqliteStore.open(tmp_path / "t.db", VAULT)


async def test_one_server_per_file(tmp_path: Path) -> None:
    first = SqliteStore.open(tmp_path / "t.db", VAULT, exclusive=True)
    with pytest.raises(StoreUnavailable, match="another Tenterhook"):
        SqliteStore.open(tmp_path / "t.db", VAULT, exclusive=True)
    await first.close()
    await SqliteStore.open(tmp_path / "t.db", VAULT, exclusive=True).close()


async def test_a_folder_that_is_not_there_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="cannot open the database"):
        SqliteStore.open(tmp_path / "none" / "t.db", VAULT)


async def test_secrets_are_not_readable_in_the_file(tmp_path: Path) -> None:
    store = SqliteStore.open(tmp_path / "t.db", VAULT)
    app = new_app()
    await store.create_application(app)
    await store.create_endpoint(app.id, new_endpoint(app, url="https://hooks.example/services/hidden"))
    await store.close()
    raw = b"".join(p.read_bytes() for p in tmp_path.iterdir())
    assert app.id.encode() in raw
    for secret in (b"MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", b"sesame", b"services/hidden"):
        assert secret not in raw
    assert (tmp_path / "t.db").stat().st_mode & 0o077 == 0


async def test_a_locked_database_answers_unavailable_and_nothing_is_half_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tenterhook.store.sqlite.BUSY_SECONDS", 0.05)
    store = SqliteStore.open(tmp_path / "t.db", VAULT)
    app = new_app()
    await store.create_application(app)
    other = sqlite3.connect(tmp_path / "t.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    message = new_message(app)
    with pytest.raises(StoreUnavailable):
        await store.commit([Accept(message)])
    other.execute("ROLLBACK")
    other.close()
    assert await store.get_message(app.id, message.id) is None
    (done,) = await store.commit([Accept(message)])
    assert isinstance(done, Accepted)
    await store.close()


async def test_reads_do_not_wait_for_a_writer(tmp_path: Path) -> None:
    store = SqliteStore.open(tmp_path / "t.db", VAULT)
    app = new_app()
    await store.create_application(app)
    other = sqlite3.connect(tmp_path / "t.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert await asyncio.wait_for(store.get_application(app.id), GRACE) == app
    other.execute("ROLLBACK")
    other.close()
    await store.close()


async def test_one_piece_of_work_that_cannot_be_stored_does_not_take_the_others_with_it(tmp_path: Path) -> None:
    store = SqliteStore.open(tmp_path / "t.db", VAULT)
    app = new_app()
    await store.create_application(app)
    committer = Committer(store, Instrument())
    committer.start()
    stored, other = new_message(app), new_message(app)
    await committer.accept(Accept(stored))
    answers = await asyncio.gather(
        committer.accept(Accept(stored)), committer.accept(Accept(other)), return_exceptions=True
    )
    assert isinstance(answers[0], Unstorable)
    assert answers[1] == Accepted(other.id)
    await committer.close()
    await store.close()


async def test_the_log_of_a_server_begins_anew_under_load(tmp_path: Path) -> None:
    """Otherwise it would grow for as long as the load lasts."""
    store = SqliteStore.open(tmp_path / "t.db", VAULT, exclusive=True)
    app = new_app()
    await store.create_application(app)
    log = tmp_path / "t.db-wal"
    written = 0
    async with asyncio.timeout(3 * GRACE):
        while written < 40 * 1024 * 1024 or log.stat().st_size >= written:
            await store.commit([Accept(new_message(app, payload=b"x" * 100_000)) for _ in range(4)])
            written += 400_000
    assert log.stat().st_size < 80_000_000
    await store.close()
