"""PostgreSQL keeps the contract of the store, and what only a server with many clients can do."""

from pathlib import Path

import pytest

from tenterhook.clock import HOUR
from tenterhook.model import Application, State
from tenterhook.store.base import Accept, Accepted, Cursor, Remember, Store
from tenterhook.store.postgres import PostgresStore
from tenterhook.vault import Vault
from tests.contracts.store import (
    NOW,
    StoreContract,
    new_delivery,
    new_endpoint,
    new_message,
    new_received,
    new_source,
)

VAULT = Vault([b"0" * 32])


class TestPostgres(StoreContract):
    @pytest.fixture(autouse=True)
    def database(self, postgres_url: str) -> None:
        self.url = postgres_url

    async def make(self, path: Path) -> PostgresStore:
        return await PostgresStore.open(self.url, VAULT)

    async def test_what_was_kept_before_its_answer_was_lost_is_answered_as_if_it_had_not_been(
        self, store: Store, app: Application
    ) -> None:
        endpoint, source = new_endpoint(app, ordered=True), new_source(app)
        await store.create_endpoint(app.id, endpoint)
        await store.create_source(app.id, source)
        loaded = await store.load_application(app.id)
        assert loaded is not None
        named, received, lined = new_message(app, event_id="e"), new_message(app, source=source.id), new_message(app)
        remember = Remember(b"key", b"hash", 202, b"{}", NOW + HOUR)
        work = [
            Accept(named, (new_delivery(named, endpoint),), None, remember, loaded.revision),
            Accept(received, (), new_received(source, received, dedup_key="k"), None, loaded.revision),
            Accept(lined, (new_delivery(lined, endpoint),), None, None, loaded.revision),
        ]
        first = await store.commit(work)
        assert first == [Accepted(named.id), Accepted(received.id), Accepted(lined.id, waiting=(endpoint.id,))]
        other = new_message(app)
        assert await store.commit([*work, Accept(other)]) == [*first, Accepted(other.id)]
        stored = await store.list_messages(app.id, Cursor(limit=9))
        assert {m.id for m in stored} == {named.id, received.id, lined.id, other.id}
        assert len(await store.list_received(app.id, source.id, Cursor(limit=9))) == 1
        delivery = await store.get_delivery(app.id, lined.id, endpoint.id)
        assert delivery is not None
        assert delivery.state is State.WAITING
