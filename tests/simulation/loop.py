"""An asyncio loop in virtual time: when nothing is ready it jumps to the next timer. No threads, no sockets, no waiting."""

import asyncio
import contextvars
import selectors
from collections.abc import Coroutine
from typing import Any

from tenterhook.clock import SECOND

START = 1_800_000_000 * SECOND
_IDLE_TURNS = 200_000


class Stuck(Exception):
    """Nothing is ready and no timer runs: the simulation waits for something that can never happen."""


class Spinning(Exception):
    """The loop turns and turns, and no virtual time passes."""


class _Jump(selectors.SelectSelector):
    """Reports no I/O and moves the clock by the time it was asked to wait."""

    def __init__(self) -> None:
        super().__init__()
        self.time = 0.0
        self.turns = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Stuck
        if timeout > 0:
            self.time += timeout
            self.turns = 0
        else:
            self.turns += 1
            if self.turns > _IDLE_TURNS:
                raise Spinning
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """Its `time()` is virtual, in seconds since the simulation began."""

    def __init__(self) -> None:
        self._jump = _Jump()
        super().__init__(self._jump)

    def time(self) -> float:
        return self._jump.time

    def _write_to_self(self) -> None:
        """Nobody waits in a system call, so nobody has to be woken."""


class VirtualClock:
    """The engine's clock over the loop's time."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def now(self) -> int:
        return START + round(self._loop.time() * SECOND)


Owner = contextvars.ContextVar["dict[asyncio.Task[Any], None] | None"]("owner", default=None)
"""The process that the running code belongs to, as its tasks in order of birth: what it starts is added to them."""


def track_tasks(loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, Any], **options: Any) -> asyncio.Task[Any]:
    """The task factory: every task joins the process that created it, so that a death can take them all."""
    context = options.get("context")
    owner = Owner.get() if context is None else context.get(Owner)
    task = asyncio.Task(coro, loop=loop, **options)
    if owner is not None:
        owner[task] = None
        task.add_done_callback(lambda ended: owner.pop(ended, None))
    return task


async def pause(span: int) -> None:
    """Let `span` µs of virtual time pass."""
    await asyncio.sleep(span / SECOND)


async def for_ever() -> None:
    """What code of a dead process waits for."""
    await asyncio.get_running_loop().create_future()
