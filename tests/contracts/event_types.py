"""What every store must do with many event types at once."""

import pytest
from msgspec.structs import replace

from tenterhook.errors import IdempotencyInProgress
from tenterhook.model import EventType
from tenterhook.store.base import Store
from tenterhook.store.queries import Cursor
from tenterhook.store.work import Remember
from tests.contracts.store import NOW, StoreContract

PAID, SENT, VOID = (
    EventType(name=name, created_at=NOW, updated_at=NOW) for name in ("invoice.paid", "invoice.sent", "invoice.void")
)


class EventTypeContract(StoreContract):
    async def test_many_event_types_are_created_and_replaced_together(self, store: Store) -> None:
        await store.save_event_types([])
        await store.create_event_type(PAID)
        changed = replace(PAID, archived=True, description="Paid")
        await store.save_event_types([SENT, changed])
        assert await store.list_event_types(Cursor(limit=9), archived=True) == [changed, SENT]
        assert await store.list_event_types(Cursor(limit=9), archived=False) == [SENT]

    async def test_none_is_saved_when_the_answer_is_another_nodes(self, store: Store) -> None:
        remember = Remember(b"key", b"hash", 200, b"{}", NOW + 1)
        await store.save_event_types([PAID], remember)
        with pytest.raises(IdempotencyInProgress):
            await store.save_event_types([SENT, VOID], remember)
        assert await store.list_event_types(Cursor(limit=9), archived=True) == [PAID]
        recalled = await store.recall(b"key", NOW)
        assert recalled is not None and recalled.answer == b"{}"
