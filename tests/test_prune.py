"""`tenterhook prune`, on a database that lies there and on one that a server is using."""

import asyncio
import json
import threading
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tenterhook.clock import DAY, SystemClock
from tenterhook.databases import open_store
from tenterhook.ids import IdMaker
from tenterhook.model import Application, Message
from tenterhook.settings import Settings
from tenterhook.store.base import Store
from tenterhook.store.queries import Cursor
from tenterhook.store.work import Accept
from tests.contracts.retention import aged, ended
from tests.contracts.store import new_app, new_delivery, new_endpoint, new_received, new_source
from tests.test_cli import ADMIN, TIMEOUT, Serving, process, run, servers

__all__ = ["servers"]
APPS = (new_app(uid="acme"), new_app(uid="shop", record_retention=20 * DAY, payload_retention=DAY))
AGES = (1, 10, 25, 40, 100)
"""Of the messages in each application, in days."""


async def _opened(folder: Path) -> Store:
    return await open_store(Settings(database=f"sqlite:///{folder}/tenterhook.db"), exclusive=False)


async def _seed(folder: Path, copies: int) -> None:
    store, now = await _opened(folder), SystemClock().now()
    for app in APPS:
        endpoint, source = new_endpoint(app), new_source(app)
        await store.create_application(app)
        await store.create_endpoint(app.id, endpoint)
        await store.create_source(app.id, source)
        for days in AGES:
            for _ in range(copies):
                await ended(store, endpoint, aged(app, now - days * DAY - 1_000_000))
        owed = aged(app, now - 200 * DAY)
        lasting = new_delivery(owed, endpoint, due_at=now + DAY, expires_at=now + 9 * DAY)
        await store.commit([Accept(owed, (lasting,))])
        await store.commit([Accept(None, (), new_received(source, None, id=IdMaker().new("req_", now - 100 * DAY)))])
    await store.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    asyncio.run(_seed(tmp_path, 1))
    return tmp_path


def left(folder: Path, app: Application) -> list[tuple[int, bool]]:
    """The ages (days) of the messages that are there, oldest first, and whether their payloads are gone."""

    async def look() -> list[Message]:
        store = await _opened(folder)
        try:
            return await store.list_messages(app.id, Cursor(limit=1_000_000))
        finally:
            await store.close()

    now = SystemClock().now()
    return [((now - message.created_at) // DAY, message.expired) for message in asyncio.run(look())]


def pruned(folder: Path, *words: str) -> Any:
    done = run(folder, "prune", "--json", *words)
    assert (done.code, done.err) == (0, "")
    return json.loads(done.out)


def test_by_the_retention_in_force(folder: Path) -> None:
    expected = {
        "records": {"messages": 4, "requests": 2, "days": 0},
        "payloads": {"messages": 2, "requests": 0},
    }
    assert pruned(folder, "--dry-run") == {"dry_run": True, **expected}
    assert len(left(folder, APPS[0])) == 6
    assert pruned(folder) == {"dry_run": False, **expected}
    assert left(folder, APPS[0]) == [(200, False), (40, False), (25, False), (10, False), (1, False)]
    assert left(folder, APPS[1]) == [(200, False), (10, True), (1, True)]
    assert run(folder, "prune").out == "there is nothing to remove\n"


def test_by_limits(folder: Path) -> None:
    done = run(folder, "prune", "--older-than", "30d", "--payloads-older-than", "10d")
    assert done.out == "removed 4 messages, 2 received requests, payloads of 4 messages\n"
    for app in APPS:
        assert left(folder, app) == [(200, False), (25, True), (10, True), (1, False)]


def test_one_application_and_one_limit(folder: Path) -> None:
    assert run(folder, "prune", "--payloads-older-than", "30d", "--app", "acme", "--dry-run").out == (
        "would remove payloads of 2 messages, bodies of 1 received request\n"
    )
    assert pruned(folder, "--payloads-older-than", "30d", "--app", "acme")["payloads"]["messages"] == 2
    assert [expired for _, expired in left(folder, APPS[0])] == [False, True, True, False, False, False]
    assert not any(expired for _, expired in left(folder, APPS[1]))
    assert pruned(folder, "--older-than", "0s", "--app", APPS[1].id)["records"]["messages"] == 5
    assert left(folder, APPS[1]) == [(200, False)]
    assert len(left(folder, APPS[0])) == 6


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["--older-than", "soon"], "'soon' is not a duration"),
        (["--payloads-older-than", "-1d"], "'-1d' is not a duration"),
        (["--app", "nobody"], "there is no application 'nobody'"),
    ],
)
def test_mistakes_are_code_2_and_remove_nothing(words: list[str], error: str, folder: Path) -> None:
    done = run(folder, "prune", *words)
    assert (done.code, done.out) == (2, "")
    assert error in done.err
    assert len(left(folder, APPS[0])) == 6


def test_while_a_server_uses_the_database(tmp_path: Path, servers: list[Serving]) -> None:
    asyncio.run(_seed(tmp_path, 60))
    servers.append(Serving(tmp_path, TENTERHOOK_ADMIN_TOKEN=ADMIN, TENTERHOOK_RECORD_RETENTION="300d"))
    url = servers[0].url()
    stop, statuses = threading.Event(), list[int]()

    def publish() -> None:
        while not stop.is_set():
            request = urllib.request.Request(
                f"{url}/api/v1/app/acme/msg",
                b'{"eventType": "a", "payload": {}}',
                {"Authorization": f"Bearer {ADMIN}", "Content-Type": "application/json"},
            )
            with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
                statuses.append(answer.status)

    publisher = threading.Thread(target=publish)
    publisher.start()
    done = process(tmp_path, "prune", "--older-than", "5d", "--json")
    stop.set()
    publisher.join()
    assert (done.code, done.err) == (0, "")
    assert json.loads(done.out)["records"]["messages"] > 0
    for app in APPS:  # the server may have removed some of it by itself
        assert [age for age, _ in left(tmp_path, app) if age >= 5] == [200]
    assert len(statuses) > 0
    assert set(statuses) == {202}
    assert len([age for age, _ in left(tmp_path, APPS[0]) if age == 0]) == len(statuses)
