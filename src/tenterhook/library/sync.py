"""The pipeline on a thread of its own, for programs without an event loop."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Self, TypeVar

from tenterhook.library.asynchronous import AsyncTenterhook, Outboxes
from tenterhook.library.verbs import JSON, Request, Verbs
from tenterhook.observe import Instrument

T = TypeVar("T")


class Tenterhook(Verbs[JSON]):
    """`with Tenterhook("sqlite:///hooks.db") as hooks: hooks.send(…)`. Any thread may call it; see AsyncTenterhook."""

    def __init__(
        self,
        database: str = "sqlite:///tenterhook.db",
        *,
        outboxes: Outboxes = (),
        watch: Instrument | None = None,
        **settings: str | bool | int,
    ) -> None:
        """The arguments of AsyncTenterhook. Raises ConfigurationError."""
        super().__init__()
        self._hooks = AsyncTenterhook(database, outboxes=outboxes, watch=watch, **settings)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def open(self) -> Self:
        """Begin to deliver. Raises StoreUnavailable, SchemaMismatch."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._loop.run_forever, name="tenterhook", daemon=True)
            self._thread.start()
            try:
                self._wait_for(self._hooks.open())
            except BaseException:
                self._stop()
                raise
        return self

    def close(self) -> None:
        """Let what is in flight end, write everything down."""
        if self._loop is not None:
            try:
                self._wait_for(self._hooks.close())
            finally:
                self._stop()

    def _stop(self) -> None:
        loop, thread = self._loop, self._thread
        assert loop is not None and thread is not None
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
        self._loop = self._thread = None

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(self, *error: object) -> None:
        self.close()

    def each(self, verb: Callable[..., JSON], *args: Any, **query: Any) -> Iterator[JSON]:
        """Every item of a list: `for endpoint in hooks.each(hooks.endpoint.list, "acme")`."""
        iterator: str | None = None
        while True:
            page = verb(*args, **query, iterator=iterator)
            yield from page["data"]
            if page["done"]:
                return
            iterator = page["iterator"]

    def _do(self, asked: Request) -> JSON:
        """Raises Refused, StoreUnavailable."""
        return self._wait_for(self._hooks._do(asked))

    def _wait_for(self, work: Coroutine[Any, Any, T]) -> T:
        if self._loop is None:
            work.close()
            raise RuntimeError("open it first: `with Tenterhook(…) as hooks`")
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()
