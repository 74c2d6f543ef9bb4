"""Group commit: what many coroutines want written while one commit runs goes into the next one, as one transaction.

No timer and no sleep: a lone piece of work is committed at once, and under load the batches grow by themselves. A store
may be asked for a commit before the last one is answered: it takes the batch when it can begin, so that its writer does
not wait for the event loop, which has most to do just then. The committer knows no SQL; the store does a whole batch and
answers for each piece.
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from typing import cast

from msgspec.structs import replace

from tenterhook.errors import StoreUnavailable, TenterhookError
from tenterhook.observe import Instrument
from tenterhook.store.base import Store
from tenterhook.store.work import Accept, Accepted, Claim, Done, Page, Settled, Settlement, Work

log = logging.getLogger(__name__)

MAX_BATCH = 1_000
MAX_BATCH_BYTES = 32 * 1024 * 1024


Piece = tuple[Work, Sequence[Accept]]
"""Work, and the messages to accept with it if it is a settlement that is kept."""
Waiting = tuple[Piece, "asyncio.Future[Done]"]


class Unstorable(TenterhookError):
    """This cannot be stored: the log has the details."""

    code = "unstorable"


class Batch:
    """What goes into one commit: what is `waiting`, or what can be taken when the store begins with it."""

    def __init__(self, waiting: list[Waiting], take: Callable[[], list[Waiting]] | None = None) -> None:
        self.waiting, self._take = waiting, take
        self._places: list[int] = []

    def begin(self) -> list[Work]:
        """The work, for the store."""
        if self._take is not None:
            self.waiting = self._take()
        work, self._places = _unfolded([piece for piece, _ in self.waiting])
        return work

    def resolve(self, done: list[Done]) -> None:
        """Give the answers to those who wait."""
        _resolve(self.waiting, [done[place] for place in self._places])


class Committer:
    """Gathers work for one store. Start it, submit to it, close it."""

    def __init__(self, store: Store, instrument: Instrument) -> None:
        self._store, self._instrument = store, instrument
        self._gathered: list[Waiting] = []
        self._taking = threading.Lock()
        self._asked = False  # the store, for a commit whose batch it has not taken yet
        self._wake = asyncio.Event()
        self._closing = False
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._run(), name="committer") for _ in range(1 + self._store.commits_ahead)]

    async def close(self) -> None:
        """Commit what was submitted, then end."""
        self._closing = True
        self._wake.set()
        await asyncio.gather(*self._tasks)

    async def accept(self, work: Accept) -> Accepted:
        """Raises Conflict, IdempotencyInProgress, Unstorable, StoreUnavailable; then nothing was written."""
        return cast(Accepted, await self._submit(work))

    async def settle(self, work: Settlement, notices: Sequence[Accept] = ()) -> Settled:
        """The notices are accepted if the lease still holds.

        Raises Unstorable, StoreUnavailable; then nothing was written.
        """
        return cast(Settled, await self._submit(work, notices))

    async def claim(self, work: Claim) -> Page:
        """Raises StoreUnavailable; then nothing was leased."""
        return cast(Page, await self._submit(work))

    def _submit(self, work: Work, notices: Sequence[Accept] = ()) -> "asyncio.Future[Done]":
        future: asyncio.Future[Done] = asyncio.get_running_loop().create_future()
        if self._closing:
            future.set_exception(StoreUnavailable("the server is shutting down: try again in a moment"))
            return future
        self._gathered.append(((work, notices), future))
        self._wake.set()
        return future

    async def _run(self) -> None:
        while self._gathered or not self._closing:
            if self._gathered and not self._asked:
                self._asked = True
                await self._commit(Batch([], self._take))
            else:
                self._wake.clear()
                await self._wake.wait()
        self._wake.set()  # for the other one, which may end as well

    def _take(self) -> list[Waiting]:
        """The next batch. On a thread of the store, while others submit."""
        with self._taking:
            self._asked = False
            batch = _fitting(self._gathered[:MAX_BATCH])
            del self._gathered[: len(batch)]
        return batch

    def _take_all(self) -> list[Waiting]:
        with self._taking:
            self._asked = False
            everything, self._gathered = self._gathered, []
        return everything

    async def _commit(self, batch: Batch) -> None:
        try:
            done = await self._store.commit_next(batch.begin)
        except StoreUnavailable as error:
            # what gathered meanwhile has waited as long, and would only wait for the same again
            refused = batch.waiting + self._take_all()
            _resolve(refused, [error] * len(refused))
        except Exception as error:
            if len(batch.waiting) == 1:
                _refuse(batch.waiting[0], error)
                return
            for one in batch.waiting or self._take():
                # one of them is poisonous: it must not take the others with it
                await self._commit(Batch([one]))
        else:
            batch.resolve(done)
            if batch.waiting:
                self._instrument.committed(len(batch.waiting))


def _refuse(one: Waiting, error: Exception) -> None:
    (work, _), _ = one
    log.error("a piece of work cannot be committed: %s", _named(work), exc_info=error)
    _resolve([one], [Unstorable(f"this cannot be stored: {error}")])


def _fitting(waiting: list[Waiting]) -> list[Waiting]:
    """As many of them as go into one commit."""
    size = 0
    for count, ((work, _), _) in enumerate(waiting):
        size += _weight(work)
        if count and size > MAX_BATCH_BYTES:
            return waiting[:count]
    return waiting


def _unfolded(pieces: Sequence[Piece]) -> tuple[list[Work], list[int]]:
    """The batch as a store takes it, each settlement's notices given that it is kept; and where each piece is in it."""
    work: list[Work] = []
    places = []
    for one, notices in pieces:
        places.append(len(work))
        work.append(one)
        if notices:
            work += [replace(notice, given=places[-1]) for notice in notices]
    return work, places


def _named(work: Work) -> str:
    """Which work it is, without what is in it: payloads and headers are nobody's business in a log."""
    match work:
        case Accept(message=message, received=received):
            subject = message or received
            return f"Accept of {'nothing' if subject is None else subject.id}"
        case Settlement(delivery=delivery):
            return f"Settlement of {delivery.message} at {delivery.endpoint}"
        case Claim(endpoint=endpoint):
            return f"Claim for {endpoint}"


def _weight(work: Work) -> int:
    return len(work.message.payload) if isinstance(work, Accept) and work.message is not None else 0


def _resolve(batch: list[Waiting], done: list[Done]) -> None:
    for (_, future), answer in zip(batch, done, strict=True):
        if future.done():
            continue
        if isinstance(answer, TenterhookError):
            future.set_exception(answer)
        else:
            future.set_result(answer)
