"""What every store must do with lists that have a filter. Mixed into the contract of the store."""

from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

import pytest
from msgspec.structs import replace

from tenterhook.clock import MINUTE
from tenterhook.ids import IdMaker
from tenterhook.model import Application, Attempt, Endpoint, Message, Outcome, Result
from tenterhook.store.base import Store
from tenterhook.store.queries import ANY_MESSAGE, ApplicationFilter, AttemptFilter, Cursor, Found, MessageFilter
from tenterhook.store.work import Accept, Settlement
from tests.contracts.store import NOW, new_attempt, new_delivery, new_endpoint, new_message

ALL = Cursor(limit=1_000)
TYPES, CHANNELS, TAGS = ("a.b", "a.c", "a"), ("one", "ONE", "on", "two"), ("t", "tt")
MESSAGE_FILTERS = [
    MessageFilter(event_types=("a.b",)), MessageFilter(event_types=("a", "a.c")), MessageFilter(channel="one"),
    MessageFilter(channel="on"), MessageFilter(tag="t"), MessageFilter(event_types=("a.b",), channel="two", tag="tt"),
    MessageFilter(event_types=("none",)), MessageFilter(channel="%"), MessageFilter(channel="one,two"),
    MessageFilter(channel="\0"), MessageFilter(event_types=("\0", "\ud800")),
]  # fmt: skip
ATTEMPT_FILTERS = [
    AttemptFilter(ok=True), AttemptFilter(ok=False), AttemptFilter(statuses=(500, 600)), AttemptFilter(statuses=(0, 100)),
    AttemptFilter(ok=False, statuses=(400, 500)), AttemptFilter(ok=True, statuses=(400, 500)),
    AttemptFilter(ok=False, cancelled=False), AttemptFilter(ok=False, cancelled=True), AttemptFilter(cancelled=False),
    *[AttemptFilter(of=of) for of in MESSAGE_FILTERS], AttemptFilter(ok=False, of=MessageFilter(channel="one")),
]  # fmt: skip

PLAY = "https://play.example/"
APPLICATION_FILTERS = [
    ApplicationFilter(some=some, enabled=enabled, only_at=only_at)
    for some in (False, True) for enabled in (False, True) for only_at in (None, PLAY)
]  # fmt: skip


def app_fits(endpoints: list[Endpoint], wanted: ApplicationFilter) -> bool:
    return (
        (not wanted.some or bool(endpoints))
        and (not wanted.enabled or not endpoints or any(not one.disabled for one in endpoints))
        and (wanted.only_at is None or not endpoints or any(not one.url.startswith(PLAY) for one in endpoints))
    )


def fits(message: Message, wanted: MessageFilter) -> bool:
    """The rule in other words."""
    return (
        (not wanted.event_types or message.event_type in wanted.event_types)
        and (wanted.channel is None or wanted.channel in message.channels)
        and (wanted.tag is None or wanted.tag in message.tags)
    )


def attempt_fits(attempt: Attempt, message: Message, wanted: AttemptFilter) -> bool:
    outcome, statuses = attempt.outcome, wanted.statuses
    return (
        (wanted.ok is None or wanted.ok is (outcome.result is Result.OK))
        and (wanted.cancelled is None or wanted.cancelled is (outcome.result is Result.CANCELLED))
        and (statuses is None or statuses[0] <= outcome.status < statuses[1])
        and fits(message, wanted.of)
    )


async def walked(search: Callable[[Cursor], Awaitable[Found[Any]]], cursor: Cursor) -> list[Any]:
    """All that a search finds, page by page, in list order."""
    found: list[Any] = []
    while True:
        page = await search(cursor)
        items = page.items
        found = items + found if cursor.backward else found + items
        if len(items) == cursor.limit:
            assert page.behind is None
            after = items[0].id if cursor.backward else items[-1].id
        elif page.behind is None:
            return found
        else:
            after = page.behind
        cursor = replace(cursor, after=after)


