"""What every store must do when things get old. Mixed into the contract of the store."""

import asyncio
from random import Random
from typing import Any

import pytest
from msgspec.structs import replace

from tenterhook.clock import DAY, HOUR, MINUTE
from tenterhook.engine.lifecycle import step
from tenterhook.errors import MissingPayload, NotFound
from tenterhook.ids import IdMaker
from tenterhook.model import Application, Attempt, Endpoint, Message, Received, State
from tenterhook.store.base import Cutoff, Store, Swept
from tenterhook.store.queries import Cursor
from tenterhook.store.work import Accept, Accepted, Claim, Page, Settlement
from tests.contracts.replays import EVERY, replay
from tests.contracts.store import (
    LEASE,
    NOW,
    new_app,
    new_attempt,
    new_delivery,
    new_endpoint,
    new_message,
    new_received,
    new_source,
)

ALL = Cursor(limit=1_000)
OLD, YOUNG = NOW - 10 * DAY, NOW - DAY


def aged(app: Application, at: int, **changes: Any) -> Message:
    """A message from that instant."""
    return new_message(app, **{"id": IdMaker().new("msg_", at), "created_at": at} | changes)


def forgetting(app: Application, before: int = NOW - 5 * DAY) -> Cutoff:
    return Cutoff(app.id, before, before)


def expiring(app: Application, before: int = NOW - 5 * DAY) -> Cutoff:
    return Cutoff(app.id, before, 0)


async def steps(verb: Any, cutoff: Cutoff, limit: int = 100, **more: Any) -> list[Swept]:
    """All steps of `forget` or `expire`."""
    found, after = [], ""
    while after is not None:
        found.append(await verb(cutoff, after, limit, **more))
        after = found[-1].after
        assert len(found) < 1_000
    return found


async def total(verb: Any, cutoff: Cutoff, limit: int = 100, **more: Any) -> tuple[int, int]:
    done = await steps(verb, cutoff, limit, **more)
    return sum(one.messages for one in done), sum(one.requests for one in done)


async def ended(
    store: Store, endpoint: Endpoint, message: Message, attempts: int = 1, received: Received | None = None
) -> list[Attempt]:
    """Store a message with a delivery that succeeded at the last of so many attempts."""
    delivery = new_delivery(message, endpoint, state=State.LEASED, due_at=NOW + LEASE, lease=4)
    made = [
        new_attempt(delivery, id=IdMaker().new("atmpt_", message.created_at + n * MINUTE), number=n + 1)
        for n in range(attempts)
    ]
    work: list[Any] = [Settlement(step(delivery, "delivered"), 4, made[-1], now=NOW)]
    work += [Settlement(step(delivery, "delivered"), 0, attempt, now=NOW) for attempt in made[:-1]]
    await store.commit([Accept(message, (delivery,), received)])
    await store.commit(work)
    return made


def without_bodies(attempt: Attempt) -> Attempt:
    return replace(attempt, expired=True, outcome=replace(attempt.outcome, request_body=None, response_body=b""))


