"""A backup of a SQLite file: whole, of one instant, while the server goes on; and a server that starts on it."""

import asyncio
import json
import os
import re
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest
from bench.postgres_programs import programs

from tenterhook.backup import ELSEWHERE
from tenterhook.errors import ConfigurationError, StoreUnavailable
from tenterhook.store import sqlite_backup
from tenterhook.store.queries import Cursor
from tenterhook.store.sqlite import SqliteStore
from tenterhook.store.sqlite_backup import back_up
from tenterhook.store.work import Accept
from tenterhook.vault import Vault
from tests.contracts.store import new_app, new_endpoint, new_message
from tests.houses import Houses, compared, filled
from tests.test_cli import TIMEOUT, Serving, process, run, servers

__all__ = ["servers"]

VAULT = Vault([b"0" * 32])
ALL = Cursor(limit=100)


def silent(copied: int, total: int) -> None:
    """Nobody watches."""


async def test_writers_go_on_and_the_backup_is_of_the_instant_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_backup, "STEP_PAGES", 3)
    store = SqliteStore.open(tmp_path / "t.db", VAULT, exclusive=True)
    app, endpoint = new_app(), None
    await store.create_application(app)
    endpoint = new_endpoint(app)
    await store.create_endpoint(app.id, endpoint)
    before = [new_message(app, payload=os.urandom(9_000)) for _ in range(20)]
    await store.commit([Accept(message) for message in before])
    loop, steps = asyncio.get_running_loop(), []

    def step(copied: int, total: int) -> None:
        """Another commit in the middle of each step: none may wait for the backup, or make it begin again."""
        steps.append((copied, total))
        assert len(steps) < 1_000, "it begins again and again"
        work = store.commit([Accept(new_message(app, payload=os.urandom(9_000)))])
        asyncio.run_coroutine_threadsafe(work, loop).result(TIMEOUT)

    size = await asyncio.to_thread(back_up, tmp_path / "t.db", tmp_path / "b.db", step)
    assert len(steps) > 10
    assert steps == sorted(steps)
    assert steps[-1] == (size, size)
    assert len(await store.list_messages(app.id, ALL)) == len(before) + len(steps)
    await store.close()
    restored = SqliteStore.open(tmp_path / "b.db", VAULT, exclusive=True)
    assert await restored.list_messages(app.id, ALL) == before
    assert await restored.get_endpoint(app.id, endpoint.id) == endpoint
    await restored.close()


async def test_the_backup_is_one_file_of_its_owner(tmp_path: Path) -> None:
    await SqliteStore.open(tmp_path / "t.db", VAULT).close()
    (tmp_path / "to").mkdir()
    back_up(tmp_path / "t.db", tmp_path / "to" / "b.db", silent)
    assert [path.name for path in (tmp_path / "to").iterdir()] == ["b.db"]
    assert (tmp_path / "to" / "b.db").stat().st_mode & 0o777 == 0o600
    # the format's numbers for "no log beside it" (2 is WAL), so that it can be opened where nothing can be written
    assert (tmp_path / "to" / "b.db").read_bytes()[18:20] == bytes([1, 1])


async def test_nothing_is_overwritten(tmp_path: Path) -> None:
    await SqliteStore.open(tmp_path / "t.db", VAULT).close()
    (tmp_path / "b.db").write_text("precious")
    with pytest.raises(ConfigurationError, match="is there already"):
        back_up(tmp_path / "t.db", tmp_path / "b.db", silent)

    def step(copied: int, total: int) -> None:
        (tmp_path / "c.db").write_text("precious")

    with pytest.raises(ConfigurationError, match="is there already"):
        back_up(tmp_path / "t.db", tmp_path / "c.db", step)
    assert (tmp_path / "b.db").read_text() == (tmp_path / "c.db").read_text() == "precious"
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".db", ".db", ".db"]


async def test_a_damaged_database_makes_no_backup(tmp_path: Path) -> None:
    store = SqliteStore.open(tmp_path / "t.db", VAULT)
    app = new_app()
    await store.create_application(app)
    await store.commit([Accept(new_message(app, payload=b"x" * 9_000)) for _ in range(50)])
    await store.close()
    with (tmp_path / "t.db").open("r+b") as file:
        file.seek(4096 * 60)
        file.write(b"\xff" * 4096)
    with pytest.raises(StoreUnavailable, match="no backup was made: "):
        back_up(tmp_path / "t.db", tmp_path / "b.db", silent)
    assert not list(tmp_path.glob("b.db*"))


def test_a_source_must_be_a_database_of_ours(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="there is no file"):
        back_up(tmp_path / "none.db", tmp_path / "b.db", silent)
    (tmp_path / "empty.db").touch()
    with pytest.raises(ConfigurationError, match="holds nothing of Tenterhook"):
        back_up(tmp_path / "empty.db", tmp_path / "b.db", silent)
    (tmp_path / "text.db").write_text("no database " * 99)
    with pytest.raises(StoreUnavailable, match="not a database"):
        back_up(tmp_path / "text.db", tmp_path / "b.db", silent)
    with pytest.raises(StoreUnavailable, match="No such file or directory"):
        back_up(tmp_path / "text.db", tmp_path / "none" / "b.db", silent)
    assert not list(tmp_path.glob("b.db*"))


