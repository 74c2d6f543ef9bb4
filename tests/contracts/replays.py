"""What every store must do when messages are sent again."""

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from tenterhook.clock import DAY, HOUR, SECOND
from tenterhook.engine.lifecycle import step
from tenterhook.errors import NotFound
from tenterhook.ids import IdMaker
from tenterhook.model import (
    Application,
    Delivery,
    Endpoint,
    Message,
    Outcome,
    Replay,
    Result,
    State,
    Task,
    TaskKind,
    Trigger,
)
from tenterhook.store.base import Store
from tenterhook.store.queries import Cursor
from tenterhook.store.work import Accept, Settlement
from tests.contracts.store import (
    NOW,
    StoreContract,
    new_app,
    new_attempt,
    new_delivery,
    new_endpoint,
    new_message,
)
from tests.contracts.tasks import SOON, new_task, run

EVENTS = {State.DELIVERED: "delivered", State.FAILED: "exhausted", State.CANCELLED: "cancelled"}
EVERY = tuple(EVENTS)


def new_replay(endpoint: Endpoint, **choice: Any) -> Task:
    fields = {"endpoint": endpoint.id, "since": NOW - DAY, "until": NOW + DAY, "lifetime": HOUR}
    parameters = msgspec.to_builtins(Replay(**fields | choice))
    return new_task(kind=TaskKind.BULK_REPLAY, app=endpoint.app, parameters=parameters)


async def replay(store: Store, endpoint: Endpoint, **choice: Any) -> int:
    """How many messages were sent again."""
    count: int = (await run(store, new_replay(endpoint, **choice))).data["messagesSent"]
    return count


