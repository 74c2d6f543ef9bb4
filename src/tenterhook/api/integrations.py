"""`/app/{app_id}/integration`: named credentials of an application, for programs that work on its behalf."""

from typing import TYPE_CHECKING, Annotated, Any

from msgspec import Meta

from tenterhook.api import lists
from tenterhook.api.http import NO_CONTENT, Call, Response, json_response
from tenterhook.api.idempotency import RememberFor
from tenterhook.api.lists import SORTED_PAGE, ListResponse
from tenterhook.api.routes import Access, Route
from tenterhook.api.shapes import In, Name, Out, Time, Title, instant
from tenterhook.model import Integration

if TYPE_CHECKING:
    from tenterhook.api.app import Api

PREFIX = "integ_"


class IntegrationIn(In):
    """An integration to create, or to put in the place of one; its key opens event types behind the feature flags."""

    name: Title
    feature_flags: Annotated[list[Name], Meta(max_length=25)] | None = None

    def fields(self) -> dict[str, Any]:
        return {"name": self.name, "feature_flags": tuple(dict.fromkeys(self.feature_flags or ()))}


class IntegrationOut(Out):
    """An integration, without its key."""

    id: str
    name: str
    feature_flags: tuple[str, ...] | None
    created_at: Time
    updated_at: Time


class IntegrationKeyOut(Out):
    """The key: a bearer token for the application, shown once."""

    key: str


def shown(integration: Integration) -> IntegrationOut:
    return IntegrationOut(
        id=integration.id,
        name=integration.name,
        feature_flags=integration.feature_flags or None,
        created_at=instant(integration.created_at),
        updated_at=instant(integration.updated_at),
    )


async def _app(api: "Api", call: Call) -> str:
    return (await api.registry.application(call.params["app_id"])).id


async def _find(api: "Api", call: Call) -> Integration:
    return await api.registry.integration(await _app(api, call), call.params["integ_id"])


async def listing(api: "Api", call: Call) -> Response:
    """Integrations, newest first."""
    app = await _app(api, call)
    cursor = lists.cursor_of(call, PREFIX, descending=True)
    return await lists.answer(cursor, lambda page: api.store.list_integrations(app, page), shown, lambda one: one.id)


async def create(api: "Api", call: Call) -> Response:
    """It has no key until one is made by rotating it."""
    app = await _app(api, call)

    async def made(remember: RememberFor) -> Integration:
        return await api.registry.create_integration(app, remember, **(await call.json(IntegrationIn)).fields())

    return await api.idempotency.creating(call, 201, made, shown)


async def get(api: "Api", call: Call) -> Response:
    return json_response(200, shown(await _find(api, call)))


async def put(api: "Api", call: Call) -> Response:
    """Replace its name and feature flags; the key stays, and goes by them at once."""
    integration = await _find(api, call)
    fields = (await call.json(IntegrationIn)).fields()
    changed = await api.registry.save_integration(integration, **fields)
    api.auth.forget()
    return json_response(200, shown(changed))


async def delete(api: "Api", call: Call) -> Response:
    """With its key, which is refused from now on."""
    integration = await _find(api, call)
    await api.store.delete_integration(integration.app, integration.id)
    api.auth.forget()
    return NO_CONTENT


async def rotate_key(api: "Api", call: Call) -> Response:
    """A new key; the one before is refused from now on. Only its hash is kept, so a repeated request gets another one."""
    integration = await _find(api, call)

    async def act() -> Response:
        key = await api.registry.rotate_key(integration)
        api.auth.forget()
        return json_response(200, IntegrationKeyOut(key))

    return await api.idempotency.once(call, act, act)


_ALL = "/api/v1/app/{app_id}/integration"
_ONE = _ALL + "/{integ_id}"
ROUTES = [
    Route("GET", _ALL, listing, "v1.integration.list", "List integrations", {200: ListResponse[IntegrationOut]},
          Access.ORGANISATION, query=SORTED_PAGE),
    Route("POST", _ALL, create, "v1.integration.create", "Create an integration", {201: IntegrationOut},
          Access.ORGANISATION, body=IntegrationIn),
    Route("GET", _ONE, get, "v1.integration.get", "Read an integration", {200: IntegrationOut}, Access.ORGANISATION),
    Route("PUT", _ONE, put, "v1.integration.update", "Replace an integration", {200: IntegrationOut},
          Access.ORGANISATION, body=IntegrationIn),
    Route("DELETE", _ONE, delete, "v1.integration.delete", "Delete an integration", {204: None}, Access.ORGANISATION),
    Route("POST", _ONE + "/key/rotate", rotate_key, "v1.integration.rotate-key", "Rotate the key of an integration",
          {200: IntegrationKeyOut}, Access.ORGANISATION),
]  # fmt: skip
