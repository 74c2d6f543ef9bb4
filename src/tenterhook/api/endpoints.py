"""`/app/{app_id}/endpoint`: where messages go."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

from msgspec import UNSET, Meta, UnsetType

from tenterhook import providers, urls
from tenterhook.api import lists
from tenterhook.api.http import NO_CONTENT, Call, Response, json_response
from tenterhook.api.idempotency import RememberFor
from tenterhook.api.lists import SORTED_PAGE, ListResponse
from tenterhook.api.routes import Route
from tenterhook.api.shapes import (
    MASK,
    Channel,
    In,
    Metadata,
    Out,
    Pattern,
    Rate,
    Text,
    Time,
    Uid,
    Url,
    changeable,
    given,
    instant,
    masked_url,
    metadata_of,
    micros,
    seconds,
    uid_of,
    unset,
)
from tenterhook.engine.notices import EVENTS
from tenterhook.errors import Invalid, NotFound
from tenterhook.model import OPERATIONAL, Endpoint, Health, Secret
from tenterhook.urls import UrlRefused

if TYPE_CHECKING:
    from tenterhook.api.app import Api

PREFIX = "ep_"
_YEAR = 366 * 86_400

EventTypes = Annotated[list[Pattern], Meta(min_length=1, max_length=1_000)]
Channels = Annotated[list[Channel], Meta(min_length=1, max_length=10)]
Schedule = Annotated[list[Annotated[float, Meta(ge=0, le=_YEAR)]], Meta(max_length=100)]
Span = Annotated[float, Meta(gt=0, le=_YEAR)]
Count = Annotated[int, Meta(ge=1, le=10_000)]


class Pace(In):
    """Our own fields, which clients of the wire API do not know: in every request what is absent stays as it is."""

    ordered: bool | UnsetType = UNSET
    concurrency: Count | UnsetType | None = UNSET
    retry_schedule: Schedule | UnsetType | None = UNSET
    timeout: Span | UnsetType | None = UNSET
    lifetime: Span | UnsetType | None = UNSET

    def pace(self) -> dict[str, Any]:
        schedule = self.retry_schedule
        return given(
            ordered=self.ordered,
            concurrency=self.concurrency,
            retry_schedule=tuple(micros(wait) for wait in schedule) if isinstance(schedule, list) else schedule,
            timeout=_span(self.timeout),
            lifetime=_span(self.lifetime),
        )


def _span(length: float | UnsetType | None) -> int | UnsetType | None:
    return max(1, micros(length)) if isinstance(length, float) else length


class EndpointUpsertIn(Pace, kw_only=True):
    """An endpoint to put in the place of one. `filter_types` and `rate_limit` are what old clients send."""

    url: Url
    kind: str | UnsetType = UNSET
    description: Text | None = None
    uid: Uid | None = None
    disabled: bool | None = None
    event_types: EventTypes | None = None
    filter_types: EventTypes | None = None
    channels: Channels | None = None
    throttle_rate: Rate | None = None
    rate_limit: Rate | None = None
    metadata: Metadata | None = None

    def fields(self) -> dict[str, Any]:
        """Raises Invalid."""
        return {
            "url": self.url,
            "description": self.description or "",
            "uid": uid_of(self.uid, PREFIX),
            "disabled": self.disabled or False,
            "event_types": _set(self.event_types or self.filter_types),
            "channels": _set(self.channels),
            "rate_limit": self.throttle_rate or self.rate_limit,
            "metadata": metadata_of(self.metadata),
            **self.pace(),
        }


class EndpointIn(EndpointUpsertIn, kw_only=True):
    """An endpoint to create."""

    secret: str | None = None
    headers: dict[str, str] | None = None


class EndpointPatch(Pace, kw_only=True):
    """Changes to an endpoint: what is absent stays, null clears."""

    url: Url | UnsetType = UNSET
    kind: str | UnsetType = UNSET
    description: Text | UnsetType = UNSET
    uid: Uid | UnsetType | None = UNSET
    disabled: bool | UnsetType = UNSET
    event_types: EventTypes | UnsetType | None = UNSET
    filter_types: EventTypes | UnsetType | None = UNSET
    channels: Channels | UnsetType | None = UNSET
    throttle_rate: Rate | UnsetType | None = UNSET
    rate_limit: Rate | UnsetType | None = UNSET
    metadata: Metadata | UnsetType | None = UNSET

    def fields(self) -> dict[str, Any]:
        """Raises Invalid."""
        event_types = self.filter_types if self.event_types is UNSET else self.event_types
        return given(
            url=self.url,
            description=self.description,
            uid=UNSET if self.uid is UNSET else uid_of(self.uid, PREFIX),
            disabled=self.disabled,
            event_types=UNSET if event_types is UNSET else _set(event_types),
            channels=UNSET if self.channels is UNSET else _set(self.channels),
            rate_limit=self.rate_limit if self.throttle_rate is UNSET else self.throttle_rate,
            metadata=UNSET if self.metadata is UNSET else metadata_of(self.metadata),
            **self.pace(),
        )


class EndpointOut(Out, kw_only=True):
    """An endpoint as the wire API shows it, and behind it the fields of our own."""

    id: str
    url: str
    description: str
    uid: str | UnsetType = UNSET
    disabled: bool
    event_types: tuple[str, ...] | None
    channels: tuple[str, ...] | None
    throttle_rate: int | None
    rate_limit: int | UnsetType = UNSET
    metadata: Metadata
    version: int
    created_at: Time
    updated_at: Time
    kind: str
    ordered: bool
    concurrency: int | None
    retry_schedule: tuple[int | float, ...] | None
    timeout: int | float | None
    lifetime: int | float | None
    failing_since: Time | UnsetType = UNSET
    paused_until: Time | UnsetType = UNSET
    disabled_reason: str | UnsetType = UNSET
    managed: bool


def _set(words: list[str] | None) -> tuple[str, ...] | None:
    return None if words is None else tuple(dict.fromkeys(words))


def shown_url(endpoint: Endpoint) -> str:
    """The URL of a chat's incoming webhook is its secret."""
    return endpoint.url if endpoint.kind == "webhook" else masked_url(endpoint.url)


