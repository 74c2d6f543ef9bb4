"""The rules of the relay: what may be tried of a batch, and that by them every event is published once and in order."""

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

import pytest
from msgspec import Struct

from tenterhook.clock import MINUTE, SECOND
from tenterhook.config import ConfiguredOutbox
from tenterhook.errors import Conflict, IdempotencyInProgress, NotFound, StoreUnavailable
from tenterhook.hub import Draft, Published
from tenterhook.model import Message
from tenterhook.observe import Stats
from tenterhook.outbox import databases
from tenterhook.outbox.base import Kept, Row, Table, Unavailable
from tenterhook.outbox.batch import plan
from tenterhook.outbox.publishing import Publisher, backoff
from tenterhook.outbox.relay import Relay
from tenterhook.outbox.sqlite import SqliteTable, open_table
from tenterhook.store.work import Remember, Remembered
from tests import outboxes

NOW = 1_700_000_000 * SECOND


def row(name: str, **fields: object) -> Row:
    given = {
        "application": "acme", "event_type": "a.b", "payload": "{}", "size": 2, "key": None, "event_id": None,
        "channels": "[]", "tags": "[]", "attempts": 0, "retry_at": None, "behind": None,
    }  # fmt: skip
    return Row(**{"id": name} | given | fields)


def lines(*rows: Row) -> list[str]:
    return ["".join(row.id for row in line) for line in plan(rows).lines]


def test_rows_without_a_key_are_independent() -> None:
    assert lines(row("a"), row("b"), row("c")) == ["a", "b", "c"]


def test_rows_of_a_key_and_application_are_a_line() -> None:
    assert lines(
        row("a", key="k"), row("b"), row("c", key="k"), row("d", key="l"), row("e", key="k", application="other")
    ) == ["ac", "b", "d", "e"]


def test_a_row_behind_one_that_waits_is_held() -> None:
    planned = plan(
        [row("a", key="k", behind=NOW), row("b", key="k", behind=NOW + 1, retry_at=NOW, attempts=2), row("c")]
    )
    assert [line[0].id for line in planned.lines] == ["c"]
    assert [(kept.id, kept.attempts, kept.retry_at) for kept in planned.held] == [("a", 0, NOW), ("b", 2, NOW + 1)]


def test_a_row_behind_one_that_is_held_is_held() -> None:
    """Even if somebody has hurried both of them."""
    planned = plan([row("a", key="k", retry_at=0, behind=NOW), row("b", key="k", retry_at=0, behind=0)])
    assert planned.lines == []
    assert [(kept.id, kept.retry_at) for kept in planned.held] == [("a", NOW), ("b", NOW)]


def test_a_row_behind_one_that_is_read_with_it_is_tried() -> None:
    assert lines(row("a", key="k", retry_at=NOW), row("b", key="k", retry_at=NOW, behind=NOW)) == ["ab"]


def test_of_one_event_one_row_is_tried_at_a_time() -> None:
    """And nothing overtakes the row that is left for the next time."""
    assert lines(
        row("a", event_id="e"),
        row("b", event_id="e", key="k"),
        row("c", key="k"),
        row("d", event_id="e", application="other"),
        row("e"),
    ) == ["a", "d", "e"]


