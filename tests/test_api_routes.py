"""What every operation promises, whatever it does: checked over the table of routes."""

import inspect
import keyword
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct
from svix.api import Svix

from tenterhook.api.app import ROUTES
from tenterhook.api.routes import VARIABLES, Access, Route
from tenterhook.store.postgres import PostgresStore
from tenterhook.tokens import Capability
from tenterhook.vault import Vault
from tests.api import URL, Answer, Server, made, running

PREFIX = "/api/v1"
NOBODY = "0" * 27
UNKNOWN = {
    "app_id": f"app_{NOBODY}", "endpoint_id": f"ep_{NOBODY}", "msg_id": f"msg_{NOBODY}", "attempt_id": f"atmpt_{NOBODY}",
    "source_id": f"src_{NOBODY}", "request_id": f"req_{NOBODY}", "event_type_name": "no.such.type",
    "integ_id": f"integ_{NOBODY}", "sink_id": f"ep_{NOBODY}", "consumer_id": "nobody",
    "task_id": f"qtask_{NOBODY}",
}  # fmt: skip
BODIES: dict[tuple[str, str], Any] = {
    ("POST", "/app"): {"name": "Acme"},
    ("PUT", "/app/{app_id}"): {"name": "Acme"},
    ("PATCH", "/app/{app_id}"): {"name": "Acme"},
    ("POST", "/auth/app-portal-access/{app_id}"): {},
    ("POST", "/auth/app/{app_id}/expire-all"): {},
    ("POST", "/event-type"): {"name": "a.b", "description": ""},
    ("PUT", "/event-type/{event_type_name}"): {"description": ""},
    ("PATCH", "/event-type/{event_type_name}"): {"description": ""},
    ("POST", "/event-type/import/openapi"): {"spec": {"openapi": "3.1.0", "webhooks": {"a.b": {"post": {}}}}},
    ("POST", "/environment/import"): {},
    ("POST", "/app/{app_id}/endpoint"): {"url": "https://receiver.example/hook"},
    ("PUT", "/app/{app_id}/endpoint/{endpoint_id}"): {"url": "https://receiver.example/hook"},
    ("PATCH", "/app/{app_id}/endpoint/{endpoint_id}"): {"description": "a"},
    ("POST", "/app/{app_id}/endpoint/{endpoint_id}/secret/rotate"): {},
    ("PUT", "/app/{app_id}/endpoint/{endpoint_id}/headers"): {"headers": {}},
    ("PATCH", "/app/{app_id}/endpoint/{endpoint_id}/headers"): {"headers": {}},
    ("PATCH", "/app/{app_id}/endpoint/{endpoint_id}/transformation"): {"variables": {}},
    ("POST", "/app/{app_id}/endpoint/{endpoint_id}/recover"): {
        "since": "2026-01-01T00:00:00",
        "until": "2026-01-02T00:00:00",
    },
    ("POST", "/app/{app_id}/endpoint/{endpoint_id}/replay-missing"): {"since": "2026-01-01T00:00:00"},
    ("POST", "/app/{app_id}/endpoint/{endpoint_id}/send-example"): {"eventType": "svix.ping"},
    ("POST", "/app/{app_id}/msg/precheck/active"): {"eventType": "a.b"},
    ("POST", "/app/{app_id}/poller/{sink_id}/consumer/{consumer_id}/seek"): {"after": "2026-01-01T00:00:00"},
    ("POST", "/app/{app_id}/msg"): {"eventType": "a.b", "payload": {}},
    ("POST", "/app/{app_id}/integration"): {"name": "CI"},
    ("PUT", "/app/{app_id}/integration/{integ_id}"): {"name": "CI"},
    ("POST", "/app/{app_id}/endpoint/{endpoint_id}/bulk-replay"): {"since": "2026-01-01T00:00:00"},
    ("POST", "/app/{app_id}/msg/bulk-expunge"): {"ids": ["msg_1"]},
    ("POST", "/app/{app_id}/source"): {"name": "Anyone", "provider": "none"},
    ("PUT", "/app/{app_id}/source/{source_id}"): {"name": "Anyone", "provider": "none"},
    ("PATCH", "/app/{app_id}/source/{source_id}"): {"name": "Anyone"},
    ("POST", "/operational-webhook/endpoint"): {"url": URL},
    ("PUT", "/operational-webhook/endpoint/{endpoint_id}"): {"url": URL},
    ("POST", "/operational-webhook/endpoint/{endpoint_id}/secret/rotate"): {},
    ("PUT", "/operational-webhook/endpoint/{endpoint_id}/headers"): {"headers": {}},
    ("POST", "/stats/usage/app"): {"since": "2026-01-01T00:00:00", "until": "2026-01-02T00:00:00"},
}
WITHOUT_A_BODY = {
    ("POST", "/app/{app_id}/msg/expunge-all-contents"),
    ("PUT", "/stats/usage/event-types"),
    ("POST", "/auth/logout"),
    ("POST", "/environment/export"),
    ("POST", "/app/{app_id}/integration/{integ_id}/key/rotate"),
    ("POST", "/app/{app_id}/msg/{msg_id}/endpoint/{endpoint_id}/resend"),
    ("POST", "/app/{app_id}/msg/{msg_id}/endpoint/{endpoint_id}/cancel"),
}
ALL = [pytest.param(route, id=f"{route.method} {route.path}") for route in ROUTES]