class RetentionContract:
    """Beside `StoreContract`, whose fixtures it needs."""

    # records

    async def test_what_is_old_goes_with_all_that_belongs_to_it(
        self, store: Store, app: Application, endpoint: Endpoint
    ) -> None:
        source = new_source(app)
        await store.create_source(app.id, source)
        old = [aged(app, OLD, event_id=f"e{n}", source=source.id) for n in range(3)]
        young = aged(app, YOUNG)
        received = new_received(source, old[0], id=IdMaker().new("req_", OLD), received_at=OLD, dedup_key="d")
        late = new_received(source, None)
        for message in (*old, young):
            await ended(store, endpoint, message, 2, received if message is old[0] else None)
        await store.commit([Accept(None, (), late)])
        other = new_app()
        await store.create_application(other)
        others = aged(other, OLD)
        await store.commit([Accept(others)])

        assert await total(store.forget, forgetting(app)) == (3, 1)
        assert await store.list_messages(app.id, ALL) == [young]
        assert await store.list_received(app.id, source.id, ALL) == [late]
        assert {a.message for a in await store.list_attempts(app.id, ALL, endpoint=endpoint.id)} == {young.id}
        for message in old:
            assert await store.list_deliveries(app.id, message.id) == []
            assert await store.list_attempts(app.id, ALL, message=message.id) == []
        assert await store.list_messages(other.id, ALL) == [others]
        # event id and duplicate key are free again
        again = new_message(app, event_id="e1")
        repeated = new_message(app)
        done = await store.commit([Accept(again), Accept(repeated, (), new_received(source, repeated, dedup_key="d"))])
        assert done == [Accepted(again.id), Accepted(repeated.id)]
        assert await total(store.forget, forgetting(app)) == (0, 0)

    @pytest.mark.parametrize("state", [State.DUE, State.LEASED, State.WAITING])
    async def test_a_pending_delivery_keeps_its_message(
        self, store: Store, app: Application, endpoint: Endpoint, state: State
    ) -> None:
        owed, done = aged(app, OLD), aged(app, OLD)
        line = {"order_key": ""} if state is State.WAITING else {}
        due_at = None if state is State.WAITING else NOW
        await store.commit([Accept(owed, (new_delivery(owed, endpoint, state=state, due_at=due_at, **line),))])
        await ended(store, endpoint, done)
        assert await total(store.forget, forgetting(app), limit=1) == (1, 0)
        assert await total(store.expire, expiring(app), limit=1) == (0, 0)
        stored = await store.get_message(app.id, owed.id)
        assert stored is not None
        assert (stored.payload, stored.expired) == (owed.payload, False)
        await store.cancel_delivery(app.id, owed.id, endpoint.id, NOW)
        assert await total(store.forget, forgetting(app)) == (1, 0)
        assert (await store.counts()).pending == 0

    @pytest.mark.parametrize("verb", ["forget", "expire"])
    async def test_a_step_touches_no_more_rows_than_it_may(
        self, store: Store, app: Application, endpoint: Endpoint, verb: str
    ) -> None:
        message = aged(app, OLD)
        attempts = await ended(store, endpoint, message, attempts=25)
        cutoff = forgetting(app) if verb == "forget" else expiring(app)

        async def whole() -> int:
            there = await store.list_attempts(app.id, ALL, message=message.id)
            return sum(not attempt.expired for attempt in there)

        left = [len(attempts)]
        after: str | None = ""
        while after is not None:
            after = (await getattr(store, verb)(cutoff, after, 10)).after
            left.append(await whole())
        assert left[:4] == [25, 15, 5, 0]

    async def test_a_dry_run_counts_the_same_and_removes_nothing(
        self, store: Store, app: Application, endpoint: Endpoint
    ) -> None:
        source = new_source(app)
        await store.create_source(app.id, source)
        for n in range(7):
            await ended(store, endpoint, aged(app, OLD + n * HOUR))
        owed = aged(app, OLD)
        rejected = [new_received(source, None, id=IdMaker().new("req_", OLD + n * HOUR)) for n in range(5)]
        await store.commit([Accept(None, (), one) for one in rejected])
        await store.commit([Accept(owed, (new_delivery(owed, endpoint),))])
        records, payloads = OLD + 2 * HOUR - MINUTE, OLD + 4 * HOUR - MINUTE
        cutoff = Cutoff(app.id, payloads, records)
        expected = [(2, 2), (2, 2)]
        for dry in (True, True, False):
            found = [await total(verb, cutoff, 3, dry=dry) for verb in (store.forget, store.expire)]
            assert found == expected
        assert [await total(verb, cutoff, 3, dry=True) for verb in (store.forget, store.expire)] == [(0, 0), (0, 0)]

    # payloads

    async def test_payloads_go_and_records_stay(self, store: Store, app: Application, endpoint: Endpoint) -> None:
        source = new_source(app)
        await store.create_source(app.id, source)
        message = aged(app, OLD, source=source.id, event_id="e")
        accepted = new_received(source, message, id=IdMaker().new("req_", OLD))
        rejected = new_received(source, None, id=IdMaker().new("req_", OLD + 1_000_000))
        young = aged(app, YOUNG)
        await store.commit([Accept(young), Accept(None, (), rejected)])
        delivery = new_delivery(message, endpoint, state=State.LEASED, due_at=NOW + LEASE, lease=4)
        attempt = new_attempt(delivery)
        await store.commit([Accept(message, (delivery,), accepted)])
        await store.commit([Settlement(step(delivery, "delivered"), 4, attempt, now=NOW)])

        assert await total(store.expire, expiring(app)) == (1, 1)
        gone = replace(message, payload=b"", expired=True)
        assert await store.get_message(app.id, "e") == gone
        assert await store.list_messages(app.id, ALL) == [gone, young]
        assert await store.list_attempts(app.id, ALL, message=message.id) == [without_bodies(attempt)]
        for before in (accepted, rejected):
            found = await store.get_received(app.id, source.id, before.id)
            assert found == replace(before, expired=True, request=replace(before.request, body=b""))
        (again,) = await store.commit([Accept(new_message(app, event_id="e"))])
        assert not isinstance(again, Accepted)
        assert await total(store.expire, expiring(app)) == (0, 0)

    async def test_what_is_done_is_not_looked_at_again(self, store: Store, app: Application) -> None:
        messages = [aged(app, OLD + n * MINUTE) for n in range(9)]
        await store.commit([Accept(m) for m in messages])
        cutoff = expiring(app)
        assert await store.overdue([cutoff]) == [cutoff]
        first = await store.expire(cutoff, "", 16)
        assert (first.messages, first.after) == (4, messages[3].id)
        # as after a restart
        second = await store.expire(cutoff, "", 16)
        assert (second.messages, second.after) == (4, messages[7].id)
        assert await total(store.expire, cutoff) == (1, 0)
        assert await store.overdue([cutoff]) == []

    async def test_a_payload_that_was_still_needed_goes_when_the_delivery_must_be_over(
        self, store: Store, app: Application, endpoint: Endpoint
    ) -> None:
        until = NOW + 4 * HOUR
        message, sooner = aged(app, OLD), aged(app, OLD, payload_until=NOW + HOUR)
        await store.commit([Accept(m, (new_delivery(m, endpoint, expires_at=until),)) for m in (message, sooner)])
        assert await total(store.expire, expiring(app)) == (0, 0)
        found = [await store.get_message(app.id, m.id) for m in (message, sooner)]
        assert [m.payload_until for m in found if m is not None] == [until, NOW + HOUR]
        assert await store.expire_due(until - 1, 40) == Swept(1)
        assert await store.expire_due(until, 40) == Swept(1)
        found = [await store.get_message(app.id, m.id) for m in (message, sooner)]
        assert [(m.expired, m.payload_until) for m in found if m is not None] == [(True, None)] * 2

    async def test_a_payload_that_was_promised_to_go_does(
        self, store: Store, app: Application, endpoint: Endpoint
    ) -> None:
        """Even before an attempt that is planned; only one that is under way may end first."""
        until = NOW - 1
        due, sending, kept = (aged(app, YOUNG, payload_until=until) for _ in range(3))
        free = aged(app, YOUNG)
        kept = replace(kept, payload_until=NOW + 1)
        await store.commit([Accept(m, (new_delivery(m, endpoint, due_at=NOW),)) for m in (due, kept, free)])
        lease = new_delivery(sending, endpoint, state=State.LEASED, due_at=NOW + LEASE, lease=4)
        await store.commit([Accept(sending, (lease,))])
        assert await store.expire_due(NOW, 40) == Swept(1)
        assert await store.expire_due(NOW, 40) == Swept(0)
        found = {m.id: m.expired for m in await store.list_messages(app.id, ALL)}
        assert found == {due.id: True, sending.id: False, kept.id: False, free.id: False}
        page = await self.claim(store, endpoint)
        assert {c.message.id: (c.message.expired, c.message.payload) for c in page.claimed} == {
            due.id: (True, b""), kept.id: (False, kept.payload), free.id: (False, free.payload)
        }  # fmt: skip
        await store.commit([Settlement(step(lease, "delivered"), 4, new_attempt(lease), now=NOW)])
        assert await store.expire_due(NOW + MINUTE, 40) == Swept(1)  # that of `kept` is leased now
        (attempt,) = await store.list_attempts(app.id, ALL, message=sending.id)
        assert attempt.expired

    async def test_a_full_page_of_due_payloads_has_a_next_one(self, store: Store, app: Application) -> None:
        await store.commit([Accept(aged(app, YOUNG, payload_until=NOW - n)) for n in range(5)])
        assert await store.expire_due(NOW, 12) == Swept(3, 0, "")
        assert await store.expire_due(NOW, 12) == Swept(2)

    async def test_an_expired_message_is_not_sent_again(
        self, store: Store, app: Application, endpoint: Endpoint
    ) -> None:
        other = new_endpoint(app)
        await store.create_endpoint(app.id, other)
        gone, there = aged(app, OLD), aged(app, YOUNG)
        for message in (gone, there):
            await ended(store, endpoint, message)
        await total(store.expire, expiring(app))
        with pytest.raises(MissingPayload):
            await store.request_attempt(app.id, gone.id, endpoint.id, NOW, HOUR, False)
        assert await replay(store, endpoint, since=OLD - MINUTE, states=EVERY) == 1
        assert await replay(store, other, since=OLD - MINUTE, missing=True) == 1
        assert [d.state for d in await store.list_deliveries(app.id, gone.id)] == [State.DELIVERED]

    # all applications

    async def test_only_applications_with_something_old_are_overdue(self, store: Store, app: Application) -> None:
        apps = [app, *(new_app() for _ in range(5))]
        sources = [new_source(one) for one in apps]
        for one in apps[1:]:
            await store.create_application(one)
        records, payloads = NOW - 9 * DAY, NOW - 5 * DAY
        instants = [NOW - 10 * DAY, NOW - 6 * DAY, NOW - DAY]
        for one, at in zip(apps[:3], instants, strict=True):
            await store.commit([Accept(aged(one, at))])
        for source, at in zip(sources[3:], instants, strict=True):
            rejected = new_received(source, None, id=IdMaker().new("req_", at))
            await store.commit([Accept(None, (), rejected)])
        cutoffs = [Cutoff(one.id, payloads, records) for one in apps]
        assert await store.overdue(cutoffs) == [cutoffs[n] for n in (0, 1, 3, 4)]
        for cutoff in cutoffs:
            await total(store.forget, cutoff)
            await total(store.expire, cutoff)
        assert await store.overdue(cutoffs) == []

    async def test_a_deleted_application_is_let_go_when_nothing_of_it_is_left(
        self, store: Store, app: Application, endpoint: Endpoint
    ) -> None:
        old, young = aged(app, OLD), aged(app, YOUNG)
        for message in (old, young):
            await store.commit([Accept(message, (new_delivery(message, endpoint),))])
        await total(store.expire, expiring(app))
        await store.delete_application(app.id)
        assert await store.list_retired(9) == [app.id]
        assert await total(store.forget, forgetting(app)) == (1, 0)
        assert await store.list_retired(9) == [app.id]
        assert await total(store.forget, forgetting(app, NOW)) == (1, 0)
        assert await store.list_retired(9) == []

    # several at once

    async def test_removing_twice_at_once_does_no_harm(
        self, store: Store, app: Application, endpoint: Endpoint
    ) -> None:
        for n in range(30):
            await ended(store, endpoint, aged(app, OLD + n * MINUTE, event_id=str(n)))
        everything = [total(store.forget, forgetting(app), 4) for _ in range(3)]
        counts = await asyncio.gather(*everything, *(total(store.expire, expiring(app), 4) for _ in range(3)))
        assert sum(messages for messages, _ in counts[:3]) == 30
        assert await store.list_messages(app.id, ALL) == []

    async def test_a_message_that_is_sent_again_meanwhile_is_kept_or_refused(
        self, store: Store, app: Application, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("tenterhook.store.replays.PAGE", 3)
        other = new_endpoint(app)
        await store.create_endpoint(app.id, other)
        messages = [aged(app, OLD + n * MINUTE) for n in range(20)]
        for message in messages:
            await ended(store, endpoint, message)

        async def again(message: Message) -> str | None:
            try:
                return (await store.request_attempt(app.id, message.id, endpoint.id, NOW, HOUR, False)).message
            except NotFound:
                return None

        calls = [again(message) for message in messages[::2]]
        replaying = replay(store, other, since=OLD - MINUTE, missing=True)
        results = await asyncio.gather(*calls[:5], total(store.forget, forgetting(app), 3), replaying, *calls[5:])
        asked = {one for one in results if isinstance(one, str)}
        pages = await store.commit([Claim(e.id, 99, NOW, 5, NOW + LEASE) for e in (endpoint, other)])
        by_hand, replayed = [{c.message.id for c in page.claimed} for page in pages if isinstance(page, Page)]
        assert (by_hand, len(replayed)) == (asked, results[6])
        assert {m.id for m in await store.list_messages(app.id, ALL)} == by_hand | replayed

    @pytest.mark.parametrize("seed", range(5))
    async def test_any_history(self, store: Store, app: Application, endpoint: Endpoint, seed: int) -> None:
        """Nothing that is old and ended stays, nothing else goes, and nothing is left of what went."""
        rng = Random(seed)
        history = [await _happened(store, app, endpoint, rng) for _ in range(60)]
        records, payloads = NOW - 9 * DAY, NOW - 5 * DAY
        cutoff = Cutoff(app.id, payloads, records)
        counted = [await total(verb, cutoff, 1_000, dry=True) for verb in (store.forget, store.expire)]
        done = [await total(verb, cutoff, rng.randint(1, 9)) for verb in (store.forget, store.expire)]
        assert done == counted
        kept = {m.id: m for m in await store.list_messages(app.id, ALL)}
        attempts = await store.list_attempts(app.id, ALL, endpoint=endpoint.id)
        for message, pending in history:
            left = bool(await store.list_deliveries(app.id, message.id))
            assert left == (message.id in kept) == (pending or message.created_at >= records)
            if message.id in kept:
                assert kept[message.id].expired is (not pending and message.created_at < payloads)
                mine = [a for a in attempts if a.message == message.id]
                assert {a.expired for a in mine} <= {kept[message.id].expired}
        assert {a.message for a in attempts} <= set(kept)


async def _happened(store: Store, app: Application, endpoint: Endpoint, rng: Random) -> tuple[Message, bool]:
    """A message of the last twenty days, and whether its delivery is pending."""
    message = aged(app, NOW - rng.randrange(20 * DAY), event_id=str(rng.random()))
    pending = rng.random() < 0.2
    if pending:
        await store.commit([Accept(message, (new_delivery(message, endpoint),))])
    else:
        await ended(store, endpoint, message, attempts=rng.randint(1, 4))
    return message, pending
