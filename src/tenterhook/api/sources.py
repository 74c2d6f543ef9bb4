"""`/app/{app_id}/source`: URLs that receive webhooks of providers, and what they received."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

from msgspec import UNSET, Meta, UnsetType

from tenterhook import providers
from tenterhook.api import lists
from tenterhook.api.http import NO_CONTENT, Call, Response, json_response
from tenterhook.api.idempotency import RememberFor
from tenterhook.api.lists import SORTED_PAGE, WINDOW_PAGE, ListResponse
from tenterhook.api.query import OneWord
from tenterhook.api.routes import Route
from tenterhook.api.shapes import (
    MASK,
    Encoding,
    In,
    Out,
    Time,
    Title,
    Uid,
    changeable,
    given,
    instant,
    text_of,
    uid_of,
    unset,
)
from tenterhook.errors import NotFound
from tenterhook.model import Received, Source
from tenterhook.receive import Outcome
from tenterhook.store.queries import Cursor

if TYPE_CHECKING:
    from tenterhook.api.app import Api

PREFIX = "src_"
VERDICT = OneWord(
    "verdict",
    "Only requests that were judged so.",
    words=(Outcome.ACCEPTED.value, "duplicate", Outcome.PING.value, Outcome.REJECTED.value),
)
Line = Annotated[list[str], Meta(description="Name and value of a header.", min_length=2, max_length=2)]
Verdict = Annotated[str, Meta(extra_json_schema={"enum": [*VERDICT.words]})]
_BODIES_AT_ONCE = 8
"""A list shows no bodies, but the store reads them, and each may be as large as `max_received`."""
_HINT = 4
_LONG_ENOUGH = 16
"""Of a shorter secret the last characters would tell too much."""

Provider = Annotated[str, Meta(examples=["none"], extra_json_schema={"enum": providers.names()})]
Secrets = Annotated[list[Annotated[str, Meta(min_length=1, max_length=16_384)]], Meta(max_length=10)]
Options = Annotated[dict[str, Annotated[str, Meta(max_length=4_096)]], Meta(max_length=50)]


class SourceIn(In):
    """A source to create, or to put in the place of one; then the secrets stay if they are absent."""

    name: Title
    provider: Provider
    uid: Uid | None = None
    secrets: Secrets | None = None
    options: Options | None = None

    def fields(self) -> dict[str, Any]:
        """Raises Invalid."""
        fields = {
            "name": self.name,
            "provider": self.provider,
            "uid": uid_of(self.uid, PREFIX),
            "options": self.options or {},
        }
        return fields if self.secrets is None else fields | {"secrets": tuple(self.secrets)}


class SourcePatch(In):
    """Changes to a source: what is absent stays, null clears; `secrets` and `options` are replaced as a whole."""

    name: Title | UnsetType = UNSET
    provider: Provider | UnsetType = UNSET
    uid: Uid | UnsetType | None = UNSET
    secrets: Secrets | UnsetType | None = UNSET
    options: Options | UnsetType | None = UNSET

    def fields(self) -> dict[str, Any]:
        """Raises Invalid."""
        return given(
            name=self.name,
            provider=self.provider,
            uid=UNSET if self.uid is UNSET else uid_of(self.uid, PREFIX),
            secrets=UNSET if self.secrets is UNSET else tuple(self.secrets or ()),
            options=UNSET if self.options is UNSET else self.options or {},
        )


class SourceOut(Out, kw_only=True):
    """A source; `secret_hints` are the ends of its secrets, in their order."""

    id: str
    name: str
    provider: str
    uid: str | UnsetType = UNSET
    url: str
    options: dict[str, str]
    secret_count: int
    secret_hints: list[str]
    managed: bool
    created_at: Time
    updated_at: Time


class ReceivedOut(Out):
    """A received request; its head and body only when one is read."""

    id: str
    timestamp: Time
    verdict: Verdict
    reason: str
    method: str
    path: str
    query: str
    body_size: int
    expired: bool
    dedup_key: str | None
    msg_id: str | None
    headers: list[Line] | UnsetType = UNSET
    body: str | UnsetType = UNSET
    body_encoding: Encoding | UnsetType = UNSET


def _hint(secret: str) -> str:
    return MASK + secret[-_HINT:] if len(secret) >= _LONG_ENOUGH else MASK


def shown(source: Source, public_url: str) -> SourceOut:
    return SourceOut(
        id=source.id,
        name=source.name,
        provider=source.provider,
        uid=unset(source.uid),
        url=f"{public_url}/in/{source.token}",
        options=source.options,
        secret_count=len(source.secrets),
        secret_hints=[_hint(secret) for secret in source.secrets],
        managed=source.managed,
        created_at=instant(source.created_at),
        updated_at=instant(source.updated_at),
    )


async def _app(api: "Api", call: Call) -> str:
    return (await api.registry.application(call.params["app_id"])).id


async def _find(api: "Api", call: Call) -> Source:
    return await api.registry.source(await _app(api, call), call.params["source_id"])


async def listing(api: "Api", call: Call) -> Response:
    """Sources, newest first."""
    app = await _app(api, call)
    cursor = lists.cursor_of(call, PREFIX, descending=True)
    return await lists.answer(
        cursor,
        lambda page: api.store.list_sources(app, page),
        lambda source: shown(source, api.public_url),
        lambda source: source.id,
    )


async def create(api: "Api", call: Call) -> Response:
    app = await _app(api, call)

    async def made(remember: RememberFor) -> Source:
        return await api.registry.create_source(app, remember, **(await call.json(SourceIn)).fields())

    return await api.idempotency.creating(call, 201, made, lambda source: shown(source, api.public_url))


async def get(api: "Api", call: Call) -> Response:
    return json_response(200, shown(await _find(api, call), api.public_url))


async def put(api: "Api", call: Call) -> Response:
    """Replace all but the URL, or create one with a new id."""
    app = await _app(api, call)
    fields = (await call.json(SourceIn)).fields()
    source = await api.store.get_source(app, call.params["source_id"])
    if source is None:
        return json_response(201, shown(await api.registry.create_source(app, **fields), api.public_url))
    changeable(source)
    return json_response(200, shown(await api.registry.save_source(source, **fields), api.public_url))


async def patch(api: "Api", call: Call) -> Response:
    source = await _find(api, call)
    fields = (await call.json(SourcePatch)).fields()
    changeable(source)
    return json_response(200, shown(await api.registry.save_source(source, **fields), api.public_url))


async def delete(api: "Api", call: Call) -> Response:
    """What it received stays."""
    source = await _find(api, call)
    changeable(source)
    await api.registry.delete_source(source)
    return NO_CONTENT


def request_shown(received: Received, *, whole: bool = False) -> ReceivedOut:
    request = received.request
    out = ReceivedOut(
        id=received.id,
        timestamp=instant(received.received_at),
        verdict=received.verdict,
        reason=received.reason,
        method=request.method,
        path=request.path,
        query=request.query.decode("latin-1"),
        body_size=len(request.body),
        expired=received.expired,
        dedup_key=received.dedup_key,
        msg_id=received.message,
    )
    if whole:
        out.headers = [[name.decode("latin-1"), value.decode("latin-1")] for name, value in request.headers]
        out.body, out.body_encoding = text_of(request.body)
    return out


async def requests(api: "Api", call: Call) -> Response:
    """What reached a source, newest first."""
    source = await _find(api, call)
    verdict = call.query[VERDICT]

    async def fetch(page: Cursor) -> Sequence[ReceivedOut]:
        return [request_shown(one) for one in await api.store.list_received(source.app, source.id, page, verdict)]

    async def any_one(_: ReceivedOut) -> bool:
        return True

    return await lists.answer(
        lists.cursor_of(call, "req_", descending=True),
        lambda page: lists.sifted(page, fetch, lambda out: out.id, any_one, _BODIES_AT_ONCE),
        lambda out: out,
        lambda out: out.id,
    )


async def request(api: "Api", call: Call) -> Response:
    """One received request, byte for byte."""
    source = await _find(api, call)
    found = await api.store.get_received(source.app, source.id, call.params["request_id"])
    if found is None:
        raise NotFound
    return json_response(200, request_shown(found, whole=True))


_ALL = "/api/v1/app/{app_id}/source"
_ONE = _ALL + "/{source_id}"
ROUTES = [
    Route("GET", _ALL, listing, "v1.source.list", "List sources", {200: ListResponse[SourceOut]}, query=SORTED_PAGE),
    Route("POST", _ALL, create, "v1.source.create", "Create a source", {201: SourceOut}, body=SourceIn),
    Route("GET", _ONE, get, "v1.source.get", "Read a source", {200: SourceOut}),
    Route("PUT", _ONE, put, "v1.source.upsert", "Replace or create a source", {200: SourceOut, 201: SourceOut},
          body=SourceIn),
    Route("PATCH", _ONE, patch, "v1.source.patch", "Change a source", {200: SourceOut}, body=SourcePatch),
    Route("DELETE", _ONE, delete, "v1.source.delete", "Delete a source", {204: None}),
    Route("GET", _ONE + "/request", requests, "v1.source.list-requests", "List received requests",
          {200: ListResponse[ReceivedOut]}, query=(*WINDOW_PAGE, VERDICT)),
    Route("GET", _ONE + "/request/{request_id}", request, "v1.source.get-request", "Read a received request",
          {200: ReceivedOut}),
]  # fmt: skip
