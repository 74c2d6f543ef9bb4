"""The relay: what an outbox holds becomes messages, once each, in order, whatever breaks in between."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import pytest

from tenterhook import outbox
from tenterhook.outbox import TABLE, databases
from tenterhook.store.postgres import PostgresStore
from tenterhook.store.queries import Cursor
from tests import api, outboxes
from tests.api import GRACE
from tests.outboxes import query
from tests.relaying import VAULT, Place, placed
from tests.wire import Wire

WAITING = "SELECT application, event_type, attempts, error FROM tenterhook_outbox ORDER BY position"


class Told(logging.Handler):
    """What the relay writes to the log from now on."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self._more = asyncio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())
        self._more.set()

    async def wait(self, words: str) -> bool:
        """True when a text with these words is there."""
        async with asyncio.timeout(GRACE):
            while not any(words in text for text in self.texts):
                self._more.clear()
                await self._more.wait()
        return True


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Iterator[Told]:
    found, log = Told(), logging.getLogger("tenterhook.outbox.relay")
    caplog.set_level(logging.INFO, log.name)
    log.addHandler(found)
    yield found
    log.removeHandler(found)


@pytest.fixture
async def in_sqlite(tmp_path: Path) -> AsyncIterator[Place]:
    async with placed(tmp_path, outboxes.new_sqlite(tmp_path / "app.db")) as place:
        yield place


@pytest.fixture
async def in_postgres(tmp_path: Path, postgres_url: str) -> AsyncIterator[Place]:
    """The outbox is in PostgreSQL, Tenterhook in SQLite."""
    async with placed(tmp_path, outboxes.make_in_postgres(postgres_url)) as place:
        yield place


@pytest.fixture
async def together(tmp_path: Path, postgres_url: str) -> AsyncIterator[Place]:
    """Both are in one database of PostgreSQL."""
    url = outboxes.make_in_postgres(postgres_url)
    async with placed(tmp_path, url, await PostgresStore.open(url, VAULT)) as place:
        yield place


@pytest.fixture
async def in_one_file(tmp_path: Path) -> AsyncIterator[Place]:
    """Both are in one file of SQLite."""
    async with placed(tmp_path, f"sqlite:///{tmp_path}/t.db") as place:
        await databases.create(place.url, TABLE)
        yield place


@pytest.fixture(params=["in_sqlite", "in_postgres", "together", "in_one_file"])
def place(request: pytest.FixtureRequest) -> Place:
    found: Place = request.getfixturevalue(request.param)
    return found


# what becomes of a row


async def test_a_row_becomes_a_message_and_goes(place: Place) -> None:
    event = {"payload": '{"id":  7}', "key": "order-7", "channels": ["eu"], "tags": ["new"]}
    [row] = place.write(event)
    await place.relay()
    [message] = await place.relayed(1)
    assert (message.event_type, message.payload, message.event_id) == ("invoice.paid", b'{"id":  7}', row)
    assert (message.channels, message.tags, message.order_key) == (("eu",), ("new",), "order-7")
    assert message.content_type == "application/json"
    assert query(place.url, WAITING) == []
    assert place.server.recorder.sent[0][0].id == message.id
    assert (await place.server.get(f"/app/acme/msg/{row}")).json["id"] == message.id


async def test_what_was_not_committed_is_not_sent(place: Place) -> None:
    driver = outboxes.ON_SQLITE["sqlite3"] if place.url.startswith("sqlite") else outboxes.ON_POSTGRES["psycopg"]
    driver(place.url, lambda connection: outbox.write(connection, "acme", "never", {}), False)
    place.write({"event_type": "ever"})
    await place.relay()
    assert [message.event_type for message in await place.relayed(1)] == ["ever"]


async def test_events_of_a_key_are_published_in_order(place: Place) -> None:
    """In batches that are smaller than what there is of a key."""
    for n in range(10):
        place.write(*({"payload": {"n": n, "i": i}, "key": f"k{i % 3}"} for i in range(12)))
    await place.relay(batch=7)
    published = [msgspec.json.decode(message.payload) for message in await place.relayed(120)]
    for key in range(3):
        assert [(m["n"], m["i"]) for m in published if m["i"] % 3 == key] == [
            (n, i) for n in range(10) for i in range(key, 12, 3)
        ]
    assert query(place.url, WAITING) == []


