"""`application`, `health`."""

import pytest
from svix.api import ApplicationIn, ApplicationListOptions, ApplicationPatch, Ordering
from svix.exceptions import HttpError

from tests.sdk.client import Sdk
from tests.sdk.operations import exercises

ACME = ApplicationIn(name="Acme", uid="acme", throttle_rate=5, metadata={"a": "b"})


@exercises("application.create")
async def create(sdk: Sdk) -> None:
    app = await sdk.application.create(ACME)
    assert (app.name, app.uid, app.throttle_rate, app.metadata) == ("Acme", "acme", 5, {"a": "b"})
    assert app.id.startswith("app_")


@exercises("application.get_or_create")
async def get_or_create(sdk: Sdk) -> None:
    made = await sdk.application.get_or_create(ACME)
    again = await sdk.application.get_or_create(ApplicationIn(name="Other", uid="acme"))
    assert again == made


@exercises("application.get")
async def get(sdk: Sdk) -> None:
    app = await sdk.application.create(ACME)
    assert await sdk.application.get("acme") == await sdk.application.get(app.id) == app


@exercises("application.list")
async def listing(sdk: Sdk) -> None:
    first, second = await sdk.app(), await sdk.app(name="Second")
    await sdk.endpoint_of(second)
    page = await sdk.application.list(ApplicationListOptions(limit=1, order=Ordering.DESCENDING))
    assert ([app.id for app in page.data], page.done) == ([second], False)
    rest = ApplicationListOptions(limit=1, order=Ordering.DESCENDING, iterator=page.iterator)
    page = await sdk.application.list(rest)
    assert ([app.id for app in page.data], page.done) == ([first], True)
    for left_out in (
        ApplicationListOptions(exclude_apps_with_no_endpoints=True),
        ApplicationListOptions(exclude_apps_with_no_endpoints=True, exclude_apps_with_disabled_endpoints=True),
        ApplicationListOptions(exclude_apps_with_no_endpoints=True, exclude_apps_with_svix_play_endpoints=True),
    ):
        assert [app.id for app in (await sdk.application.list(left_out)).data] == [second]


@exercises("application.patch")
async def patch(sdk: Sdk) -> None:
    app = await sdk.application.create(ACME)
    changed = await sdk.application.patch(app.id, ApplicationPatch(name="New", throttle_rate=None))
    assert (changed.name, changed.throttle_rate, changed.uid) == ("New", None, "acme")


@exercises("application.upsert")
async def upsert(sdk: Sdk) -> None:
    app = await sdk.application.create(ACME)
    replaced = await sdk.application.upsert("acme", ApplicationIn(name="Newer"))
    assert (replaced.id, replaced.name, replaced.uid, replaced.metadata) == (app.id, "Newer", None, {})
    made = await sdk.application.upsert("nobody", ApplicationIn(name="Made"))
    assert (made.name, made.uid) == ("Made", None)


@exercises("application.delete")
async def delete(sdk: Sdk) -> None:
    app = await sdk.app()
    assert await sdk.application.delete(app) is None
    with pytest.raises(HttpError) as gone:
        await sdk.application.get(app)
    assert (gone.value.status_code, gone.value.code) == (404, "not_found")


@exercises("health.get")
async def health(sdk: Sdk) -> None:
    assert await sdk.login("nobody").health.get() is None
