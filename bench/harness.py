"""A real server for a benchmark: `tenterhook serve` in a process of its own, on a database of its own, default settings."""

import asyncio
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Protocol

from bench.load import TOKEN, headers
from bench.peer import Client, request

ROOT = Path(__file__).parent.parent
LOG_LINES = 40
_TICKS = os.sysconf("SC_CLK_TCK")
_IN_MEMORY = ("tmpfs", "ramfs")
_MASTER_KEY = secrets.token_urlsafe(48)


class Failed(Exception):
    """A process under test ended or did not start; the text holds the end of its log."""


def filesystem(path: Path) -> str:
    """The type of the file system that a folder is on."""
    kind, longest = "unknown", 0
    for line in Path("/proc/mounts").read_text().splitlines():
        _, mounted, found, *_ = line.split(" ")
        mounted = mounted.replace("\\040", " ")
        if path.is_relative_to(mounted) and len(mounted) >= longest:
            kind, longest = found, len(mounted)
    return kind


def disk() -> Path:
    """Where databases go: BENCH_DIR, else the folder for temporary files if it is on a disk, else the checkout.

    Raises Failed for a BENCH_DIR in memory, where fsync costs nothing.
    """
    chosen = os.environ.get("BENCH_DIR")
    if chosen:
        path = Path(chosen).resolve()
        if filesystem(path) in _IN_MEMORY:
            raise Failed(f"BENCH_DIR={chosen} is in memory ({filesystem(path)}): name a folder on a disk")
        return path
    temporary = Path(tempfile.gettempdir()).resolve()
    return ROOT if filesystem(temporary) in _IN_MEMORY else temporary


@contextmanager
def folder() -> Iterator[Path]:
    """A folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="tenterhook-bench-", dir=disk(), ignore_cleanup_errors=True) as name:
        yield Path(name)


Fill = Callable[[str, str, Sequence[Sequence[Any]]], Awaitable[None]]
"""Writes rows: table, columns, rows."""


class Database(Protocol):
    """What servers under test work on; `folder` is for what they leave beside it."""

    folder: Path
    url: str

    async def rows(self, text: str) -> list[tuple[Any, ...]]:
        """What a query finds, beside the servers."""

    async def used(self) -> dict[str, float]:
        """Its `stored_bytes`; with processes of its own also what it has used until now: `database_cpu_us`, `wal_bytes`
        and `commits`."""

    def filling(self) -> AbstractAsyncContextManager[Fill]:
        """A way to write many rows quickly, before servers use it."""


def environment(database: Database, **settings: str) -> dict[str, str]:
    """The settings of a server on the database."""
    return {
        "TENTERHOOK_ADMIN_TOKEN": TOKEN,
        "TENTERHOOK_DATABASE": database.url,
        "TENTERHOOK_SECRET": _MASTER_KEY,
        "TENTERHOOK_ALLOW_NETWORKS": "127.0.0.0/8",
        "TENTERHOOK_PORT": "0",
        **{f"TENTERHOOK_{name.upper()}": value for name, value in settings.items()},
    }


class Child:
    """A Python module that runs in a process of its own; its standard error goes to a log file."""

    def __init__(self, database: Database, module: str, *arguments: str, **settings: str) -> None:
        self.log = database.folder / "server.log"
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("TENTERHOOK_")}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-P", str(ROOT / "bench" / "child.py"), str(os.getpid()), module, *arguments],
                env=inherited | {"PYTHONPATH": str(ROOT)} | environment(database, **settings),
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=database.folder,
            )

    async def line(self) -> Any:
        """The next line of its standard output, which is JSON. Raises Failed when it ends instead."""
        assert self.process.stdout is not None
        text = await asyncio.to_thread(self.process.stdout.readline)
        if not text:
            self.process.wait()
            raise self.failure()
        return json.loads(text)

    def failure(self) -> Failed:
        """What to say when the process has ended."""
        return Failed(f"the process ended with {self.process.returncode}\n{self.last_words()}")

    def last_words(self) -> str:
        """The end of its log, without the lines of attempts."""
        lines = [line for line in self.log.read_text(errors="replace").splitlines() if '"event":"attempt"' not in line]
        return "\n".join(lines[-LOG_LINES:])

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def cpu_seconds(self) -> float:
        """User and system time that the process has used."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def _status(self, name: str) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(rf"{name}:\s+(\d+)", status)
        assert found is not None
        return int(found[1]) / 1024

    def rss_mib(self) -> float:
        """Resident memory."""
        return self._status("VmRSS")

    def peak_mib(self) -> float:
        """The most resident memory it ever had."""
        return self._status("VmHWM")

    def kill(self) -> None:
        """At once, and wait until it is gone."""
        if self.alive:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


class Server(Child):
    """`tenterhook serve`."""

    port: int

    @classmethod
    async def start(cls, database: Database, module: str = "tenterhook", **settings: str) -> "Server":
        """A server that listens; settings beyond those of every benchmark by name. Raises Failed.

        `module` runs the program in some way of its own.
        """
        server = cls(database, module, "serve", "--json", **settings)
        try:
            server.port = int((await server.line())["url"].rpartition(":")[2])
        except BaseException:
            server.kill()
            raise
        return server


@asynccontextmanager
async def watched(child: Child) -> AsyncIterator[None]:
    """Kill the process at the end; when it ends before, the block ends too. Raises Failed."""
    task = asyncio.current_task()
    died = False

    async def watch() -> None:
        nonlocal died
        await asyncio.to_thread(child.process.wait)
        died = True
        if task is not None:
            task.cancel()

    watcher = asyncio.create_task(watch())
    try:
        yield
    except asyncio.CancelledError:
        if not died:
            raise
        if task is not None:
            task.uncancel()
        raise child.failure() from None
    except Exception as error:
        error.add_note(f"the end of the server's log:\n{child.last_words()}")
        raise
    finally:
        watcher.cancel()
        child.kill()


@asynccontextmanager
async def running(database: Database, **settings: str) -> AsyncIterator[tuple[Server, "Rest"]]:
    """A server on the database, and a way to talk to it. Raises Failed."""
    server = await Server.start(database, **settings)
    async with watched(server):
        client = await Client(server.port).open()
        try:
            yield server, Rest(client)
        finally:
            client.close()


class Rest:
    """The few API calls that benchmarks make."""

    def __init__(self, client: Client) -> None:
        self.client = client

    async def call(self, method: str, path: str, body: object = None) -> Any:
        """The decoded answer. Raises RuntimeError for an error status."""
        payload = b"" if body is None else json.dumps(body).encode()
        status, answer = await self.client.send(request(method, path, headers(), payload))
        if status >= 300:
            raise RuntimeError(f"{method} {path} answered {status}: {answer.decode()}")
        return json.loads(answer) if answer else None

    async def app(self, *endpoints: dict[str, object]) -> str:
        """A new application with these endpoints; its id."""
        app = str((await self.call("POST", "/api/v1/app", {"name": "bench"}))["id"])
        for endpoint in endpoints:
            await self.call("POST", f"/api/v1/app/{app}/endpoint", endpoint)
        return app
