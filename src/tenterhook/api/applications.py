"""`/app`: the consumers of events."""

from typing import TYPE_CHECKING, Any

from msgspec import UNSET, UnsetType

from tenterhook.api import lists
from tenterhook.api.http import NO_CONTENT, Call, Response, json_response
from tenterhook.api.idempotency import RememberFor
from tenterhook.api.lists import SORTED_PAGE, ListResponse
from tenterhook.api.query import Flag
from tenterhook.api.routes import Access, Route
from tenterhook.api.shapes import (
    Hours,
    In,
    Metadata,
    Out,
    Rate,
    Time,
    Title,
    Uid,
    given,
    hours,
    instant,
    metadata_of,
    span_of,
    uid_of,
    unset,
)
from tenterhook.errors import Conflict, Invalid, Managed, NotFound
from tenterhook.model import Application
from tenterhook.store.queries import ANY_APPLICATION, ApplicationFilter

if TYPE_CHECKING:
    from tenterhook.api.app import Api

PREFIX = "app_"
GET_IF_EXISTS = Flag("get_if_exists", "Answer with the application that has the `uid` already, if there is one.")
NOT_EMPTY = Flag("exclude_apps_with_no_endpoints", "Leave out applications that have no endpoints.")
NOT_ONLY_DISABLED = Flag(
    "exclude_apps_with_disabled_endpoints", "Leave out applications whose endpoints are all disabled."
)
NOT_ONLY_PLAY = Flag(
    "exclude_apps_with_svix_play_endpoints", "Leave out applications whose endpoints are all at Svix Play."
)
PLAY = "https://play.svix.com/"


class ApplicationIn(In):
    """An application to create, or to put in the place of one. `rate_limit` is what old clients call the throttle."""

    name: Title
    uid: Uid | None = None
    throttle_rate: Rate | None = None
    rate_limit: Rate | None = None
    payload_retention_hours: Hours | UnsetType | None = UNSET
    record_retention_hours: Hours | UnsetType | None = UNSET
    metadata: Metadata | None = None

    def fields(self) -> dict[str, Any]:
        """Raises Invalid."""
        return given(
            name=self.name,
            uid=uid_of(self.uid, PREFIX),
            rate_limit=self.throttle_rate or self.rate_limit,
            payload_retention=span_of(self.payload_retention_hours),
            record_retention=span_of(self.record_retention_hours),
            metadata=metadata_of(self.metadata),
        )


class ApplicationPatch(In):
    """Changes to an application: what is absent stays, null clears."""

    name: Title | UnsetType = UNSET
    uid: Uid | UnsetType | None = UNSET
    throttle_rate: Rate | UnsetType | None = UNSET
    rate_limit: Rate | UnsetType | None = UNSET
    payload_retention_hours: Hours | UnsetType | None = UNSET
    record_retention_hours: Hours | UnsetType | None = UNSET
    metadata: Metadata | UnsetType | None = UNSET

    def fields(self) -> dict[str, Any]:
        """Raises Invalid."""
        return given(
            name=self.name,
            uid=UNSET if self.uid is UNSET else uid_of(self.uid, PREFIX),
            rate_limit=self.rate_limit if self.throttle_rate is UNSET else self.throttle_rate,
            payload_retention=span_of(self.payload_retention_hours),
            record_retention=span_of(self.record_retention_hours),
            metadata=UNSET if self.metadata is UNSET else metadata_of(self.metadata),
        )


class ApplicationOut(Out, kw_only=True):
    """An application as the wire API shows it."""

    id: str
    name: str
    uid: str | UnsetType = UNSET
    throttle_rate: int | None
    rate_limit: int | UnsetType = UNSET
    payload_retention_hours: float | None = None
    record_retention_hours: float | None = None
    created_at: Time
    updated_at: Time
    metadata: Metadata


def shown(app: Application) -> ApplicationOut:
    return ApplicationOut(
        id=app.id,
        name=app.name,
        uid=unset(app.uid),
        throttle_rate=app.rate_limit,
        rate_limit=UNSET if app.rate_limit is None else app.rate_limit,
        payload_retention_hours=hours(app.payload_retention),
        record_retention_hours=hours(app.record_retention),
        created_at=instant(app.created_at),
        updated_at=instant(app.updated_at),
        metadata=app.metadata,
    )


