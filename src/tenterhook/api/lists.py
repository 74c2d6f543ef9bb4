"""Pages of lists in the shape of the wire API: `{data, iterator, prevIterator, done}`, walkable both ways."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from tenterhook import ids
from tenterhook.api.http import Call, Response, json_response
from tenterhook.api.query import Instant, Number, OneWord, Text
from tenterhook.api.shapes import Out
from tenterhook.errors import Invalid
from tenterhook.store.queries import Cursor, Found

_SIFTED = 250
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
        since=since,
        until=until,
    )


async def sifted(
    cursor: Cursor,
    fetch: Callable[[Cursor], Awaitable[Sequence[T]]],
    key: Callable[[T], str],
    keep: Callable[[T], Awaitable[bool]],
    at_once: int = _SIFTED,
) -> list[T]:
    """A page of what `keep` lets through: reads on until it is full. Only for what there are few of.

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
    """Fetch a page and answer it."""
    return _page(cursor, await fetch(cursor), None, render, key)


async def answer_search(
    cursor: Cursor,
    search: Callable[[Cursor], Awaitable[Found[T]]],
    render: Callable[[T], object],
    key: Callable[[T], str],
) -> Response:
    """The same for a list with a filter: a page may hold less than there is room for, and yet there may be more."""
    found = await search(cursor)
    return _page(cursor, found.items, found.behind, render, key)


def _page(
    cursor: Cursor,
    found: Sequence[T],
    behind: str | None,
    render: Callable[[T], object],
    key: Callable[[T], str],
) -> Response:
    """What goes backward is cut at its front. `behind` is where a search stopped before the page was full."""
    limit = cursor.limit - 1
    cut = len(found) > limit
    if cut:
        found = found[-limit:] if cursor.backward else found[:limit]
    first, last = (key(found[0]), key(found[-1])) if found else (behind, behind)
    if behind is not None:
        first, last = (behind, last) if cursor.backward else (first, behind)
    page = ListResponse(
        data=[render(item) for item in found],
        iterator=last,
        prev_iterator=UNSET if first is None else "-" + first,
        done=not cut and behind is None,
    )
    return json_response(200, page)
