"""What the relay says to the table, in the words of each dialect."""

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from tenterhook.outbox.base import COUNTED, Kept, Reading, Waiting
from tenterhook.outbox.schema import quoted

_TAKE = """\
WITH found AS (
    SELECT * FROM (SELECT * FROM {table} WHERE retry_at <= {p}1 ORDER BY retry_at, position LIMIT {p}2) AS due
    UNION ALL
    SELECT * FROM (SELECT * FROM {table} WHERE retry_at IS NULL AND error IS NULL ORDER BY position LIMIT {p}2) AS fresh
), sized AS (
    SELECT found.*, {size} AS size FROM found
), summed AS (
    SELECT sized.*, sum(CASE WHEN size <= {p}3 THEN size ELSE 0 END)
        OVER (ORDER BY retry_at NULLS LAST, position ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS loaded
    FROM sized
)
SELECT id, application, event_type, CASE WHEN size <= {p}3 THEN payload END AS payload, size, key, event_id, channels, tags,
    attempts, retry_at,
    (SELECT ahead.retry_at FROM {table} AS ahead WHERE ahead.application = summed.application AND ahead.key = summed.key
        AND ahead.position < summed.position AND ahead.retry_at IS NOT NULL ORDER BY ahead.position DESC LIMIT 1) AS behind
FROM summed WHERE coalesce(loaded, 0) < {p}4 ORDER BY retry_at NULLS LAST, position
"""
_DELETE = "DELETE FROM {table} WHERE id IN ({ids})"
_KEEP = "UPDATE {table} SET attempts = {p}2, retry_at = {p}3, error = {p}4 WHERE id = {p}1"
_WAITING = """\
SELECT (SELECT count(*) FROM (SELECT 1 FROM {table} WHERE retry_at IS NULL AND error IS NULL LIMIT {counted}) AS fresh),
    (SELECT created_at FROM {table} WHERE retry_at IS NULL AND error IS NULL ORDER BY position LIMIT 1),
    late.count, late.oldest
FROM (SELECT count(*) AS count, min(created_at) AS oldest
    FROM (SELECT created_at FROM {table} WHERE retry_at IS NOT NULL LIMIT {counted}) AS due) AS late
"""

DIALECTS = {
    "postgresql": {"p": "$", "size": "octet_length(payload)", "ids": "SELECT unnest($1::text[])"},
    "sqlite": {"p": "?", "size": "length(CAST(payload AS BLOB))", "ids": "SELECT value FROM json_each(?1)"},
}


class Statements(Struct, frozen=True):
    """`take` wants the values of `take_values`, `delete` the ids as one list, `keep` those of `keep_values`.

    What `waiting` finds is for `waiting_of`.
    """

    take: str
    delete: str
    keep: str
    waiting: str


def statements(dialect: str, table: str) -> Statements:
    words = {"table": quoted(table), "counted": COUNTED, **DIALECTS[dialect]}
    return Statements(*(text.format(**words) for text in (_TAKE, _DELETE, _KEEP, _WAITING)))


def take_values(reading: Reading, now: int) -> tuple[int, int, int, int]:
    return now, reading.rows, reading.payload, reading.size


def keep_values(kept: Sequence[Kept]) -> list[tuple[str, int, int | None, str]]:
    return [(row.id, row.attempts, row.retry_at, row.error) for row in kept]


def waiting_of(found: Sequence[Any]) -> Waiting:
    """Any program may write an instant, and SQLite lets it be text: that counts as none."""
    fresh, first, late, oldest = found
    instants = [at for at in (first, oldest) if isinstance(at, int)]
    return Waiting(min(COUNTED, fresh + late), min(instants, default=None))
