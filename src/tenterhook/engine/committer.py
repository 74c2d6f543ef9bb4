"""Group commit: what many coroutines want written while one commit runs goes into the next one, as one transaction.

No timer and no sleep: a lone piece of work is committed at once, and under load the batches grow by themselves. It
knows no SQL; the store's `commit` does a whole batch and answers for each piece.
"""

import asyncio
import logging
from collections.abc import Sequence
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


class Committer:
    """Gathers work for one store. Start it, submit to it, close it."""

    def __init__(self, store: Store, instrument: Instrument) -> None:
        self._store, self._instrument = store, instrument
        self._gathered: list[Waiting] = []
        self._wake = asyncio.Event()
        self._closing = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="committer")

    async def close(self) -> None:
        """Commit what was submitted, then end."""
        self._closing = True
        self._wake.set()
        if self._task is not None:
            await self._task

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
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._gathered:
                batch = self._take()
                done = await self._commit([piece for piece, _ in batch])
                _resolve(batch, done)
                if isinstance(done[-1], StoreUnavailable):
                    # what gathered meanwhile has waited as long, and would only wait for the same again
                    _resolve(self._gathered, [done[-1]] * len(self._gathered))
                    self._gathered = []
            if self._closing:
                return

    def _take(self) -> list[Waiting]:
        count = size = 0
        for (work, _), _future in self._gathered[:MAX_BATCH]:
            size += _weight(work)
            if count and size > MAX_BATCH_BYTES:
                break
            count += 1
        batch, self._gathered = self._gathered[:count], self._gathered[count:]
        return batch

    async def _commit(self, pieces: list[Piece]) -> list[Done]:
        work, places = _unfolded(pieces)
        try:
            done = await self._store.commit(work)
        except StoreUnavailable as error:
            return [error] * len(pieces)
        except Exception as error:
            if len(pieces) == 1:
                log.exception("a piece of work cannot be committed: %s", _named(work[0]))
                return [Unstorable(f"this cannot be stored: {error}")]
            # one of them is poisonous: it must not take the others with it
            return [answer for one in pieces for answer in await self._commit([one])]
        self._instrument.committed(len(pieces))
        return [done[place] for place in places]


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
