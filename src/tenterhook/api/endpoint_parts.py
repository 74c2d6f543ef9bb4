"""`/app/{app_id}/endpoint/{endpoint_id}/…`: the secret and the custom headers."""

import re
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta

from tenterhook import signing
from tenterhook.api.endpoints import find
from tenterhook.api.http import NO_CONTENT, Call, Response, json_response
from tenterhook.api.routes import Route
from tenterhook.api.shapes import In, Out, changeable
from tenterhook.clock import SECOND
from tenterhook.errors import BadRequest, Invalid, NotFound
from tenterhook.headers import SENSITIVE, check_headers
from tenterhook.model import Endpoint
from tenterhook.tokens import Capability

if TYPE_CHECKING:
    from tenterhook.api.app import Api

USUAL_GRACE = 86_400
LONGEST_GRACE = 604_800
_WANTS_NOTHING = re.compile(rb"svix-libs/(\d+)\.(\d+)[^ ]*/(?:java|kotlin|csharp)\b")


class LimitReached(BadRequest):
    """There are too many of them already."""

    code = "limit_reached"


class EndpointSecretRotateIn(In):
    """The next secret, made if it is not given; the old ones sign for `grace_period_seconds` more."""

    key: str | None = None
    grace_period_seconds: Annotated[int, Meta(ge=0, le=LONGEST_GRACE)] | None = None


class EndpointSecretOut(Out):
    """A signing secret; of a key pair the public half."""

    key: str


class EndpointHeadersIn(In):
    """The custom headers, all of them."""

    headers: dict[str, str]


class EndpointHeadersPatchIn(In):
    """Some custom headers; null, and what `delete_headers` names, go."""

    headers: dict[str, str | None] | None = None
    delete_headers: list[str] | None = None


class EndpointHeadersOut(Out):
    """The custom headers, and the names of those whose values are not shown."""

    headers: dict[str, str]
    sensitive: list[str]


def _secret(endpoint: Endpoint) -> EndpointSecretOut:
    """Raises NotFound for an endpoint that signs nothing."""
    if not endpoint.secrets:
        raise NotFound(f"an endpoint of kind {endpoint.kind} has no secret")
    return EndpointSecretOut(key=signing.public_form(endpoint.secrets[0].key))


async def get_secret(api: "Api", call: Call) -> Response:
    return json_response(200, _secret(await find(api, call)))


async def rotate_secret(api: "Api", call: Call) -> Response:
    """The new secret. A repeated request reads the one in use: what is stored of an answer must not hold a secret."""

    async def rotate() -> Response:
        wanted = await call.json(EndpointSecretRotateIn)

        async def change() -> Endpoint:
            return await _rotate_once(api, await find(api, call), wanted)

        return _rotated(call, await api.change(call, change))

    async def again() -> Response:
        return _rotated(call, await find(api, call))

    return await api.idempotency.once(call, rotate, again)


async def _rotate_once(api: "Api", endpoint: Endpoint, wanted: EndpointSecretRotateIn) -> Endpoint:
    changeable(endpoint)
    if endpoint.kind != "webhook":
        raise Invalid(f"an endpoint of kind {endpoint.kind} signs nothing")
    if wanted.key is not None:
        try:
            signing.signing_key(wanted.key)
        except Invalid as wrong:
            raise Invalid(wrong.detail, ("body", "key")) from None
    grace = USUAL_GRACE if wanted.grace_period_seconds is None else wanted.grace_period_seconds
    try:
        return await api.registry.rotate_secret(endpoint, wanted.key, grace * SECOND)
    except BadRequest as error:
        raise LimitReached(error.detail) from None


def _rotated(call: Call, endpoint: Endpoint) -> Response:
    """Clients of some languages before 2.7 fail on an answer where they expect none."""
    agent = _WANTS_NOTHING.match(call.header(b"user-agent") or b"")
    if agent is not None and (int(agent[1]), int(agent[2])) < (2, 7):
        return NO_CONTENT
    return json_response(200, _secret(endpoint))


async def get_headers(api: "Api", call: Call) -> Response:
    headers = (await find(api, call)).headers
    return json_response(
        200,
        EndpointHeadersOut(
            headers={name: value for name, value in headers if name.lower() not in SENSITIVE},
            sensitive=[name for name, _ in headers if name.lower() in SENSITIVE],
        ),
    )


async def put_headers(api: "Api", call: Call) -> Response:
    endpoint = await find(api, call)
    wanted = await call.json(EndpointHeadersIn)
    changeable(endpoint)
    await api.registry.save_endpoint(endpoint, headers=check_headers(wanted.headers))
    return NO_CONTENT


async def patch_headers(api: "Api", call: Call) -> Response:
    """Names are compared without regard to case."""
    endpoint = await find(api, call)
    wanted = await call.json(EndpointHeadersPatchIn)
    changeable(endpoint)
    named = {name.lower() for name in (*(wanted.headers or ()), *(wanted.delete_headers or ()))}
    kept = [(name, value) for name, value in endpoint.headers if name.lower() not in named]
    new = [(name, value) for name, value in (wanted.headers or {}).items() if value is not None]
    await api.registry.save_endpoint(endpoint, headers=check_headers([*kept, *new]))
    return NO_CONTENT


_ONE = "/api/v1/app/{app_id}/endpoint/{endpoint_id}"
ROUTES = [
    Route("GET", _ONE + "/secret", get_secret, "v1.endpoint.get-secret", "Read the signing secret",
          {200: EndpointSecretOut}, capability=Capability.VIEW_SECRET),
    Route("POST", _ONE + "/secret/rotate", rotate_secret, "v1.endpoint.rotate-secret", "Rotate the signing secret",
          {200: EndpointSecretOut, 204: None}, body=EndpointSecretRotateIn, capability=Capability.MANAGE_SECRET),
    Route("GET", _ONE + "/headers", get_headers, "v1.endpoint.get-headers", "Read the custom headers",
          {200: EndpointHeadersOut}),
    Route("PUT", _ONE + "/headers", put_headers, "v1.endpoint.set-headers", "Replace the custom headers", {204: None},
          body=EndpointHeadersIn),
    Route("PATCH", _ONE + "/headers", patch_headers, "v1.endpoint.patch-headers", "Change custom headers", {204: None},
          body=EndpointHeadersPatchIn),
]  # fmt: skip
