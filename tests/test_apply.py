"""Configuration as code: what `apply` makes of a database, through the real registry and SQLite."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tenterhook.apply import Changes, apply
from tenterhook.clock import DAY, SystemClock
from tenterhook.config import parse
from tenterhook.errors import ConfigurationError
from tenterhook.model import Application, Endpoint, Source
from tenterhook.store.queries import Cursor
from tests import api

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"

FILE = f"""
[[application]]
uid = "shop"
name = "The shop"

[[event_type]]
name = "invoice.paid"
description = "An invoice was paid."

[[source]]
name = "github"
provider = "github"
secret = "0123456789abcdef"

[[endpoint]]
name = "audit"
application = "shop"
url = "https://receiver.example/audit"
secret = "{SECRET}"
event_types = ["invoice.*"]

[[endpoint]]
name = "chat"
kind = "slack"
url = "https://hooks.example/services/T0/B0/x"
"""


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[api.Server]:
    async with api.running(tmp_path) as running:
        yield running


async def applied(server: api.Server, text: str) -> Changes:
    return await apply(parse(text, "t.toml", {}), server.node.registry, server.store, SystemClock().now())


async def endpoint(server: api.Server, app: str, uid: str) -> Endpoint:
    return await server.node.registry.endpoint((await application(server, app)).id, uid)


async def source(server: api.Server, app: str, uid: str) -> Source:
    return await server.node.registry.source((await application(server, app)).id, uid)


async def application(server: api.Server, uid: str) -> Application:
    return await server.node.registry.application(uid)


async def everything(server: api.Server) -> list[object]:
    """All objects with their ids and times: equal lists mean that nothing was written."""
    store, found = server.store, []
    for app in await store.list_applications(Cursor(limit=100)):
        found += [app, await store.list_endpoints(app.id, Cursor(limit=100))]
        found.append(await store.list_sources(app.id, Cursor(limit=100)))
    return [*found, await store.list_event_types(Cursor(limit=100), archived=True)]


async def test_objects_are_made_as_described(server: api.Server) -> None:
    changes = await applied(server, FILE)
    assert changes.created == (
        "event_type invoice.paid",
        "application shop",
        "application default",
        "source default/github",
        "endpoint shop/audit",
        "endpoint default/chat",
    )
    assert (changes.changed, changes.removed, changes.unchanged) == ((), (), ())
    assert (await application(server, "shop")).name == "The shop"
    audit, chat = await endpoint(server, "shop", "audit"), await endpoint(server, "default", "chat")
    assert (audit.kind, audit.event_types, audit.managed) == ("webhook", ("invoice.*",), True)
    assert [secret.key for secret in audit.secrets] == [SECRET]
    assert (chat.kind, chat.url) == ("slack", "https://hooks.example/services/T0/B0/x")
    github = await source(server, "default", "github")
    assert github.managed
    assert len(github.token) >= 32


async def test_retention_of_an_application_is_what_the_file_says(server: api.Server) -> None:
    await applied(server, FILE)
    with_terms = FILE.replace(
        'name = "The shop"', 'name = "The shop"\npayload_retention = "7d"\nrecord_retention = "30d"'
    )
    assert (await applied(server, with_terms)).changed == ("application shop",)
    shop = await application(server, "shop")
    assert (shop.payload_retention, shop.record_retention, shop.name) == (7 * DAY, 30 * DAY, "The shop")
    assert (await applied(server, with_terms)).changed == ()
    assert (await applied(server, FILE)).changed == ("application shop",)
    assert (await application(server, "shop")).record_retention is None


async def test_applying_again_writes_nothing(server: api.Server) -> None:
    await applied(server, FILE)
    before = await everything(server)
    changes = await applied(server, FILE)
    assert (changes.created, changes.changed, changes.removed) == ((), (), ())
    assert len(changes.unchanged) == 6
    assert await everything(server) == before


async def test_only_what_differs_is_changed(server: api.Server) -> None:
    await applied(server, FILE)
    before = await endpoint(server, "shop", "audit")
    text = FILE.replace("An invoice was paid.", "Paid.").replace('["invoice.*"]', '["*"]').replace("The shop", "Shop")
    text = text.replace(SECRET, OTHER).replace("0123456789abcdef", "fedcba9876543210")
    changes = await applied(server, text)
    assert changes.changed == (
        "event_type invoice.paid",
        "application shop",
        "source default/github",
        "endpoint shop/audit",
    )
    assert changes.unchanged == ("application default", "endpoint default/chat")
    after = await endpoint(server, "shop", "audit")
    assert (after.id, after.event_types, after.secrets[0].key) == (before.id, ("*",), OTHER)
    assert after.updated_at > before.updated_at
    assert (await application(server, "shop")).name == "Shop"
    assert (await source(server, "default", "github")).secrets == ("fedcba9876543210",)
    stored = await server.store.get_event_type("invoice.paid")
    assert stored is not None
    assert stored.description == "Paid."


async def test_what_the_file_leaves_open_stays(server: api.Server) -> None:
    text = FILE.replace(f'secret = "{SECRET}"\n', "")
    await applied(server, text)
    made, github = await endpoint(server, "shop", "audit"), await source(server, "default", "github")
    assert made.secrets  # one was generated
    await applied(server, text.replace('"invoice.*"', '"*"'))
    assert (await endpoint(server, "shop", "audit")).secrets == made.secrets
    assert (await source(server, "default", "github")).token == github.token


async def test_what_vanished_is_deleted_if_the_file_had_made_it(server: api.Server) -> None:
    await applied(server, FILE)
    shop = await application(server, "shop")
    by_hand = await server.endpoint("shop")
    own = await server.source("shop")
    changes = await applied(server, "")
    assert sorted(changes.removed) == ["endpoint default/chat", "endpoint shop/audit", "source default/github"]
    assert [e.id for e in await server.store.list_endpoints(shop.id, Cursor(limit=9))] == [by_hand]
    assert [s.id for s in await server.store.list_sources(shop.id, Cursor(limit=9))] == [own["id"]]
    # their messages and endpoints made by hand are not the file's to delete
    assert (await application(server, "shop")).id == shop.id
    assert await server.store.get_event_type("invoice.paid") is not None


async def test_what_was_made_by_hand_stays_in_an_application_of_the_file(server: api.Server) -> None:
    await applied(server, FILE)
    by_hand = await server.endpoint("shop", uid="by-hand")
    own = await server.source("shop", uid="by-hand")
    changes = await applied(server, FILE)
    assert changes.removed == ()
    assert (await endpoint(server, "shop", "by-hand")).id == by_hand
    assert (await source(server, "shop", "by-hand")).id == own["id"]


async def test_pending_deliveries_of_a_removed_endpoint_are_cancelled(server: api.Server) -> None:
    server.recorder.outcomes = [api.REFUSED]
    await applied(server, FILE.replace('event_types = ["invoice.*"]', 'retry_schedule = ["1h"]'))
    message = await server.message("shop")
    await server.watch.settled(1)
    await applied(server, "")
    app = (await application(server, "shop")).id
    assert [d.state for d in await server.store.list_deliveries(app, message)] == ["cancelled"]


async def test_a_change_holds_for_the_next_message(server: api.Server) -> None:
    await applied(server, FILE)
    await server.message("shop")
    await server.watch.settled(1)
    await applied(server, FILE.replace("receiver.example/audit", "receiver.example/moved"))
    await server.message("shop")
    await server.watch.settled(2)
    assert [e.url for _, e in server.recorder.sent] == [
        "https://receiver.example/audit",
        "https://receiver.example/moved",
    ]


async def test_an_object_made_by_hand_is_taken_over_by_its_uid(server: api.Server) -> None:
    shop = await server.app(uid="shop")
    by_hand = await server.endpoint("shop", uid="audit", description="by hand")
    changes = await applied(server, FILE)
    assert "endpoint shop/audit" in changes.changed
    taken = await endpoint(server, "shop", "audit")
    assert (taken.id, taken.app, taken.managed, taken.description) == (by_hand, shop, True, "")


async def test_an_endpoint_moves_to_another_application(server: api.Server) -> None:
    await applied(server, FILE)
    changes = await applied(server, FILE.replace('application = "shop"\nurl', "url"))
    assert changes.removed == ("endpoint shop/audit",)
    assert changes.created == ("endpoint default/audit",)


async def test_a_token_moves_with_its_source(server: api.Server) -> None:
    text = '[[source]]\nname = "a"\nprovider = "none"\ntoken = "known-to-the-provider"\n'
    await applied(server, text)
    changes = await applied(server, text.replace('"a"', '"b"'))
    assert (changes.removed, changes.created) == (("source default/a",), ("source default/b",))
    found = await server.store.find_source("known-to-the-provider")
    assert found is not None
    assert found.uid == "b"


async def test_a_changed_token_is_answered_at_once(server: api.Server) -> None:
    text = '[[source]]\nname = "a"\nprovider = "none"\ntoken = "the-first-token"\n'
    await applied(server, text)
    assert (await server.post("//in/the-first-token", b"{}", token=None)).status == 200
    await applied(server, text.replace("first", "second"))
    assert (await server.post("//in/the-first-token", b"{}", token=None)).status == 404
    assert (await server.post("//in/the-second-token", b"{}", token=None)).status == 200


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ('[[endpoint]]\nname = "new"\nurl = "https://127.0.0.1/x"\n', "endpoint.url"),
        ('[[endpoint]]\nname = "new"\nurl = "https://localhost/x"\n', "endpoint.url"),
        ('[[source]]\nname = "new"\nprovider = "none"\ntoken = "taken-by-hand"\n', "source.token"),
    ],
)
async def test_a_refused_object_leaves_everything_as_it_was(server: api.Server, wrong: str, line: str) -> None:
    theirs = await server.app(uid="theirs")
    await server.node.registry.create_source(theirs, name="theirs", provider="none", token="taken-by-hand")
    await applied(server, FILE)
    before = await everything(server)
    with pytest.raises(ConfigurationError, match=rf"^t\.toml:{FILE.count(chr(10)) + 1}: {line}: "):
        await applied(server, FILE.replace("The shop", "Another name") + wrong)
    assert await everything(server) == before


async def test_a_token_is_not_taken_from_a_source_made_by_hand(server: api.Server) -> None:
    await applied(server, FILE)
    shop = (await application(server, "shop")).id
    own = await server.node.registry.create_source(
        shop, name="x", uid="by-hand", provider="none", token="taken-by-hand"
    )
    wrong = '[[source]]\nname = "new"\nprovider = "none"\ntoken = "taken-by-hand"\n'
    with pytest.raises(ConfigurationError, match="another source has it"):
        await applied(server, FILE + wrong)
    assert await server.store.find_source("taken-by-hand") == own


async def test_disabled_follows_the_file(server: api.Server) -> None:
    off = FILE + "disabled = true\n"
    await applied(server, off)
    chat = await endpoint(server, "default", "chat")
    assert (chat.disabled, chat.disabled_reason) == (True, "manual")
    assert (await applied(server, off)).changed == ()
    await applied(server, FILE)
    chat = await endpoint(server, "default", "chat")
    assert (chat.disabled, chat.disabled_reason) == (False, None)


async def test_what_the_server_switched_off_stays_off_until_the_file_acts(server: api.Server) -> None:
    server.recorder.outcomes = [api.Outcome(result=api.Result.GONE, status=410, url="https://receiver.example/audit")]
    await applied(server, FILE)
    await server.message("shop")
    await server.watch.settled(1)
    assert (await endpoint(server, "shop", "audit")).disabled_reason == "gone"
    assert (await applied(server, FILE)).changed == ()
    # another URL is a repair
    await applied(server, FILE.replace("receiver.example/audit", "receiver.example/new"))
    assert not (await endpoint(server, "shop", "audit")).disabled


async def test_switching_off_and_on_in_the_file_enables_again(server: api.Server) -> None:
    server.recorder.outcomes = [api.Outcome(result=api.Result.GONE, status=410, url="https://receiver.example/audit")]
    await applied(server, FILE)
    await server.message("shop")
    await server.watch.settled(1)
    await applied(server, FILE.replace('event_types = ["invoice.*"]', "disabled = true"))
    assert (await endpoint(server, "shop", "audit")).disabled_reason == "manual"
    await applied(server, FILE)
    assert not (await endpoint(server, "shop", "audit")).disabled


async def test_an_archived_event_type_comes_back(server: api.Server) -> None:
    await applied(server, FILE)
    assert (await server.delete("/event-type/invoice.paid")).status == 204
    assert (await applied(server, FILE)).changed == ("event_type invoice.paid",)
    stored = await server.store.get_event_type("invoice.paid")
    assert stored is not None
    assert not stored.archived


def test_changes_read_as_a_line() -> None:
    assert str(Changes(created=("a", "b"), unchanged=("c",))) == "2 created, 1 unchanged"
    assert str(Changes()) == "nothing to do"


names = st.lists(st.sampled_from("abc"), unique=True, max_size=3)


def described(endpoints: list[str], sources: list[str]) -> str:
    text = "".join(f'[[endpoint]]\nname = "{name}"\nurl = "https://receiver.example/{name}"\n' for name in endpoints)
    return text + "".join(f'[[source]]\nname = "{name}"\nprovider = "none"\n' for name in sources)


@given(steps=st.lists(st.tuples(names, names), min_size=1, max_size=4))
@hypothesis_settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
async def test_the_last_file_decides(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[list[str], list[str]]]
) -> None:
    """Whatever was applied before, the database ends up with what the last file describes."""
    async with api.running(tmp_path_factory.mktemp("apply")) as server:
        for endpoints, sources in steps:
            await applied(server, described(endpoints, sources))
        found = await server.store.get_application("default")
        have_endpoints, have_sources = [], []
        if found is not None:
            have_endpoints = await server.store.list_endpoints(found.id, Cursor(limit=9))
            have_sources = await server.store.list_sources(found.id, Cursor(limit=9))
        assert sorted(str(e.uid) for e in have_endpoints) == sorted(steps[-1][0])
        assert sorted(str(s.uid) for s in have_sources) == sorted(steps[-1][1])
