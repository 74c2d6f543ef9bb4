"""PostgreSQL servers of our own, for tests and benchmarks: real ones, and none has to be installed or running.

A server ends with the process that started it, however that ends, and leaves nothing behind.
"""

import json
import os
import secrets
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from itertools import cycle
from pathlib import Path

import psutil

from bench.harness import Failed, disk
from bench.postgres_programs import hand_over, litter, owner, programs, run

ROLE = "tenterhook"
"""A role as users have it: it may create databases, owns the first one, and may do nothing else."""

DATABASE = "postgres"
SUPERUSER = "postgres"

QUICK = {"shared_buffers": "64MB", "fsync": "off", "autovacuum": "off"}
"""For tests: what a killed server wrote is still in the memory of the machine, so only a real power cut would lose it.
Databases live too short to be vacuumed, and one that is cannot be dropped by its owner."""

DURABLE = {"shared_buffers": "512MB", "fsync": "on", "synchronous_commit": "on"}
"""For benchmarks: a commit is on the disk before it is answered."""

SIGNALS = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}
"""How to stop: when all clients have left, after throwing them out, without a checkpoint (recovery at the next start)."""

_SETTINGS = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "max_connections": "100"}
_READY = "database system is ready to accept connections"
_SUPERVISE = Path(__file__).with_name("supervise.py")
_PATIENCE = 60
"""How long a start may take (s)."""

_LOG_LINES = 40

_PORTS = range(20_000, 32_000)
"""Below those that systems give to outgoing connections: none of these may take the port of a server that is down."""

# far from those of a process that started at the same time: it may have chosen one and not listen yet
_ports = cycle(_PORTS[(97 * os.getpid() + n) % len(_PORTS)] for n in range(len(_PORTS)))


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on, another one at each call. Raises Failed."""
    for port, _ in zip(_ports, _PORTS):
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port
    raise Failed(f"no port of {_PORTS[0]} to {_PORTS[-1]} is free")


class PostgresServer:
    """A server with an empty database, at the same port in every life; `close` removes it with its data.

    `settings` are those of postgresql.conf; a change counts from the next start. With `where`, its folder is made there;
    as root, every user must be able to reach that.
    """

    def __init__(self, settings: Mapping[str, str] = QUICK, where: Path | None = None) -> None:
        self.settings = {**_SETTINGS, **settings}
        self.port = free_port()
        self.password = secrets.token_hex(16)
        self.folder = Path(tempfile.mkdtemp(prefix="tenterhook-postgres-", dir=where))
        self.log = self.folder / "log"
        self._data = self.folder / "data"
        self._life: subprocess.Popen[bytes] | None = None
        self._postmaster: psutil.Process
        self._frozen: list[psutil.Process] = []
        try:
            self._initialise()
        except BaseException:
            self.close()
            raise

    @classmethod
    def durable(cls) -> "PostgresServer":
        """A server as benchmarks need it: on a disk, and nothing is answered that is not on it."""
        return cls(DURABLE, disk())

    def url(self, database: str = DATABASE, role: str = ROLE) -> str:
        """Where a client connects."""
        return f"postgresql://{role}:{self.password}@127.0.0.1:{self.port}/{database}"

    def cpu_seconds(self) -> float:
        """User and system time of all its processes, those that have ended too, since it started."""
        own = self._postmaster.cpu_times()
        total = float(own.user + own.system + own.children_user + own.children_system)
        for child in self._postmaster.children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                times = child.cpu_times()
                total += times.user + times.system
        return total

    @property
    def pid(self) -> int:
        """The process that all others of the server are children of."""
        return int(self._postmaster.pid)

    @property
    def running(self) -> bool:
        return self._life is not None and self._life.poll() is None

    def start(self) -> None:
        """Return when it accepts connections; after `kill`, when it has recovered. Raises Failed."""
        assert not self.running
        settings = {**self.settings, "port": str(self.port)}
        command = [programs() / "postgres", "-D", self._data, *(f"--{name}={settings[name]}" for name in settings)]
        remove = json.dumps([str(folder) for folder in (self.folder, *litter())])
        with self.log.open("ab") as log:
            self._life = subprocess.Popen(
                [sys.executable, "-P", _SUPERVISE, owner(), _READY, remove, *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd="/",
                start_new_session=True,  # a signal to the group of the tests leaves it alive, to end the server
            )
        assert self._life.stdout is not None
        answers, _, _ = select.select([self._life.stdout], [], [], _PATIENCE)
        found = self._life.stdout.readline() if answers else b""
        if not found:
            self.kill()
            raise Failed(f"PostgreSQL did not start\n{self.last_words()}")
        self._postmaster = psutil.Process(int(found))

    def stop(self, mode: str = "fast") -> None:
        """Stop in one of the modes of SIGNALS, and wait until it is gone."""
        assert self._life is not None
        self._postmaster.send_signal(SIGNALS[mode])
        self._life.wait()
        self.kill()

    def kill(self) -> None:
        """All its processes at once, as a power cut, and wait until they are gone."""
        if self._life is not None and self._life.stdin is not None and self._life.stdout is not None:
            self._life.stdin.close()
            self._life.wait()
            self._life.stdout.close()

    def freeze(self) -> None:
        """Stop all its processes in their tracks: connections stay open, nothing is answered."""
        self._postmaster.suspend()  # first, so that it starts no more
        self._frozen = [*self._postmaster.children(recursive=True), self._postmaster]
        for process in self._frozen:
            with suppress(psutil.NoSuchProcess):
                process.suspend()

    def thaw(self) -> None:
        """Let a frozen server go on."""
        for process in self._frozen:
            with suppress(psutil.NoSuchProcess):
                process.resume()
        self._frozen = []

    def last_words(self) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-_LOG_LINES:])

    def close(self) -> None:
        """End it and remove all it has."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _initialise(self) -> None:
        """Make the data directory and the role."""
        secret = self.folder / "password"
        secret.touch(mode=0o600)
        secret.write_text(self.password)
        hand_over(self.folder)
        access = ["--username", SUPERUSER, "--pwfile", str(secret), "--auth=scram-sha-256"]
        # The password is random: hashing it 4096 times, as is usual, would only make connections slow
        kind = ["--no-locale", "--encoding=UTF8", "--set=scram_iterations=1", "--no-sync"]
        run("initdb", "-D", self._data, *access, *kind)
        role = f"CREATE ROLE {ROLE} LOGIN CREATEDB PASSWORD '{self.password}'"
        statements = f"{role}\nALTER DATABASE {DATABASE} OWNER TO {ROLE}\n"
        run("postgres", "--single", "-D", self._data, "-c", "exit_on_error=on", DATABASE, text=statements)

    def __enter__(self) -> "PostgresServer":
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
