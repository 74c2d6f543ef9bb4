"""What every store must do when content is to go for good."""

import pytest

from tenterhook.clock import SECOND
from tenterhook.engine.lifecycle import step
from tenterhook.errors import NotFound
from tenterhook.ids import IdMaker
from tenterhook.model import EXPUNGED, Application, Endpoint, TaskKind
from tenterhook.store.base import Store
from tenterhook.store.queries import Cursor
from tenterhook.store.work import Accept, Settlement
from tests.contracts.store import (
    NOW,
    StoreContract,
    new_app,
    new_attempt,
    new_message,
    new_received,
    new_source,
)
from tests.contracts.tasks import SOON, new_task, run


class ErasureContract(StoreContract):
    async def test_the_content_of_messages_goes_and_the_rest_stays(
        self, store: Store, app: Application, endpoint: Endpoint
    ) -> None:
        leased = await self.leased(store, app, endpoint)
        attempt = new_attempt(leased)
        await store.commit([Settlement(step(leased, "delivered"), leased.lease, attempt, now=NOW)])
        named, kept, theirs = new_message(app, event_id="e"), new_message(app), new_message(new_app())
        await store.commit([Accept(message) for message in (named, kept, theirs)])
        refs = ["e", leased.message, named.id, theirs.id, "msg_none"]
        assert await store.expunge_messages(app.id, refs) == ["e", leased.message, named.id]
        assert await store.expunge_messages(app.id, ["e"]) == ["e"]
        assert await store.expunge_messages(app.id, []) == []
        gone = await store.get_message(app.id, "e")
        assert gone is not None and gone.expired and gone.payload == b"" and gone.event_type == named.event_type
        assert await store.get_message(app.id, kept.id) == kept
        assert await store.get_message(theirs.app, theirs.id) == theirs
        shown = await store.get_attempt(app.id, leased.message, attempt.id)
        assert shown is not None
        assert (shown.outcome.request_body, shown.outcome.response_body) == (None, attempt.outcome.response_body)

    async def test_an_attempt_under_way_brings_nothing_back(
        self, store: Store, app: Application, endpoint: Endpoint
    ) -> None:
        gone, kept = await self.leased(store, app, endpoint), await self.leased(store, app, endpoint)
        await store.expunge_messages(app.id, [gone.message])
        attempts = [new_attempt(delivery) for delivery in (gone, kept)]
        await store.commit(
            [
                Settlement(step(delivery, "delivered"), delivery.lease, attempt, now=NOW)
                for delivery, attempt in zip((gone, kept), attempts, strict=True)
            ]
        )
        shown = [await store.get_attempt(app.id, one.message, one.id) for one in attempts]
        assert [None if one is None else one.outcome.request_body for one in shown] == [None, b"x"]
        late = new_attempt(gone)  # its lease is lost, and it is kept all the same
        await store.commit([Settlement(step(gone, "delivered"), gone.lease, late, now=NOW)])
        found = await store.get_attempt(app.id, late.message, late.id)
        assert found is not None and found.outcome.request_body is None

    async def test_the_copies_of_a_received_request_go_with_its_message(self, store: Store, app: Application) -> None:
        source = new_source(app)
        await store.create_source(app.id, source)
        message, twin = new_message(app), new_message(app)
        first, again = (new_received(source, m, dedup_key="k") for m in (message, twin))
        other = new_received(source, None)
        await store.commit([Accept(message, (), first), Accept(None, (), other)])
        await store.commit([Accept(twin, (), again)])
        assert await store.expunge_messages(app.id, [message.id]) == [message.id]
        found = await store.list_received(app.id, source.id, Cursor(limit=9))
        assert {one.id: one.request.body for one in found} == {first.id: b"", again.id: b"", other.id: b"raw\x00"}

    async def test_the_content_of_an_attempt_goes(self, store: Store, app: Application, endpoint: Endpoint) -> None:
        leased = await self.leased(store, app, endpoint)
        attempt = new_attempt(leased)
        await store.commit([Settlement(step(leased, "delivered"), leased.lease, attempt, now=NOW)])
        for wrong in ((new_app().id, leased.message, attempt.id), (app.id, leased.message, "atmpt_none")):
            with pytest.raises(NotFound):
                await store.expunge_attempt(*wrong)
        await store.expunge_attempt(app.id, leased.message, attempt.id)
        shown = await store.get_attempt(app.id, leased.message, attempt.id)
        assert shown is not None
        assert (shown.outcome.request_body, shown.outcome.response_body) == (None, EXPUNGED)
        assert shown.outcome.status == attempt.outcome.status
        message = await store.get_message(app.id, leased.message)
        assert message is not None and not message.expired

    async def test_everything_that_an_application_holds_goes_in_pages(
        self, store: Store, app: Application, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("tenterhook.store.erasure.PAGE", 2)
        messages, theirs = [new_message(app) for _ in range(5)], new_message(new_app())
        await store.commit([Accept(message) for message in (*messages, theirs)])
        await store.expunge_messages(app.id, [messages[3].id])
        task = new_task(kind=TaskKind.PURGE, app=app.id)
        await store.create_task(task)
        await store.claim_task(NOW, 1, SOON)
        advanced = await store.advance_task(task.id, 1, NOW, SOON)
        assert advanced is not None and advanced.task.data == {"messagesPurged": 2}
        await store.end_task(task.id, 1, NOW)
        late = new_message(app, id=IdMaker().new("msg_", NOW + SECOND // 20), created_at=NOW + SECOND // 20)
        await store.commit([Accept(late)])
        ended = await run(store, new_task(kind=TaskKind.PURGE, app=app.id))
        assert ended.data == {"messagesPurged": 2}
        left = await store.list_messages(app.id, Cursor(limit=9))
        assert [message.id for message in left if not message.expired] == [late.id]
        assert await store.get_message(theirs.app, theirs.id) == theirs
