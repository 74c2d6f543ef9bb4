"""A server moves house while its clients know nothing of it: the official SDK, a receiver that fails, a source."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import SimpleQueue
from typing import Any
from unittest.mock import ANY
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import pytest
from svix.api import (
    ApplicationIn,
    EndpointIn,
    MessageAttemptListByMsgOptions,
    MessageCreateOptions,
    MessageIn,
    Svix,
    SvixOptions,
)

from tenterhook import Webhook
from tests.test_cli import TIMEOUT, Serving, process, servers

__all__ = ["servers"]

SECRET = "The master key of these tests: of some length"
SETTINGS = {
    "TENTERHOOK_SECRET": SECRET,
    "TENTERHOOK_ALLOW_NETWORKS": "127.0.0.0/8",
    "TENTERHOOK_RETRY_SCHEDULE": ",".join(["1s"] * 90),
}


class Receiver:
    """Answers as it is told, and keeps what it was sent."""

    def __init__(self) -> None:
        self.status = 500
        self.received: SimpleQueue[tuple[dict[str, str], bytes]] = SimpleQueue()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.received.put(({name.lower(): value for name, value in self.headers.items()}, body))
                self.send_response(outer.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """Nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


class Client:
    """The SDK, as a program has it that knows nothing of databases."""

    def __init__(self, url: str, token: str) -> None:
        self.svix = Svix(token, SvixOptions(server_url=url))

    def publish(self, key: str) -> str:
        """The id of a message, which a second call with the same key does not make again."""
        message = MessageIn(event_type="invoice.paid", payload={"n": 1}, event_id="e-1")
        return self.svix.message.create("acme", message, MessageCreateOptions(idempotency_key=key)).id

    def seen(self) -> dict[str, Any]:
        """All that it can look at."""
        api = self.svix
        (endpoint,) = api.endpoint.list("acme").data
        (message,) = api.message.list("acme").data
        return {
            "application": api.application.get("acme"),
            "endpoint": endpoint,
            "secret": api.endpoint.get_secret("acme", endpoint.id).key,
            "headers": api.endpoint.get_headers("acme", endpoint.id),
            "message": api.message.get("acme", message.id),
        }

    def first_attempt(self, message: str) -> Any:
        found = self.svix.message_attempt.list_by_msg("acme", message, MessageAttemptListByMsgOptions(limit=250)).data
        return min(found, key=lambda attempt: attempt.id)

    def close(self) -> None:
        self.svix.health._httpx_client.close()  # the SDK has no way to close its connections


@pytest.mark.parametrize("pair", [("sqlite", "postgresql"), ("postgresql", "sqlite")], ids=" to ".join)
def test_clients_notice_nothing(
    pair: tuple[str, str], tmp_path: Path, postgres_url: str, receiver: Receiver, servers: list[Serving]
) -> None:
    urls = {"sqlite": "sqlite:///hooks.db", "postgresql": postgres_url}
    old, new = (urls[kind] for kind in pair)
    token = process(tmp_path, "token", "create", "--database", old, **SETTINGS).out.strip()
    servers.append(Serving(tmp_path, "--database", old, **SETTINGS))
    url = servers[0].url()
    client = Client(url, token)
    client.svix.application.create(ApplicationIn(name="Acme", uid="acme"))
    client.svix.endpoint.create("acme", EndpointIn(url=receiver.url, headers={"X-Shop": "a"}))
    made = posted(f"{url}/api/v1/app/acme/source", token, name="Anyone", provider="none")
    source = urlsplit(made["url"]).path
    message = client.publish("once")
    _, body = receiver.received.get(timeout=TIMEOUT)
    servers[0].logged('"event":"attempt"')  # then it is on the disk
    before, attempt = client.seen(), client.first_attempt(message)
    client.close()
    assert servers[0].end() == 0
    while not receiver.received.empty():
        receiver.received.get()

    done = process(tmp_path, "copy", old, new, **SETTINGS)
    assert done.code == 0, done.err
    assert "are the same in both" in done.out

    receiver.status = 200
    servers.append(Serving(tmp_path, "--database", new, **SETTINGS))
    url = servers[1].url()
    client = Client(url, token)
    assert client.seen() == before
    assert client.first_attempt(message) == attempt
    assert client.publish("once") == message
    headers, again = receiver.received.get(timeout=TIMEOUT)
    assert (headers["webhook-id"], headers["x-shop"], again) == (message, "a", body)
    Webhook(before["secret"]).verify(again, headers)
    assert posted(url + source, token) == {"status": "accepted"} | {"id": ANY}
    client.close()
    assert servers[1].end() == 0


def posted(url: str, token: str, **fields: str) -> Any:
    """What a POST of JSON is answered."""
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    with urlopen(Request(url, json.dumps(fields).encode(), headers), timeout=TIMEOUT) as answer:
        return json.loads(answer.read())
