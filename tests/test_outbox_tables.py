"""The seam to a database with an outbox: one contract, for SQLite and for PostgreSQL."""

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from tenterhook.clock import SECOND
from tenterhook.config import ConfiguredOutbox
from tenterhook.outbox import databases
from tenterhook.outbox.base import Kept, Reading, Row, Table, Unavailable, Waiting
from tests import outboxes
from tests.outboxes import query

NOW = 1_700_000_000 * SECOND
ALL = Reading(rows=100, size=1 << 20, payload=1 << 20)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return outboxes.new_sqlite(tmp_path / "app.db")
    return outboxes.make_in_postgres(request.getfixturevalue("postgres_url"))


@pytest.fixture
async def table(url: str) -> AsyncIterator[Table]:
    async with databases.open_table(ConfiguredOutbox(name="main", database=url), lambda: None) as table:
        yield table


def put(url: str, name: str, **columns: object) -> str:
    """A row whose event type is its name; its id."""
    row = {"id": f"out_{name:0>27}", "application": "acme", "event_type": name, "payload": "{}"} | columns
    values = ", ".join("NULL" if value is None else f"'{value}'" for value in row.values())
    query(url, f"INSERT INTO tenterhook_outbox ({', '.join(row)}) VALUES ({values})")
    return str(row["id"])


async def names(table: Table, reading: Reading = ALL, now: int = NOW) -> list[str]:
    return [row.event_type for row in await table.take(reading, now)]


async def test_a_row_is_read_as_it_was_written(url: str, table: Table) -> None:
    row = put(url, "a", key="k", event_id="e", channels='["x"]', tags='["y"]', payload='{"ü": 1}')
    [found] = await table.take(ALL, NOW)
    payload = found.payload if isinstance(found.payload, str) else (found.payload or b"").decode()
    assert msgspec.structs.replace(found, payload=payload) == Row(
        id=row, application="acme", event_type="a", payload='{"ü": 1}', size=9, key="k", event_id="e", channels='["x"]',
        tags='["y"]', attempts=0, retry_at=None, behind=None,
    )  # fmt: skip


async def test_it_is_known_how_much_waits_and_since_when(url: str, table: Table) -> None:
    assert await table.waiting() == Waiting(0, None)
    put(url, "refused", created_at=NOW, error="it is none", attempts=1)
    assert await table.waiting() == Waiting(0, None)
    put(url, "a", created_at=NOW + 5)
    put(url, "b", created_at=NOW + 6)
    assert await table.waiting() == Waiting(2, NOW + 5)
    put(url, "late", created_at=NOW + 2, retry_at=NOW, error="later")
    put(url, "later", created_at=NOW + 1, retry_at=NOW + 9, error="later")
    assert await table.waiting() == Waiting(4, NOW + 1)


async def test_an_instant_that_is_none_counts_as_none(tmp_path: Path) -> None:
    """SQLite takes any text for a number."""
    url = outboxes.new_sqlite(tmp_path / "app.db")
    put(url, "a", created_at="yesterday")
    async with databases.open_table(ConfiguredOutbox(name="main", database=url), lambda: None) as table:
        assert await table.waiting() == Waiting(1, None)


async def test_what_the_writer_leaves_out_has_a_default(url: str, table: Table) -> None:
    query(url, "INSERT INTO tenterhook_outbox (application, event_type, payload) VALUES ('acme', 'a', '{}')")
    [found] = await table.take(ALL, NOW)
    assert (len(found.id), found.key, found.event_id, found.channels, found.tags) == (36, None, None, "[]", "[]")
    [(made,)] = query(url, "SELECT created_at FROM tenterhook_outbox")
    assert NOW < made < 2 * NOW


@pytest.mark.parametrize("name", ["7", "out_7", "msg_" + "0" * 27, "out_" + "-" * 27, "out_" + "0" * 65])
def test_an_id_that_another_row_might_have_is_refused(name: str, url: str) -> None:
    with pytest.raises(Exception, match=r"(?i)check"):
        put(url, "a", id=name)


async def test_those_due_again_come_first_then_the_new_ones_by_position(url: str, table: Table) -> None:
    for name, retry_at in [("a", None), ("b", NOW + 1), ("c", None), ("d", NOW), ("e", NOW - 1), ("f", None)]:
        put(url, name, retry_at=retry_at)
    assert await names(table) == ["e", "d", "a", "c", "f"]
    assert await names(table, Reading(rows=1, size=1 << 20, payload=1 << 20)) == ["e", "a"]
    assert await names(table, now=NOW + 1) == ["e", "d", "b", "a", "c", "f"]


