"""Tenterhook inside another program: nothing of it is replaced, and what it sends arrives over a real socket."""

import asyncio
import importlib
import re
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue
from typing import Any

import httpx
import msgspec
import pytest

from tenterhook import AsyncTenterhook, Refused, Tenterhook, Webhook, outbox
from tenterhook.errors import ConfigurationError
from tenterhook.library.verbs import camel, request
from tests.api import GRACE
from tests.outboxes import new_sqlite

EXAMPLES = Path(__file__).parent.parent / "examples"
SHOP = {"name": "a", "database": "sqlite:///shop.db"}
OPEN = {"allow_networks": "127.0.0.0/8", "retry_schedule": "none"}


class Inbox:
    """A receiver: what arrives goes into `got` as (headers, body)."""

    def __init__(self) -> None:
        self.got: Queue[tuple[dict[str, str], bytes]] = Queue()
        inbox = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                inbox.got.put(({name.lower(): value for name, value in self.headers.items()}, body))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/hook"

    def next(self) -> tuple[dict[str, str], bytes]:
        return self.got.get(timeout=GRACE)


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    inbox = Inbox()
    thread = threading.Thread(target=inbox.server.serve_forever, args=(0.01,))
    thread.start()
    yield inbox
    inbox.server.shutdown()
    inbox.server.server_close()
    thread.join()


def test_without_an_event_loop(tmp_path: Path, inbox: Inbox) -> None:
    with Tenterhook(f"sqlite:///{tmp_path}/t.db", **OPEN) as hooks:
        hooks.application.create("Acme", uid="acme", metadata={"plan_name": "gold"})
        endpoint = hooks.endpoint.create("acme", inbox.url, uid="main", event_types=["invoice.*"], throttle_rate=50)
        message = hooks.send("acme", "invoice.paid", b'{"id":  7}', event_id="inv-7", channels=["eu"])
        headers, body = inbox.next()
        assert body == b'{"id":  7}'
        assert Webhook(hooks.endpoint.secret("acme", "main")["key"]).verify(body, headers) == {"id": 7}
        assert (headers["webhook-id"], message["eventId"]) == (message["id"], "inv-7")
        assert hooks.application.get("acme")["metadata"] == {"plan_name": "gold"}
        assert hooks.endpoint.change("acme", "main", disabled=True)["disabled"]
        assert [one["id"] for one in hooks.each(hooks.endpoint.list, "acme", limit=1)] == [endpoint["id"]]
        assert hooks.endpoint.delete("acme", "main") == {}
        assert hooks.call("GET", "app", "acme", "source", limit=5)["data"] == []


async def test_on_the_loop_of_the_program(tmp_path: Path, inbox: Inbox) -> None:
    async with AsyncTenterhook(f"sqlite:///{tmp_path}/t.db", **OPEN) as hooks:
        await hooks.application.create("Acme", uid="acme")
        for n in range(3):
            await hooks.endpoint.create("acme", inbox.url, uid=f"e{n}")
        twice = [await hooks.send("acme", "a", {"n": 1}, idempotency_key="once") for _ in range(2)]
        assert twice[0] == twice[1]
        for _ in range(3):
            await asyncio.to_thread(inbox.next)
        listed = [one["uid"] async for one in hooks.each(hooks.endpoint.list, "acme", limit=2)]
        assert listed == ["e2", "e1", "e0"]
        assert inbox.got.empty()


async def test_what_is_refused_is_an_error_that_says_why(tmp_path: Path) -> None:
    async with AsyncTenterhook(f"sqlite:///{tmp_path}/t.db") as hooks:
        with pytest.raises(Refused) as refused:
            await hooks.application.get("nobody")
        assert (refused.value.status, refused.value.code) == (404, "not_found")
        with pytest.raises(Refused, match="name") as refused:
            await hooks.application.create("")
        assert refused.value.status == 422
        await hooks.application.create("Acme", uid="acme")
        with pytest.raises(Refused, match="url"):
            await hooks.endpoint.create("acme", "http://127.0.0.1/")


def test_what_is_pending_goes_on_at_the_next_start(tmp_path: Path, inbox: Inbox) -> None:
    database = f"sqlite:///{tmp_path}/t.db"
    with Tenterhook(database, **OPEN) as hooks:
        hooks.application.create("Acme", uid="acme")
        hooks.endpoint.create("acme", inbox.url, uid="e", disabled=True)
        message = hooks.send("acme", "a", {})
        hooks.endpoint.change("acme", "e", disabled=False)
        hooks.attempt.resend("acme", message["id"], "e")
        inbox.next()
    with Tenterhook(database, **OPEN) as hooks:
        assert hooks.message.get("acme", message["id"])["id"] == message["id"]
        with pytest.raises(Refused):
            hooks.send("nobody", "a", {})
    with pytest.raises(RuntimeError, match="open it first"):
        hooks.send("acme", "a", {})