class World(Struct):
    """One of everything."""

    server: Server
    things: dict[str, str]

    async def call(self, route: Route, things: dict[str, str], **more: Any) -> Answer:
        body = more.pop("body", BODIES.get(key(route)))
        if route.app is not None and things["endpoint_id"] == self.things["endpoint_id"]:
            things = things | {"endpoint_id": self.things["own_endpoint_id"]}
        return await self.server.call(route.method, key(route)[1].format(**things), body, **more)


def key(route: Route) -> tuple[str, str]:
    return route.method, route.path.removeprefix(PREFIX)


def names(route: Route) -> list[str]:
    return re.findall(r"\{(\w+)\}", route.path)


def check_error(answer: Answer, status: int) -> None:
    """An error in the one shape that clients can read."""
    assert answer.status == status, answer
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["access-control-allow-origin"] == "*"
    if status == 422:
        for problem in answer.json["detail"]:
            assert problem["loc"][0] in ("body", "query", "path") and problem["type"].startswith("value_error")
            assert all(isinstance(step, str) for step in problem["loc"]) and problem["msg"]
    else:
        assert set(answer.json) == {"code", "detail"} and answer.json["code"] and answer.json["detail"]


async def one_of_everything(server: Server) -> dict[str, str]:
    app = await server.app(uid="acme")
    await server.post("/event-type", {"name": "invoice.paid", "description": "Paid"})
    endpoint = await server.endpoint(app)
    own = {"url": URL, "eventTypes": ["message.attempt.recovered"]}
    own_endpoint = (await server.post("/operational-webhook/endpoint", own)).json["id"]
    msg = await server.message(app)
    (attempt,) = await server.watch.settled(1)
    source = await server.source(app)
    await server.call("POST", "/" + source["url"], b"{}", token=None)
    (request,) = (await server.get(f"/app/{app}/source/{source['id']}/request")).json["data"]
    await server.watch.settled(2)
    integration = made(await server.post(f"/app/{app}/integration", {"name": "CI"}))
    task = await server.put("/stats/usage/event-types")
    return {
        "app_id": app, "endpoint_id": endpoint, "own_endpoint_id": own_endpoint,
        "msg_id": msg, "attempt_id": attempt.id, "source_id": source["id"],
        "request_id": request["id"], "event_type_name": "invoice.paid", "task_id": task.json["id"], "integ_id": integration,
        "sink_id": endpoint, "consumer_id": "me",
    }  # fmt: skip


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with running(tmp_path) as server:
        yield World(server, await one_of_everything(server))


def test_every_operation_that_reads_a_body_is_tried_with_one() -> None:
    changing = {key(route) for route in ROUTES if route.method in ("POST", "PUT", "PATCH")}
    assert changing == set(BODIES) | WITHOUT_A_BODY
    assert {name for route in ROUTES for name in names(route)} == set(UNKNOWN)


def test_no_two_operations_have_one_name_or_one_place() -> None:
    assert len({route.id for route in ROUTES}) == len({key(route) for route in ROUTES}) == len(ROUTES)


@pytest.mark.parametrize("route", ALL)
def test_the_table_is_filled_in(route: Route) -> None:
    assert re.fullmatch(r"v1(\.[a-z]+(-[a-z]+)*){2,}", route.id)
    assert route.summary and route.summary[0].isupper() and not route.summary.endswith(".")
    assert set(names(route)) <= set(VARIABLES)
    assert route.answers and all(200 <= status < 300 for status in route.answers)
    assert all((status == 204) == (model is None) for status, model in route.answers.items())
    assert len({parameter.name for parameter in route.query}) == len(route.query)
    assert route.body is None or route.method in ("POST", "PUT", "PATCH")


OURS = {
    "v1.message-attempt.cancel",
    "v1.openapi.get",
    *(route.id for route in ROUTES if route.id.startswith("v1.source.")),
}
"""Operations that the wire API does not have."""


