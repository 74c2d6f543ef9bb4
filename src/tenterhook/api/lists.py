"""Pages of lists in the shape of the wire API: `{data, iterator, prevIterator, done}`, walkable both ways."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from tenterhook import ids
from tenterhook.api.http import Call, Response, json_response
from tenterhook.api.query import Instant, Number, OneWord, Text
from tenterhook.api.shapes import Out
from tenterhook.clock import SECOND
from tenterhook.errors import Invalid
from tenterhook.store.base import Cursor

_SIFTED = 250
_LAST_INSTANT = (ids.EPOCH + 0xFFFF_FFFF) * SECOND
"""Ids cannot tell later instants apart (they have 32 bits of seconds)."""
T = TypeVar("T")


LIMIT = Number("limit", "How many items a page has at most.", default=50, least=1, most=250)
ITERATOR = Text("iterator", "The `iterator` or `prevIterator` of another page: the list goes on from there.")
ORDER = OneWord("order", "Which way the list goes.", words=("ascending", "descending"))
BEFORE = Instant("before", "Only what was created before this instant.")
AFTER = Instant("after", "Only what was created at this instant or after it.")

PAGE = (LIMIT, ITERATOR)
SORTED_PAGE = (*PAGE, ORDER)
WINDOW_PAGE = (*PAGE, BEFORE, AFTER)


class ListResponse(Out, Generic[T], kw_only=True):
    """A page of a list. Pass `iterator` to get the next page, `prevIterator` to get the page before this one.

    `done` tells that nothing more comes in the direction of travel. An empty page has the iterator null.
    """

    data: list[T]
    iterator: str | None
    prev_iterator: str | UnsetType = UNSET
    done: bool


def cursor_of(call: Call, prefix: str, *, descending: bool) -> Cursor:
    """The cursor that a request asks for. `prefix` is that of the ids in the list ('' for names).

    Order and window count where the route declares them. One more item than asked for is fetched, so that `done` is
    known. Raises Invalid.
    """
    query = call.query
    order, since, until = query.get(ORDER), query.get(AFTER), query.get(BEFORE)
    iterator = query[ITERATOR] or None
    backward = iterator is not None and iterator.startswith("-")
    after = iterator[1:] if iterator is not None and backward else iterator
    if after is not None and prefix and not ids.is_id(after, prefix):
        raise Invalid(f"the iterator must be an id that begins with {prefix}", ("query", "iterator"))
    # `after` alone asks for the oldest page behind that instant
    oldest_page = since is not None and until is None and iterator is None and descending
    return Cursor(
        limit=query[LIMIT] + 1,
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
    page = ListResponse(
        data=[render(item) for item in found],
        iterator=key(found[-1]) if found else None,
        prev_iterator="-" + key(found[0]) if found else UNSET,
        done=done,
    )
    return json_response(200, page)
