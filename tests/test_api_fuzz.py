"""Whatever is sent to the API, the answer is JSON and no defect of ours."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tenterhook.api.app import ROUTES
from tenterhook.api.routes import Route
from tests.api import running
from tests.test_api_routes import BODIES, UNKNOWN, World, key, names, one_of_everything

FIELDS = sorted({name for body in BODIES.values() for name in body} | {
    "uid", "metadata", "throttleRate", "rateLimit", "schemas", "featureFlags", "groupName", "archived", "secret", "headers",
    "eventTypes", "channels", "tags", "retrySchedule", "timeout", "lifetime", "concurrency", "ordered", "kind", "secrets",
    "options", "deleteHeaders", "key", "gracePeriodSeconds", "transformationsParams", "eventId", "orderingKey", "disabled",
})  # fmt: skip
QUERIES = (
    "limit", "iterator", "order", "before", "after", "status", "status_code_class", "channel", "tag", "event_types",
    "with_content", "with_msg", "expanded_statuses", "endpoint_id", "include_archived", "expunge", "get_if_exists", "verdict",
)  # fmt: skip

scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
    | st.sampled_from(["*", "a.*", "2026-01-01T00:00:00", "9999-12-31T23:59:59Z", "https://a.example/", "whsec_", "\x00"])
)  # fmt: skip
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=8,
)
documents = st.dictionaries(st.sampled_from(FIELDS), values, max_size=6)
queries = st.dictionaries(
    st.sampled_from(QUERIES),
    st.text()
    | st.sampled_from(["1", "250", "true", "ascending", "msg_" + "0" * 27, "-ep_" + "z" * 27, "-", "0001-01-01"]),
    max_size=4,
)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with running(tmp_path) as server:
        yield World(server, await one_of_everything(server))


def encoded(document: Any) -> bytes:
    try:
        return msgspec.json.encode(document)
    except UnicodeEncodeError:
        return repr(document).encode("ascii", "replace")


@given(data=st.data(), route=st.sampled_from(ROUTES))
@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
async def test_random_bodies_and_queries(world: World, data: st.DataObject, route: Route) -> None:
    path = dict(world.things)
    for name in names(route):
        if data.draw(st.integers(0, 9), label="a strange path") == 0 or route.method == "DELETE":
            path[name] = quote(data.draw(st.text(min_size=1) | st.just(UNKNOWN[name]), label=name), safe="")
    body = data.draw(
        documents.map(lambda d: encoded(BODIES.get(key(route), {}) | d)) | values.map(encoded) | st.binary()
    )
    query = "&".join(f"{name}={quote(value)}" for name, value in data.draw(queries).items())
    headers = {"idempotency-key": str(data.draw(st.integers(0, 3)))} if data.draw(st.booleans()) else {}
    asked = replace(route, path=f"{route.path}?{query.replace('{', '').replace('}', '')}")
    answer = await world.call(asked, path, body=body, headers=headers)
    assert answer.status < 500, answer
    if answer.status == 204:
        assert answer.body == b""
        return
    assert answer.headers["content-type"] == "application/json" and isinstance(answer.json, dict)
    if answer.status == 422:
        assert all(problem["loc"] and problem["msg"] and problem["type"] for problem in answer.json["detail"])
    elif answer.status >= 400:
        assert answer.json["code"] and answer.json["detail"]
