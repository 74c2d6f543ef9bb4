"""Pages of lists in the shape of the wire API: `{data, iterator, prevIterator, done}`, walkable both ways."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from msgspec.structs import replace

from tenterhook import ids
from tenterhook.api.http import Call, Query, Response, json_response
from tenterhook.clock import SECOND
from tenterhook.errors import Invalid
from tenterhook.store.base import Cursor

MOST = 250
USUAL = 50
_SIFTED = 250
_LAST_INSTANT = (ids.EPOCH + 0xFFFF_FFFF) * SECOND
"""Ids cannot tell later instants apart (they have 32 bits of seconds)."""
T = TypeVar("T")


def cursor_of(query: Query, prefix: str, *, descending: bool, honours_order: bool = False) -> Cursor:
    """The cursor that a request asks for. `prefix` is that of the ids in the list ('' for names).

    One more item than asked for is fetched, so that `done` is known. Raises Invalid, BadRequest.
    """
    order = query.one("order") if honours_order else None
    if order not in (None, "ascending", "descending"):
        raise Invalid("order must be ascending or descending", ("query", "order"))
    iterator = query.one("iterator") or None
    backward = iterator is not None and iterator.startswith("-")
    after = iterator[1:] if iterator is not None and backward else iterator
    if after is not None and prefix and not ids.is_id(after, prefix):
        raise Invalid(f"the iterator must be an id that begins with {prefix}", ("query", "iterator"))
    since, until = query.instant("after"), query.instant("before")
    # `after` alone asks for the oldest page behind that instant
    oldest_page = since is not None and until is None and iterator is None and descending
    return Cursor(
        limit=query.number("limit", USUAL, 1, MOST) + 1,
        after=after,
        backward=backward or oldest_page,
        descending=descending if order is None else order == "descending",
        since=_within_ids(since),
        until=_within_ids(until),
    )


def _within_ids(instant: int | None) -> int | None:
    return None if instant is None else min(instant, _LAST_INSTANT)


async def sifted(
    cursor: Cursor,
    fetch: Callable[[Cursor], Awaitable[Sequence[T]]],
    key: Callable[[T], str],
    keep: Callable[[T], Awaitable[bool]],
    at_once: int = _SIFTED,
) -> list[T]:
    """A page of what `keep` lets through, for conditions that the store does not know: reads on until it is full.

    No more than `at_once` items are fetched at a time.
    """
    found: list[T] = []
    ahead = replace(cursor, limit=at_once)
    while True:
        page = await fetch(ahead)
        kept = [item for item in page if await keep(item)]
        found = kept + found if cursor.backward else found + kept
        if len(page) < ahead.limit or len(found) >= cursor.limit:
            return found[-cursor.limit :] if cursor.backward else found[: cursor.limit]
        ahead = replace(ahead, after=key(page[0] if cursor.backward else page[-1]))


async def answer(
    call: Call,
    cursor: Cursor,
    fetch: Callable[[Cursor], Awaitable[Sequence[T]]],
    render: Callable[[T], object],
    key: Callable[[T], str],
) -> Response:
    """Fetch a page and answer it; a list going backward is cut at its front."""
    found = await fetch(cursor)
    limit = cursor.limit - 1
    done = len(found) <= limit
    if not done:
        found = found[-limit:] if cursor.backward else found[:limit]
    page: dict[str, Any] = {
        "data": [render(item) for item in found],
        "iterator": key(found[-1]) if found else None,
        "done": done,
    }
    if found:
        page["prevIterator"] = "-" + key(found[0])
    return json_response(200, page)
