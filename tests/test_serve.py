"""What wires a server: the master key, the lock of the database, a start that fails."""

import sqlite3
from pathlib import Path

import pytest

from tenterhook.databases import open_store, open_vault
from tenterhook.errors import ConfigurationError, SchemaMismatch, StoreUnavailable
from tenterhook.serve import running
from tenterhook.settings import Settings
from tests.api import Recorder

SETTINGS = Settings(admin_token="an-admin-token-of-the-tests", log_level="error")


def settings_for(folder: Path) -> Settings:
    return Settings(database=f"sqlite:///{folder / 't.db'}", admin_token=SETTINGS.admin_token, log_level="error")


def test_the_master_key_is_made_once(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    sealed = open_vault(SETTINGS, path).seal(b"secret", "ep_1")
    assert open_vault(SETTINGS, path).open(sealed, "ep_1") == b"secret"
    (key_file,) = tmp_path.iterdir()
    assert key_file.name == "t.db.key" and key_file.stat().st_mode & 0o777 == 0o600


def test_a_key_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "t.db.key").mkdir()
    with pytest.raises(StoreUnavailable, match=r"t\.db\.key"):
        open_vault(SETTINGS, tmp_path / "t.db")


def test_a_key_file_with_a_bad_key_is_named(tmp_path: Path) -> None:
    (tmp_path / "t.db.key").write_text("")
    with pytest.raises(ConfigurationError, match=r"t\.db\.key"):
        open_vault(SETTINGS, tmp_path / "t.db")


async def test_a_start_that_fails_lets_go_of_the_database(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    await (await open_store(settings, exclusive=False)).close()
    with sqlite3.connect(tmp_path / "t.db") as db:
        db.execute("ALTER TABLE delivery RENAME TO gone")
    db.close()
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="no such table"):
            async with running(settings):
                pass


async def test_a_database_of_a_newer_version_is_let_go_of(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    await (await open_store(settings, exclusive=False)).close()
    with sqlite3.connect(tmp_path / "t.db") as db:
        db.execute("PRAGMA user_version = 999")
    db.close()
    for _ in range(2):
        with pytest.raises(SchemaMismatch):
            await open_store(settings, exclusive=True)


class Stuck(Recorder):
    """A sender that cannot let go."""

    async def close(self) -> None:
        raise OSError("stuck")


async def test_a_stop_that_fails_lets_go_of_the_database(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    for _ in range(2):
        with pytest.raises(OSError, match="stuck"):
            async with running(settings) as node:
                node.senders._made["webhook"] = Stuck()  # the seam to the outside