async def test_rows_written_by_other_programs_are_taken(place: Place) -> None:
    query(place.url, "INSERT INTO tenterhook_outbox (application, event_type, payload) VALUES ('acme', 'a.b', '{}')")
    await place.relay()
    [message] = await place.relayed(1)
    assert message.event_id is not None
    assert message.event_id.startswith("out_")


# what cannot be published


async def test_an_unknown_application_waits_and_holds_up_nobody(place: Place) -> None:
    place.write({"event_type": "first", "key": "k"}, {"event_type": "second", "key": "k"}, application="later")
    place.write({"event_type": "free", "key": "k"})
    await place.relay()
    await place.server.watch.settled(1)
    place.write({"event_type": "as.free", "key": "k"})
    assert [message.event_type for message in await place.relayed(2)] == ["free", "as.free"]
    assert query(place.url, WAITING) == [
        ("later", "first", 1, "there is no application 'later'"),
        ("later", "second", 0, "waits for an earlier event of its key"),
    ]
    place.write({"event_type": "third", "key": "k"}, application="later")
    later = await place.server.app(uid="later")
    await place.server.endpoint(later)
    query(place.url, "UPDATE tenterhook_outbox SET retry_at = 0 WHERE retry_at IS NOT NULL")
    await place.relay()
    await place.relayed(5)
    found = await place.server.store.list_messages(later, Cursor(limit=10))
    assert [message.event_type for message in found] == ["first", "second", "third"]
    assert query(place.url, WAITING) == []


BAD = [
    ("application", "no application", "application"),
    ("event_type", "", "event_type"),
    ("payload", "[1]", "the payload must be a JSON object"),
    ("payload", '{"id": ', "the payload is not JSON"),
    ("payload", '{"x": "' + "x" * 200 + '"}', "the payload has 209 bytes, and the setting max_payload allows 100"),
    ("event_id", "msg_1", "must not begin with msg_"),
    ("channels", "eu", "channels and tags must be JSON arrays"),
    ("channels", '"eu"', "channels"),
    ("tags", '["a b"]', "tags"),
]


@pytest.mark.parametrize(("column", "value", "words"), BAD)
async def test_a_row_that_is_no_event_stays_and_holds_up_nobody(
    column: str, value: str, words: str, tmp_path: Path, postgres_url: str
) -> None:
    url = outboxes.make_in_postgres(postgres_url)
    async with api.running(tmp_path, max_payload=100) as server:
        place = Place(server, url, await server.app(uid="acme"))
        await server.endpoint(place.app)
        [bad, _] = place.write({"key": "k"}, {"key": "k", "event_type": "good"})
        query(url, f"UPDATE tenterhook_outbox SET {column} = $${value}$$ WHERE id = '{bad}'")
        await place.relay()
        assert [message.event_type for message in await place.relayed(1)] == ["good"]
        [(attempts, retry_at, error)] = query(url, "SELECT attempts, retry_at, error FROM tenterhook_outbox")
        assert (attempts, retry_at) == (1, None)
        assert words in error


async def test_a_refused_row_that_is_mended_is_published(place: Place) -> None:
    [row] = place.write({"event_type": "bad"})
    query(place.url, "UPDATE tenterhook_outbox SET payload = '[]'")
    place.write({"event_type": "good"})
    await place.relay()
    await place.relayed(1)
    query(place.url, "UPDATE tenterhook_outbox SET payload = '{}', error = NULL")
    await place.relay()
    assert (await place.relayed(2))[1].event_id == row
    assert query(place.url, WAITING) == []


async def test_what_the_event_type_forbids_is_refused(tmp_path: Path) -> None:
    async with placed(tmp_path, outboxes.new_sqlite(tmp_path / "app.db"), validate_payloads="reject") as place:
        schema = {"1": {"type": "object", "required": ["id"]}}
        await place.server.post("/event-type", {"name": "invoice.paid", "description": "", "schemas": schema})
        await place.server.post("/event-type", {"name": "old", "description": ""})
        await place.server.put("/event-type/old", {"description": "", "archived": True})
        place.write({"key": "k"}, {"event_type": "old", "key": "k"}, {"payload": {"id": 7}, "key": "k"})
        await place.relay()
        assert [message.payload for message in await place.relayed(1)] == [b'{"id":7}']
        [required, archived] = query(place.url, WAITING)
        assert required[2:] == (1, 'the payload does not fit the schema of invoice.paid: "id" is missing')
        assert archived[2:] == (1, "this event type is archived: create it again to use it")


