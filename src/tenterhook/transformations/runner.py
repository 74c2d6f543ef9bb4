"""Keeps the processes that run transformations: started when first needed, as many as there are processors."""

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from functools import partial
from typing import ParamSpec, TypeVar
from weakref import WeakValueDictionary

import msgspec

from tenterhook.clock import SECOND
from tenterhook.model import Transformation
from tenterhook.transformations.contract import Changed, Failed, Webhook, failure, job, result
from tenterhook.transformations.frames import Frames
from tenterhook.transformations.jobs import BESIDE_PAYLOAD, GUARDED, UNGUARDED, Job, Report

log = logging.getLogger(__name__)
P = ParamSpec("P")
T = TypeVar("T")

PATIENCE = 5 * SECOND
"""How long (µs) a child may take over a job, starting included, on a machine where it gets little processor time."""
MOST_JOBS = 1_000
"""After so many a child is replaced: nothing that an engine may leave behind adds up."""
_UNGUARDED = (
    "the kernel does not guard the processes that run transformations (seccomp is not to be had here): should the JavaScript"
    " engine have a hole, code in it can do what this user can, within limits on memory and files"
)
_COMMAND = (sys.executable, "-I", "-m", "tenterhook.transformations.child")


class _Child:
    """A process and the socket to it. Any failure of a conversation ends it."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair()
        with theirs:
            # without our environment, where secrets may be, and with no file of ours but its end of the socket
            self._process = subprocess.Popen(  # noqa: S603 (our own program)
                _COMMAND, stdin=theirs.fileno(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={}, cwd="/"
            )
        self.jobs = 0
        self.guarded = True

    def ask(self, work: Job, patience: int) -> Report:
        """Raises OSError (TimeoutError too), EOFError, ValueError, MsgspecError."""
        self.jobs += 1
        frames = Frames(self._socket, patience / SECOND)
        frames.write(msgspec.msgpack.encode(work))
        if self.jobs == 1:
            self.guarded = frames.read(len(UNGUARDED)) == GUARDED
        return msgspec.msgpack.decode(frames.read(work.most + BESIDE_PAYLOAD), type=Report)

    def end(self) -> int:
        """Its exit status: the negative number of the signal that ended it, ours or another."""
        self._socket.close()
        self._process.kill()
        return self._process.wait()


class Runner:
    """A `contract.Transform`. `most` is the largest payload (bytes) that may come out."""

    def __init__(self, most: int, children: int | None = None) -> None:
        self._most = most
        self._threads = ThreadPoolExecutor(children or os.cpu_count() or 1, thread_name_prefix="transformations")
        self._idle: deque[_Child] = deque()
        self._warned = False
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def __call__(
        self, owners: Sequence[str], transformation: Transformation, webhook: Webhook, *, deadline: int
    ) -> Changed | None:
        """As `contract.Transform` says: an application holds one child at a time, so that nobody can hold all of them, and
        of each endpoint one run waits for that, so that all of them come to their turn. A run that nobody waits for any more
        holds its turn until it is over."""
        try:
            async with asyncio.timeout(deadline / SECOND):
                turns = await self._take_turns(owners)
                run = asyncio.ensure_future(self._in_thread(self._transform, transformation, webhook))
                run.add_done_callback(partial(_end_turns, turns))
                return await asyncio.shield(run)
        except TimeoutError:
            raise Failed("there was no time left to run the transformation") from None

    async def _take_turns(self, owners: Sequence[str]) -> list[asyncio.Lock]:
        async with AsyncExitStack() as turns:
            taken = [self._turns.setdefault(owner, asyncio.Lock()) for owner in owners]
            for turn in taken:
                await turns.enter_async_context(turn)
            turns.pop_all()
        return taken

    async def check(self, code: str) -> None:
        """Look whether it is a program with a handler. Raises Failed with what is wrong, and the line."""
        report = await self._in_thread(self._ask, Job(code))
        if report.error is not None:
            raise failure(report)

    async def close(self) -> None:
        """End all children."""
        await asyncio.to_thread(self._threads.shutdown)
        while self._idle:
            self._idle.pop().end()

    async def _in_thread(self, work: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, partial(work, *args, **named))

    def _transform(self, transformation: Transformation, webhook: Webhook) -> Changed | None:
        return result(self._ask(job(transformation, webhook, self._most)), webhook)

    def _ask(self, work: Job) -> Report:
        """The report of a child that is idle, or of a new one. Raises Failed when it ends over the job."""
        try:
            child = self._idle.pop()
        except IndexError:
            child = _Child()
        try:
            report = child.ask(work, PATIENCE)
        except (OSError, EOFError, ValueError, msgspec.MsgspecError) as error:
            raise _ended(child.end(), error) from None
        if not (child.guarded or self._warned):
            self._warned = True  # it is the same for all children
            log.warning(_UNGUARDED)
        if child.jobs < MOST_JOBS:
            self._idle.append(child)
        else:
            child.end()
        return report


def _end_turns(turns: Sequence[asyncio.Lock], run: "asyncio.Future[Changed | None]") -> None:
    for turn in turns:
        turn.release()
    if not run.cancelled():
        run.exception()  # whoever waited has gone, or has it


def _ended(status: int, error: Exception) -> Failed:
    if status == -signal.SIGPROF:
        return Failed("it took too long, and had to be stopped from outside")
    log.warning("a process that runs transformations ended with %d: %r", status, error)
    if isinstance(error, TimeoutError):
        return Failed("the process that ran it did not answer in time")
    return Failed("the process that ran it ended unexpectedly")
