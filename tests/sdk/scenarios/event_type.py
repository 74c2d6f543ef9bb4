"""`event_type`, `environment`."""

import json

import pytest
from svix.api import (
    EnvironmentIn,
    EventTypeDeleteOptions,
    EventTypeImportOpenApiIn,
    EventTypeIn,
    EventTypeListOptions,
    EventTypePatch,
    EventTypeUpsertIn,
)
from svix.exceptions import HttpError

from tests.sdk.client import Sdk
from tests.sdk.operations import exercises

SCHEMAS = {"1": {"type": "object"}}
NEW = EventTypeIn(name="a.b", description="d", schemas=SCHEMAS, feature_flags=["beta"], group_name="g")
SPEC = {
    "openapi": "3.1.0",
    "webhooks": {
        "pet.new": {
            "post": {
                "description": "A pet has come in.",
                "requestBody": {"content": {"application/json": {"schema": {"type": "object"}}}},
            }
        }
    },
}


@exercises("event_type.create")
async def create(sdk: Sdk) -> None:
    made = await sdk.event_type.create(NEW)
    assert (made.name, made.description, made.schemas, made.group_name) == ("a.b", "d", SCHEMAS, "g")
    assert (made.feature_flags, made.archived, made.deprecated) == (["beta"], False, False)


@exercises("event_type.get")
async def get(sdk: Sdk) -> None:
    made = await sdk.event_type.create(NEW)
    assert await sdk.event_type.get("a.b") == made


@exercises("event_type.list")
async def listing(sdk: Sdk) -> None:
    await sdk.event_type.create(NEW)
    await sdk.event_type.create(EventTypeIn(name="a.a", description="", archived=True))
    (only,) = (await sdk.event_type.list()).data
    assert (only.name, only.schemas) == ("a.b", None)
    page = await sdk.event_type.list(EventTypeListOptions(include_archived=True, with_content=True))
    assert [(one.name, one.schemas) for one in page.data] == [("a.a", None), ("a.b", SCHEMAS)]
    assert page.done


@exercises("event_type.patch")
async def patch(sdk: Sdk) -> None:
    await sdk.event_type.create(NEW)
    changed = await sdk.event_type.patch("a.b", EventTypePatch(deprecated=True, group_name=None))
    assert (changed.deprecated, changed.group_name, changed.description) == (True, None, "d")


@exercises("event_type.upsert")
async def upsert(sdk: Sdk) -> None:
    await sdk.event_type.create(NEW)
    replaced = await sdk.event_type.upsert("a.b", EventTypeUpsertIn(description="new"))
    assert (replaced.description, replaced.schemas, replaced.feature_flags) == ("new", None, None)
    assert (await sdk.event_type.upsert("c.d", EventTypeUpsertIn(description=""))).name == "c.d"


@exercises("event_type.delete")
async def delete(sdk: Sdk) -> None:
    await sdk.event_type.create(NEW)
    assert await sdk.event_type.delete("a.b") is None
    assert (await sdk.event_type.get("a.b")).archived is True
    await sdk.event_type.delete("a.b", EventTypeDeleteOptions(expunge=True))
    with pytest.raises(HttpError, match="not_found"):
        await sdk.event_type.get("a.b")


@exercises("event_type.import_openapi")
async def import_openapi(sdk: Sdk) -> None:
    await sdk.event_type.create(NEW)
    dry = await sdk.event_type.import_openapi(EventTypeImportOpenApiIn(spec=SPEC, dry_run=True))
    (planned,) = dry.data.to_modify
    assert (planned.name, planned.description, planned.schemas) == ("pet.new", "A pet has come in.", SCHEMAS)
    assert [one.name for one in (await sdk.event_type.list()).data] == ["a.b"]
    raw = EventTypeImportOpenApiIn(spec_raw=json.dumps(SPEC), replace_all=True)
    assert "pet.new" in (await sdk.event_type.import_openapi(raw)).data.modified
    assert (await sdk.event_type.get("pet.new")).description == "A pet has come in."
    assert (await sdk.event_type.get("a.b")).archived is True


@exercises("environment.export")
async def export(sdk: Sdk) -> None:
    made = await sdk.event_type.create(NEW)
    environment = await sdk.environment.export()
    assert environment.event_types == [made]
    assert (environment.settings, environment.connectors) == (None, [])


@exercises("environment.import_")
async def import_(sdk: Sdk) -> None:
    await sdk.event_type.create(EventTypeIn(name="stays", description="as it is"))
    assert await sdk.environment.import_(EnvironmentIn(event_types=[NEW])) is None
    made = await sdk.event_type.get("a.b")
    assert (made.schemas, made.feature_flags, made.group_name) == (SCHEMAS, ["beta"], "g")
    assert (await sdk.event_type.get("stays")).archived is False
