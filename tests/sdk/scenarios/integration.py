"""`integration`."""

import pytest
from svix.api import IntegrationIn, IntegrationListOptions, IntegrationUpdate
from svix.exceptions import HttpError

from tests.sdk.client import Sdk
from tests.sdk.operations import exercises


async def one(sdk: Sdk, name: str = "CI") -> tuple[str, str]:
    app = await sdk.app()
    made = await sdk.integration.create(app, IntegrationIn(name=name, feature_flags=["beta"]))
    return app, made.id


@exercises("integration.create")
async def create(sdk: Sdk) -> None:
    made = await sdk.integration.create(await sdk.app(), IntegrationIn(name="CI", feature_flags=["beta"]))
    assert (made.name, made.feature_flags) == ("CI", ["beta"])
    assert made.id.startswith("integ_")


@exercises("integration.get")
async def get(sdk: Sdk) -> None:
    found = await sdk.integration.get(*await one(sdk))
    assert (found.name, found.feature_flags) == ("CI", ["beta"])


@exercises("integration.list")
async def listing(sdk: Sdk) -> None:
    app, first = await one(sdk)
    second = (await sdk.integration.create(app, IntegrationIn(name="Other"))).id
    assert {found.id for found in (await sdk.integration.list(app)).data} == {first, second}
    page = await sdk.integration.list(app, IntegrationListOptions(limit=1))
    assert (len(page.data), page.done) == (1, False)


@exercises("integration.update")
async def update(sdk: Sdk) -> None:
    where = await one(sdk)
    changed = await sdk.integration.update(*where, IntegrationUpdate(name="New"))
    assert (changed.id, changed.name) == (where[1], "New")
    assert await sdk.integration.get(*where) == changed


@exercises("integration.delete")
async def delete(sdk: Sdk) -> None:
    where = await one(sdk)
    assert await sdk.integration.delete(*where) is None
    with pytest.raises(HttpError, match="not_found"):
        await sdk.integration.get(*where)


@exercises("integration.rotate_key")
async def rotate_key(sdk: Sdk) -> None:
    app, integration = await one(sdk)
    first = (await sdk.integration.rotate_key(app, integration)).key
    assert (await sdk.login(first).endpoint.list(app)).data == []
    second = (await sdk.integration.rotate_key(app, integration)).key
    assert (await sdk.login(second).endpoint.list(app)).data == []
    with pytest.raises(HttpError, match="authentication_failed"):
        await sdk.login(first).endpoint.list(app)
