"""What a POST costs the process that makes it: our client, pyreqwest and aiohttp against one sink on loopback.

    python -m bench.clients --seconds 5

Each client runs alone in a fresh process under uvloop; the sink, in another, answers every request with 200. The CPU
time is that of the client's process (user and system), the event loop's and the kernel's part included.
"""

import argparse
import asyncio
import contextlib
import resource
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec
import uvloop
from rich.console import Console
from rich.table import Table

from tenterhook.model import Endpoint, Message, Result, Secret
from tenterhook.netguard import Guard, Rules, SystemResolver
from tenterhook.senders.http import HttpClient
from tenterhook.senders.webhook import WebhookSender
from tenterhook.transformations.runner import Runner

ANSWER = (
    b"HTTP/1.1 200 OK\r\ndate: Thu, 01 Jan 2026 00:00:00 GMT\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\nok"
)
DEADLINE = 15_000_000
WARM_UP = 0.5

HEADERS = (
    ("content-type", "application/json"),
    ("user-agent", "bench/1"),
    ("tenterhook-event-type", "invoice.paid"),
    ("webhook-id", "msg_2x4NKaJpJTkHe0Nu0XbF2hvZ5Yq"),
    ("webhook-timestamp", "1614265330"),
    ("webhook-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
)

Post = Callable[[], Awaitable[object]]


class Measured(msgspec.Struct):
    """One client's run."""

    client: str
    requests: int
    seconds: float
    cpu_seconds: float

    @property
    def per_second(self) -> float:
        return self.requests / self.seconds

    @property
    def cpu_micros(self) -> float:
        return self.cpu_seconds / max(self.requests, 1) * 1e6


class Sink(asyncio.Protocol):
    """Answers each request with 200. Requests are not pipelined, so only the end of one must be found."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.missing = 0

    def data_received(self, data: bytes) -> None:
        if self.missing == 0:
            end = data.index(b"\r\n\r\n") + 4
            at = data.lower().index(b"\r\ncontent-length:") + 17
            self.missing = int(data[at : data.index(b"\r\n", at)])
            data = data[end:]
        self.missing -= len(data)
        if self.missing == 0:
            self.transport.write(ANSWER)


async def sink() -> None:
    """Listens on a free port, prints it, serves until its input ends."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Sink, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


def guarded_client() -> HttpClient:
    return HttpClient(Guard(Rules.parse(allow="127.0.0.0/8"), SystemResolver()))


@contextlib.asynccontextmanager
async def ours(url: str, body: bytes) -> AsyncIterator[Post]:
    client = guarded_client()
    prepared = client.prepare(url, HEADERS)

    async def post() -> None:
        outcome = await client.send(prepared, b"", body, deadline=DEADLINE)
        assert outcome.result is Result.OK, outcome

    yield post
    await client.close()


@contextlib.asynccontextmanager
async def ours_signed(url: str, body: bytes) -> AsyncIterator[Post]:
    client = guarded_client()
    sender = WebhookSender(client, Runner(1 << 20))
    secret = Secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    endpoint = Endpoint(id="ep_1", app="app_1", url=url, secrets=(secret,), created_at=0, updated_at=0)
    message = Message(
        id="msg_2x4NKaJpJTkHe0Nu0XbF2hvZ5Yq", app="app_1", event_type="invoice.paid", payload=body, created_at=0
    )

    async def post() -> None:
        outcome = await sender.send(message, endpoint, deadline=DEADLINE, now=1_700_000_000_000_000)
        assert outcome.result is Result.OK, outcome

    yield post
    await client.close()


@contextlib.asynccontextmanager
async def pyreqwest(url: str, body: bytes) -> AsyncIterator[Post]:
    from pyreqwest.client import ClientBuilder

    headers = dict(HEADERS)
    async with ClientBuilder().build() as client:

        async def post() -> None:
            response = await client.post(url).headers(headers).body_bytes(body).build().send()
            assert response.status == 200
            await response.bytes()

        yield post


@contextlib.asynccontextmanager
async def aiohttp(url: str, body: bytes) -> AsyncIterator[Post]:
    from aiohttp import ClientSession, ClientTimeout, TCPConnector

    headers = dict(HEADERS)
    session = ClientSession(connector=TCPConnector(limit=0), timeout=ClientTimeout(total=DEADLINE / 1e6))
    async with session:

        async def post() -> None:
            async with session.post(url, data=body, headers=headers, allow_redirects=False) as response:
                assert response.status == 200
                await response.read()

        yield post


CLIENTS = {"tenterhook": ours, "tenterhook, signed": ours_signed, "pyreqwest": pyreqwest, "aiohttp": aiohttp}


async def load(post: Post, seconds: float, concurrency: int) -> int:
    """How many requests `concurrency` tasks made, one after the other each."""
    until = time.perf_counter() + seconds
    done = 0

    async def one() -> None:
        nonlocal done
        while time.perf_counter() < until:
            await post()
            done += 1

    await asyncio.gather(*(one() for _ in range(concurrency)))
    return done


def cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def measure(client: str, port: int, seconds: float, concurrency: int, size: int) -> Measured:
    """Warms up, then measures one client in this process."""
    async with CLIENTS[client](f"http://127.0.0.1:{port}/hook", b"x" * size) as post:
        await load(post, WARM_UP, concurrency)
        began, cpu = time.perf_counter(), cpu_seconds()
        requests = await load(post, seconds, concurrency)
        return Measured(client, requests, time.perf_counter() - began, cpu_seconds() - cpu)


def run(options: argparse.Namespace, console: Console) -> list[Measured]:
    """Each client in turn, in a process of its own."""
    command = [sys.executable, "-m", "bench.clients"]
    results = []
    with subprocess.Popen(
        [*command, "--sink"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as sink_process:
        assert sink_process.stdin is not None and sink_process.stdout is not None
        port = sink_process.stdout.readline().strip()
        for number, client in enumerate(CLIENTS, 1):
            console.print(f"[{number}/{len(CLIENTS)}] {client}: {options.seconds:g} s …", highlight=False, markup=False)
            values = (f"--seconds={options.seconds}", f"--concurrency={options.concurrency}", f"--size={options.size}")
            arguments = [*command, f"--client={client}", f"--port={port}", *values]
            output = subprocess.run(arguments, check=True, stdout=subprocess.PIPE).stdout
            results.append(msgspec.json.decode(output, type=Measured))
        sink_process.stdin.close()
    return results


def table(results: list[Measured], options: argparse.Namespace) -> Table:
    shown = Table(title=f"POST of {options.size} bytes, {options.concurrency} at once, one process per client")
    shown.add_column("client")
    for column in ("requests/s", "CPU µs per request", "CPU, relative"):
        shown.add_column(column, justify="right")
    for result in results:
        relative = result.cpu_micros / results[0].cpu_micros
        shown.add_row(result.client, f"{result.per_second:,.0f}", f"{result.cpu_micros:.1f}", f"{relative:.2f}")
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.clients", description=__doc__)
    parser.add_argument("--seconds", type=float, default=5, help="per client (default 5)")
    parser.add_argument("--concurrency", type=int, default=64, help="requests under way (default 64)")
    parser.add_argument("--size", type=int, default=1024, help="bytes of the body (default 1024)")
    parser.add_argument("--client", choices=CLIENTS, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--sink", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.sink:
        uvloop.run(sink())
    elif options.client:
        result = uvloop.run(measure(options.client, options.port, options.seconds, options.concurrency, options.size))
        sys.stdout.buffer.write(msgspec.json.encode(result))
    else:
        console = Console()
        console.print(table(run(options, console), options))


if __name__ == "__main__":
    main()
