"""`operational_webhook.endpoint`."""

import pytest
from svix.api import (
    OperationalWebhookEndpointHeadersIn,
    OperationalWebhookEndpointIn,
    OperationalWebhookEndpointListOptions,
    OperationalWebhookEndpointSecretIn,
    OperationalWebhookEndpointUpsertIn,
)
from svix.exceptions import HttpError

from tests.api import URL
from tests.sdk.client import Sdk
from tests.sdk.operations import exercises

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


async def one(sdk: Sdk, **fields: object) -> str:
    made = await sdk.operational_webhook.endpoint.create(OperationalWebhookEndpointIn(**{"url": URL} | fields))
    return str(made.id)


@exercises("operational_webhook.endpoint.create")
async def create(sdk: Sdk) -> None:
    wanted = OperationalWebhookEndpointIn(
        url=URL,
        description="d",
        uid="ops",
        event_types=["endpoint.disabled"],
        metadata={"a": "b"},
        headers={"X-A": "1"},
    )
    made = await sdk.operational_webhook.endpoint.create(wanted)
    assert (made.url, made.description, made.uid, made.metadata) == (URL, "d", "ops", {"a": "b"})
    assert (made.event_types, made.disabled) == (["endpoint.disabled"], False)


@exercises("operational_webhook.endpoint.get")
async def get(sdk: Sdk) -> None:
    made = await one(sdk, uid="ops")
    assert (await sdk.operational_webhook.endpoint.get(made)).url == URL
    assert (await sdk.operational_webhook.endpoint.get("ops")).id == made


@exercises("operational_webhook.endpoint.list")
async def listing(sdk: Sdk) -> None:
    first, second = await one(sdk), await one(sdk)
    assert {found.id for found in (await sdk.operational_webhook.endpoint.list()).data} == {first, second}
    page = await sdk.operational_webhook.endpoint.list(OperationalWebhookEndpointListOptions(limit=1))
    assert (len(page.data), page.done) == (1, False)


@exercises("operational_webhook.endpoint.upsert")
async def upsert(sdk: Sdk) -> None:
    made = await one(sdk, description="old", disabled=True)
    wanted = OperationalWebhookEndpointUpsertIn(url=URL + "/2")
    replaced = await sdk.operational_webhook.endpoint.upsert(made, wanted)
    assert (replaced.id, replaced.url, replaced.description, replaced.disabled) == (made, URL + "/2", "", False)


@exercises("operational_webhook.endpoint.delete")
async def delete(sdk: Sdk) -> None:
    made = await one(sdk)
    assert await sdk.operational_webhook.endpoint.delete(made) is None
    with pytest.raises(HttpError, match="not_found"):
        await sdk.operational_webhook.endpoint.get(made)


@exercises("operational_webhook.endpoint.get_secret")
async def get_secret(sdk: Sdk) -> None:
    made = await one(sdk, secret=SECRET)
    assert (await sdk.operational_webhook.endpoint.get_secret(made)).key == SECRET


@exercises("operational_webhook.endpoint.rotate_secret")
async def rotate_secret(sdk: Sdk) -> None:
    made = await one(sdk)
    wanted = OperationalWebhookEndpointSecretIn(key=SECRET, grace_period_seconds=0)
    assert await sdk.operational_webhook.endpoint.rotate_secret(made, wanted) is None
    assert (await sdk.operational_webhook.endpoint.get_secret(made)).key == SECRET


@exercises("operational_webhook.endpoint.get_headers")
async def get_headers(sdk: Sdk) -> None:
    found = await sdk.operational_webhook.endpoint.get_headers(
        await one(sdk, headers={"X-A": "1", "Authorization": "x"})
    )
    assert (found.headers, found.sensitive) == ({"X-A": "1"}, ["Authorization"])


@exercises("operational_webhook.endpoint.set_headers")
async def set_headers(sdk: Sdk) -> None:
    made = await one(sdk, headers={"X-A": "1"})
    wanted = OperationalWebhookEndpointHeadersIn(headers={"X-B": "2"})
    assert await sdk.operational_webhook.endpoint.set_headers(made, wanted) is None
    assert (await sdk.operational_webhook.endpoint.get_headers(made)).headers == {"X-B": "2"}