def shown(endpoint: Endpoint) -> EndpointOut:
    schedule, limit = endpoint.retry_schedule, endpoint.rate_limit
    return EndpointOut(
        id=endpoint.id,
        url=shown_url(endpoint),
        description=endpoint.description,
        uid=unset(endpoint.uid),
        disabled=endpoint.disabled,
        event_types=endpoint.event_types,
        channels=endpoint.channels,
        throttle_rate=limit,
        rate_limit=UNSET if limit is None else limit,
        metadata=endpoint.metadata,
        version=1,
        created_at=instant(endpoint.created_at),
        updated_at=instant(endpoint.updated_at),
        kind=endpoint.kind,
        ordered=endpoint.ordered,
        concurrency=endpoint.concurrency,
        retry_schedule=None if schedule is None else tuple(seconds(wait) for wait in schedule),
        timeout=None if endpoint.timeout is None else seconds(endpoint.timeout),
        lifetime=None if endpoint.lifetime is None else seconds(endpoint.lifetime),
        disabled_reason=unset(endpoint.disabled_reason),
        managed=endpoint.managed,
    )


def _normal_url(text: str, kind: str) -> str:
    with _at_url():
        url = urls.parse(text).url
    if kind != "webhook" and url.endswith("/" + MASK):
        raise Invalid("this is the masked form of a URL: give the whole one", ("body", "url"))
    return url


@contextmanager
def _at_url() -> Iterator[None]:
    """What is said against a URL belongs to the field `url`."""
    try:
        yield
    except UrlRefused as refused:
        raise Invalid(refused.detail, ("body", "url")) from None


async def _check_event_types(
    api: "Api", app: str, wanted: Sequence[str] | None, known: Sequence[str] | None = None
) -> None:
    """A name must be that of an event type, so that a slip of the pen does not go unnoticed.

    Globs, and what the providers of sources name, need no event type; what the endpoint has already may stay. The server's
    own application has event types of its own. Raises Invalid.
    """
    for name in wanted or ():
        if "*" in name or name in (known or ()) or name.partition(".")[0] in providers.names():
            continue
        if app == OPERATIONAL:
            if name not in EVENTS:
                raise Invalid(f"there is no event {name!r}: choose among {', '.join(EVENTS)}", ("body", "eventTypes"))
            continue
        found = await api.store.get_event_type(name)
        if found is None or found.archived:
            what = "is archived" if found else "does not exist: create it first, or use a glob such as invoice.*"
            raise Invalid(f"the event type {name!r} {what}", ("body", "eventTypes"))


async def find(api: "Api", call: Call) -> Endpoint:
    """The endpoint in the path, by id or uid. Raises NotFound."""
    app = (await api.registry.application(call.params["app_id"])).id
    return await api.registry.endpoint(app, call.params["endpoint_id"])


async def listing(api: "Api", call: Call) -> Response:
    """Endpoints, newest first."""
    app = (await api.registry.application(call.params["app_id"])).id
    cursor = lists.cursor_of(call, PREFIX, descending=True)
    return await lists.answer(
        cursor, lambda page: api.store.list_endpoints(app, page), shown, lambda endpoint: endpoint.id
    )


