"""`/auth`: tokens for the visitors of an application's portal, and their end."""

from typing import TYPE_CHECKING, Annotated

from msgspec import Meta

from tenterhook.api import applications
from tenterhook.api.applications import ApplicationIn
from tenterhook.api.http import NO_CONTENT, Call, Response, json_response
from tenterhook.api.routes import Access, Route
from tenterhook.api.shapes import In, Name, Out
from tenterhook.clock import SECOND
from tenterhook.errors import Forbidden
from tenterhook.registry import create_token
from tenterhook.tokens import Capability, TokenScope

if TYPE_CHECKING:
    from tenterhook.api.app import Api

HOUR_SECONDS, WEEK_SECONDS, LONGEST_GRACE = 3_600, 604_800, 259_200
SessionId = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9@_-]+\Z")]
"""A name for one visit or visitor, so that its tokens can be ended apart from others."""


class AppPortalAccessIn(In):
    """What a visitor of the portal may do, and for how many seconds (`expiry`). Without `capabilities` all of them."""

    application: ApplicationIn | None = None
    capabilities: list[Capability] | None = None
    read_only: bool | None = None
    feature_flags: Annotated[list[Name], Meta(min_length=1, max_length=25)] | None = None
    expiry: Annotated[int, Meta(ge=HOUR_SECONDS, le=WEEK_SECONDS)] | None = None
    session_id: SessionId | None = None


class AppPortalAccessOut(Out):
    """The token, and a link to the portal that holds it."""

    url: str
    token: str


class ApplicationTokenExpireIn(In):
    """After how many seconds (`expiry`) the tokens end, and of which sessions; all of the application without them."""

    expiry: Annotated[int, Meta(ge=0, le=LONGEST_GRACE)] | None = None
    session_ids: Annotated[list[SessionId], Meta(max_length=1_000)] | None = None


async def portal_access(api: "Api", call: Call) -> Response:
    """A token for one application, short-lived, and the link that brings its holder there."""

    async def act() -> Response:
        given = await call.json(AppPortalAccessIn)
        app = await applications.found_or_made(api, call.params["app_id"], given.application)
        scope = TokenScope.READ_ONLY if given.read_only else TokenScope.APPLICATION
        _, text = await create_token(
            api.store,
            api.clock,
            name="portal",
            scope=scope.value,
            app=app.id,
            portal=True,
            session=given.session_id,
            capabilities=None if given.capabilities is None else tuple(c.value for c in given.capabilities),
            feature_flags=tuple(given.feature_flags or ()),
            expires_at=api.clock.now() + (given.expiry or WEEK_SECONDS) * SECOND,
        )
        return json_response(200, AppPortalAccessOut(f"{_base(api, call)}/portal#key={text}", text))

    # a token is shown once: whoever asks again gets another one
    return await api.idempotency.once(call, act, act)


def _base(api: "Api", call: Call) -> str:
    """Where browsers find this server: as the settings say, else as the caller does."""
    return api.public_url or f"http://{(call.header(b'host') or b'localhost').decode('latin-1')}"


async def logout(api: "Api", call: Call) -> Response:
    """End the token that this is called with; only those for one application can be ended so."""
    assert call.token is not None
    if call.token.app is None:
        raise Forbidden(
            "only the token of an application can be logged out: revoke others with `tenterhook token revoke`"
        )
    await api.store.revoke_token(call.token.id, api.clock.now())
    api.auth.forget()
    return NO_CONTENT


async def expire_all(api: "Api", call: Call) -> Response:
    """End the tokens of an application, or those of some sessions, now or in a while."""
    app = await api.registry.application(call.params["app_id"])

    async def act() -> Response:
        given = await call.json(ApplicationTokenExpireIn)
        end = api.clock.now() + (given.expiry or 0) * SECOND
        await api.store.expire_tokens(app.id, given.session_ids, end)
        api.auth.forget()
        return NO_CONTENT

    return await api.idempotency.once(call, act)


_AUTH = "/api/v1/auth"
ROUTES = [
    Route("POST", _AUTH + "/app-portal-access/{app_id}", portal_access, "v1.authentication.app-portal-access",
          "Let somebody into the portal", {200: AppPortalAccessOut}, Access.ORGANISATION, body=AppPortalAccessIn),
    Route("POST", _AUTH + "/logout", logout, "v1.authentication.logout", "End the token that is used",
          {204: None}, Access.ANY, capability=Capability.VIEW),
    Route("POST", _AUTH + "/app/{app_id}/expire-all", expire_all, "v1.authentication.expire-all",
          "End the tokens of an application", {204: None}, Access.ORGANISATION, body=ApplicationTokenExpireIn),
]  # fmt: skip
