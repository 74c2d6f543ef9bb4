"""Group commit: what gathers during a commit goes into the next one, and nobody pays for another's bad work."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from tenterhook.engine import committer as module
from tenterhook.engine.committer import Committer, Unstorable
from tenterhook.engine.lifecycle import step
from tenterhook.errors import Conflict, StoreUnavailable
from tenterhook.model import State
from tenterhook.observe import Instrument
from tenterhook.store.queries import Cursor
from tenterhook.store.sqlite import SqliteStore
from tenterhook.store.work import Accept, Claim, Done, Settlement, Work
from tests.contracts.store import LEASE, NOW, new_app, new_attempt, new_delivery, new_endpoint, new_message
from tests.simulation.world import VAULT

APP = new_app()
ENDPOINT = new_endpoint(APP)
ALL = Cursor(limit=100)


class GatedStore(SqliteStore):
    """The real store behind a gate: a commit waits until it is let through, or is told to fail."""

    gate: asyncio.Event
    failing = False

    async def commit(self, work: Sequence[Work]) -> list[Done]:
        await self.gate.wait()
        if self.failing:
            raise StoreUnavailable
        return await super().commit(work)


class Batches(Instrument):
    """The sizes of the commits."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def committed(self, size: int) -> None:
        self.sizes.append(size)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[GatedStore]:
    store = GatedStore.open(tmp_path / "t.db", VAULT, inline=True, synchronous="OFF")
    assert isinstance(store, GatedStore)
    store.gate = asyncio.Event()
    store.gate.set()
    await store.create_application(APP)
    await store.create_endpoint(APP.id, ENDPOINT)
    yield store
    await store.close()


@pytest.fixture
def batches() -> Batches:
    return Batches()


@pytest.fixture
async def committer(store: GatedStore, batches: Batches) -> AsyncIterator[Committer]:
    committer = Committer(store, batches)
    committer.start()
    yield committer
    store.gate.set()
    await committer.close()


async def settle_down() -> None:
    """Let everything that is ready run."""
    for _ in range(10):
        await asyncio.sleep(0)


def submit(committer: Committer, count: int, size: int = 1) -> list[asyncio.Task[object]]:
    work = [Accept(new_message(APP, payload=b"x" * size)) for _ in range(count)]
    return [asyncio.ensure_future(committer.accept(one)) for one in work]


async def test_a_lone_piece_of_work_is_committed_at_once(
    committer: Committer, store: GatedStore, batches: Batches
) -> None:
    message = new_message(APP)
    accepted = await committer.accept(Accept(message))
    assert accepted.message == message.id
    assert await store.get_message(APP.id, message.id) == message
    assert batches.sizes == [1]


async def test_what_gathers_during_a_commit_goes_into_the_next_one(
    committer: Committer, store: GatedStore, batches: Batches
) -> None:
    store.gate.clear()
    waiting = submit(committer, 1)
    await settle_down()
    waiting += submit(committer, 50)
    await settle_down()
    assert not any(task.done() for task in waiting)
    store.gate.set()
    await asyncio.gather(*waiting)
    assert batches.sizes == [1, 50]


async def test_all_kinds_of_work_share_a_commit_and_get_their_own_answers(
    committer: Committer, store: GatedStore, batches: Batches
) -> None:
    first, second = new_message(APP), new_message(APP)
    await committer.accept(Accept(first, (new_delivery(first, ENDPOINT),)))
    (claimed,) = (await committer.claim(Claim(ENDPOINT.id, 9, NOW, 7, NOW + LEASE))).claimed
    settlement = Settlement(step(claimed.delivery, "delivered"), 7, new_attempt(claimed.delivery), now=NOW)
    page, accepted, settled = await asyncio.gather(
        committer.claim(Claim(ENDPOINT.id, 9, NOW, 8, NOW + LEASE)),
        committer.accept(Accept(second, (new_delivery(second, ENDPOINT),))),
        committer.settle(settlement),
    )
    assert settled.kept
    assert accepted.message == second.id
    assert [c.message for c in page.claimed] == [second]
    assert batches.sizes == [1, 1, 3]


