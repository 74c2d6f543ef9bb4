"""What every store must do for those who fetch messages. Mixed into the contract of the store."""

import pytest

from tenterhook.errors import NotFound
from tenterhook.ids import IdMaker, floor
from tenterhook.model import Application, Endpoint
from tenterhook.store.base import Store
from tenterhook.store.queries import Cursor
from tenterhook.store.work import WRITTEN_WITHIN, Accept, Accepted
from tests.contracts.store import NOW, new_endpoint, new_message


class ConsumerContract:
    """Beside `StoreContract`, whose fixtures it needs."""

    async def test_a_consumer_is_remembered_until_its_endpoint_goes(
        self, store: Store, app: Application, endpoint: Endpoint
    ) -> None:
        other = new_endpoint(app)
        await store.create_endpoint(app.id, other)
        assert await store.get_position(app.id, endpoint.id, "me") is None
        for position in (floor("msg_", NOW), floor("msg_", 0)):
            await store.save_position(app.id, endpoint.id, "me", position)
            assert await store.get_position(app.id, endpoint.id, "me") == position
        await store.save_position(app.id, other.id, "me", "msg_other")
        await store.save_position(app.id, endpoint.id, "you", "msg_you")
        assert await store.get_position(app.id, endpoint.id, "me") == floor("msg_", 0)
        assert await store.get_position("app_other", endpoint.id, "me") is None
        await store.delete_endpoint(app.id, endpoint.id)
        assert await store.get_position(app.id, endpoint.id, "you") is None
        assert await store.get_position(app.id, other.id, "me") == "msg_other"

    async def test_nobody_is_remembered_without_an_endpoint(
        self, store: Store, app: Application, endpoint: Endpoint
    ) -> None:
        for owner, place in ((app.id, "ep_none"), ("app_other", endpoint.id)):
            with pytest.raises(NotFound):
                await store.save_position(owner, place, "me", "msg_1")
        assert await store.get_position(app.id, endpoint.id, "me") is None

    async def test_what_is_accepted_is_settled_in_the_end(self, store: Store, app: Application) -> None:
        now = store.clock.now()
        message = new_message(app, id=IdMaker().new("msg_", now), created_at=now)
        (done,) = await store.commit([Accept(message, deadline=now + WRITTEN_WITHIN)])
        assert isinstance(done, Accepted)
        until = await store.settled_until()
        assert until is None or until <= store.clock.now() - WRITTEN_WITHIN
        assert await store.list_messages(app.id, Cursor(limit=9)) == [message]
