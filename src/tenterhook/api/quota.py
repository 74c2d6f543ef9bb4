"""How many requests a token may make: so many per second, with bursts of up to a second's worth. Per node, in memory."""

from msgspec import Struct

from tenterhook.clock import SECOND, Clock
from tenterhook.errors import TooManyRequests
from tenterhook.model import Token

_MOST = 10_000
Headers = tuple[tuple[bytes, bytes], ...]


class Quotas(Struct, frozen=True):
    """Requests per second with one token: of an operator's, and of an application's; 0 is no limit."""

    operator: int = 0
    application: int = 0


class Counter:
    """Counts by the GCRA algorithm: for each token the instant at which its burst would be used up."""

    def __init__(self, quotas: Quotas, clock: Clock) -> None:
        self._quotas, self._clock = quotas, clock
        self._full_at: dict[str, int] = {}

    def take(self, token: Token) -> Headers:
        """What to say of one more request (RateLimit header fields of the IETF draft). Raises TooManyRequests."""
        rate = self._quotas.operator if token.app is None else self._quotas.application
        if not rate:
            return ()
        now, gap = self._clock.now(), SECOND // rate
        used = max(self._full_at.get(token.id, 0) - now, 0)
        wait = used + gap - SECOND
        if wait > 0:
            raise TooManyRequests(rate, wait)
        if len(self._full_at) >= _MOST:
            self._full_at = {key: at for key, at in self._full_at.items() if at > now}
        self._full_at[token.id] = now + used + gap
        return headers(rate, (SECOND - used - gap) // gap, used + gap)


def headers(rate: int, remaining: int, until_reset: int) -> Headers:
    """`until_reset` in µs, rounded up to seconds."""
    seconds = -(-until_reset // SECOND)
    return (
        (b"ratelimit-limit", b"%d" % rate),
        (b"ratelimit-remaining", b"%d" % max(remaining, 0)),
        (b"ratelimit-reset", b"%d" % seconds),
    )
