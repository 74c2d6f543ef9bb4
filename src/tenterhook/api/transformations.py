"""`/app/{app_id}/endpoint/{endpoint_id}/transformation`: the code that changes what an endpoint is sent."""

from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from tenterhook.api.endpoints import find
from tenterhook.api.http import NO_CONTENT, Call, Response, json_response
from tenterhook.api.routes import Route
from tenterhook.api.shapes import In, Out, Time, changeable, given, instant
from tenterhook.errors import Invalid
from tenterhook.tokens import Capability

if TYPE_CHECKING:
    from tenterhook.api.app import Api

MOST_VARIABLES = 16_384
"""Bytes of all variables as JSON."""
Code = Annotated[
    str,
    Meta(
        min_length=10,
        max_length=51_200,
        description="JavaScript with a function `handler(webhook)` that returns the webhook.",
        examples=["function handler(webhook) { return webhook; }"],
    ),
]
Variables = Annotated[
    dict[str, str],
    Meta(description=f"Texts for the code, at most {MOST_VARIABLES} bytes as JSON.", examples=[{"team": "a"}]),
]


class EndpointTransformationPatch(In, kw_only=True):
    """Changes to the transformation: what is absent stays. Without code (null) the whole of it goes."""

    code: Code | UnsetType | None = UNSET
    enabled: bool | UnsetType = UNSET
    variables: Variables | UnsetType | None = UNSET


class EndpointTransformationOut(Out, kw_only=True):
    """The transformation of an endpoint; `code` is null, and the rest empty, where there is none."""

    code: str | None
    enabled: bool
    variables: dict[str, str]
    updated_at: Time | UnsetType = UNSET


async def get(api: "Api", call: Call) -> Response:
    """The code, whether it runs, and its variables."""
    found = (await find(api, call)).transformation
    if found is None:
        return json_response(200, EndpointTransformationOut(code=None, enabled=False, variables={}))
    out = EndpointTransformationOut(
        code=found.code, enabled=found.enabled, variables=found.variables, updated_at=instant(found.updated_at)
    )
    return json_response(200, out)


async def patch(api: "Api", call: Call) -> Response:
    """Refuses code that cannot run: one that is no JavaScript, or has no function `handler`. Applies to the next attempt."""
    endpoint = await find(api, call)
    wanted = await call.json(EndpointTransformationPatch)
    changeable(endpoint)
    changes = given(code=wanted.code, enabled=wanted.enabled)
    if wanted.variables is not UNSET:
        changes["variables"] = _variables(wanted.variables or {})
    await api.registry.transform(endpoint, **changes)
    return NO_CONTENT


def _variables(variables: dict[str, str]) -> dict[str, str]:
    """Raises Invalid for more than may be kept."""
    if len(msgspec.json.encode(variables)) > MOST_VARIABLES:
        raise Invalid(f"variables may have at most {MOST_VARIABLES} bytes as JSON", ("body", "variables"))
    return variables


_ONE = "/api/v1/app/{app_id}/endpoint/{endpoint_id}/transformation"
ROUTES = [
    # to read it is more than to look: code and variables may hold credentials
    Route("GET", _ONE, get, "v1.endpoint.transformation.get", "Read the transformation",
          {200: EndpointTransformationOut}, capability=Capability.MANAGE_TRANSFORMATIONS),
    Route("PATCH", _ONE, patch, "v1.endpoint.transformation.patch", "Change the transformation", {204: None},
          body=EndpointTransformationPatch, capability=Capability.MANAGE_TRANSFORMATIONS),
]  # fmt: skip
