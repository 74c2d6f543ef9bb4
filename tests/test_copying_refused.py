"""What a copy refuses, and that nothing is lost by it: others at work, other data, other keys."""

import asyncio
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from tenterhook.errors import ConfigurationError, SchemaMismatch, StoreUnavailable
from tenterhook.model import Token
from tenterhook.moving import move
from tenterhook.settings import Settings
from tenterhook.store.copying.tables import tables
from tenterhook.store.schema import MIGRATIONS
from tenterhook.store.sqlite import SqliteStore
from tenterhook.store.work import Accept
from tests.contracts.store import (
    NOW,
    new_app,
    new_message,
)
from tests.houses import KEY, SETTINGS, VAULT, House, Houses, Pair, furnished, moved, ways

# refusing


@ways
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
    monkeypatch.undo()  # the database may hear of it a moment later
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


@ways
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