async def test_batches_are_bounded_in_number_and_bytes(
    committer: Committer, store: GatedStore, batches: Batches, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_BATCH", 8)
    monkeypatch.setattr(module, "MAX_BATCH_BYTES", 100)
    await asyncio.gather(*submit(committer, 20))
    assert batches.sizes == [8, 8, 4]
    batches.sizes.clear()
    await asyncio.gather(*submit(committer, 5, size=40), *submit(committer, 1, size=500), *submit(committer, 1))
    assert batches.sizes == [2, 2, 1, 1, 1]


async def test_a_database_that_is_gone_is_told_to_everybody_and_nothing_is_left_behind(
    committer: Committer, store: GatedStore
) -> None:
    store.failing = True
    answers = await asyncio.gather(*submit(committer, 3), return_exceptions=True)
    assert [type(a) for a in answers] == [StoreUnavailable] * 3
    store.failing = False
    await asyncio.gather(*submit(committer, 1))
    assert len(await store.list_messages(APP.id, ALL)) == 1


async def test_one_poisonous_piece_does_not_take_the_others_with_it(
    committer: Committer, store: GatedStore, caplog: pytest.LogCaptureFixture
) -> None:
    poison = Accept(new_message(APP, order_key="\ud800"))  # cannot be encoded
    tasks = [*submit(committer, 2), asyncio.ensure_future(committer.accept(poison)), *submit(committer, 2)]
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert [isinstance(a, Unstorable) for a in answers] == [False, False, True, False, False]
    assert len(await store.list_messages(APP.id, ALL)) == 4
    assert "cannot be committed" in caplog.text


async def test_an_answer_that_is_an_error_is_raised_for_its_caller_alone(committer: Committer) -> None:
    first, twin = (Accept(new_message(APP, event_id="same")) for _ in range(2))
    answers = await asyncio.gather(committer.accept(first), committer.accept(twin), return_exceptions=True)
    assert [type(a).__name__ for a in answers] == ["Accepted", Conflict.__name__]


async def test_a_caller_who_has_gone_away_disturbs_nobody(committer: Committer, store: GatedStore) -> None:
    store.gate.clear()
    gone, stays = submit(committer, 2)
    await settle_down()
    gone.cancel()
    store.gate.set()
    await stays
    assert gone.cancelled()
    assert len(await store.list_messages(APP.id, ALL)) == 2


async def test_close_commits_what_was_submitted_and_refuses_the_rest(store: GatedStore, batches: Batches) -> None:
    committer = Committer(store, batches)
    committer.start()
    store.gate.clear()
    waiting = submit(committer, 1)
    await settle_down()
    waiting += submit(committer, 4)
    await settle_down()
    closing = asyncio.ensure_future(committer.close())
    await settle_down()
    with pytest.raises(StoreUnavailable, match="shutting down"):
        await committer.accept(Accept(new_message(APP)))
    store.gate.set()
    await closing
    await asyncio.gather(*waiting)
    assert batches.sizes == [1, 4]


async def test_the_log_names_bad_work_and_shows_nothing_of_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = SqliteStore.open(tmp_path / "t.db", VAULT)
    committer = Committer(store, Instrument())
    committer.start()
    message = new_message(APP, payload=b'{"card":"4242"}')
    await committer.accept(Accept(message))
    with pytest.raises(Unstorable):
        await committer.accept(Accept(message))
    assert message.id in caplog.text
    assert "4242" not in caplog.text
    await committer.close()
    await store.close()


async def test_notices_are_accepted_with_the_settlement_that_they_go_with(
    committer: Committer, store: GatedStore, batches: Batches
) -> None:
    messages = [new_message(APP) for _ in range(6)]
    leased = [new_delivery(m, ENDPOINT, state=State.LEASED, due_at=NOW + LEASE, lease=3) for m in messages[:2]]
    await asyncio.gather(*(committer.accept(Accept(m, (d,))) for m, d in zip(messages, leased, strict=False)))
    lost, kept = [step(delivery, "delivered") for delivery in leased]
    first, between, second = await asyncio.gather(
        committer.settle(Settlement(lost, 99), [Accept(messages[2])]),
        committer.accept(Accept(messages[3])),
        committer.settle(Settlement(kept, 3), [Accept(messages[4]), Accept(messages[5])]),
    )
    assert (first.kept, between.message, second.kept) == (False, messages[3].id, True)
    assert batches.sizes == [2, 3]
    there = {message.id for message in await store.list_messages(APP.id, ALL)}
    assert there == {message.id for message in messages} - {messages[2].id}
