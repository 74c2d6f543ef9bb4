"""Copying every table, and comparing both sides by what their rows say."""

import asyncio
from collections.abc import AsyncIterator, Callable
from hashlib import blake2b

import msgspec
from msgspec import Struct

from tenterhook.errors import ConfigurationError, StoreUnavailable
from tenterhook.store.copying import verbs
from tenterhook.store.copying.end import End
from tenterhook.store.copying.tables import Table, tables
from tenterhook.store.copying.verbs import Place
from tenterhook.store.sql import Row
from tenterhook.vault import KeyMissing, SealBroken, Vault

Tell = Callable[[Table, int], None]
"""Is told a table and how many rows of it are done."""


class Sum(Struct, frozen=True):
    """What is in a table: how many rows, and a checksum over their values in the order of the key."""

    rows: int
    checksum: str


class Compared(Struct, frozen=True):
    """A table on both sides."""

    table: str
    source: Sum
    target: Sum

    @property
    def same(self) -> bool:
        return self.source == self.target


async def copy(source: End, target: End, tell: Tell) -> None:
    """Copy what is not copied yet.

    It may be cut off at any point and called again. Raises ConfigurationError for a target that holds something else,
    StoreUnavailable.
    """
    places = await _begin(source, target)
    for table in tables():
        place = places.get(table.name, Place())
        tell(table, place.copied)
        try:
            async for rows in _pages(source, table, place.after):
                place = Place(place.copied + len(rows), table.key_of(rows[-1]))
                await target.write(table, rows, place)
                tell(table, place.copied)
        except StoreUnavailable as error:
            raise StoreUnavailable(
                f"the copy of the table {table.name} stopped: {error.detail}\nGive the command again: it goes on where it was"
            ) from error
    await target.settle()


async def _begin(source: End, target: End) -> dict[str, Place]:
    begun = await target.run(verbs.unfinished())
    if begun is None:
        held = await target.run(verbs.occupied())
        if held:
            raise ConfigurationError(
                f"{target.name} is not empty: it has rows in {', '.join(held)}. Nothing was copied"
            )
        await target.run(verbs.begin(source.name))
    elif begun != source.name:
        raise ConfigurationError(f"{target.name} holds a part of a copy of {begun}. Nothing was copied")
    return await target.run(verbs.places())


async def counts(source: End) -> dict[str, int]:
    """How many rows there are to copy, by table."""
    return {table.name: await source.run(verbs.count(table)) for table in tables()}


async def compare(source: End, target: End, tell: Tell) -> list[Compared]:
    """Read all tables on both sides. A copy that is the same in all of them is complete from then on."""
    found = []
    for table in tables():
        both = await asyncio.gather(_sum(source, table, tell), _sum(target, table, lambda table, done: None))
        found.append(Compared(table.name, *both))
    if all(each.same for each in found):
        await target.run(verbs.finish())
    return found


async def _sum(end: End, table: Table, tell: Tell) -> Sum:
    """The checksum is over the values, so it does not depend on how a database stores them."""
    digest, rows = blake2b(digest_size=16), 0
    async for page in _pages(end, table, None):
        for row in page:
            digest.update(msgspec.msgpack.encode(row))
        rows += len(page)
        tell(table, rows)
    return Sum(rows, digest.hexdigest())


async def _pages(end: End, table: Table, after: Row | None) -> AsyncIterator[list[Row]]:
    while page := await end.run(verbs.page(table, after)):
        yield page
        after = table.key_of(page[-1])


async def unreadable(source: End, vault: Vault) -> int:
    """How many secrets of the source cannot be opened with these keys."""
    count = 0
    for table in (table for table in tables() if table.seals):
        after = ""
        while page := await source.run(verbs.sealed(table, after)):
            count += sum(not _opens(vault, sealed, bound_to) for bound_to, sealed in page)
            after = page[-1][0]
    return count


def _opens(vault: Vault, sealed: bytes, bound_to: str) -> bool:
    try:
        vault.open(sealed, bound_to)
    except (KeyMissing, SealBroken):
        return False
    return True
