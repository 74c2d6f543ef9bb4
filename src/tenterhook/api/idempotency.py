"""Idempotency keys: a repeated POST gets the answer of the first, which was stored together with its effect.

A key is scoped by token and full URI, remembered for twelve hours after a 2xx, and bound to the body: the same key
with another body is an error, because a caller that reuses a key by mistake would otherwise lose a message silently.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from hashlib import sha256
from typing import Any, TypeVar

import msgspec

from tenterhook.api.http import NO_CONTENT, Call, Response, json_response
from tenterhook.clock import HOUR, Clock
from tenterhook.errors import BadRequest, IdempotencyInProgress, IdempotencyMismatch, StoreUnavailable
from tenterhook.store.base import Store
from tenterhook.store.work import Accept, Remember, Remembered

REMEMBERED = 12 * HOUR
LONGEST_KEY = 256
T = TypeVar("T")
RememberFor = Callable[[Any], Remember] | None
"""Makes what is remembered of a creating request from the object that was created."""
_encode = msgspec.json.Encoder().encode


class _Id(msgspec.Struct):
    """What is stored of an answer that is secret."""

    id: str


_id = msgspec.json.Decoder(_Id)


def _only_id(created: Any) -> _Id:
    return _Id(created.id)


def _digest(data: bytes) -> bytes:
    """16 bytes: who looked for two texts with the same would fool but himself, and every byte is stored with each key."""
    return sha256(data).digest()[:16]


class Key:
    """The idempotency key of one request."""

    __slots__ = ("body_hash", "digest", "expires_at")

    def __init__(self, digest: bytes, body_hash: bytes, expires_at: int) -> None:
        self.digest, self.body_hash, self.expires_at = digest, body_hash, expires_at

    def remember(self, status: int, answer: bytes) -> Remember:
        """What a store keeps of an answer: all of it, or whatever it can be made from again."""
        return Remember(self.digest, self.body_hash, status, answer, self.expires_at, self.expires_at - REMEMBERED)


def matching(key: Key, earlier: Remembered) -> Remembered:
    """What is remembered under the key. Raises IdempotencyMismatch when it was given to another body."""
    if earlier.body_hash != key.body_hash:
        raise IdempotencyMismatch
    return earlier


def replayed(response: Response) -> Response:
    """An answer to a repeated request: it says that it is one."""
    return Response(response.status, response.body, (*response.headers, (b"idempotent-replayed", b"true")))


class Idempotency:
    """Keys of this process that are in progress, and the look-up of those that are done."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store, self._clock = store, clock
        self._in_progress: set[bytes] = set()

    async def begin(self, call: Call) -> Key | None:
        """The key of a POST, if it has one. Raises IdempotencyInProgress; `end` must follow."""
        text = call.header(b"idempotency-key")
        if text is None or call.token is None:
            return None
        if not 0 < len(text) <= LONGEST_KEY:
            raise BadRequest(f"an idempotency key has 1 to {LONGEST_KEY} characters")
        path = call.path.rstrip("/").encode()
        digest = _digest(b"%b\0%b\0%b?%b" % (call.token.id.encode(), text, path, call.query_text))
        if digest in self._in_progress:
            raise IdempotencyInProgress
        # claimed before the body is awaited: the twin of this request may be a moment behind
        self._in_progress.add(digest)
        try:
            body_hash = _digest(await call.body())
        except BaseException:
            self._in_progress.discard(digest)
            raise
        return Key(digest, body_hash, self._clock.now() + REMEMBERED)

    def end(self, key: Key) -> None:
        self._in_progress.discard(key.digest)

    async def recall(self, key: Key) -> Remembered | None:
        """What is remembered of an earlier request with this key. Raises IdempotencyMismatch."""
        found = await self._store.recall(key.digest, self._clock.now())
        return None if found is None else matching(key, found)

    async def earlier(self, key: Key) -> Response | None:
        """The answer to an earlier request with this key. Raises IdempotencyMismatch."""
        first = await self.recall(key)
        if first is None:
            return None
        return replayed(NO_CONTENT if first.status == 204 else Response(first.status, first.answer))

    async def creating(
        self,
        call: Call,
        status: int,
        create: Callable[[RememberFor], Awaitable[T | Response]],
        render: Callable[[T], object],
        again: Callable[[str], Awaitable[T]] | None = None,
    ) -> Response:
        """Answer a creating POST: `create` gets what makes the answer to be stored with the object, None without key.

        A Response from `create` is the answer as it is, and not remembered: nothing was created. `again` finds the object
        by its id where the answer is secret: then only the id is stored, and the repeated answer shows it as it is now.
        """
        key = await self.begin(call)
        if key is None:
            made = await create(None)
            return made if isinstance(made, Response) else json_response(status, render(made))
        try:
            earlier = await self.earlier(key)
            if earlier is not None and again is not None:
                there = await again(_id.decode(earlier.body).id)
                return replayed(json_response(earlier.status, render(there)))
            if earlier is not None:
                return earlier
            kept = render if again is None else _only_id
            made = await create(lambda created: key.remember(status, _encode(kept(created))))
            return made if isinstance(made, Response) else json_response(status, render(made))
        finally:
            self.end(key)

    async def once(
        self,
        call: Call,
        act: Callable[[], Awaitable[Response]],
        again: Callable[[], Awaitable[Response]] | None = None,
    ) -> Response:
        """Answer a POST that does something: a repeated one gets the same answer, and it is not done again.

        `again` makes the repeated answer where the first is secret and must not be stored.
        """
        key = await self.begin(call)
        if key is None:
            return await act()
        try:
            earlier = await self.earlier(key)
            if earlier is not None:
                return earlier if again is None else replayed(await again())
            response = await act()
            answer = b"" if again is not None else response.body
            remember = key.remember(response.status, answer)
            # it is done, and the caller must hear so even if the database cannot keep the answer
            with suppress(StoreUnavailable):
                await self._store.commit([Accept(None, (), None, remember)])
            return response
        finally:
            self.end(key)