@pytest.mark.parametrize("route", [route for route in ROUTES if route.id not in OURS], ids=lambda route: route.id)
def test_names_and_paths_are_those_of_the_official_sdk(route: Route) -> None:
    """`v1.endpoint.get-secret` is `svix.endpoint.get_secret`, with the same method and path."""
    verb: Any = Svix("a.token")
    for word in route.id.removeprefix("v1.").replace("-", "_").split("."):
        verb = getattr(verb, f"{word}_" if keyword.iskeyword(word) else word)
    source = inspect.getsource(verb)
    assert f'method="{route.method.lower()}"' in source and f'path="{route.path}"' in source


@pytest.mark.parametrize("route", ALL)
async def test_it_works_at_all(world: World, route: Route) -> None:
    if route.id == "v1.authentication.logout":  # for the token of an application only
        mine = await world.server.token("application", world.things["app_id"])
        assert (await world.call(route, world.things, token=mine)).status == 204
        return
    answer = await world.call(route, world.things)
    if key(route)[1].endswith("/cancel"):
        check_error(answer, 409)  # the delivery has ended
        return
    assert answer.status in (200, 201, 202, 204), answer
    if answer.status == 204:
        assert answer.body == b""
    else:
        assert isinstance(answer.json, dict)
    assert answer.headers["access-control-allow-origin"] == "*"


@pytest.mark.parametrize("route", ALL)
async def test_what_is_not_there(world: World, route: Route) -> None:
    for name in names(route):
        for strange in (UNKNOWN[name], "nobody", "a%20b", "%00", "é"):
            answer = await world.call(route, world.things | {name: strange})
            if name == "consumer_id" and strange != "%00":  # whoever names itself is one
                assert answer.status == (200 if strange == "nobody" else 422), answer
                continue
            creates = 201 in route.answers and route.method == "PUT" and route.path.endswith("{" + name + "}")
            if creates and strange != "%00":
                # creates, or refuses the name
                assert answer.status == 201 or (name == "event_type_name" and answer.status == 422), answer
                continue
            check_error(answer, 404)


@pytest.mark.parametrize("route", ALL)
async def test_without_a_token(world: World, route: Route) -> None:
    if route.access is Access.PUBLIC:
        assert (await world.call(route, world.things, token=None)).status in (200, 204)
        return
    check_error(await world.call(route, world.things, token=None), 401)
    check_error(await world.call(route, world.things, token="thk_wrong"), 401)
    check_error(await world.call(route, world.things, token=None, headers={"authorization": "Basic eDp5"}), 401)


@pytest.mark.parametrize("route", [p for p in ALL if p.values[0].write])
async def test_a_token_that_may_only_read(world: World, route: Route) -> None:
    check_error(await world.call(route, world.things, token=await world.server.token("read-only")), 403)


async def test_a_token_that_may_only_read_reads_everything_but_secrets(world: World) -> None:
    token = await world.server.token("read-only")
    for route in ROUTES:
        if route.needs is Capability.VIEW_SECRET:
            check_error(await world.call(route, world.things, token=token), 403)
        elif not route.write and route.method == "GET":
            assert (await world.call(route, world.things, token=token)).status in (200, 204), route.path


async def test_the_token_of_an_application(world: World) -> None:
    mine = await world.server.token("application", world.things["app_id"])
    other = await world.server.token("application", await world.server.app())
    for route in ROUTES:
        if route.method == "DELETE":
            continue
        if route.access is Access.APPLICATION:
            check_error(await world.call(route, world.things, token=other), 404)
            check_error(await world.call(route, world.things | {"app_id": UNKNOWN["app_id"]}, token=mine), 404)
            answer = await world.call(route, world.things | {"app_id": "acme"}, token=mine)
            assert answer.status in (200, 201, 202, 204, 409), (route.path, answer)
        elif route.access is Access.ORGANISATION:
            check_error(await world.call(route, world.things, token=mine), 403)
        elif route.access is Access.ANY and route.method == "GET":
            assert (await world.call(route, world.things, token=mine)).status == 200


@pytest.mark.parametrize("route", [p for p in ALL if key(p.values[0]) in BODIES])
async def test_a_body_that_does_not_fit(world: World, route: Route) -> None:
    for body in (b"[]", b"7", b'"a"', b"null", b"{", b"\xff", b'{"a":}', b"[" * 5_000, b'{"\\ud800":1}'):
        answer = await world.call(route, world.things, body=body)
        check_error(answer, 422)
        assert answer.json["detail"][0]["loc"][0] == "body"
    check_error(await world.call(route, world.things, body=b" " * (2 << 20)), 413)
    check_error(await world.call(route, world.things, body=None, chunks=[b" " * (1 << 20)] * 2), 413)


