"""The HTTP server in front of the API: uvicorn, with the limits and the exactness that a receiver of webhooks needs.

Header names keep their letter case. A head that is too large, has too many lines or takes too long ends the
connection, and so does a body that stops coming: a stranger must not hold memory or sockets. Errors below the API are
JSON as well.
"""

import contextlib
import resource
import socket
from asyncio import BaseTransport, Transport
from collections.abc import Iterator
from typing import Any, cast

import msgspec
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tenterhook.errors import ConfigurationError

BACKLOG = 2048
MOST_HEADERS = 200
MOST_HEAD_BYTES = 64 * 1024
REQUEST_SECONDS = 30
"""How long the head of a request may take, and how long its body may pause."""

_TICKS_PER_SWEEP = 20  # uvicorn ticks ten times a second
_IDLE_SECONDS = 75
_DRAIN_SECONDS = 10


class _HeadTooLarge(Exception):
    """Raised inside the parser's callback: it makes the parser refuse the request."""


class JoinedTransport:
    """Sends the head of an answer together with what follows: one system call and one packet, where uvicorn makes two."""

    __slots__ = ("_head", "_transport")

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._head = b""

    def write(self, data: bytes) -> None:
        if self._head:
            data, self._head = self._head + data, b""
        elif data.startswith(b"HTTP/1.1 ") and data.endswith(b"\r\n\r\n") and not data.startswith(b"HTTP/1.1 1"):
            # the body, be it empty, is written in the same turn of the loop
            self._head = data
            return
        self._transport.write(data)

    def flush(self) -> None:
        """Send the head of an answer that has no body to wait for: that to HEAD."""
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head)

    def close(self) -> None:
        self.flush()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class Protocol(HttpToolsProtocol):
    """One connection."""

    _head_bytes = 0
    _arriving = False
    _in_body = False
    _waiting_since = 0.0  # for the whole head, or for the next bytes of the body

    def connection_made(self, transport: BaseTransport) -> None:
        self._joined = JoinedTransport(cast(Transport, transport))
        super().connection_made(cast(Transport, self._joined))
        self._arriving, self._waiting_since = True, self.loop.time()

    def data_received(self, data: bytes) -> None:
        if self._in_body:
            self._waiting_since = self.loop.time()
        super().data_received(data)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._arriving, self._waiting_since, self._head_bytes = True, self.loop.time(), 0
        self._exact: list[tuple[bytes, bytes]] = []
        self.scope["tenterhook.headers"] = self._exact  # type: ignore[typeddict-unknown-key]  # ours, beside ASGI's keys

    def on_url(self, url: bytes) -> None:
        self._head_bytes += len(url)
        if self._head_bytes > MOST_HEAD_BYTES:
            raise _HeadTooLarge
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        # a dozen times per request, so uvicorn's part of it is done for all of them below
        exact = self._exact
        self._head_bytes += len(name) + len(value)
        if self._head_bytes > MOST_HEAD_BYTES or len(exact) >= MOST_HEADERS:
            raise _HeadTooLarge
        exact.append((name, value))

    def on_headers_complete(self) -> None:
        for name, value in self._exact:
            name = name.lower()
            self.headers.append((name, value))
            if name == b"expect":
                self.expect_100_continue = value.lower() == b"100-continue"
        self._in_body, self._waiting_since = True, self.loop.time()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._arriving = self._in_body = False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        self._joined.flush()
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        too_large = self._head_bytes > MOST_HEAD_BYTES or len(getattr(self, "_exact", ())) >= MOST_HEADERS
        status = b"431 Request Header Fields Too Large" if too_large else b"400 Bad Request"
        detail = f"the head may have {MOST_HEADERS} lines and {MOST_HEAD_BYTES} bytes" if too_large else msg
        body = msgspec.json.encode({"code": "head_too_large" if too_large else "bad_http", "detail": detail})
        self.transport.write(
            b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b"
            % (status, len(body), body)
        )
        self.transport.close()

    def overdue(self, now: float) -> bool:
        """Whether a head, or the next bytes of a body, are awaited for too long."""
        return self._arriving and now - self._waiting_since > REQUEST_SECONDS and not self.flow.read_paused


class HttpServer(uvicorn.Server):
    """uvicorn without its signal handling: whoever runs it sets `should_exit`, then drains."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def on_tick(self, counter: int) -> bool:
        if counter % _TICKS_PER_SWEEP == 0:
            for connection in list(self.server_state.connections):
                if isinstance(connection, Protocol) and connection.overdue(connection.loop.time()):
                    connection.transport.abort()
        return await super().on_tick(counter)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises ConfigurationError when the address cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
        sock.listen(BACKLOG)  # who connects from now on waits until the server accepts, instead of being refused
    except OSError as error:
        sock.close()
        raise ConfigurationError(f"cannot listen on {host}:{port}: {error.strerror}; choose another --port") from error
    sock.set_inheritable(True)
    return sock


def raise_file_limit() -> None:
    """As many sockets as the system allows this process: every attempt under way and every caller needs one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def http_server(app: Any) -> HttpServer:
    """The server for an ASGI application."""
    return HttpServer(
        uvicorn.Config(
            app,
            http=Protocol,
            ws="none",
            loop="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=BACKLOG,
            timeout_keep_alive=_IDLE_SECONDS,
            timeout_graceful_shutdown=_DRAIN_SECONDS,
        )
    )
