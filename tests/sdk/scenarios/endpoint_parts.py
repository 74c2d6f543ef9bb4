"""`endpoint`: secret, headers, transformation."""

import pytest
from svix.api import (
    EndpointHeadersIn,
    EndpointHeadersPatchIn,
    EndpointSecretRotateIn,
    EndpointTransformationIn,
    EndpointTransformationPatch,
)
from svix.exceptions import HTTPValidationError

from tests.sdk.client import Sdk
from tests.sdk.operations import exercises

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
CODE = "function handler(webhook) { return webhook; }"


async def one(sdk: Sdk, **fields: object) -> tuple[str, str]:
    app = await sdk.app()
    return app, await sdk.endpoint_of(app, **fields)


@exercises("endpoint.get_secret")
async def get_secret(sdk: Sdk) -> None:
    assert (await sdk.endpoint.get_secret(*await one(sdk, secret=SECRET))).key == SECRET
    assert (await sdk.endpoint.get_secret(*await one(sdk))).key.startswith("whsec_")


@exercises("endpoint.rotate_secret")
async def rotate_secret(sdk: Sdk) -> None:
    where = await one(sdk)
    first = (await sdk.endpoint.get_secret(*where)).key
    rotated = await sdk.endpoint.rotate_secret(*where, EndpointSecretRotateIn(grace_period_seconds=60))
    assert rotated.key != first and rotated == await sdk.endpoint.get_secret(*where)
    assert (await sdk.endpoint.rotate_secret(*where, EndpointSecretRotateIn(key=SECRET))).key == SECRET


@exercises("endpoint.get_headers")
async def get_headers(sdk: Sdk) -> None:
    headers = await sdk.endpoint.get_headers(*await one(sdk, headers={"X-A": "1", "Authorization": "x"}))
    assert (headers.headers, headers.sensitive) == ({"X-A": "1"}, ["Authorization"])


@exercises("endpoint.set_headers")
async def set_headers(sdk: Sdk) -> None:
    where = await one(sdk, headers={"X-A": "1"})
    assert await sdk.endpoint.set_headers(*where, EndpointHeadersIn(headers={"X-B": "2"})) is None
    assert (await sdk.endpoint.get_headers(*where)).headers == {"X-B": "2"}


@exercises("endpoint.patch_headers")
async def patch_headers(sdk: Sdk) -> None:
    where = await one(sdk, headers={"X-A": "1", "X-C": "3"})
    change = EndpointHeadersPatchIn(headers={"X-B": "2"}, delete_headers=["X-A"])
    assert await sdk.endpoint.patch_headers(*where, change) is None
    assert (await sdk.endpoint.get_headers(*where)).headers == {"X-B": "2", "X-C": "3"}


@exercises("endpoint.transformation.get")
async def get_transformation(sdk: Sdk) -> None:
    found = await sdk.endpoint.transformation.get(*await one(sdk))
    assert (found.code, found.enabled) == (None, False)


@exercises("endpoint.transformation.patch")
async def patch_transformation(sdk: Sdk) -> None:
    where = await one(sdk)
    change = EndpointTransformationPatch(code=CODE, enabled=True, variables={"a": "b"})
    assert await sdk.endpoint.transformation.patch(*where, change) is None
    found = await sdk.endpoint.transformation.get(*where)
    assert (found.code, found.enabled, found.variables) == (CODE, True, {"a": "b"})
    await sdk.endpoint.transformation.patch(*where, EndpointTransformationPatch(code=None))
    assert (await sdk.endpoint.transformation.get(*where)).code is None


@exercises("endpoint.transformation.patch", "that cannot run")
async def patch_with_what_cannot_run(sdk: Sdk) -> None:
    where = await one(sdk)
    with pytest.raises(HTTPValidationError) as refused:
        change = EndpointTransformationPatch(code="function handler(webhook) {")
        await sdk.endpoint.transformation.patch(*where, change)
    assert refused.value.status_code == 422
    assert "SyntaxError" in refused.value.detail[0].msg and "(line 2)" in refused.value.detail[0].msg


@exercises("endpoint.transformation_partial_update")
async def transformation_partial_update(sdk: Sdk) -> None:
    where = await one(sdk)
    with pytest.warns(DeprecationWarning, match="transformation_partial_update"):
        assert await sdk.endpoint.transformation_partial_update(*where, EndpointTransformationIn(code=CODE)) is None
    assert (await sdk.endpoint.transformation.get(*where)).code == CODE