class ReplayContract(StoreContract):
    async def ended(
        self, store: Store, endpoint: Endpoint, state: State, *, status: int = 200, **fields: Any
    ) -> Message:
        """A message whose delivery to the endpoint has ended like this, after an attempt with this answer."""
        app = Application(id=endpoint.app, name="", created_at=NOW, updated_at=NOW)
        message = new_message(app, **fields)
        leased = new_delivery(message, endpoint, state=State.LEASED, due_at=NOW + HOUR, lease=3)
        over = replace(step(leased, EVENTS[state]), attempts=9, step=9)
        attempt = new_attempt(leased, outcome=Outcome(result=Result.RETRY, status=status))
        await store.commit([Accept(message, (leased,))])
        await store.commit([Settlement(over, 3, attempt, now=NOW)])
        return message

    async def deliveries(self, store: Store, messages: Sequence[Message]) -> list[Delivery]:
        return [d for m in messages for d in await store.list_deliveries(m.app, m.id)]

    async def states(self, store: Store, messages: Sequence[Message]) -> list[State]:
        return [d.state for d in await self.deliveries(store, messages)]

    async def test_the_end_of_one_that_waits_does_not_move_its_line_on(self, store: Store, app: Application) -> None:
        endpoint = new_endpoint(app, ordered=True)
        await store.create_endpoint(app.id, endpoint)
        _, head, waits, lapses = messages = [new_message(app) for _ in range(4)]
        await store.commit(
            [Accept(m, (new_delivery(m, endpoint, expires_at=NOW + (m is not lapses) * HOUR),)) for m in messages]
        )
        (first,) = (await self.claim(store, endpoint)).claimed
        await store.commit([Settlement(step(first.delivery, "delivered"), first.delivery.lease, now=NOW)])
        (busy,) = (await self.claim(store, endpoint)).claimed
        assert busy.message == head
        assert await replay(store, endpoint, states=(State.DELIVERED,)) == 1
        assert await store.cancel_delivery(app.id, waits.id, endpoint.id, NOW)
        assert [d.message for d in await self.lapse(store)] == [lapses.id]
        assert (await self.claim(store, endpoint)).claimed == ()

    async def test_a_line_never_has_two_heads(self, store: Store, app: Application) -> None:
        """The old head ends, is replayed behind the new one, and a third that waits is cancelled."""
        endpoint = new_endpoint(app, ordered=True)
        await store.create_endpoint(app.id, endpoint)
        messages = [new_message(app) for _ in range(3)]
        await store.commit([Accept(m, (new_delivery(m, endpoint),)) for m in messages])
        (head,) = (await self.claim(store, endpoint)).claimed
        await store.commit([Settlement(step(head.delivery, "delivered"), head.delivery.lease, now=NOW)])
        assert await replay(store, endpoint, states=(State.DELIVERED,)) == 1
        assert await store.cancel_delivery(app.id, messages[2].id, endpoint.id, NOW)
        deliveries = [d for m in messages for d in await store.list_deliveries(app.id, m.id)]
        assert [d.state for d in deliveries] == [State.WAITING, State.DUE, State.CANCELLED]

    async def test_a_replay_gives_a_fresh_schedule_and_leaves_pending_ones(
        self, store: Store, app: Application, endpoint: Endpoint
    ) -> None:
        leased = await self.leased(store, app, endpoint)
        await store.commit([Settlement(replace(step(leased, "exhausted"), attempts=9, step=9), leased.lease, now=NOW)])
        pending, unplanned = new_message(app), new_message(app)
        await self.accept(store, pending, new_delivery(pending, endpoint, due_at=NOW + HOUR))
        await self.accept(store, unplanned)
        assert await replay(store, endpoint, states=EVERY, missing=True) == 2
        page = await self.claim(store, endpoint)
        assert {c.message.id for c in page.claimed} == {leased.message, unplanned.id}
        assert {c.delivery.step for c in page.claimed} == {0}

    async def test_only_what_was_chosen_is_replayed(self, store: Store, app: Application) -> None:
        endpoint = new_endpoint(app)
        await store.create_endpoint(app.id, endpoint)
        old = await self.ended(store, endpoint, State.FAILED, id=IdMaker().new("msg_", NOW - HOUR))
        delivered = await self.ended(store, endpoint, State.DELIVERED)
        failed = await self.ended(store, endpoint, State.FAILED, status=503, channels=("c",), event_type="a.b")
        unanswered = await self.ended(store, endpoint, State.FAILED, status=0, tags=("urgent",))
        cancelled = await self.ended(store, endpoint, State.CANCELLED)
        everything = [old, delivered, failed, unanswered, cancelled]
        before = await self.deliveries(store, everything)
        recent = {"states": EVERY, "since": NOW - SECOND}
        for choice, expected in (
            ({"states": (State.FAILED,)}, [old, failed, unanswered]),
            ({"states": (State.DELIVERED,)}, [delivered]),
            ({"states": ()}, []),
            ({"states": EVERY, "until": NOW - SECOND}, [old]),
            (recent, [delivered, failed, unanswered, cancelled]),
            (recent | {"channel": "c"}, [failed]),
            (recent | {"tag": "urgent"}, [unanswered]),
            (recent | {"event_types": ("a.b", "c.d")}, [failed]),
            (recent | {"status_class": 500}, [failed]),
            (recent | {"status_class": 0}, [unanswered]),
            (recent | {"status_class": 200, "states": (State.CANCELLED,)}, [cancelled]),
        ):
            assert await replay(store, endpoint, **choice) == len(expected), choice
            found = await self.deliveries(store, everything)
            assert [d.message for d in found if d.state is State.DUE] == [m.id for m in expected], choice
            for again in [d for d in found if d.state is State.DUE]:
                assert (again.due_at, again.step, again.attempts) == (NOW, 0, 9)
                assert (again.trigger, again.expires_at) == (Trigger.SCHEDULED, NOW + HOUR)
            await self.end_again(store, endpoint, before)

    async def end_again(self, store: Store, endpoint: Endpoint, before: list[Delivery]) -> None:
        """Make what is due now end as it had ended before."""
        states = {d.message: d.state for d in before}
        for claimed in (await self.claim(store, endpoint, limit=99)).claimed:
            over = step(claimed.delivery, EVENTS[states[claimed.message.id]])
            await store.commit([Settlement(replace(over, step=9), claimed.delivery.lease, now=NOW)])

    async def test_what_was_never_planned_is_sent_if_the_endpoint_wants_it(
        self, store: Store, app: Application
    ) -> None:
        wanted, other, elsewhere = new_message(app), new_message(app, event_type="x"), new_message(new_app())
        await store.commit([Accept(message) for message in (wanted, other, elsewhere)])
        endpoint = new_endpoint(app, event_types=("invoice.*",))
        await store.create_endpoint(app.id, endpoint)
        failed = await self.ended(store, endpoint, State.FAILED)
        assert await replay(store, endpoint, missing=True) == 1
        (claimed,) = (await self.claim(store, endpoint)).claimed
        assert claimed.message == wanted
        assert claimed.delivery.expires_at == NOW + HOUR
        assert await self.states(store, [failed, other, elsewhere]) == [State.FAILED]
        assert await replay(store, endpoint, missing=True) == 0

    async def test_a_replay_of_a_line_keeps_its_order(self, store: Store, app: Application) -> None:
        endpoint = new_endpoint(app, ordered=True)
        never = [new_message(app, order_key=key) for key in ("a", "b")]
        await store.commit([Accept(message) for message in never])
        await store.create_endpoint(app.id, endpoint)
        keyed = [
            (m, new_delivery(m, endpoint, order_key=m.order_key))
            for m in (new_message(app, order_key=key) for key in ("a", "c", "c"))
        ]
        await store.commit([Accept(message, (delivery,)) for message, delivery in keyed])
        (head, second, third) = [message for message, _ in keyed]
        for claimed in (await self.claim(store, endpoint)).claimed:
            if claimed.message.id == second.id:
                await store.commit([Settlement(step(claimed.delivery, "exhausted"), claimed.delivery.lease, now=NOW)])
        assert await self.states(store, [head, second, third]) == [State.LEASED, State.FAILED, State.DUE]
        assert await replay(store, endpoint, states=EVERY, missing=True) == 3
        # "a" is headed already; of "b" the new one is the head; in "c" the failed one goes behind the one that is due
        assert await self.states(store, [*never, head, second, third]) == [
            State.WAITING, State.DUE, State.LEASED, State.WAITING, State.DUE,
        ]  # fmt: skip
        for claimed in (await self.claim(store, endpoint, now=NOW + 1, lease=8)).claimed:
            await store.commit([Settlement(step(claimed.delivery, "delivered"), 8, now=NOW)])
        assert await self.states(store, [*never, second]) == [State.WAITING, State.DELIVERED, State.DUE]

    async def test_a_line_that_rests_goes_on_with_its_first(self, store: Store, app: Application) -> None:
        endpoint = new_endpoint(app, ordered=True)
        messages = [new_message(app) for _ in range(3)]
        await store.commit([Accept(message) for message in messages])
        await store.create_endpoint(app.id, endpoint)
        assert await replay(store, endpoint, missing=True) == 3
        assert await self.states(store, messages) == [State.DUE, State.WAITING, State.WAITING]

    async def test_a_replay_goes_on_where_it_was(
        self, store: Store, app: Application, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("tenterhook.store.replays.PAGE", 2)
        messages = [await self.ended(store, endpoint, State.FAILED) for _ in range(5)]
        task = new_replay(endpoint, states=(State.FAILED,))
        await store.create_task(task)
        await store.claim_task(NOW, 1, SOON)
        first = await store.advance_task(task.id, 1, NOW, SOON)
        assert first is not None
        assert (first.done, first.due, first.task.reached) == (False, (endpoint.id,), messages[1].id)
        assert await self.states(store, messages) == [State.DUE] * 2 + [State.FAILED] * 3
        # what fails again meanwhile is not sent a second time
        for claimed in (await self.claim(store, endpoint)).claimed:
            await store.commit([Settlement(step(claimed.delivery, "exhausted"), claimed.delivery.lease, now=NOW)])
        await store.claim_task(SOON, 2, SOON + HOUR)
        while not (page := await store.advance_task(task.id, 2, SOON, SOON + HOUR)) or not page.done:
            assert page is not None
        assert page.task.data == {"messagesSent": 5}
        assert await self.states(store, messages) == [State.FAILED] * 2 + [State.DUE] * 3

    async def test_a_replay_for_an_endpoint_that_is_gone_fails(
        self, store: Store, app: Application, endpoint: Endpoint
    ) -> None:
        task = new_replay(endpoint, missing=True)
        await store.create_task(task)
        await store.delete_endpoint(app.id, endpoint.id)
        await store.claim_task(NOW, 1, SOON)
        with pytest.raises(NotFound, match="deleted"):
            await store.advance_task(task.id, 1, NOW, SOON)

    async def test_asking_by_hand_overrules_filters_and_comes_into_line(self, store: Store, app: Application) -> None:
        endpoint = new_endpoint(app, ordered=True, event_types=("x",))
        await store.create_endpoint(app.id, endpoint)
        first, second = new_message(app), new_message(app)
        await store.commit([Accept(first), Accept(second)])
        asked = [
            await store.request_attempt(app.id, message.id, endpoint.id, NOW, HOUR, True) for message in (first, second)
        ]
        assert [(d.state, d.trigger, d.expires_at) for d in asked] == [
            (State.DUE, Trigger.MANUAL, NOW + HOUR), (State.WAITING, Trigger.MANUAL, NOW + HOUR),
        ]  # fmt: skip
        assert await self.deliveries(store, [first, second]) == asked
        with pytest.raises(NotFound):
            await store.request_attempt(app.id, "msg_none", endpoint.id, NOW, HOUR, True)
        assert len(await store.list_messages(app.id, Cursor(limit=9))) == 2