async def test_those_due_again_leave_room_for_the_new_ones(url: str, table: Table) -> None:
    for n in range(5):
        put(url, f"old{n}", retry_at=NOW)
    for n in range(5):
        put(url, f"new{n}")
    assert await names(table, Reading(rows=2, size=1 << 20, payload=1 << 20)) == ["old0", "old1", "new0", "new1"]


async def test_refused_rows_are_not_read(url: str, table: Table) -> None:
    put(url, "a", error="no event")
    put(url, "b")
    assert await names(table) == ["b"]


async def test_a_row_knows_who_waits_before_it(url: str, table: Table) -> None:
    put(url, "a", key="k", retry_at=NOW + 9)
    put(url, "b", key="k", retry_at=NOW + 5)
    put(url, "refused", key="k", error="no event")
    put(url, "c", key="k")
    put(url, "d", key="other")
    put(url, "e", key="k", application="other")
    put(url, "f")
    put(url, "g", key="later")
    put(url, "h", key="later", retry_at=NOW + 5)
    assert {row.event_type: row.behind for row in await table.take(ALL, NOW)} == {
        "c": NOW + 5,
        "d": None,
        "e": None,
        "f": None,
        "g": None,
    }


async def test_what_is_read_is_bounded_in_bytes(url: str, table: Table) -> None:
    """At least one row comes, however large; those that are too large count for nothing, as they are not read."""
    for name, size in [("a", 40), ("b", 300), ("c", 40), ("d", 40), ("e", 40)]:
        put(url, name, payload="ü" * (size // 2))
    reading = Reading(rows=100, size=100, payload=200)
    found = await table.take(reading, NOW)
    assert [(row.event_type, row.size, row.payload is None) for row in found] == [
        ("a", 40, False),
        ("b", 300, True),
        ("c", 40, False),
        ("d", 40, False),
    ]
    assert await names(table, Reading(rows=100, size=1, payload=200)) == ["a"]


async def test_settling_deletes_and_keeps(url: str, table: Table) -> None:
    gone, late, refused = put(url, "a"), put(url, "b"), put(url, "c")
    await table.settle([gone], [Kept(late, 3, NOW + 5, "later"), Kept(refused, 1, None, "never")])
    assert query(url, "SELECT id, attempts, retry_at, error FROM tenterhook_outbox ORDER BY position") == [
        (late, 3, NOW + 5, "later"),
        (refused, 1, None, "never"),
    ]
    await table.settle([], [])
    await table.settle([gone, "out_nobody"], [])
    assert await names(table, now=NOW + 5) == ["b"]


async def test_settling_is_all_or_nothing(url: str, table: Table) -> None:
    gone, late = put(url, "a"), put(url, "b")
    query(url, "ALTER TABLE tenterhook_outbox RENAME COLUMN error TO mistake")
    with pytest.raises(Unavailable):
        await table.settle([gone], [Kept(late, 1, NOW, "later")])
    assert query(url, "SELECT count(*) FROM tenterhook_outbox") == [(2,)]


async def test_large_batches_are_settled(url: str, table: Table) -> None:
    ids = [put(url, f"n{n}") for n in range(40)]
    await table.settle(ids[:35] + [f"out_{n:027}" for n in range(20_000)], [])
    assert await names(table) == [f"n{n}" for n in range(35, 40)]


async def test_making_the_table_again_changes_nothing(url: str) -> None:
    put(url, "a")
    await databases.create(url, "tenterhook_outbox")
    assert query(url, "SELECT event_type FROM tenterhook_outbox") == [("a",)]


async def test_a_database_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/none.db"
    with pytest.raises(Unavailable, match="there is no database"):
        await databases.create(url, "tenterhook_outbox")
    with pytest.raises(Unavailable, match="there is no database"):
        async with databases.open_table(ConfiguredOutbox(name="main", database=url), lambda: None):
            pass
    assert not (tmp_path / "none.db").exists()


async def test_what_the_database_says_holds_no_password(postgres_url: str) -> None:
    for url in (postgres_url.replace("@", "-hush@"), "postgresql://u:hush@h:port/db", "postgresql://u:hush@[/db"):
        with pytest.raises(Unavailable) as caught:
            async with databases.open_table(ConfiguredOutbox(name="main", database=url), lambda: None):
                pass
        assert "hush" not in str(caught.value)