async def test_a_text_that_is_not_utf_8_spoils_no_other_row(in_sqlite: Place) -> None:
    for column in ("payload", "key", "application"):
        [row] = in_sqlite.write({})
        query(in_sqlite.url, f"UPDATE tenterhook_outbox SET {column} = CAST(x'7bff7d' AS TEXT) WHERE id = '{row}'")
    in_sqlite.write({"event_type": "good"})
    await in_sqlite.relay()
    assert [message.event_type for message in await in_sqlite.relayed(1)] == ["good"]
    assert query(in_sqlite.url, "SELECT count(*) FROM tenterhook_outbox WHERE error IS NOT NULL") == [(3,)]


# event ids


async def test_the_same_event_twice_is_one_message(place: Place) -> None:
    event = {"event_id": "paid-7", "payload": {"id": 7}, "key": "k"}
    place.write(event)
    place.write(event, event)
    place.write({"event_type": "last", "key": "k"})
    await place.relay()
    await place.relayed(2)
    place.write(event)
    place.write({"event_type": "very.last", "key": "k"})
    await place.relay()
    assert [message.event_type for message in await place.relayed(3)] == ["invoice.paid", "last", "very.last"]
    assert query(place.url, WAITING) == []


async def test_another_event_with_the_same_id_is_refused(place: Place) -> None:
    place.write({"event_id": "paid-7", "payload": {"id": 7}})
    await place.relay()
    await place.relayed(1)
    await place.server.message(place.app, eventId="sent-by-hand")
    place.write({"event_id": "paid-7", "payload": {"id": 8}}, {"event_id": "sent-by-hand"}, {"event_type": "good"})
    await place.relay()
    await place.relayed(3)
    assert [row[3] for row in query(place.url, WAITING)] == [
        "another event with the event id 'paid-7' has been published",
        "there is another message with the event id 'sent-by-hand'",
    ]


# what breaks in between


async def test_a_crash_between_publishing_and_deleting_makes_no_second_message(place: Place) -> None:
    stop = {
        True: "CREATE TRIGGER crash BEFORE DELETE ON tenterhook_outbox BEGIN SELECT RAISE(ABORT, 'crash'); END",
        False: "CREATE FUNCTION crash() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'crash'; END $$;"
        " CREATE TRIGGER crash BEFORE DELETE ON tenterhook_outbox FOR EACH STATEMENT EXECUTE FUNCTION crash()",
    }
    sqlite = place.url.startswith("sqlite")
    query(place.url, stop[sqlite])
    place.write({"key": "a"}, {"event_id": "mine"}, {})
    await place.relay()
    await place.relayed(3)
    assert len(query(place.url, WAITING)) == 3
    query(place.url, "DROP TRIGGER crash" if sqlite else "DROP TRIGGER crash ON tenterhook_outbox")
    place.write({"key": "a", "event_type": "last"})
    await place.relay()
    assert [message.event_type for message in await place.relayed(4)] == [*["invoice.paid"] * 3, "last"]
    assert query(place.url, WAITING) == []
    assert len(place.server.recorder.sent) == 4


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_connection_that_breaks_while_deleting_repeats_nothing(moment: str, in_postgres: Place) -> None:
    async with Wire(in_postgres.url) as wire:
        trap = wire.cut_before(b"DELETE FROM") if moment == "before" else wire.cut_after(b"COMMIT")
        in_postgres.write({}, {"key": "a"}, {"key": "a"})
        await in_postgres.relay(database=wire.url)
        await asyncio.wait_for(trap.struck.wait(), GRACE)
        in_postgres.write({"event_type": "last", "key": "a"})
        assert [message.event_type for message in await in_postgres.relayed(4)][3] == "last"
    assert query(in_postgres.url, WAITING) == []


