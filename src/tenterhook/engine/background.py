"""What a worker does beside its rounds: attempts under way, and results on their way to the disk."""

import asyncio

from tenterhook.clock import SECOND


class Background:
    """Tasks that nobody waits for until the end."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, work: "asyncio._CoroutineLike[None]") -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def finish(self, timeout: int) -> None:
        """Give them `timeout` µs to end, then end them."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout / SECOND)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