class SearchContract:
    """Beside `StoreContract`, whose fixtures it needs."""

    @pytest.fixture
    async def history(
        self, store: Store, app: Application, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
    ) -> list[tuple[Message, Attempt]]:
        """Messages of all kinds with an attempt each, oldest first; a search looks at a few at a time."""
        monkeypatch.setattr("tenterhook.store.search.WINDOW", 4)
        rng, ids = Random(7), IdMaker()
        made = []
        for n in range(40):
            message = new_message(
                app, id=ids.new("msg_", NOW + n * MINUTE), event_type=rng.choice(TYPES),
                channels=tuple(rng.sample(CHANNELS, rng.randint(0, 3))), tags=tuple(rng.sample(TAGS, rng.randint(0, 2))),
            )  # fmt: skip
            delivery = new_delivery(message, endpoint)
            outcome = Outcome(
                result=rng.choice([Result.OK, Result.RETRY, Result.CANCELLED]),
                status=rng.choice([0, 200, 404, 500, 503]),
            )
            attempt = new_attempt(delivery, id=ids.new("atmpt_", NOW + n * MINUTE), outcome=outcome)
            await store.commit([Accept(message, (delivery,)), Settlement(delivery, 1, attempt, now=NOW)])
            made.append((message, attempt))
        return made

    @pytest.mark.parametrize("wanted", APPLICATION_FILTERS)
    async def test_applications_are_found(
        self, store: Store, monkeypatch: pytest.MonkeyPatch, wanted: ApplicationFilter
    ) -> None:
        monkeypatch.setattr("tenterhook.store.search.WINDOW", 4)
        rng, ids, made = Random(3), IdMaker(), []
        for n in range(30):
            app = Application(id=ids.new("app_", NOW + n), name="", created_at=NOW, updated_at=NOW)
            await store.create_application(app)
            urls = rng.choices(["https://a.example/", PLAY], k=rng.randrange(3))
            endpoints = [
                new_endpoint(app, id=ids.new("ep_", NOW), url=url, disabled=rng.random() < 0.7) for url in urls
            ]
            for endpoint in endpoints:
                await store.create_endpoint(app.id, endpoint)
            made.append((app, endpoints))
        expected = [app for app, endpoints in made if app_fits(endpoints, wanted)]
        for limit in (1, 3, 100):
            for down in (True, False):
                for backward in (True, False):
                    cursor = Cursor(limit=limit, descending=down, backward=backward)
                    found = await walked(lambda page: store.search_applications(page, wanted), cursor)
                    assert found == (expected[::-1] if down else expected)

    @pytest.mark.parametrize("wanted", MESSAGE_FILTERS)
    async def test_messages_are_found(
        self, store: Store, app: Application, history: list[tuple[Message, Attempt]], wanted: MessageFilter
    ) -> None:
        expected = [message for message, _ in history if fits(message, wanted)]
        for limit in (1, 3, 100):
            for down in (True, False):
                for backward in (True, False):
                    cursor = Cursor(limit=limit, descending=down, backward=backward)
                    found = await walked(lambda page: store.search_messages(app.id, page, wanted), cursor)
                    assert found == (expected[::-1] if down else expected)
        window = Cursor(limit=3, since=NOW + 5 * MINUTE, until=NOW + 30 * MINUTE)
        found = await walked(lambda page: store.search_messages(app.id, page, wanted), window)
        assert found == [message for message, _ in history[5:30] if fits(message, wanted)]

    @pytest.mark.parametrize("wanted", ATTEMPT_FILTERS)
    async def test_attempts_are_found(
        self,
        store: Store,
        app: Application,
        endpoint: Endpoint,
        history: list[tuple[Message, Attempt]],
        wanted: AttemptFilter,
    ) -> None:
        expected = [attempt for message, attempt in history if attempt_fits(attempt, message, wanted)]

        def search(page: Cursor) -> Awaitable[Found[Attempt]]:
            return store.search_attempts(app.id, page, wanted, endpoint=endpoint.id)

        for limit in (1, 3, 100):
            for backward in (True, False):
                assert await walked(search, Cursor(limit=limit, descending=True, backward=backward)) == expected[::-1]
        assert await walked(search, Cursor(limit=2)) == expected
        for message, attempt in history[:5]:
            for at in (None, endpoint.id, new_endpoint(app).id):
                of_one = await store.search_attempts(app.id, ALL, wanted, message=message.id, endpoint=at)
                wants = attempt_fits(attempt, message, wanted) and at in (None, endpoint.id)
                assert of_one == Found([attempt] if wants else [])

    async def test_a_search_looks_at_no_more_than_its_window(
        self, store: Store, app: Application, endpoint: Endpoint, history: list[tuple[Message, Attempt]]
    ) -> None:
        cursor = Cursor(limit=50, descending=True)
        none = MessageFilter(event_types=("none",))
        messages = await store.search_messages(app.id, cursor, none)
        assert messages == Found([], history[-4][0].id)
        attempts = await store.search_attempts(app.id, cursor, AttemptFilter(of=none), endpoint=endpoint.id)
        assert attempts == Found([], history[-4][1].id)
        # failed ones have an index: the window holds nothing else
        failed = await store.search_attempts(app.id, cursor, AttemptFilter(ok=False), endpoint=endpoint.id)
        assert len(failed.items) == 4

    async def test_searches_stay_in_their_application(
        self, store: Store, app: Application, endpoint: Endpoint, history: list[tuple[Message, Attempt]]
    ) -> None:
        every = MessageFilter(event_types=TYPES)
        assert (await store.search_messages("app_other", ALL, every)).items == []
        for of in (every, ANY_MESSAGE):
            found = await store.search_attempts("app_other", ALL, AttemptFilter(of=of), endpoint=endpoint.id)
            assert found.items == []

    async def test_messages_by_their_ids(
        self, store: Store, app: Application, history: list[tuple[Message, Attempt]]
    ) -> None:
        ids = [history[3][0].id, history[1][0].id, "msg_none"]
        assert await store.get_messages(app.id, ids) == [history[1][0], history[3][0]]
        assert await store.get_messages("app_other", ids) == []
        assert await store.get_messages(app.id, []) == []