async def test_a_store_that_cannot_be_written_leaves_the_rows_alone(
    tmp_path: Path, postgres_url: str, told: Told
) -> None:
    url = outboxes.new_sqlite(tmp_path / "app.db")
    async with Wire(postgres_url) as wire, placed(tmp_path, url, await PostgresStore.open(wire.url, VAULT)) as place:
        place.write({"event_type": "first", "key": "k"}, {"event_type": "second", "key": "k"})
        wire.refuse()
        wire.cut()
        await place.relay()
        assert await told.wait("outbox main: waits: messages cannot be stored")
        assert [row[2:] for row in query(url, WAITING)] == [(0, None), (0, None)]
        await wire.accept()
        assert [message.event_type for message in await place.relayed(2)] == ["first", "second"]


async def test_a_database_that_is_down_is_waited_for(in_postgres: Place, told: Told) -> None:
    in_postgres.write({})
    async with Wire(in_postgres.url) as wire:
        wire.refuse()
        await in_postgres.relay(database=wire.url)
        assert await told.wait("outbox main: waits: ")
        await wire.accept()
        assert len(await in_postgres.relayed(1)) == 1
        assert await told.wait("outbox main: goes on")
    assert len(told.texts) == 2
    assert not any("tenterhook:" in text for text in told.texts)


async def figures(place: Place) -> dict[str, float]:
    """What `/metrics` says of the outbox."""
    page = (await place.server.get("//metrics", token=None)).body.decode()
    lines = [line.rpartition(" ") for line in page.splitlines() if line.startswith("tenterhook_outbox_")]
    return {name.replace('outbox="main"', ""): float(value) for name, _, value in lines}


async def test_the_metrics_tell_how_it_goes(place: Place) -> None:
    place.write({}, {}, {})
    place.write({}, application="nobody")
    query(place.url, "UPDATE tenterhook_outbox SET created_at = created_at - 3600000000")
    query(place.url, "INSERT INTO tenterhook_outbox (application, event_type, payload) VALUES ('acme', 'a b', '{}')")
    await place.relay()
    await place.server.watch.settled(3)
    found = await figures(place)
    assert (found["tenterhook_outbox_relaying{}"], found["tenterhook_outbox_waiting{}"]) == (1, 5)
    assert 3600 <= found["tenterhook_outbox_oldest_seconds{}"] < 3700
    await place.rest()
    assert await figures(place) == {
        'tenterhook_outbox_rows_total{fate="published",}': 3,
        'tenterhook_outbox_rows_total{fate="refused",}': 1,
    }


async def test_the_metrics_tell_that_an_outbox_is_out_of_reach(in_postgres: Place, told: Told) -> None:
    in_postgres.write({})
    async with Wire(in_postgres.url) as wire:
        await in_postgres.relay(database=wire.url)
        await in_postgres.server.watch.settled(1)
        assert (await figures(in_postgres))["tenterhook_outbox_relaying{}"] == 1
        wire.refuse()
        wire.cut()
        assert await told.wait("outbox main: waits: ")
        found = await figures(in_postgres)
    assert found["tenterhook_outbox_relaying{}"] == 0
    assert not found.keys() & {"tenterhook_outbox_waiting{}", "tenterhook_outbox_oldest_seconds{}"}


async def test_a_missing_table_is_waited_for(tmp_path: Path, postgres_url: str, told: Told) -> None:
    async with placed(tmp_path, postgres_url) as place:
        await place.relay()
        assert await told.wait("there is no table tenterhook_outbox: make it with `tenterhook outbox create`")
        outboxes.make_in_postgres(postgres_url)
        place.write({})
        assert len(await place.relayed(1)) == 1


async def test_the_log_hears_of_a_trouble_once(in_sqlite: Place, told: Told) -> None:
    await in_sqlite.relay()
    for n in range(3):
        in_sqlite.write({}, {}, application="nobody")
        in_sqlite.write({"event_type": "good"})
        await in_sqlite.server.watch.settled(n + 1)
    await in_sqlite.rest()
    assert len(query(in_sqlite.url, WAITING)) == 6
    assert len([text for text in told.texts if "there is no application 'nobody'" in text]) == 1