def test_waits_grow_to_ten_minutes() -> None:
    assert [backoff(n) // SECOND for n in (0, 1, 2, 6, 7, 8, 10_000)] == [5, 10, 20, 320, 600, 600, 600]
    assert backoff(100) == 10 * MINUTE


# a simulation, in virtual time and with faults


class Virtual:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.at = NOW

    def now(self) -> int:
        return self.at


class Script:
    """Stands for the hub and its store, with faults by chance; what it has taken is on its disk."""

    def __init__(self, random: Random) -> None:
        self.random, self.faults = random, True
        self.applications = {"acme", "shop"}
        self.messages: list[tuple[str, Draft]] = []
        self._taken: set[tuple[str, str | None]] = set()
        self._remembered: dict[bytes, Remembered] = {}

    async def publish(
        self, app: str, draft: Draft, remember: Callable[[Message], Remember] | None = None, /
    ) -> Published:
        await asyncio.sleep(0)
        if app not in self.applications:
            raise NotFound
        if self.faults and self.random.random() < 0.03:
            raise StoreUnavailable
        if self.faults and self.random.random() < 0.02:
            raise IdempotencyInProgress
        message = Message(id="m", app=app, event_type=draft.event_type, payload=draft.payload, created_at=NOW)
        kept = None if remember is None else remember(message)
        if kept is not None and kept.key in self._remembered:
            return Published(message, self._remembered[kept.key])
        if (app, draft.event_id) in self._taken:
            raise Conflict
        self._taken.add((app, draft.event_id))
        if kept is not None:
            self._remembered[kept.key] = Remembered(kept.body_hash, kept.status, kept.answer)
        self.messages.append((app, draft))
        if self.faults and self.random.random() < 0.03:
            raise StoreUnavailable  # it was written, and the answer got lost
        return Published(message)


class Fragile(Struct):
    """A table whose connection may break before or after it has settled."""

    table: Table
    script: Script

    async def take(self, *given: object) -> list[Row]:
        return await self.table.take(*given)  # type: ignore[arg-type]

    async def lead(self) -> bool:
        return True

    async def rest(self, poll: int) -> int:
        return poll

    async def settle(self, published: Sequence[str], kept: Sequence[Kept]) -> None:
        if self.script.faults and self.script.random.random() < 0.1:
            raise Unavailable("before")
        await self.table.settle(published, kept)
        if self.script.faults and self.script.random.random() < 0.05:
            raise Unavailable("after")


class World:
    """An outbox that a program writes to, a relay, and what goes wrong, from a seed."""

    def __init__(self, seed: int, url: str, table: SqliteTable) -> None:
        self.random, self.clock = Random(seed), Virtual()
        self.database = sqlite3.connect(outboxes.path_of(url), isolation_level=None)
        for connection in (self.database, table.connection):
            connection.execute("PRAGMA synchronous = OFF")  # the faults are ours, and no power fails
        self.script = Script(self.random)
        self.table = Fragile(table, self.script)
        outbox = ConfiguredOutbox(name="main", database=url, batch=self.random.choice([1, 2, 3, 10]))
        publisher = Publisher(self.script.publish, self.clock, 1_000)
        self.relay = Relay(outbox, publisher, self.clock, databases.open_table, Stats())
        self.written: list[tuple[str, str | None, str, bool]] = []

    def write(self) -> None:
        number = len(self.written)
        app, key = self.random.choice(["acme", "shop", "later"]), self.random.choice([None, "k", "l"])
        good = self.random.random() < 0.9
        columns = {"id": f"out_{number:027}", "application": app, "event_type": "a.b", "payload": f'{{"n":{number}}}'}
        if key is not None:
            columns["key"] = key
        if self.random.random() < 0.2:
            columns["event_id"] = f"event-{number}"
        if not good:
            columns["event_type"] = "no type"
        marks = ", ".join("?" * len(columns))
        self.database.execute(
            f"INSERT INTO tenterhook_outbox ({', '.join(columns)}) VALUES ({marks})", list(columns.values())
        )
        self.written.append((app, key, columns["payload"], good))

    def hurry(self) -> None:
        """Somebody wants a row to be tried now, whoever is before it."""
        number = self.random.randrange(len(self.written) + 1)
        self.database.execute(
            "UPDATE tenterhook_outbox SET retry_at = 0 WHERE id = ? AND retry_at IS NOT NULL", (f"out_{number:027}",)
        )

    async def round(self) -> None:
        try:
            await self.relay.round(self.table)
        except Unavailable:
            self.clock.at += SECOND

    async def run(self) -> None:
        for _ in range(80):
            match self.random.randrange(9):
                case 0 | 1 | 2 | 3:
                    self.write()
                case 4 | 5:
                    await self.round()
                case 6:
                    self.hurry()
                case _:
                    self.clock.at += self.random.choice([1, SECOND, 7 * SECOND, MINUTE])
        self.script.applications.add("later")
        self.script.faults = False
        for _ in range(1_000):
            if not self.rows("retry_at IS NOT NULL OR error IS NULL"):
                break
            await self.round()
            self.clock.at += MINUTE

    def rows(self, condition: str = "TRUE") -> list[tuple[Any, ...]]:
        sql = f"SELECT payload, retry_at FROM tenterhook_outbox WHERE {condition} ORDER BY position"
        return self.database.execute(sql).fetchall()


@pytest.mark.parametrize("seed", range(60))
async def test_every_event_is_published_once_and_in_order(seed: int, tmp_path: Path) -> None:
    url = outboxes.new_sqlite(tmp_path / "app.db")
    async with open_table(ConfiguredOutbox(name="main", database=url), lambda: None) as table:
        world = World(seed, url, table)
        with closing(world.database):
            await world.run()
            left = world.rows()
    published = [(app, draft.order_key, draft.payload.decode()) for app, draft in world.script.messages]
    good = [row[:3] for row in world.written if row[3]]
    assert sorted(published, key=str) == sorted(good, key=str)
    for line in {row[:2] for row in good if row[1] is not None}:
        assert [row for row in published if row[:2] == line] == [row for row in good if row[:2] == line]
    assert left == [(row[2], None) for row in world.written if not row[3]]