def test_wrong_settings_are_named() -> None:
    with pytest.raises(ConfigurationError, match="--lease"):
        Tenterhook(lease="soon")


def test_outboxes_are_relayed_from(tmp_path: Path, inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_DATABASE", new_sqlite(tmp_path / "shop.db"))
    with Tenterhook(
        f"sqlite:///{tmp_path}/t.db",
        outboxes=[{"name": "shop", "database": "env:SHOP_DATABASE", "poll": "20ms", "table": None}],
        **OPEN,
    ) as hooks:
        hooks.application.create("Acme", uid="acme")
        hooks.endpoint.create("acme", inbox.url)
        with closing(sqlite3.connect(tmp_path / "shop.db")) as connection, connection:
            row = outbox.write(connection, "acme", "invoice.paid", {"id": 7})
        headers, body = inbox.next()
        assert (hooks.message.get("acme", row)["id"], body) == (headers["webhook-id"], b'{"id":7}')
    with closing(sqlite3.connect(tmp_path / "shop.db")) as connection:
        assert connection.execute("SELECT * FROM tenterhook_outbox").fetchall() == []


@pytest.mark.parametrize(
    ("tables", "problem"),
    [
        ([{"name": "a"}], "outboxes:1: outbox: `database` is missing"),
        ([{"name": "a", "database": None}], "outboxes:1: outbox: `database` is missing"),
        (
            [{"name": "a", "database": "env:NOT_THERE"}],
            "outboxes:1: outbox.database: the environment variable NOT_THERE",
        ),
        ([SHOP, {**SHOP, "name": "b", "pol": "1s"}], "outboxes:2: outbox.pol: is not a key"),
        ([SHOP, SHOP], "outboxes:2: outbox.name: 'a' is used already"),
    ],
)
def test_wrong_outboxes_are_named(tables: list[dict[str, object]], problem: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(problem)):
        Tenterhook(outboxes=tables)


def test_any_thread_may_send(tmp_path: Path, inbox: Inbox) -> None:
    with Tenterhook(f"sqlite:///{tmp_path}/t.db", **OPEN) as hooks:
        hooks.application.create("Acme", uid="acme")
        hooks.endpoint.create("acme", inbox.url)
        threads = [threading.Thread(target=hooks.send, args=("acme", "a", {"n": n})) for n in range(8)]
        for thread in threads:
            thread.start()
        got = sorted(msgspec.json.decode(inbox.next()[1])["n"] for _ in threads)
        for thread in threads:
            thread.join()
        assert got == list(range(8))


def test_requests_are_built_without_a_server() -> None:
    asked = request(
        "GET", "app", "a/b", "msg", query={"limit": 5, "tag": None, "with_content": False, "event_types": ["a", "b"]}
    )
    assert asked.target == "/app/a%2Fb/msg?limit=5&with_content=false&event_types=a%2Cb"
    assert camel({"throttle_rate": 5, "uid": "a", "metadata": {"a_b": "c"}}) == {
        "throttleRate": 5, "uid": "a", "metadata": {"a_b": "c"},
    }  # fmt: skip


def test_the_names_of_the_package_are_loaded_on_first_use() -> None:
    code = "import sys, tenterhook; assert 'sqlite3' not in sys.modules; tenterhook.Tenterhook; assert 'sqlite3' in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


# the examples


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.setenv("SHOP_HOOKS", f"sqlite:///{tmp_path}/hooks.db")
    monkeypatch.setenv("SHOP_ALLOW_NETWORKS", "127.0.0.0/8")


async def test_the_fastapi_example(shop: None, inbox: Inbox) -> None:
    app: Any = importlib.import_module("fastapi_shop").app
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://shop") as client,
    ):
        secret = (await client.post("/customers/acme", params={"url": inbox.url})).json()["secret"]
        message = (await client.post("/orders/7/pay")).json()["message"]
        headers, body = await asyncio.to_thread(inbox.next)
        assert Webhook(secret).verify(body, headers) == {"order": 7}
        assert headers["webhook-id"] == message
        assert (await client.get(f"/orders/{message}/webhooks")).status_code == 200


def test_the_django_example(shop: None, inbox: Inbox) -> None:
    from django.test import Client

    shop_module: Any = importlib.import_module("django_shop")
    client = Client()
    secret = client.post(f"/customers/acme?url={inbox.url}").json()["secret"]
    message = client.post("/orders/7/pay").json()["message"]
    headers, body = inbox.next()
    assert Webhook(secret).verify(body, headers) == {"order": 7}
    assert headers["webhook-id"] == message
    assert client.get(f"/orders/{message}/webhooks").status_code == 200
    shop_module.hooks.close()
