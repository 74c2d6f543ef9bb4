"""What every store must do with the list of what an endpoint was to get. Mixed into the contract of the store."""

from random import Random

import pytest
from msgspec.structs import replace

from tenterhook.clock import MINUTE
from tenterhook.engine.lifecycle import PENDING
from tenterhook.ids import IdMaker, instant_of
from tenterhook.model import Application, Delivery, Endpoint, Message, State
from tenterhook.store.base import Store
from tenterhook.store.queries import Cursor, DeliveryFilter, Found, MessageFilter
from tenterhook.store.work import Accept, Claim, Page
from tests.contracts.search import TYPES, fits
from tests.contracts.store import LEASE, NOW, new_app, new_delivery, new_endpoint, new_message

Owed = tuple[Message, Delivery]
FILTERS = [
    DeliveryFilter(), DeliveryFilter(states=(State.DELIVERED,)), DeliveryFilter(states=PENDING, tried=False),
    DeliveryFilter(states=PENDING, tried=True), DeliveryFilter(states=(State.FAILED, State.CANCELLED)),
    DeliveryFilter(of=MessageFilter(event_types=("a.b",), channel="one")),
    DeliveryFilter(states=(State.FAILED,), of=MessageFilter(tag="t")), DeliveryFilter(of=MessageFilter(tag="none")),
]  # fmt: skip


def owed_fits(one: Owed, wanted: DeliveryFilter) -> bool:
    """The rule in other words."""
    message, delivery = one
    return (
        (not wanted.states or delivery.state in wanted.states)
        and (wanted.tried is None or wanted.tried is (delivery.attempts > 0))
        and fits(message, wanted.of)
    )


class DeliveryContract:
    """Beside `StoreContract`, whose fixtures it needs."""

    @pytest.fixture
    async def owed(
        self, store: Store, app: Application, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
    ) -> list[Owed]:
        """What an endpoint was to get, oldest first; another one gets everything, and a search looks at a few at a time."""
        monkeypatch.setattr("tenterhook.store.search.WINDOW", 4)
        rng, ids, other = Random(7), IdMaker(), new_endpoint(app)
        await store.create_endpoint(app.id, other)
        made: list[Owed] = []
        for n in range(50):
            message = new_message(
                app, id=ids.new("msg_", NOW + n * MINUTE), event_type=rng.choice(TYPES),
                channels=tuple(rng.sample(("one", "two"), rng.randint(0, 2))), tags=rng.choice([(), ("t",)]),
            )  # fmt: skip
            state = rng.choice(list(State))
            delivery = new_delivery(
                message, endpoint, state=state, due_at=NOW if state in PENDING else None, attempts=rng.choice([0, 2])
            )
            wanted = rng.random() < 0.7
            deliveries = (delivery, new_delivery(message, other)) if wanted else (new_delivery(message, other),)
            await store.commit([Accept(message, deliveries)])
            if wanted:
                made.append((message, delivery))
        return made

    @pytest.mark.parametrize("wanted", FILTERS)
    async def test_what_an_endpoint_was_to_get_is_found(
        self, store: Store, app: Application, endpoint: Endpoint, owed: list[Owed], wanted: DeliveryFilter
    ) -> None:
        expected = [one for one in owed if owed_fits(one, wanted)]

        async def walk(cursor: Cursor) -> list[Owed]:
            found: list[Owed] = []
            while True:
                page = await store.search_deliveries(app.id, endpoint.id, cursor, wanted)
                found = page.items + found if cursor.backward else found + page.items
                if len(page.items) < cursor.limit and page.behind is None:
                    return found
                edge = (
                    page.items[0 if cursor.backward else -1][0].id if len(page.items) == cursor.limit else page.behind
                )
                cursor = replace(cursor, after=edge)

        for limit in (1, 3, 100):
            for backward in (True, False):
                assert await walk(Cursor(limit=limit, descending=True, backward=backward)) == expected[::-1]
        assert await walk(Cursor(limit=2)) == expected
        window = Cursor(limit=3, since=NOW + 5 * MINUTE, until=NOW + 30 * MINUTE)
        inside = range(NOW + 5 * MINUTE, NOW + 30 * MINUTE)
        assert await walk(window) == [one for one in expected if instant_of(one[0].id) in inside]

    async def test_what_an_endpoint_was_to_get_stays_in_its_application(
        self, store: Store, app: Application, endpoint: Endpoint, owed: list[Owed]
    ) -> None:
        every = Cursor(limit=100)
        assert await store.search_deliveries("app_other", endpoint.id, every, DeliveryFilter()) == Found([])
        assert (await store.search_deliveries(app.id, "ep_other", every, DeliveryFilter())).items == []

    async def test_a_claim_tells_the_rate_of_the_application(
        self, store: Store, app: Application, endpoint: Endpoint
    ) -> None:
        for rate in (None, 7, 9, None):
            await store.save_application(replace(app, rate_limit=rate))
            message = new_message(app)
            await store.commit([Accept(message, (new_delivery(message, endpoint),))])
            (page,) = await store.commit([Claim(endpoint.id, 9, NOW, 7, NOW + LEASE, paced_until=NOW + LEASE)])
            assert isinstance(page, Page)
            assert (len(page.claimed), page.app_rate) == (1, rate)
        throttled = new_app(rate_limit=3)
        await store.create_application(throttled)
        other = new_endpoint(throttled)
        await store.create_endpoint(throttled.id, other)
        pages = await store.commit([Claim(one.id, 9, NOW, 7, NOW + LEASE) for one in (endpoint, other)])
        assert [page.app_rate for page in pages if isinstance(page, Page)] == [None, 3]

    async def test_a_claim_for_an_endpoint_that_is_gone_tells_nothing_of_a_rate(
        self, store: Store, app: Application, endpoint: Endpoint
    ) -> None:
        await store.save_application(replace(app, rate_limit=7))
        message = new_message(app)
        await store.delete_endpoint(app.id, endpoint.id)
        # planned by a node that did not know yet
        await store.commit([Accept(message, (new_delivery(message, endpoint, due_at=NOW + 5),))])
        (page,) = await store.commit([Claim(endpoint.id, 9, NOW, 7, NOW + LEASE)])
        assert isinstance(page, Page)
        assert (page.next_due, page.oldest) == (NOW + 5, None)
