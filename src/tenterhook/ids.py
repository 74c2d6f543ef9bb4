"""Sortable ids: a prefix and 27 base62 characters of 20 bytes (4 bytes seconds, 1 byte of 4 ms steps, 12 bits of
microseconds in that step, the rest random).

The form is that of the Svix wire API, where all behind the steps is random. FIFO delivery relies on the order of ids: those
of one process strictly increase (within one microsecond the random part counts upwards), those of two processes follow the
clock that they share.
"""

import secrets
from random import Random

from tenterhook.clock import SECOND

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
LENGTH = 27
EPOCH = 1_400_000_000
_STEP = 4_000
_BELOW_STEPS = 120
_RANDOM_BITS = _BELOW_STEPS - 12
_HIGH = 62**9
_TRIPLES = [a + b + c for a in ALPHABET for b in ALPHABET for c in ALPHABET]

PREFIXES = {
    "application": "app_",
    "endpoint": "ep_",
    "message": "msg_",
    "attempt": "atmpt_",
    "event_type": "evtype_",
    "source": "src_",
    "request": "req_",
    "token": "tok_",
    "integration": "integ_",
    "task": "qtask_",
}


def _base62(number: int) -> str:
    """27 digits, by threes: three divisions of the big number, then small ones only."""
    parts = []
    for _ in range(3):
        number, chunk = divmod(number, _HIGH)
        low, rest = chunk % 238_328, chunk // 238_328
        parts.append(_TRIPLES[rest // 238_328] + _TRIPLES[rest % 238_328] + _TRIPLES[low])
    return parts[2] + parts[1] + parts[0]


def _steps(instant: int) -> int:
    """The time part of an id: seconds since EPOCH and, in the low byte, 4 ms steps. What is later than they can tell is the
    latest."""
    seconds, rest = divmod(instant, SECOND)
    return min(max(seconds - EPOCH, 0), 0xFFFFFFFF) << 8 | rest // _STEP


class IdMaker:
    """Makes ids that never go backwards within one process, even if the clock does."""

    def __init__(self, random: Random | None = None) -> None:
        self._last = 0
        # an id names things and opens nothing: a generator seeded once is as unique, without a system call each
        self._random = Random(secrets.token_bytes(32)) if random is None else random

    def new(self, prefix: str, now: int) -> str:
        """A fresh id for the instant `now` (µs UTC)."""
        floor = _steps(now) << _BELOW_STEPS | now % _STEP << _RANDOM_BITS
        if self._last < floor:
            # the top bit stays free, so that counting on never runs into the next microsecond
            self._last = floor | self._random.getrandbits(_RANDOM_BITS - 1)
        else:
            self._last += 1 + self._random.getrandbits(64)
        return prefix + _base62(self._last)


def floor(prefix: str, instant: int) -> str:
    """The lowest id that an instant can have: bounds a time window in a list of ids."""
    return prefix + _base62(_steps(instant) << _BELOW_STEPS)


def ceiling(prefix: str, instant: int) -> str:
    """The lowest id that no earlier instant can have, as far as ids can tell instants apart.

    As both ends of a range it leaves out no id that was made before its end, and ranges that meet share none.
    """
    return floor(prefix, instant + _STEP - 1)


def instant_of(text: str) -> int:
    """When an id was made (µs UTC, to 4 ms). Raises ValueError for what is not an id."""
    steps = _number(text.rpartition("_")[2]) >> _BELOW_STEPS
    return ((steps >> 8) + EPOCH) * SECOND + (steps & 0xFF) * _STEP


def behind(text: str) -> str:
    """The next id of the same kind. Raises ValueError for what is not an id."""
    kind, line, body = text.rpartition("_")
    return kind + line + _base62(_number(body) + 1)


def _number(body: str) -> int:
    if len(body) != LENGTH or not body.isascii() or not body.isalnum():
        raise ValueError(f"{body!r} is not an id")
    number = 0
    for character in body:
        number = number * 62 + ALPHABET.index(character)
    return number


def is_id(text: str, prefix: str) -> bool:
    """Whether the text has the shape of an id of this kind."""
    body = text[len(prefix) :]
    return text.startswith(prefix) and len(body) == LENGTH and body.isascii() and body.isalnum()