async def listing(api: "Api", call: Call) -> Response:
    """Applications, oldest first."""
    cursor = lists.cursor_of(call, PREFIX, descending=False)
    play = PLAY if call.query[NOT_ONLY_PLAY] else None
    wanted = ApplicationFilter(some=call.query[NOT_EMPTY], enabled=call.query[NOT_ONLY_DISABLED], only_at=play)
    if wanted == ANY_APPLICATION:
        return await lists.answer(cursor, api.store.list_applications, shown, _id)
    return await lists.answer_search(cursor, lambda page: api.store.search_applications(page, wanted), shown, _id)


def _id(app: Application) -> str:
    return app.id


async def create(api: "Api", call: Call) -> Response:
    """201, or with `get_if_exists` 200 and the application that has the uid already, unchanged."""
    reuse = call.query[GET_IF_EXISTS]

    async def made(remember: RememberFor) -> Application | Response:
        fields = (await call.json(ApplicationIn)).fields()
        uid = fields["uid"] if reuse else None
        there = None if uid is None else await api.store.get_application(uid)
        if there is not None:
            return json_response(200, shown(there))
        try:
            return await api.registry.create_application(remember, **fields)
        except Conflict:
            # somebody else was faster
            there = None if uid is None else await api.store.get_application(uid)
            if there is None:
                raise
            return json_response(200, shown(there))

    return await api.idempotency.creating(call, 201, made, shown)


async def found_or_made(api: "Api", ref: str, given: ApplicationIn | None) -> Application:
    """The application of a path; where there is none, `given` makes it, if it has this very uid.

    Raises NotFound, and Invalid with the types that the wire API has for these two.
    """
    try:
        return await api.registry.application(ref)
    except NotFound:
        if given is None:
            raise
    loc = ("body", "application", "uid")
    if given.uid is None:
        raise Invalid("an application to be made here needs a uid", loc, "application_uid_missing")
    if given.uid != ref:
        raise Invalid("the uid must be the one in the path", loc, "application_uid_mismatch")
    try:
        return await api.registry.create_application(**given.fields())
    except Conflict:  # somebody else was faster
        return await api.registry.application(ref)


async def get(api: "Api", call: Call) -> Response:
    return json_response(200, shown(await api.registry.application(call.params["app_id"])))


async def put(api: "Api", call: Call) -> Response:
    """Replace it, or create one: the value in the path is not taken as its uid."""
    fields = (await call.json(ApplicationIn)).fields()
    try:
        app = await api.registry.application(call.params["app_id"])
    except NotFound:
        return json_response(201, shown(await api.registry.create_application(**fields)))
    return json_response(200, shown(await api.registry.save_application(app, **fields)))


async def patch(api: "Api", call: Call) -> Response:
    app = await api.registry.application(call.params["app_id"])
    fields = (await call.json(ApplicationPatch)).fields()
    return json_response(200, shown(await api.registry.save_application(app, **fields)))


async def delete(api: "Api", call: Call) -> Response:
    """With its endpoints and sources, unless one of them comes from the configuration file."""
    app = await api.registry.application(call.params["app_id"])
    managed = any(endpoint.managed for endpoint, _ in await api.store.load_endpoints(app.id))
    if managed or any(source.managed for source in await api.registry.sources(app.id)):
        raise Managed("an endpoint or source of this application comes from the configuration file")
    await api.registry.delete_application(app)
    return NO_CONTENT


_ALL = "/api/v1/app"
_ONE = _ALL + "/{app_id}"
ROUTES = [
    Route("GET", _ALL, listing, "v1.application.list", "List applications", {200: ListResponse[ApplicationOut]},
          Access.ORGANISATION, query=(*SORTED_PAGE, NOT_EMPTY, NOT_ONLY_DISABLED, NOT_ONLY_PLAY)),
    Route("POST", _ALL, create, "v1.application.create", "Create an application",
          {201: ApplicationOut, 200: ApplicationOut}, Access.ORGANISATION, query=(GET_IF_EXISTS,), body=ApplicationIn),
    Route("GET", _ONE, get, "v1.application.get", "Read an application", {200: ApplicationOut}),
    Route("PUT", _ONE, put, "v1.application.upsert", "Replace or create an application",
          {200: ApplicationOut, 201: ApplicationOut}, Access.ORGANISATION, body=ApplicationIn),
    Route("PATCH", _ONE, patch, "v1.application.patch", "Change an application", {200: ApplicationOut},
          Access.ORGANISATION, body=ApplicationPatch),
    Route("DELETE", _ONE, delete, "v1.application.delete", "Delete an application", {204: None}, Access.ORGANISATION),
]  # fmt: skip
