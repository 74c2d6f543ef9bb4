"""The server below the API: exact header names, bounded heads, JSON errors, no request that arrives for ever."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tenterhook import http_server
from tenterhook.errors import ConfigurationError
from tests.api import GRACE

Address = tuple[str, int]


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answers with the header lines as they are known."""
    while (await receive()).get("more_body"):
        pass
    body = b"\n".join(name + b"=" + value for name, value in scope["tenterhook.headers"])
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture
async def server() -> AsyncIterator[Address]:
    sock = http_server.listen("127.0.0.1", 0)
    server = http_server.http_server(echo)
    task = asyncio.create_task(server.serve([sock]))
    yield sock.getsockname()[:2]
    server.should_exit = True
    await task
    sock.close()


async def send(address: Address, raw: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(*address)
    writer.write(raw)
    answer = await asyncio.wait_for(reader.read(65_536), GRACE)
    writer.close()
    await writer.wait_closed()
    return answer


async def test_header_names_keep_their_letter_case_and_order(server: Address) -> None:
    answer = await send(server, b"GET / HTTP/1.1\r\nHost: h\r\nX-GitHub-Event: a\r\nx-a: 1\r\nX-A: 2\r\n\r\n")
    assert answer.endswith(b"Host=h\nX-GitHub-Event=a\nx-a=1\nX-A=2")


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\n" + b"".join(b"x-%d: 1\r\n" % n for n in range(http_server.MOST_HEADERS + 1)),
        b"GET / HTTP/1.1\r\nx: " + b"a" * http_server.MOST_HEAD_BYTES + b"\r\n",
        b"GET /" + b"a" * http_server.MOST_HEAD_BYTES + b" HTTP/1.1\r\n",
    ],
    ids=["lines", "value", "path"],
)
async def test_a_head_that_is_too_large_is_refused_in_json(server: Address, head: bytes) -> None:
    answer = await send(server, head + b"\r\n")
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert b'"code":"head_too_large"' in answer


async def test_what_is_not_http_is_refused_in_json(server: Address) -> None:
    answer = await send(server, b"NONSENSE\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b'"code":"bad_http"' in answer


@pytest.mark.parametrize("begun", [b"", b"GET / HT", b"POST / HTTP/1.1\r\ncontent-length: 9\r\n\r\nabc"])
async def test_a_request_that_stops_coming_ends_the_connection(
    server: Address, begun: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_server, "REQUEST_SECONDS", 0)
    monkeypatch.setattr(http_server, "_TICKS_PER_SWEEP", 1)
    reader, writer = await asyncio.open_connection(*server)
    writer.write(begun)
    with contextlib.suppress(ConnectionResetError):
        assert await asyncio.wait_for(reader.read(), GRACE) == b""
    writer.close()


async def test_a_head_that_drips_ends_the_connection(server: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "REQUEST_SECONDS", 0.2)
    monkeypatch.setattr(http_server, "_TICKS_PER_SWEEP", 1)
    reader, writer = await asyncio.open_connection(*server)
    writer.write(b"GET / HTTP/1.1\r\nx: ")
    async with asyncio.timeout(GRACE):
        with contextlib.suppress(ConnectionError):
            while not reader.at_eof():
                writer.write(b"a")
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(reader.read(1), 0.05)
    writer.close()


async def test_a_body_may_take_longer_than_that_while_it_keeps_coming(
    server: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_server, "REQUEST_SECONDS", 1)
    monkeypatch.setattr(http_server, "_TICKS_PER_SWEEP", 1)
    reader, writer = await asyncio.open_connection(*server)
    writer.write(b"POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 15\r\n\r\n")
    for _ in range(15):
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.1)
        writer.write(b"a")
    assert (await asyncio.wait_for(reader.read(15), GRACE)).startswith(b"HTTP/1.1 200")
    writer.close()


@pytest.mark.parametrize("connection", [b"keep-alive", b"close"])
async def test_head_is_answered_with_a_head(server: Address, connection: bytes) -> None:
    answer = await send(server, b"HEAD / HTTP/1.1\r\nhost: h\r\nconnection: " + connection + b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 ") and answer.endswith(b"\r\n\r\n")


async def test_an_idle_connection_may_wait_for_its_next_request(
    server: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, writer = await asyncio.open_connection(*server)
    request = b"GET / HTTP/1.1\r\nhost: h\r\n\r\n"
    writer.write(request)
    await asyncio.wait_for(reader.readuntil(b"host=h"), GRACE)
    monkeypatch.setattr(http_server, "REQUEST_SECONDS", 0)
    monkeypatch.setattr(http_server, "_TICKS_PER_SWEEP", 1)
    ticks = asyncio.Event()
    asyncio.get_running_loop().call_later(0.3, ticks.set)
    await ticks.wait()
    monkeypatch.undo()
    writer.write(request)
    assert await asyncio.wait_for(reader.readuntil(b"host=h"), GRACE)
    writer.close()


def test_a_taken_port_is_a_clear_error() -> None:
    with http_server.listen("127.0.0.1", 0) as taken, pytest.raises(ConfigurationError, match="another --port"):
        http_server.listen("127.0.0.1", taken.getsockname()[1])
