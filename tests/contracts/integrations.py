"""What every store must do with integrations and their keys."""

from typing import Any

import pytest
from msgspec.structs import replace

from tenterhook.errors import IdempotencyInProgress, NotFound
from tenterhook.model import Application, Integration, Token
from tenterhook.store.base import Store
from tenterhook.store.queries import Cursor
from tenterhook.store.work import Remember
from tests.contracts.store import NOW, StoreContract, make, new_app


def new_integration(app: Application, **changes: Any) -> Integration:
    fields = {"id": make.new("integ_", NOW), "app": app.id, "name": "CI", "created_at": NOW, "updated_at": NOW}
    return Integration(**fields | changes)


def new_key(integration: Integration) -> Token:
    return Token(
        id=make.new("tok_", NOW), name="key", scope="application", app=integration.app, created_at=NOW
    )  # fmt: skip


class IntegrationContract(StoreContract):
    async def test_an_integration_is_found_in_its_application_alone(self, store: Store, app: Application) -> None:
        first, second = new_integration(app, feature_flags=("beta",)), new_integration(app)
        other = new_app()
        await store.create_application(other)
        for one in (first, second):
            await store.create_integration(app.id, one)
        assert await store.get_integration(app.id, first.id) == first
        assert await store.get_integration(other.id, first.id) is None
        assert await store.list_integrations(app.id, Cursor(limit=9)) == [first, second]
        assert await store.list_integrations(app.id, Cursor(limit=1, descending=True)) == [second]
        assert await store.list_integrations(other.id, Cursor(limit=9)) == []
        changed = replace(first, name="New")
        await store.save_integration(app.id, changed)
        assert await store.get_integration(app.id, first.id) == changed
        for wrong in (store.save_integration(other.id, first), store.delete_integration(other.id, first.id)):
            with pytest.raises(NotFound):
                await wrong
        await store.delete_integration(app.id, first.id)
        assert await store.list_integrations(app.id, Cursor(limit=9)) == [second]

    async def test_an_integration_is_made_once_for_a_key(self, store: Store, app: Application) -> None:
        remember = Remember(b"key", b"hash", 201, b"{}", NOW + 1)
        await store.create_integration(app.id, new_integration(app), remember)
        with pytest.raises(IdempotencyInProgress):
            await store.create_integration(app.id, new_integration(app), remember)
        assert len(await store.list_integrations(app.id, Cursor(limit=9))) == 1

    async def test_a_rotated_key_takes_the_place_of_the_one_before(self, store: Store, app: Application) -> None:
        integration = new_integration(app, feature_flags=("beta",))
        await store.create_integration(app.id, integration)
        old, new = new_key(integration), new_key(integration)
        await store.rotate_key(app.id, integration.id, old, b"old")
        assert await store.find_token(b"old") == replace(old, name="CI", feature_flags=("beta",))
        await store.rotate_key(app.id, integration.id, new, b"new")
        assert await store.find_token(b"old") is None
        assert [token.id for token in await store.list_tokens()] == [new.id]
        with pytest.raises(NotFound):
            await store.rotate_key(new_app().id, integration.id, new_key(integration), b"newest")
        assert await store.find_token(b"newest") is None

    async def test_a_key_goes_by_its_integration(self, store: Store, app: Application) -> None:
        integration = new_integration(app, feature_flags=("beta",))
        await store.create_integration(app.id, integration)
        key = new_key(integration)
        await store.rotate_key(app.id, integration.id, key, b"hash")
        await store.save_integration(app.id, replace(integration, name="New", feature_flags=()))
        assert await store.find_token(b"hash") == replace(key, name="New")
        await store.revoke_token(key.id, NOW)
        await store.save_integration(app.id, integration)
        revoked = await store.find_token(b"hash")
        assert revoked is not None and revoked.revoked_at == NOW
        await store.delete_integration(app.id, integration.id)
        assert await store.find_token(b"hash") is None

    async def test_with_its_application_an_integration_and_its_key_go(self, store: Store, app: Application) -> None:
        other = new_app()
        await store.create_application(other)
        for n, owner in enumerate((app, other)):
            integration = new_integration(owner)
            await store.create_integration(owner.id, integration)
            await store.rotate_key(owner.id, integration.id, new_key(integration), b"%d" % n)
        await store.delete_application(app.id)
        assert await store.list_integrations(app.id, Cursor(limit=9)) == []
        assert await store.find_token(b"0") is None
        assert await store.find_token(b"1") is not None
