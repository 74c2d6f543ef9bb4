"""What every store must do. An implementation's test file subclasses `StoreContract` and says how to make one."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from tenterhook.clock import HOUR, SECOND
from tenterhook.engine.lifecycle import step
from tenterhook.errors import (
    ChangedMeanwhile,
    Conflict,
    DeliveryInFlight,
    EventTypeExists,
    IdempotencyInProgress,
    NotFound,
    OutdatedPlan,
)
from tenterhook.ids import IdMaker
from tenterhook.model import (
    Application,
    Attempt,
    Delivery,
    Endpoint,
    EventType,
    Health,
    Message,
    Outcome,
    Reason,
    Received,
    Request,
    Result,
    Secret,
    Source,
    State,
    Timing,
    Token,
    Transformation,
    Trigger,
)
from tenterhook.store.base import NextDue, Store
from tenterhook.store.queries import Cursor
from tenterhook.store.work import Accept, Accepted, Claim, Page, Remember, Settled, Settlement

NOW = 1_800_000_000 * SECOND
LEASE = 60 * SECOND
make = IdMaker()


def new_app(**changes: Any) -> Application:
    return Application(**{"id": make.new("app_", NOW), "name": "Acme", "created_at": NOW, "updated_at": NOW} | changes)


def new_endpoint(app: Application, **changes: Any) -> Endpoint:
    fields = {
        "id": make.new("ep_", NOW), "app": app.id, "url": "https://a.example/hook", "created_at": NOW, "updated_at": NOW,
        "secrets": (Secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),), "headers": (("X-Key", "sesame"),),
        "transformation": Transformation(code="function handler(w) {}", variables={"a": "sesame\0"}, updated_at=NOW),
    }  # fmt: skip
    return Endpoint(**fields | changes)


def new_message(app: Application, **changes: Any) -> Message:
    fields = {
        "id": make.new("msg_", NOW), "app": app.id, "event_type": "invoice.paid", "payload": b'{"a": 1}\x00\xff',
        "channels": ("one", "two"), "tags": ("t",), "created_at": NOW,
    }  # fmt: skip
    return Message(**fields | changes)


def new_delivery(message: Message, endpoint: Endpoint, **changes: Any) -> Delivery:
    fields = {
        "message": message.id, "endpoint": endpoint.id, "app": message.app, "state": State.DUE, "due_at": NOW,
        "created_at": NOW, "expires_at": NOW + 96 * HOUR, "order_key": "" if endpoint.ordered else None,
    }  # fmt: skip
    return Delivery(**fields | changes)


def new_attempt(delivery: Delivery, **changes: Any) -> Attempt:
    outcome = Outcome(
        result=Result.RETRY, reason=Reason.STATUS, status=500, detail="no", retry_after=7, url="https://a.example/hook",
        request_head=b"POST / HTTP/1.1\r\n", request_body=b"x", response_head=b"HTTP/1.1 500 no\r\n\x00\xff",
        response_body=b"\x00\xfe", response_cut=True, timing=Timing(9, 1, 2, None, 4),
    )  # fmt: skip
    fields = {
        "id": make.new("atmpt_", NOW), "app": delivery.app, "message": delivery.message, "endpoint": delivery.endpoint,
        "number": 1, "trigger": Trigger.SCHEDULED, "started_at": NOW, "outcome": outcome,
    }  # fmt: skip
    return Attempt(**fields | changes)


def new_source(app: Application, **changes: Any) -> Source:
    fields = {
        "id": make.new("src_", NOW), "app": app.id, "name": "GitHub", "token": make.new("", NOW), "provider": "github",
        "secrets": ("s1", "s2"), "options": {"a": "b"}, "created_at": NOW, "updated_at": NOW,
    }  # fmt: skip
    return Source(**fields | changes)


def new_received(source: Source, message: Message | None, **changes: Any) -> Received:
    request = Request(
        method="POST", path="/in/x", query=b"a=%20b", body=message.payload if message else b"raw\x00",
        headers=((b"Host", b"h"), (b"X-A", b"1:2"), (b"x-a", b"")),
    )  # fmt: skip
    fields = {
        "id": make.new("req_", NOW), "app": source.app, "source": source.id, "request": request,
        "verdict": "accepted" if message else "rejected", "reason": "", "message": message.id if message else None,
        "received_at": NOW,
    }  # fmt: skip
    return Received(**fields | changes)


class StoreContract:
    """Inherit, implement `make`, and every test below runs against it."""

    async def make(self, path: Path) -> Store:
        """A store on an empty database under `path`; called again with the same path it opens the same database."""
        raise NotImplementedError

    @pytest.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[Store]:
        store = await self.make(tmp_path)
        yield store
        await store.close()

    @pytest.fixture
    async def app(self, store: Store) -> Application:
        app = new_app(uid="acme")
        await store.create_application(app)
        return app

    @pytest.fixture
    async def endpoint(self, store: Store, app: Application) -> Endpoint:
        endpoint = new_endpoint(app)
        await store.create_endpoint(app.id, endpoint)
        return endpoint

    # helpers

    async def accept(self, store: Store, message: Message, *deliveries: Delivery) -> Accepted:
        (done,) = await store.commit([Accept(message, deliveries)])
        assert isinstance(done, Accepted)
        return done

    async def claim(self, store: Store, endpoint: Endpoint, *, now: int = NOW, limit: int = 10, lease: int = 7) -> Page:
        (page,) = await store.commit([Claim(endpoint.id, limit, now, lease, now + LEASE)])
        assert isinstance(page, Page)
        return page

    async def lapse(self, store: Store) -> list[Delivery]:
        return await store.lapse(NOW, [(one.delivery, ()) for one in await store.list_lapsing(NOW, 10)])

    # accepting

    async def test_an_accepted_message_is_there_after_reopening(
        self, store: Store, app: Application, endpoint: Endpoint, tmp_path: Path
    ) -> None:
        message = new_message(app, event_id="once", order_key="k", source="src_x", content_type="text/x")
        delivery = new_delivery(message, endpoint)
        assert (await self.accept(store, message, delivery)).message == message.id
        await store.close()
        again = await self.make(tmp_path)
        try:
            assert await again.get_message(app.id, message.id) == message
            assert await again.get_message(app.id, "once") == message
            assert await again.get_delivery(app.id, message.id, endpoint.id) == delivery
            assert await again.get_endpoint(app.id, endpoint.id) == endpoint
        finally:
            await again.close()

    async def test_a_taken_event_id_is_a_conflict_for_that_message_alone(self, store: Store, app: Application) -> None:
        first, twin, other = new_message(app, event_id="e"), new_message(app, event_id="e"), new_message(app)
        done = await store.commit([Accept(first), Accept(twin), Accept(other)])
        assert isinstance(done[1], Conflict)
        assert [isinstance(d, Accepted) for d in done] == [True, False, True]
        (late,) = await store.commit([Accept(new_message(app, event_id="e"))])
        assert isinstance(late, Conflict)
        assert await store.get_message(app.id, twin.id) is None
        assert await store.get_message(app.id, other.id) == other

    async def test_the_same_event_id_is_free_in_another_application(self, store: Store, app: Application) -> None:
        other = new_app()
        await store.create_application(other)
        done = await store.commit([Accept(new_message(app, event_id="e")), Accept(new_message(other, event_id="e"))])
        assert all(isinstance(d, Accepted) for d in done)

    async def test_an_idempotency_key_returns_the_first_answer(self, store: Store, app: Application) -> None:
        remember = Remember(b"key", b"hash", 202, b"{}", NOW + HOUR)
        first, second = new_message(app), new_message(app)
        done = await store.commit([Accept(first, (), None, remember), Accept(second, (), None, remember)])
        assert isinstance(done[1], IdempotencyInProgress)
        (later,) = await store.commit([Accept(second, (), None, remember)])
        assert isinstance(later, Accepted)
        assert later.remembered is not None
        assert (later.remembered.status, later.remembered.answer) == (202, b"{}")
        assert await store.get_message(app.id, second.id) is None
        assert await store.recall(b"key", NOW) == later.remembered
        assert await store.recall(b"key", NOW + HOUR) is None

    async def test_an_expired_idempotency_key_is_free_before_it_is_pruned(self, store: Store, app: Application) -> None:
        first, later = new_message(app), new_message(app, created_at=NOW + HOUR)
        await store.commit([Accept(first, (), None, Remember(b"key", b"hash", 202, b"1", NOW + HOUR))])
        (done,) = await store.commit(
            [Accept(later, (), None, Remember(b"key", b"hash", 202, b"2", NOW + 2 * HOUR, NOW + HOUR))]
        )
        assert done == Accepted(later.id)
        assert await store.get_message(app.id, later.id) == later
        remembered = await store.recall(b"key", NOW + HOUR)
        assert remembered is not None
        assert remembered.answer == b"2"

    async def test_a_plan_that_the_application_has_outgrown_is_refused_and_nothing_is_written(
        self, store: Store, app: Application, endpoint: Endpoint
    ) -> None:
        source = new_source(app)
        changes = [
            lambda: store.save_application(replace(app, name="B")),
            lambda: store.create_endpoint(app.id, new_endpoint(app)),
            lambda: store.save_endpoint(app.id, replace(endpoint, disabled=True)),
            lambda: store.delete_endpoint(app.id, endpoint.id),
            lambda: store.save_source(app.id, replace(source, secrets=("new",))),
            lambda: store.delete_source(app.id, source.id),
        ]
        await store.create_source(app.id, source)
        for change in changes:
            loaded = await store.load_application("acme")
            assert loaded is not None
            good, bad = new_message(app), new_message(app)
            (done,) = await store.commit([Accept(good, revision=loaded.revision)])
            assert done == Accepted(good.id)
            await change()
            noted = Accept(None, (), new_received(source, None), None, loaded.revision)
            done_ = await store.commit([Accept(bad, (new_delivery(bad, endpoint),), revision=loaded.revision), noted])
            assert [type(d) for d in done_] == [OutdatedPlan, OutdatedPlan]
            assert await store.get_message(app.id, bad.id) is None
            assert await store.list_deliveries(app.id, bad.id) == []
        assert await store.list_received(app.id, source.id, Cursor(limit=9)) == []
        await store.delete_application(app.id)
        (done,) = await store.commit([Accept(new_message(app), revision=99)])
        assert isinstance(done, OutdatedPlan)

    async def test_only_what_is_not_known_of_an_application_is_read_again(self, store: Store, app: Application) -> None:
        same, changed, gone, fresh = (new_endpoint(app) for _ in range(4))
        for endpoint in (same, changed, gone):
            await store.create_endpoint(app.id, endpoint)
        known = {one.id: one.updated_at for one in (same, changed, gone)}
        changed = replace(changed, url="https://b.example", updated_at=NOW + 1)
        await store.save_endpoint(app.id, changed)
        await store.delete_endpoint(app.id, gone.id)
        await store.create_endpoint(app.id, fresh)
        loaded = await store.load_application(app.id, known)
        assert loaded is not None
        assert loaded.unchanged == (same.id,)
        assert {one.id: one for one, _ in loaded.endpoints} == {one.id: one for one in (changed, fresh)}
        everything = await store.load_application(app.id, dict.fromkeys(known, 0))
        assert everything is not None
        assert (len(everything.endpoints), everything.unchanged) == (3, ())
        other = new_app()
        await store.create_application(other)
        elsewhere = await store.load_application(other.id, known)
        assert elsewhere is not None
        assert (elsewhere.endpoints, elsewhere.unchanged) == ((), ())

    async def test_many_changed_endpoints_are_all_read(self, store: Store, app: Application) -> None:
        endpoints = [new_endpoint(app) for _ in range(102)]
        for endpoint in endpoints:
            await store.create_endpoint(app.id, endpoint)
        known = {one.id: 0 for one in endpoints[1:]} | {endpoints[0].id: endpoints[0].updated_at}
        loaded = await store.load_application(app.id, known)
        assert loaded is not None
        assert ([one.id for one, _ in loaded.endpoints], loaded.unchanged) == (sorted(known), ())

    async def test_a_verdict_that_disables_an_endpoint_outdates_plans(
        self, store: Store, app: Application, endpoint: Endpoint
    ) -> None:
        leased = await self.leased(store, app, endpoint)
        loaded = await store.load_application(app.id)
        assert loaded is not None
        assert loaded.endpoints == ((endpoint, Health()),)
        await store.commit([Settlement(step(leased, "exhausted"), leased.lease, None, None, "gone", NOW)])
        (done,) = await store.commit([Accept(new_message(app), revision=loaded.revision)])
        assert isinstance(done, OutdatedPlan)
        again = await store.load_application(app.id)
        assert again is not None
        assert again.endpoints[0][0].disabled

    async def test_words_from_outside_may_hold_anything(
        self, store: Store, app: Application, endpoint: Endpoint
    ) -> None:
        source = new_source(app)
        await store.create_source(app.id, source)
        message = new_message(app, event_type="a\x00b\u00e9", content_type="t/\x00", payload=b"\x00")
        request = Request(
            method="POST", path="/in/\x00\u00e9\udcff", query=b"\x00", headers=((b"\xff", b"\x00"),), body=b"\x00"
        )
        received = new_received(source, message, request=request, reason="\x00", dedup_key="k\x00")
        leased = new_delivery(message, endpoint, state=State.LEASED, due_at=NOW + LEASE, lease=4)
        attempt = new_attempt(leased, outcome=Outcome(result=Result.RETRY, detail="\x00\ud800", url="http://a/\x00"))
        done = await store.commit([Accept(message, (leased,), received)])
        done += await store.commit([Settlement(step(leased, "exhausted"), 4, attempt, now=NOW)])
        assert done == [Accepted(message.id), Settled(True)]
        found = await store.get_received(app.id, source.id, received.id)
        assert found is not None
        assert found.request == request
        stored = await store.get_message(app.id, message.id)
        assert stored is not None
        assert (stored.payload, stored.event_type) == (b"\x00", "a\ufffdb\u00e9")
        twin = new_message(app)
        (again,) = await store.commit([Accept(twin, (), new_received(source, twin, dedup_key="k\x00"))])
        assert again == Accepted(message.id, True)

    async def test_abandoned_deliveries_end(self, store: Store, app: Application) -> None:
        """An endpoint can be deleted while another node plans for it."""
        endpoint = new_endpoint(app, ordered=True)
        messages = [new_message(app) for _ in range(2)]
        await store.commit([Accept(m, (new_delivery(m, endpoint),)) for m in messages])
        assert await store.abandon(endpoint.id) == 2
        assert (await store.counts()).pending == 0
        assert await store.abandon(endpoint.id) == 0

    async def test_large_batches_keep_every_answer_in_its_place(
        self, store: Store, app: Application, endpoint: Endpoint
    ) -> None:
        messages = [new_message(app, payload=str(n).encode()) for n in range(333)]
        done = await store.commit([Accept(m, (new_delivery(m, endpoint),)) for m in messages])
        assert [d.message for d in done if isinstance(d, Accepted)] == [m.id for m in messages]
        page = await self.claim(store, endpoint, limit=1000)
        assert {c.message.payload for c in page.claimed} == {m.payload for m in messages}

    # claiming

    async def test_two_claims_share_nothing(self, store: Store, app: Application, endpoint: Endpoint) -> None:
        messages = [new_message(app) for _ in range(10)]
        await store.commit([Accept(m, (new_delivery(m, endpoint),)) for m in messages])
        a, b = await asyncio.gather(
            self.claim(store, endpoint, limit=6, lease=1), self.claim(store, endpoint, limit=6, lease=2)
        )
        claimed = [c.delivery.message for c in (*a.claimed, *b.claimed)]
        assert len(set(claimed)) == len(claimed) == 10

    async def test_a_claim_takes_only_what_is_due_oldest_first(
        self, store: Store, app: Application, endpoint: Endpoint
    ) -> None:
        messages = [new_message(app) for _ in range(4)]
        dues = [NOW - 1, NOW - 3, NOW + 5, NOW]
        await store.commit(
            [Accept(m, (new_delivery(m, endpoint, due_at=d),)) for m, d in zip(messages, dues, strict=True)]
        )
        page = await self.claim(store, endpoint, limit=2)
        assert [c.message.id for c in page.claimed] == [messages[1].id, messages[0].id]
        assert all(c.delivery.state is State.LEASED and c.delivery.due_at == NOW + LEASE for c in page.claimed)
        assert page.next_due == NOW
        rest = await self.claim(store, endpoint, lease=8)
        assert [c.message.id for c in rest.claimed] == [messages[3].id]
        assert rest.next_due == NOW + 5

    async def test_a_claim_looks_no_further_back_than_it_is_told(
        self, store: Store, app: Application, endpoint: Endpoint
    ) -> None:
        messages = [new_message(app) for _ in range(3)]
        dues = [NOW - 6, NOW - 5, NOW + 5]
        await store.commit(
            [Accept(m, (new_delivery(m, endpoint, due_at=d),)) for m, d in zip(messages, dues, strict=True)]
        )
        claim = Claim(endpoint.id, 10, NOW, 7, NOW + LEASE, since=NOW - 5)
        (page,) = await store.commit([claim])
        assert isinstance(page, Page)
        assert [c.message.id for c in page.claimed] == [messages[1].id]
        assert (page.next_due, page.oldest) == (NOW + 5, NOW + 5)
        (page,) = await store.commit([replace(claim, since=0)])
        assert isinstance(page, Page)
        assert [c.message.id for c in page.claimed] == [messages[0].id]

    async def test_a_lease_that_ended_is_claimed_as_expired(
        self, store: Store, app: Application, endpoint: Endpoint
    ) -> None:
        message = new_message(app)
        await self.accept(store, message, new_delivery(message, endpoint))
        await self.claim(store, endpoint)
        assert (await self.claim(store, endpoint, now=NOW + LEASE - 1)).claimed == ()
        (again,) = (await self.claim(store, endpoint, now=NOW + LEASE, lease=9)).claimed
        assert again.expired
        assert again.delivery.lease == 9

    async def test_recover_ends_every_lease_at_once_where_no_other_node_can_hold_one(
        self, store: Store, app: Application, endpoint: Endpoint
    ) -> None:
        message = new_message(app)
        await self.accept(
            store, message, new_delivery(message, endpoint, state=State.LEASED, due_at=NOW + LEASE, lease=5)
        )
        assert await store.recover(NOW) == (0 if store.shared else 1)
        due = NOW + LEASE if store.shared else NOW
        assert await store.next_dues(None, 10) == [NextDue(endpoint.id, due, NOW)]
        (claimed,) = (await self.claim(store, endpoint, now=due)).claimed
        assert claimed.expired

    async def test_next_dues_pages_over_endpoints(self, store: Store, app: Application) -> None:
        endpoints = [new_endpoint(app) for _ in range(5)]
        for endpoint in endpoints:
            await store.create_endpoint(app.id, endpoint)
        message = new_message(app)
        await self.accept(store, message, *(new_delivery(message, e, due_at=NOW + n) for n, e in enumerate(endpoints)))
        first = await store.next_dues(None, 3)
        rest = await store.next_dues(first[-1].endpoint, 3)
        assert first + rest == [NextDue(e.id, NOW + n, NOW) for n, e in enumerate(endpoints)]

    async def test_a_recovered_delivery_is_claimed_once_as_expired_and_its_old_lease_is_worth_nothing(
        self, store: Store, app: Application, endpoint: Endpoint
    ) -> None:
        leased = await self.leased(store, app, endpoint)
        await self.end_leases(store)
        late = Settlement(step(leased, "delivered"), leased.lease, new_attempt(leased), now=NOW)
        (claimed,) = (await self.claim(store, endpoint, now=NOW + LEASE, lease=9)).claimed
        assert claimed.expired
        assert await store.commit([late]) == [Settled(False)]
        done = Settlement(step(claimed.delivery, "delivered"), 9, now=NOW)
        assert await store.commit([done]) == [Settled(True)]

    async def end_leases(self, store: Store) -> None:
        """What a start does; a store that is shared waits for the leases to end instead."""
        await store.recover(NOW)

    # settling

    async def test_a_settlement_that_is_written_twice_is_answered_alike_and_changes_nothing(
        self, store: Store, app: Application, endpoint: Endpoint
    ) -> None:
        leased = await self.leased(store, app, endpoint)
        settlement = Settlement(step(leased, "delivered"), leased.lease, new_attempt(leased), now=NOW)
        assert await store.commit([settlement]) == [Settled(True)]
        other = new_message(app)
        again = await store.commit([settlement, Accept(other)])
        assert again == [Settled(True), Accepted(other.id)]
        assert len(await store.list_attempts(app.id, Cursor(limit=9), message=leased.message)) == 1

    async def test_a_late_report_is_not_taken_for_the_one_that_ended_the_delivery(
        self, store: Store, app: Application, endpoint: Endpoint
    ) -> None:
        leased = await self.leased(store, app, endpoint)
        ended = replace(step(leased, "exhausted"), attempts=1)
        first, late = (Settlement(ended, leased.lease, new_attempt(leased), now=NOW) for _ in range(2))
        assert await store.commit([first]) == [Settled(True)]
        assert await store.commit([late]) == [Settled(False)]
        assert await store.commit([first]) == [Settled(True)], "its answer may have been lost"
        assert len(await store.list_attempts(app.id, Cursor(limit=9), message=leased.message)) == 2

    async def leased(self, store: Store, app: Application, endpoint: Endpoint) -> Delivery:
        message = new_message(app)
        await self.accept(store, message, new_delivery(message, endpoint))
        (claimed,) = (await self.claim(store, endpoint)).claimed
        return claimed.delivery

    async def test_a_settlement_keeps_delivery_attempt_and_health(
        self, store: Store, app: Application, endpoint: Endpoint
    ) -> None:
        leased = await self.leased(store, app, endpoint)
        attempt = new_attempt(leased)
        after = replace(step(leased, "retried", due_at=NOW + 5), attempts=1, step=1)
        health = Health(3, NOW, NOW + 9, 2)
        (done,) = await store.commit([Settlement(after, leased.lease, attempt, health, now=NOW)])
        assert done == Settled(True, None, health)
        assert await store.get_delivery(app.id, leased.message, endpoint.id) == after
        assert await store.get_attempt(app.id, leased.message, attempt.id) == attempt
        assert await store.load_endpoint(endpoint.id) == (endpoint, health)

    async def test_the_failures_that_two_workers_see_add_up_and_a_success_ends_them(
        self, store: Store, app: Application, endpoint: Endpoint
    ) -> None:
        def failed(leased: Delivery, before: Health, after: Health) -> Settlement:
            retried = step(leased, "retried", due_at=NOW + 5)
            return Settlement(retried, leased.lease, new_attempt(leased), after, now=NOW, before=before)

        first, second, third = [await self.leased(store, app, endpoint) for _ in range(3)]
        knew_nothing = failed(first, Health(), Health(1, NOW - 9, NOW + 30, 1))
        knew_two = failed(second, Health(2, NOW - 5, None, 0), Health(3, NOW - 5, NOW + 20, 0))
        done = await store.commit([knew_nothing]) + await store.commit([knew_two])
        merged = Health(2, NOW - 9, NOW + 30, 1)
        assert [d.health for d in done if isinstance(d, Settled)] == [Health(1, NOW - 9, NOW + 30, 1), merged]
        assert await store.load_endpoint(endpoint.id) == (endpoint, merged)
        good = Settlement(step(third, "delivered"), third.lease, new_attempt(third), Health(), now=NOW, before=merged)
        assert await store.commit([good]) == [Settled(True, None, Health())]

    async def test_a_late_worker_overwrites_nothing_but_its_attempt_is_kept(
        self, store: Store, app: Application, endpoint: Endpoint
    ) -> None:
        leased = await self.leased(store, app, endpoint)
        (again,) = (await self.claim(store, endpoint, now=NOW + LEASE, lease=9)).claimed
        late = Settlement(step(leased, "delivered"), leased.lease, new_attempt(leased), Health(1), "gone", NOW)
        delivered = replace(step(again.delivery, "delivered"), attempts=2)
        good = Settlement(delivered, 9, new_attempt(leased, number=2), now=NOW)
        assert await store.commit([late, good]) == [Settled(False), Settled(True)]
        assert len(await store.list_attempts(app.id, Cursor(limit=9), message=leased.message)) == 2
        assert await store.load_endpoint(endpoint.id) == (endpoint, Health())

    async def test_a_verdict_switches_an_endpoint_off(self, store: Store, app: Application, endpoint: Endpoint) -> None:
        leased = await self.leased(store, app, endpoint)
        ended = step(leased, "exhausted")
        await store.commit([Settlement(ended, leased.lease, new_attempt(leased), Health(1), "gone", NOW + 3)])
        found = await store.get_endpoint(app.id, endpoint.id)
        assert found == replace(endpoint, disabled=True, disabled_reason="gone", updated_at=NOW + 3)
        await store.save_endpoint(app.id, endpoint, clean=True)
        assert await store.load_endpoint(endpoint.id) == (endpoint, Health())

    # FIFO lines

    async def test_only_the_head_of_a_line_is_due_and_its_end_leases_the_next(
        self, store: Store, app: Application
    ) -> None:
        endpoint = new_endpoint(app, ordered=True)
        await store.create_endpoint(app.id, endpoint)
        messages = [new_message(app) for _ in range(3)]
        done = await store.commit([Accept(m, (new_delivery(m, endpoint),)) for m in messages])
        assert [d.waiting for d in done if isinstance(d, Accepted)] == [(), (endpoint.id,), (endpoint.id,)]
        (head,) = (await self.claim(store, endpoint)).claimed
        assert head.message == messages[0]
        settled = Settlement(
            step(head.delivery, "delivered"), head.delivery.lease, now=NOW, next_lease=77, next_until=NOW + LEASE
        )
        (first,) = await store.commit([settled])
        assert isinstance(first, Settled)
        assert first.promoted is not None
        assert first.promoted.message == messages[1]
        assert (first.promoted.delivery.state, first.promoted.delivery.lease) == (State.LEASED, 77)
        assert await store.commit([settled]) == [first]
        assert (await self.claim(store, endpoint)).claimed == ()

    async def test_a_retry_of_the_head_keeps_the_line_waiting(self, store: Store, app: Application) -> None:
        endpoint = new_endpoint(app, ordered=True)
        await store.create_endpoint(app.id, endpoint)
        messages = [new_message(app) for _ in range(2)]
        await store.commit([Accept(m, (new_delivery(m, endpoint),)) for m in messages])
        (head,) = (await self.claim(store, endpoint)).claimed
        await store.commit([Settlement(step(head.delivery, "retried", due_at=NOW + 5), head.delivery.lease, now=NOW)])
        assert (await self.claim(store, endpoint)).claimed == ()
        (again,) = (await self.claim(store, endpoint, now=NOW + 5)).claimed
        assert again.message == messages[0]

    async def test_lines_of_different_keys_do_not_wait_for_each_other(self, store: Store, app: Application) -> None:
        endpoint = new_endpoint(app, ordered=True)
        await store.create_endpoint(app.id, endpoint)
        messages = [new_message(app) for _ in range(4)]
        done = await store.commit(
            [Accept(m, (new_delivery(m, endpoint, order_key=k),)) for m, k in zip(messages, "abab", strict=True)]
        )
        assert [bool(d.waiting) for d in done if isinstance(d, Accepted)] == [False, False, True, True]

    async def test_lapsing_and_cancelling_move_a_line_on(self, store: Store, app: Application) -> None:
        endpoint = new_endpoint(app, ordered=True)
        await store.create_endpoint(app.id, endpoint)
        messages = [new_message(app) for _ in range(3)]
        await store.commit(
            [Accept(m, (new_delivery(m, endpoint, expires_at=NOW + n),)) for n, m in enumerate(messages)]
        )
        assert [d.message for d in await self.lapse(store)] == [messages[0].id]
        assert await store.cancel_delivery(app.id, messages[1].id, endpoint.id, NOW)
        (head,) = (await self.claim(store, endpoint)).claimed
        assert head.message == messages[2]

    async def test_lapse_leaves_leased_and_living_deliveries(
        self, store: Store, app: Application, endpoint: Endpoint
    ) -> None:
        old, leased, young = (new_message(app) for _ in range(3))
        await self.accept(store, old, new_delivery(old, endpoint, expires_at=NOW))
        await self.accept(store, young, new_delivery(young, endpoint, expires_at=NOW + 1))
        busy = new_delivery(leased, endpoint, expires_at=NOW, state=State.LEASED, due_at=NOW + LEASE, lease=3)
        await self.accept(store, leased, busy)
        assert [d.message for d in await self.lapse(store)] == [old.id]
        assert (await store.counts()).pending == 2

    # by hand

    async def test_a_manual_attempt_keeps_the_planned_one(
        self, store: Store, app: Application, endpoint: Endpoint
    ) -> None:
        message = new_message(app)
        await self.accept(store, message, new_delivery(message, endpoint, due_at=NOW + HOUR, step=2))
        for _ in range(2):  # asking twice must not lose the plan
            found = await store.request_attempt(app.id, message.id, endpoint.id, NOW, HOUR, False)
        assert (found.due_at, found.resume_at, found.trigger, found.step) == (NOW, NOW + HOUR, Trigger.MANUAL, 2)
        (claimed,) = (await self.claim(store, endpoint)).claimed
        assert claimed.delivery.trigger is Trigger.MANUAL
        with pytest.raises(DeliveryInFlight):
            await store.request_attempt(app.id, message.id, endpoint.id, NOW, HOUR, False)
        with pytest.raises(NotFound):
            await store.request_attempt(app.id, "msg_none", endpoint.id, NOW, HOUR, False)

    async def test_deleting_an_endpoint_cancels_what_is_pending(self, store: Store, app: Application) -> None:
        endpoint = new_endpoint(app, ordered=True)
        await store.create_endpoint(app.id, endpoint)
        messages = [new_message(app) for _ in range(2)]
        await store.commit([Accept(m, (new_delivery(m, endpoint),)) for m in messages])
        await store.delete_endpoint(app.id, endpoint.id)
        states = [d.state for m in messages for d in await store.list_deliveries(app.id, m.id)]
        assert states == [State.CANCELLED, State.CANCELLED]
        assert (await store.counts()).pending == 0
        assert await store.next_dues(None, 10) == []

    # objects

    async def test_what_others_have_changed_is_not_written_over(
        self, store: Store, app: Application, endpoint: Endpoint
    ) -> None:
        source = new_source(app)
        await store.create_source(app.id, source)
        saves: list[Callable[[int, int], Awaitable[None]]] = [
            lambda at, seen: store.save_application(replace(app, updated_at=at), seen),
            lambda at, seen: store.save_endpoint(app.id, replace(endpoint, updated_at=at), seen=seen),
            lambda at, seen: store.save_source(app.id, replace(source, updated_at=at), seen),
        ]
        for save in saves:
            await save(NOW + 1, NOW)
            with pytest.raises(ChangedMeanwhile):
                await save(NOW + 2, NOW)
        found = (
            await store.get_application(app.id),
            await store.get_endpoint(app.id, endpoint.id),
            await store.get_source(app.id, source.id),
        )
        assert [one.updated_at for one in found if one is not None] == [NOW + 1] * 3

    async def test_applications(self, store: Store, app: Application) -> None:
        assert await store.get_application(app.id) == await store.get_application("acme") == app
        with pytest.raises(Conflict):
            await store.create_application(new_app(uid="acme"))
        changed = replace(app, name="Other", uid=None, rate_limit=5, metadata={"k": "v"})
        await store.save_application(changed)
        assert await store.get_application(app.id) == changed
        assert await store.get_application("acme") is None
        await store.delete_application(app.id)
        assert await store.get_application(app.id) is None
        for verb in (store.save_application(app), store.delete_application(app.id)):
            with pytest.raises(NotFound):
                await verb

    async def test_deleting_an_application_deletes_its_endpoints_and_sources(
        self, store: Store, app: Application, endpoint: Endpoint
    ) -> None:
        source = new_source(app)
        await store.create_source(app.id, source)
        await store.delete_application(app.id)
        assert await store.get_endpoint(app.id, endpoint.id) is None
        assert await store.find_source(source.token) is None

    async def test_endpoints_belong_to_their_application(
        self, store: Store, app: Application, endpoint: Endpoint
    ) -> None:
        other = new_app()
        await store.create_application(other)
        assert await store.get_endpoint(other.id, endpoint.id) is None
        for verb in (store.save_endpoint(other.id, endpoint), store.delete_endpoint(other.id, endpoint.id)):
            with pytest.raises(NotFound):
                await verb
        named = new_endpoint(
            app, uid="hook", event_types=("a.b",), channels=("c",), retry_schedule=(1, 2), ordered=True
        )
        await store.create_endpoint(app.id, named)
        assert await store.get_endpoint(app.id, "hook") == named
        with pytest.raises(Conflict):
            await store.create_endpoint(app.id, new_endpoint(app, uid="hook"))
        assert [e for e, _ in await store.load_endpoints(app.id)] == [endpoint, named]

    async def test_an_application_is_loaded_anew_although_none_of_its_endpoints_has_changed(
        self, store: Store, app: Application, endpoint: Endpoint
    ) -> None:
        await store.save_application(replace(app, name="Other"))
        loaded = await store.load_application(app.id, {endpoint.id: endpoint.updated_at})
        assert loaded is not None
        assert (loaded.application.name, loaded.endpoints, loaded.unchanged) == ("Other", (), (endpoint.id,))

    async def test_event_types(self, store: Store) -> None:
        paid = EventType(name="invoice.paid", schemas={"1": {"type": "object"}}, created_at=NOW, updated_at=NOW)
        await store.create_event_type(paid)
        with pytest.raises(EventTypeExists):
            await store.create_event_type(paid)
        await store.save_event_type(replace(paid, archived=True))
        assert await store.list_event_types(Cursor(limit=5), archived=False) == []
        assert await store.list_event_types(Cursor(limit=5), archived=True) == [replace(paid, archived=True)]
        await store.create_event_type(paid)
        assert await store.get_event_type("invoice.paid") == paid
        await store.delete_event_type("invoice.paid")
        with pytest.raises(NotFound):
            await store.delete_event_type("invoice.paid")

    async def test_tokens_are_found_by_hash_until_revoked(self, store: Store) -> None:
        token = Token(id="tok_1", name="ci", scope="admin", created_at=NOW)
        await store.create_token(token, b"h" * 32)
        assert await store.find_token(b"h" * 32) == token
        await store.revoke_token("tok_1", NOW + 1)
        await store.revoke_token("tok_1", NOW + 2)
        assert await store.list_tokens() == [replace(token, revoked_at=NOW + 1)]
        with pytest.raises(NotFound):
            await store.revoke_token("tok_2", NOW)

    async def test_an_answer_is_remembered_with_its_effect(self, store: Store) -> None:
        await store.create_application(new_app(uid="u"), Remember(b"k1", b"h", 201, b"1", NOW + 1))
        with pytest.raises(Conflict):
            await store.create_application(new_app(uid="u"), Remember(b"k2", b"h", 201, b"2", NOW + 1))
        assert (await store.recall(b"k1", NOW)) is not None
        assert (await store.recall(b"k2", NOW)) is None

    # sources

    async def test_sources(self, store: Store, app: Application) -> None:
        source = new_source(app, uid="gh")
        await store.create_source(app.id, source)
        assert await store.find_source(source.token) == await store.get_source(app.id, "gh") == source
        with pytest.raises(Conflict):
            await store.create_source(app.id, new_source(app, token=source.token))
        renamed = replace(source, name="n", secrets=())
        await store.save_source(app.id, renamed)
        assert await store.list_sources(app.id, Cursor(limit=5)) == [renamed]
        await store.delete_source(app.id, source.id)
        assert await store.find_source(source.token) is None

    async def test_a_received_request_is_kept_byte_for_byte(self, store: Store, app: Application) -> None:
        source = new_source(app)
        await store.create_source(app.id, source)
        message = new_message(app, source=source.id)
        accepted, rejected = new_received(source, message), new_received(source, None, reason="signature_mismatch")
        await store.commit([Accept(message, (), accepted), Accept(None, (), rejected)])
        assert await store.get_received(app.id, source.id, accepted.id) == accepted
        assert await store.get_received(app.id, source.id, rejected.id) == rejected
        assert await store.list_received(app.id, source.id, Cursor(limit=5), "rejected") == [rejected]

    async def test_a_duplicate_is_shown_and_becomes_no_message(self, store: Store, app: Application) -> None:
        source = new_source(app)
        await store.create_source(app.id, source)
        messages = [new_message(app, source=source.id) for _ in range(3)]
        received = [new_received(source, m, dedup_key="guid") for m in messages]
        first = [Accept(m, (), r) for m, r in zip(messages[:2], received[:2], strict=True)]
        done = await store.commit(first) + await store.commit([Accept(messages[2], (), received[2])])
        assert [(d.message, d.duplicate) for d in done if isinstance(d, Accepted)] == [
            (messages[0].id, False), (messages[0].id, True), (messages[0].id, True),
        ]  # fmt: skip
        assert await store.get_message(app.id, messages[1].id) is None
        found = await store.list_received(app.id, source.id, Cursor(limit=5))
        assert [r.verdict for r in found] == ["accepted", "duplicate", "duplicate"]
        assert found[1].request == received[1].request

    async def test_prune_keeps_the_newest_rejections(self, store: Store, app: Application) -> None:
        source = new_source(app)
        await store.create_source(app.id, source)
        rejected = [new_received(source, None) for _ in range(5)]
        await store.commit([Accept(None, (), r) for r in rejected])
        await store.create_application(new_app(), Remember(b"k", b"h", 201, b"1", NOW))
        assert await store.prune(NOW, 2, 100) == 4
        assert await store.list_received(app.id, source.id, Cursor(limit=9)) == rejected[3:]

    # lists

    async def test_lists_page_both_ways_and_within_a_window(self, store: Store, app: Application) -> None:
        step_ = 10 * SECOND
        own = IdMaker()
        messages = [new_message(app, id=own.new("msg_", NOW + n * step_)) for n in range(7)]
        await store.commit([Accept(m) for m in messages])
        newest_first = messages[::-1]
        first = await store.list_messages(app.id, Cursor(limit=3, descending=True))
        assert first == newest_first[:3]
        second = await store.list_messages(app.id, Cursor(limit=3, descending=True, after=first[-1].id))
        assert second == newest_first[3:6]
        back = await store.list_messages(app.id, Cursor(limit=2, descending=True, after=second[0].id, backward=True))
        assert back == newest_first[1:3]
        window = Cursor(limit=9, descending=True, since=NOW + step_, until=NOW + 3 * step_)
        assert await store.list_messages(app.id, window) == [messages[2], messages[1]]

    async def test_attempts_are_listed_by_message_and_by_endpoint(self, store: Store, app: Application) -> None:
        endpoints = [new_endpoint(app) for _ in range(2)]
        for endpoint in endpoints:
            await store.create_endpoint(app.id, endpoint)
        message = new_message(app)
        await self.accept(store, message, *(new_delivery(message, e) for e in endpoints))
        attempts = []
        for endpoint in endpoints:
            (claimed,) = (await self.claim(store, endpoint)).claimed
            attempts.append(new_attempt(claimed.delivery))
            await store.commit([Settlement(step(claimed.delivery, "delivered"), 7, attempts[-1], now=NOW)])
        listed = await store.list_attempts(app.id, Cursor(limit=9), message=message.id)
        assert listed == attempts
        for endpoint, attempt in zip(endpoints, attempts, strict=True):
            assert await store.list_attempts(app.id, Cursor(limit=9), endpoint=endpoint.id) == [attempt]
            both = await store.list_attempts(app.id, Cursor(limit=9), message=message.id, endpoint=endpoint.id)
            assert both == [attempt]
        other = new_app()
        await store.create_application(other)
        assert await store.list_attempts(other.id, Cursor(limit=9), message=message.id) == []
