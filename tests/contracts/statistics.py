"""What every store must count of one endpoint."""

import pytest
from msgspec.structs import replace

from tenterhook.clock import HOUR, SECOND
from tenterhook.engine.lifecycle import step
from tenterhook.ids import IdMaker
from tenterhook.model import Application, Endpoint, Outcome, Result, State
from tenterhook.store import statistics
from tenterhook.store.base import Store
from tenterhook.store.queries import DeliveryCounts
from tenterhook.store.work import Accept, Settlement
from tests.contracts.store import NOW, StoreContract, new_app, new_attempt, new_delivery, new_endpoint, new_message

EVENTS = {"delivered": "delivered", "failed": "exhausted", "cancelled": "cancelled", "retrying": "retried"}


class StatisticsContract(StoreContract):
    async def test_deliveries_are_counted_by_how_they_stand(
        self, store: Store, app: Application, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        wanted = DeliveryCounts(delivered=4, failed=3, cancelled=2, untried=1, retrying=5)
        other = new_endpoint(app)
        for name, event in EVENTS.items():
            for _ in range(getattr(wanted, name)):
                message = new_message(app)
                leased = new_delivery(message, endpoint, state=State.LEASED, due_at=NOW + HOUR, lease=3)
                await store.commit([Accept(message, (leased, new_delivery(message, other)))])
                due = NOW if event == "retried" else None
                await store.commit([Settlement(replace(step(leased, event, due_at=due), attempts=1), 3, now=NOW)])
        early = new_message(app, id=IdMaker().new("msg_", NOW - HOUR))
        untried = new_message(app)
        await store.commit([Accept(m, (new_delivery(m, endpoint),)) for m in (early, untried)])
        window = (NOW - SECOND, NOW + SECOND)
        for at_once in (10_000, 15, 14, 4, 1):  # of 15 messages
            monkeypatch.setattr(statistics, "MESSAGES", at_once)
            assert await store.count_deliveries(app.id, endpoint.id, *window) == wanted
        assert await store.count_deliveries(app.id, endpoint.id, NOW - HOUR, NOW - SECOND) == DeliveryCounts(untried=1)
        assert await store.count_deliveries(app.id, "ep_none", *window) == DeliveryCounts()
        assert await store.count_deliveries(new_app().id, endpoint.id, *window) == DeliveryCounts()

    async def test_attempts_are_counted_by_how_they_ended(
        self, store: Store, app: Application, endpoint: Endpoint
    ) -> None:
        leased = await self.leased(store, app, endpoint)
        results = [Result.OK, Result.OK, Result.RETRY, Result.UNKNOWN, Result.GONE, Result.CANCELLED]
        attempts = [new_attempt(leased, outcome=Outcome(result=result)) for result in results]
        attempts.append(new_attempt(leased, id=IdMaker().new("atmpt_", NOW - HOUR)))
        attempts.append(new_attempt(leased, endpoint="ep_other"))
        await store.commit([Settlement(step(leased, "delivered"), 0, attempt, now=NOW) for attempt in attempts])
        window = (NOW - SECOND, NOW + SECOND)
        assert await store.count_attempts(app.id, endpoint.id, *window) == (2, 3, 1)
        assert await store.count_attempts(app.id, endpoint.id, NOW - HOUR, NOW - SECOND) == (0, 1, 0)
        assert await store.count_attempts(new_app().id, endpoint.id, *window) == (0, 0, 0)
