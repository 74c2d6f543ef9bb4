"""What every store must do with messages that tell of a change: they are written with it, or not at all."""

from typing import Any

import pytest
from msgspec.structs import replace

from tenterhook.clock import HOUR, SECOND
from tenterhook.engine.lifecycle import step
from tenterhook.errors import Conflict, NotFound
from tenterhook.ids import IdMaker
from tenterhook.model import (
    OPERATIONAL,
    OPERATIONAL_UID,
    Application,
    Delivery,
    Endpoint,
    Message,
    State,
)
from tenterhook.store.base import Store
from tenterhook.store.queries import Cursor
from tenterhook.store.work import Accept, Accepted, Settled, Settlement
from tests.contracts.store import (
    NOW,
    StoreContract,
    new_app,
    new_attempt,
    new_delivery,
    new_endpoint,
    new_message,
)
from tests.contracts.tasks import SOON, new_task

LONG_AGO = 1_700_000_000 * SECOND


class NoticeContract(StoreContract):
    @pytest.fixture
    async def own(self, store: Store) -> Application:
        own = await store.get_application(OPERATIONAL)
        assert own is not None
        return own

    @pytest.fixture
    async def ear(self, store: Store, own: Application) -> Endpoint:
        ear = new_endpoint(own, ordered=True)
        await store.create_endpoint(own.id, ear)
        return ear

    def notice(self, own: Application, ear: Endpoint, **changes: Any) -> Accept:
        message = new_message(own, **changes)
        return Accept(message, (new_delivery(message, ear),))

    async def told(self, store: Store) -> list[Message]:
        return await store.list_messages(OPERATIONAL, Cursor(limit=99))

    async def test_the_servers_own_application_is_there_and_in_no_list(
        self, store: Store, app: Application, own: Application
    ) -> None:
        assert (own.id, own.uid) == (OPERATIONAL, OPERATIONAL_UID)
        assert await store.get_application(OPERATIONAL_UID) == own
        assert await store.list_applications(Cursor(limit=9)) == [app]
        with pytest.raises(Conflict):
            await store.create_application(new_app(uid=OPERATIONAL_UID))

    async def test_a_change_and_what_tells_of_it_are_written_together(
        self, store: Store, app: Application, own: Application, ear: Endpoint
    ) -> None:
        endpoint = new_endpoint(app, uid="main")
        notices = [self.notice(own, ear) for _ in range(4)]
        messages = [one.message for one in notices]
        await store.create_endpoint(app.id, endpoint, None, notices[:2])
        await store.save_endpoint(app.id, replace(endpoint, description="d"), False, notices[2:3])
        await store.delete_endpoint(app.id, endpoint.id, notices[3:])
        assert await self.told(store) == messages
        deliveries = [d for m in messages if m is not None for d in await store.list_deliveries(own.id, m.id)]
        assert [d.state for d in deliveries] == [State.DUE] + [State.WAITING] * 3, "an ordered endpoint hears in order"
        assert (await self.claim(store, ear)).claimed[0].message == messages[0]
        await store.delete_application(app.id, [last := self.notice(own, ear)])
        assert last.message in await self.told(store)

    async def test_a_change_that_fails_is_not_told(
        self, store: Store, app: Application, own: Application, ear: Endpoint
    ) -> None:
        await store.create_endpoint(app.id, new_endpoint(app, uid="main"))
        twin, nobody = new_endpoint(app, uid="main"), new_endpoint(app)
        with pytest.raises(Conflict):
            await store.create_endpoint(app.id, twin, None, [self.notice(own, ear)])
        with pytest.raises(NotFound):
            await store.save_endpoint(app.id, nobody, False, [self.notice(own, ear)])
        with pytest.raises(NotFound):
            await store.delete_endpoint(app.id, nobody.id, [self.notice(own, ear)])
        with pytest.raises(NotFound):
            await store.delete_application(new_app().id, [self.notice(own, ear)])
        assert await self.told(store) == []
        assert (await store.counts()).pending == 0

    async def test_what_goes_with_a_settlement_is_accepted_if_that_is_kept(
        self, store: Store, app: Application, endpoint: Endpoint, own: Application, ear: Endpoint
    ) -> None:
        kept, lost = [await self.leased(store, app, endpoint) for _ in range(2)]
        notices = [self.notice(own, ear) for _ in range(3)]
        other = new_message(app)
        work = [
            self.failed(lost, lease=99),
            replace(notices[0], given=0),
            self.failed(kept, lease=kept.lease),
            replace(notices[1], given=2),
            Accept(other),
            replace(notices[2], given=2),
        ]
        first, second, third = [one.message for one in notices]
        assert first is not None and second is not None and third is not None
        done = await store.commit(work)
        assert done == [
            Settled(False), Accepted(None), Settled(True), Accepted(second.id), Accepted(other.id),
            Accepted(third.id, False, (ear.id,)),
        ]  # fmt: skip
        assert await self.told(store) == [second, third]
        # the next batch knows nothing of what this one has lost
        again = await self.leased(store, app, endpoint)
        done = await store.commit([self.failed(again, lease=again.lease), replace(notices[0], given=0)])
        assert done == [Settled(True), Accepted(first.id, False, (ear.id,))]

    @pytest.mark.parametrize("way", ["verb", "settlement"])
    async def test_one_that_comes_late_gets_an_id_that_no_reader_has_passed(
        self, store: Store, app: Application, endpoint: Endpoint, own: Application, ear: Endpoint, way: str
    ) -> None:
        first, second, third = [IdMaker().new("msg_", LONG_AGO + n * SECOND) for n in range(3)]
        passed = new_message(own, id=third)
        await store.commit([Accept(passed)])
        late = [replace(self.notice(own, ear, id=one), deadline=LONG_AGO + 5 * SECOND) for one in (first, second)]
        if way == "verb":
            await store.save_endpoint(app.id, endpoint, False, late)
        else:
            leased = await self.leased(store, app, endpoint)
            done = await store.commit([self.failed(leased, leased.lease), *(replace(one, given=0) for one in late)])
            assert done[0] == Settled(True)
        found = [message.id for message in await self.told(store)]
        assert (len(found), found[0]) == (3, third)
        deliveries = [d for message in found for d in await store.list_deliveries(own.id, message)]
        assert [(d.message, d.state) for d in deliveries] == [(found[1], State.DUE), (found[2], State.WAITING)]

    def failed(self, leased: Delivery, lease: int) -> Settlement:
        return Settlement(step(leased, "exhausted"), lease, new_attempt(leased), now=NOW)

    async def test_a_lifetime_that_ends_is_told_once(
        self, store: Store, app: Application, endpoint: Endpoint, own: Application, ear: Endpoint
    ) -> None:
        endpoint = replace(endpoint, uid="main")
        await store.save_endpoint(app.id, endpoint)
        over, going = new_message(app, event_id="e"), new_message(app)
        for message in (over, going):
            await self.accept(store, message, new_delivery(message, endpoint, expires_at=NOW))
        (claimed,) = (await self.claim(store, endpoint, limit=1)).claimed
        attempts = [new_attempt(claimed.delivery, started_at=NOW + n) for n in range(2)]
        back = step(claimed.delivery, "retried", due_at=NOW)
        await store.commit([Settlement(back, claimed.delivery.lease, attempts[0], now=NOW)])
        elsewhere = replace(attempts[1], endpoint="ep_other")
        await store.commit([Settlement(back, 0, elsewhere, now=NOW)])
        found = await store.list_lapsing(NOW, 9)
        told_of = {one.delivery.message: (one.event_id, one.endpoint_uid, one.attempt) for one in found}
        last = (attempts[0].id, 500, NOW)
        tried = claimed.message.id
        assert told_of == {
            over.id: ("e", "main", last if tried == over.id else None),
            going.id: (None, "main", last if tried == going.id else None),
        }
        listed = [one.delivery for one in found]
        assert await store.cancel_delivery(app.id, going.id, endpoint.id, NOW)
        notices = {delivery.message: self.notice(own, ear) for delivery in listed}
        told = [(delivery, (notices[delivery.message],)) for delivery in listed]
        assert [d.message for d in await store.lapse(NOW, told)] == [over.id]
        assert await store.lapse(NOW, told) == []
        assert await self.told(store) == [notices[over.id].message]

    async def test_the_end_of_a_task_is_told_by_whoever_ends_it(
        self, store: Store, own: Application, ear: Endpoint
    ) -> None:
        task = new_task()
        await store.create_task(task)
        await store.claim_task(NOW, 1, SOON)
        await store.claim_task(SOON, 2, SOON + HOUR)
        assert await store.end_task(task.id, 1, SOON, None, [self.notice(own, ear)]) is None
        assert await self.told(store) == []
        assert await store.end_task(task.id, 2, SOON, None, [notice := self.notice(own, ear)]) is not None
        assert await self.told(store) == [notice.message]