async def _create(
    api: "Api", app: str, wanted: EndpointUpsertIn, remember: RememberFor = None, **more: Any
) -> Endpoint:
    fields = wanted.fields()
    kind = "webhook" if wanted.kind is UNSET else wanted.kind
    await _check_event_types(api, app, fields["event_types"])
    if fields["disabled"]:
        fields["disabled_reason"] = "manual"
    fields["url"] = _normal_url(wanted.url, kind)
    with _at_url():
        return await api.registry.create_endpoint(app, remember, kind=kind, **fields, **more)


async def create(api: "Api", call: Call) -> Response:
    app = (await api.registry.application(call.params["app_id"])).id

    async def made(remember: RememberFor) -> Endpoint:
        wanted = await call.json(EndpointIn)
        if wanted.secret is not None and wanted.kind not in (UNSET, "webhook"):
            raise Invalid(f"an endpoint of kind {wanted.kind} signs nothing", ("body", "secret"))
        secrets = () if wanted.secret is None else (Secret(wanted.secret),)
        headers = tuple((wanted.headers or {}).items())
        return await _create(api, app, wanted, remember, secrets=secrets, headers=headers)

    # the URL is kept encrypted, so it must not be in a stored answer
    return await api.idempotency.creating(call, 201, made, shown, lambda ref: api.registry.endpoint(app, ref))


async def get(api: "Api", call: Call) -> Response:
    """An endpoint, and how it does: since when it only fails, and until when its breaker lets no attempt through."""
    endpoint = await find(api, call)
    out, found = shown(endpoint), await api.store.load_endpoint(endpoint.id)
    health = Health() if found is None else found[1]
    if health.failing_since is not None:
        out.failing_since = instant(health.failing_since)
    if health.open_until is not None and health.open_until > api.clock.now():
        out.paused_until = instant(health.open_until)
    return json_response(200, out)


async def put(api: "Api", call: Call) -> Response:
    """Replace all but the secret, the custom headers and our own fields, or create one with a new id."""
    app = (await api.registry.application(call.params["app_id"])).id
    wanted = await call.json(EndpointUpsertIn)
    endpoint = await api.store.get_endpoint(app, call.params["endpoint_id"])
    if endpoint is None:
        return json_response(201, shown(await _create(api, app, wanted)))
    return json_response(200, shown(await _save(api, endpoint, wanted.kind, wanted.fields())))


async def patch(api: "Api", call: Call) -> Response:
    endpoint = await find(api, call)
    wanted = await call.json(EndpointPatch)
    return json_response(200, shown(await _save(api, endpoint, wanted.kind, wanted.fields())))


async def _save(api: "Api", endpoint: Endpoint, kind: str | UnsetType, fields: dict[str, Any]) -> Endpoint:
    """Raises Managed, Invalid, Conflict."""
    changeable(endpoint)
    if kind not in (UNSET, endpoint.kind):
        raise Invalid("the kind of an endpoint cannot be changed: create another one", ("body", "kind"))
    await _check_event_types(api, endpoint.app, fields.get("event_types"), endpoint.event_types)
    if fields.get("url") == shown_url(endpoint):
        # what was read and is written back, masked or not
        del fields["url"]
    elif "url" in fields:
        fields["url"] = _normal_url(fields["url"], endpoint.kind)
    with _at_url():
        return await api.registry.save_endpoint(endpoint, **fields)


async def delete(api: "Api", call: Call) -> Response:
    endpoint = await find(api, call)
    changeable(endpoint)
    await api.registry.delete_endpoint(endpoint)
    return NO_CONTENT


async def find_or_ref(api: "Api", app: str, ref: str) -> str:
    """The id of an endpoint given by id or uid; an id of one that is gone stays as it is. Raises NotFound for a uid."""
    found = await api.store.get_endpoint(app, ref)
    if found is None and not ref.startswith(PREFIX):
        raise NotFound
    return ref if found is None else found.id


_ALL = "/api/v1/app/{app_id}/endpoint"
_ONE = _ALL + "/{endpoint_id}"
ROUTES = [
    Route("GET", _ALL, listing, "v1.endpoint.list", "List endpoints", {200: ListResponse[EndpointOut]}, query=SORTED_PAGE),
    Route("POST", _ALL, create, "v1.endpoint.create", "Create an endpoint", {201: EndpointOut}, body=EndpointIn),
    Route("GET", _ONE, get, "v1.endpoint.get", "Read an endpoint", {200: EndpointOut}),
    Route("PUT", _ONE, put, "v1.endpoint.upsert", "Replace or create an endpoint", {200: EndpointOut, 201: EndpointOut},
          body=EndpointUpsertIn),
    Route("PATCH", _ONE, patch, "v1.endpoint.patch", "Change an endpoint", {200: EndpointOut}, body=EndpointPatch),
    Route("DELETE", _ONE, delete, "v1.endpoint.delete", "Delete an endpoint", {204: None}),
]  # fmt: skip