# the command


def test_a_server_starts_on_a_backup_that_was_taken_from_a_running_one(tmp_path: Path, servers: list[Serving]) -> None:
    (tmp_path / "tenterhook.toml").write_text(
        '[[application]]\nuid = "shop"\n[[source]]\nname = "any"\nprovider = "none"\n'
    )
    servers.append(Serving(tmp_path))
    url = servers[0].url()
    token = process(tmp_path, "token", "create").out.strip()
    sent = process(tmp_path, "send", "shop", "a.b", "{}", "--server", url, "--token", token)
    done = process(tmp_path, "backup", "b.db", "--with-key", "--json")
    assert json.loads(done.out) == {"file": "b.db", "bytes": (tmp_path / "b.db").stat().st_size, "key": "b.db.key"}
    later = process(tmp_path, "send", "shop", "a.b", "{}", "--server", url, "--token", token)
    servers[0].process.kill()

    # restore: the backup and its key in place of what there was
    for name in ("tenterhook.db", "tenterhook.db-wal", "tenterhook.db-shm", "tenterhook.db.key"):
        (tmp_path / name).unlink()
    (tmp_path / "b.db").rename(tmp_path / "tenterhook.db")
    (tmp_path / "b.db.key").rename(tmp_path / "tenterhook.db.key")
    servers.append(Serving(tmp_path))
    url = servers[1].url()
    known = process(tmp_path, "send", "shop", "a.b", "{}", "--server", url, "--token", token)
    assert known.code == 0, known.err
    with closing(sqlite3.connect(tmp_path / "tenterhook.db")) as db:
        found = {row[0] for row in db.execute("SELECT id FROM message")}
    assert sent.out.strip() in found
    assert later.out.strip() not in found


def test_the_command_says_what_belongs_to_a_backup(tmp_path: Path) -> None:
    process(tmp_path, "token", "create")
    done = run(tmp_path, "backup", "b.db")
    assert (done.code, done.err) == (0, "")
    assert "bytes, checked\nthe secrets in it need the master key tenterhook.db.key: keep a copy" in done.out
    assert not (tmp_path / "b.db.key").exists()
    done = run(tmp_path, "backup", "c.db", TENTERHOOK_SECRET="a master key of these tests, 123456789")
    assert "need TENTERHOOK_SECRET: keep that too" in done.out
    assert run(tmp_path, "backup", "d.db", "--with-key").code == 0
    assert (tmp_path / "d.db.key").read_bytes() == (tmp_path / "tenterhook.db.key").read_bytes()
    assert (tmp_path / "d.db.key").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("words", "code", "error"),
    [
        (["tenterhook.db"], 2, "tenterhook.db is there already"),
        (["taken.db", "--with-key"], 2, "taken.db.key is there already"),
        (["b.db", "--with-key", "--database", "sqlite:///keyless.db"], 2, "there is no key file keyless.db.key"),
        (["b.db", "--database", "sqlite:///none.db"], 2, "there is no file none.db"),
        (["b.db", "--database", "postgresql://h/d"], 2, "pg_dump --format=custom --schema=tenterhook"),
        (["none/b.db"], 1, "no backup was made: "),
    ],
)
def test_mistakes(words: list[str], code: int, error: str, tmp_path: Path) -> None:
    process(tmp_path, "token", "create")
    (tmp_path / "taken.db.key").touch()
    done = run(tmp_path, "backup", *words)
    assert (done.code, done.out) == (code, "")
    assert error in done.err
    assert not (tmp_path / "b.db").exists()


@pytest.mark.parametrize("line", [line for line in ELSEWHERE.splitlines() if "pg_dump" in line])
async def test_the_tools_of_postgresql_do_what_we_say_of_them(line: str, houses: Houses, tmp_path: Path) -> None:
    dump, restore = re.findall(r"(pg_\w+ .*?)(?=  |\))", line)
    before, after = await filled(houses, "postgresql"), houses("postgresql")
    for command, house in ((dump, before), (restore, after)):
        tool(command.replace("URL", house.url).replace("FILE", str(tmp_path / "dump")))
    assert all((await compared(before, after)).values())
    await (await after.open()).close()


def tool(command: str) -> None:
    name, *words = command.split()
    done = subprocess.run([programs() / name, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_with_key_needs_a_file_for_it(tmp_path: Path) -> None:
    process(tmp_path, "token", "create")
    done = run(tmp_path, "backup", "b.db", "--with-key", TENTERHOOK_SECRET="a master key of these tests: 123456789")
    assert (done.code, done.out) == (2, "")
    assert "the master key is in the setting secret" in done.err
