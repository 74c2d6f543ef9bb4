"""`authentication`."""

from typing import Any

import pytest
from svix.api import ApplicationIn, ApplicationTokenExpireIn, AppPortalAccessIn, AppPortalCapability, EndpointIn
from svix.exceptions import HttpError

from tests.api import URL
from tests.sdk.client import Sdk
from tests.sdk.operations import exercises


async def status_of(call: Any) -> int:
    with pytest.raises(HttpError) as error:
        await call
    return int(error.value.status_code)


async def visitor(sdk: Sdk, app: str, **fields: Any) -> Sdk:
    access = await sdk.authentication.app_portal_access(app, AppPortalAccessIn(**fields))
    assert access.token in access.url
    return sdk.login(access.token)


@exercises("authentication.app_portal_access")
async def app_portal_access(sdk: Sdk) -> None:
    other = await sdk.app()
    inline = ApplicationIn(name="Acme", uid="acme")
    looking = await visitor(sdk, "acme", application=inline, expiry=3_600, capabilities=[AppPortalCapability.VIEW_BASE])
    assert (await looking.endpoint.list("acme")).data == []
    assert await status_of(looking.endpoint.create("acme", EndpointIn(url=URL))) == 403
    assert await status_of(looking.endpoint.list(other)) == 404
    acting = await visitor(sdk, "acme", session_id="of-ann")
    assert (await acting.endpoint.create("acme", EndpointIn(url=URL))).url == URL


@exercises("authentication.logout")
async def logout(sdk: Sdk) -> None:
    app = await sdk.app()
    here = await visitor(sdk, app)
    assert await here.authentication.logout() is None
    assert await status_of(here.endpoint.list(app)) == 401


@exercises("authentication.expire_all")
async def expire_all(sdk: Sdk) -> None:
    app = await sdk.app()
    ann, bob = await visitor(sdk, app, session_id="ann"), await visitor(sdk, app, session_id="bob")
    some = ApplicationTokenExpireIn(expiry=0, session_ids=["ann"])
    assert await sdk.authentication.expire_all(app, some) is None
    assert await status_of(ann.endpoint.list(app)) == 401
    assert (await bob.endpoint.list(app)).done
    await sdk.authentication.expire_all(app, ApplicationTokenExpireIn(expiry=0))
    assert await status_of(bob.endpoint.list(app)) == 401