@pytest.mark.parametrize("route", [p for p in ALL if p.values[0].takes_key])
async def test_with_an_idempotency_key_it_is_done_once(world: World, route: Route) -> None:
    key_header = {"idempotency-key": "once"}
    first = await world.call(route, world.things, headers=key_header)
    again = await world.call(route, world.things, headers=key_header)
    assert again.status == first.status
    assert again.headers.get("idempotent-replayed") == ("true" if first.status < 300 else None)


@pytest.mark.parametrize("route", ALL)
async def test_another_method(world: World, route: Route) -> None:
    path = key(route)[1].format(**world.things)
    # a word of the API may be the name of a message too
    there = {other.method for other in ROUTES if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", key(other)[1]), path)}
    there |= {"HEAD", "OPTIONS"}
    for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND"} - there:
        answer = await world.server.call(method, path, {})
        check_error(answer, 405)
    assert (await world.server.call("OPTIONS", path, token=None)).status == 204


@pytest.mark.parametrize(
    "path", ["", "/", "/nothing", "/app/a/nothing", "/app/a/msg/b/c/d/e/f", "/../app", "//api/v2/app"]
)
async def test_unknown_paths(world: World, path: str) -> None:
    for token in (None, "wrong"):
        check_error(await world.server.get(path, token=token), 404)


async def test_paths_outside_the_api(world: World) -> None:
    assert (await world.server.get("//healthz", token=None)).json == {"status": "ok"}
    assert (await world.server.get("//readyz", token=None)).status == 200
    assert b"tenterhook_messages_accepted_total 2" in (await world.server.get("//metrics", token=None)).body
    answer = await world.server.get("//nowhere", token=None)
    assert (answer.status, answer.json["code"]) == (404, "not_found")


async def test_a_trailing_slash_makes_no_difference(world: World) -> None:
    assert (await world.server.get("/app/")).json == (await world.server.get("/app")).json


async def test_a_preflight_is_answered_for_every_header(world: World) -> None:
    asked = {"access-control-request-headers": "authorization, idempotency-key", "origin": "https://a.example"}
    answer = await world.server.call("OPTIONS", "/app", token=None, headers=asked)
    assert answer.status == 204 and answer.body == b""
    assert answer.headers["access-control-allow-headers"] == "authorization, idempotency-key"
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["access-control-max-age"] == "600"


async def test_answers_do_not_pile_up_headers(world: World) -> None:
    for _ in range(3):
        answer = await world.server.get("/health", token=None)
    assert answer.status == 204 and answer.lines == [(b"access-control-allow-origin", b"*")]


async def test_a_defect_of_ours_is_json_too(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.server.api.registry = None
    check_error(await world.server.get(f"/app/{world.things['app_id']}"), 500)
    assert "failed" in caplog.text


async def test_the_log_of_a_defect_has_no_token_and_no_line_of_a_stranger(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.server.api.registry = world.server.api.hub = None
    check_error(await world.server.get("/app/a%0Ainvented line"), 500)
    assert (await world.server.post("//in/the-token", token=None)).status == 500
    assert [record.getMessage() for record in caplog.records] == [
        "GET /api/v1/app/a%0Ainvented%20line failed",
        "POST /in/... failed",
    ]


async def test_a_dead_token_learns_nothing_of_what_there_is(world: World) -> None:
    app = world.things["app_id"]
    token = await world.server.token("application", app)
    newest = (await world.server.store.list_tokens())[-1]
    await world.server.store.revoke_token(newest.id, 1)
    for name in (app, "app_of_nobody"):
        check_error(await world.server.get(f"/app/{name}", token=token), 401)


def test_every_operation_is_in_the_documentation() -> None:
    page = (Path(__file__).parent.parent / "docs" / "api.md").read_text()
    rows = set(re.findall(r"^\| `(\w+) (/[^`]*)` \|", page, re.MULTILINE))
    assert rows == {(route.method, route.path) for route in ROUTES}


async def test_a_null_character_is_nobodys_name_on_any_database(tmp_path: Path, postgres_url: str) -> None:
    """PostgreSQL cannot hold one, and says so when it is asked for one."""
    store = await PostgresStore.open(postgres_url, Vault([b"0" * 32]))
    async with running(tmp_path, store) as server:
        app = await server.app()
        for path in ("//in/%00", "/app/%00", f"/app/{app}/msg/a%00", f"/app/{app}/endpoint/%00", "/event-type/%00"):
            assert (await server.get(path)).status == 404, path
        for path in (
            "/event-type?iterator=%00",
            f"/app/{app}/msg?tag=%00",
            f"/app/{app}/attempt/msg/x?endpoint_id=%00",
        ):
            assert (await server.get(path)).status == 422, path
