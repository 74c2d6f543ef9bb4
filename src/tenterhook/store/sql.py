"""Verbs without I/O: a verb is a generator that asks for statements and is sent their answers.

So the SQL of most verbs is written once, and each database runs it in its own way: SQLite at once on a thread, PostgreSQL
over the network. Placeholders are `?` everywhere. A verb that changes something runs in one transaction.
"""

from collections.abc import Generator, Sequence
from typing import Any, NamedTuple, TypeVar

Row = Sequence[Any]
T = TypeVar("T")


class Read(NamedTuple):
    """Answered with the rows. `lock` holds them until the end of the transaction, where writers run side by side."""

    text: str
    values: Sequence[Any] = ()
    lock: bool = False


class Write(NamedTuple):
    """Answered with how many rows it touched. A broken uniqueness is thrown into the verb as `Taken`."""

    text: str
    values: Sequence[Any] = ()


class Insert(NamedTuple):
    """Many rows for one table; `conflict` is the statement's ON CONFLICT clause. Answered like Write."""

    table: str
    columns: str
    rows: Sequence[Row]
    conflict: str = ""


class LockLines(NamedTuple):
    """Take FIFO lines (endpoint, order key) for this transaction, before anything of them is read."""

    lines: Sequence[tuple[str, str]]


class Tell(NamedTuple):
    """Tell the other nodes, if the transaction commits: (topic, id). Only a hint: they must not depend on it."""

    topic: str
    about: str


class Appear(NamedTuple):
    """A message is about to be written whose id, `message`, was made some time ago, and others of `app` with higher ones.

    Until the transaction ends, readers who follow the ids keep clear of it. Answered with None, unless some may have passed it
    already: then with an id that theirs must come behind. That is so after `deadline` (µs UTC) where writers run side by side.
    """

    app: str
    message: str
    deadline: int


Statement = Read | Write | Insert | LockLines | Tell | Appear
Verb = Generator[Statement, Any, T]


class Taken(Exception):
    """A value that must be unique is there already. The transaction is over."""


def select(text: str, *values: Any) -> Verb[list[Row]]:
    """All rows."""
    found: list[Row] = yield Read(text, values)
    return found


def select_one(text: str, *values: Any) -> Verb[Row | None]:
    """The first row, or None."""
    found: list[Row] = yield Read(text, values)
    return found[0] if found else None


def select_locked(text: str, *values: Any) -> Verb[Row | None]:
    """The first row, which nobody else changes until this transaction ends."""
    found: list[Row] = yield Read(text, values, lock=True)
    return found[0] if found else None


def change(text: str, *values: Any) -> Verb[int]:
    """How many rows were touched."""
    count: int = yield Write(text, values)
    return count


def listed(count: int) -> str:
    """`?, ?, ?` for an IN list; one of nothing holds nothing (PostgreSQL knows no `IN ()`)."""
    return ", ".join("?" * count) or "NULL"


def tuples(width: int, count: int) -> str:
    """`(?, ?), (?, ?)` for VALUES."""
    one = f"({', '.join('?' * width)})"
    return ", ".join([one] * count)
