"""The HTTP client of all outbound requests: guarded, bounded, and built for many small POSTs.

Redirects are never followed, proxies of the environment are ignored, nothing is decompressed. A request has one
deadline over all its phases, and whatever a receiver does is an `Outcome`.
"""

import asyncio
import logging
import re
import ssl
import time
from collections.abc import Callable, Sequence

from msgspec import Struct

from tenterhook.clock import SECOND
from tenterhook.headers import header_lines
from tenterhook.model import Outcome, Reason, Result, Timing
from tenterhook.netguard import AddressRefused, Guard, NameFailed
from tenterhook.senders.connection import Answer
from tenterhook.senders.dial import ConnectFailed, Dial, Dialler, Phases, dial, tls_context
from tenterhook.senders.limits import Limits
from tenterhook.senders.pool import Pool
from tenterhook.senders.retry_after import retry_after
from tenterhook.urls import Target, UrlRefused, parse

__all__ = ["HttpClient", "Limits", "Prepared", "result_of"]

log = logging.getLogger(__name__)

_RETRY_AFTER = re.compile(rb"\r\nretry-after:([^\r]*)", re.IGNORECASE)
_DATE = re.compile(rb"\r\ndate:([^\r]*)", re.IGNORECASE)

_LATE = {
    "dns": "The host name was not resolved in time.",
    "connect": "The connection could not be established in time.",
    "tls": "The TLS handshake was not complete in time.",
}
_REDIRECT = "The receiver answered with a redirect, which is not followed."


class Prepared(Struct, frozen=True):
    """What the requests to one target have in common: the head up to the lines that change, and the pool's key."""

    target: Target
    key: str
    head: bytes


def result_of(status: int, wait: int | None) -> Result:
    """What a complete answer means; `wait` is its `Retry-After` (µs), None without one."""
    if 200 <= status < 300:
        return Result.OK
    if status == 410:
        return Result.GONE
    if status == 429 or (status == 503 and wait is not None):
        return Result.SLOW_DOWN
    return Result.RETRY


class HttpClient:
    """POSTs to receivers over pooled connections; belongs to one event loop, the one that it is first used in."""

    def __init__(
        self,
        guard: Guard,
        *,
        limits: Limits = Limits(),  # noqa: B008 (frozen)
        tls: ssl.SSLContext | None = None,
        dial: Dial = dial,
        ticks: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        """`tls` replaces the system's trust; `ticks` (ns) measures phases. Raises ValueError for `tls` that trusts all."""
        if tls is not None and (tls.verify_mode != ssl.CERT_REQUIRED or not tls.check_hostname):
            raise ValueError("a TLS context that does not verify certificates and names is of no use here")
        self._guard, self._limits, self._given_tls, self._dial, self._ticks = guard, limits, tls, dial, ticks
        self._dialler: Dialler | None = None

    def prepare(self, url: str, headers: Sequence[tuple[str, str]], method: str = "POST") -> Prepared:
        """The part of a request that does not change. Raises UrlRefused, and Invalid for headers that are not lines."""
        target = parse(url)
        start = f"{method} {target.path} HTTP/1.1\r\nhost: {target.authority}\r\naccept-encoding: identity\r\n".encode()
        return Prepared(target, f"{target.scheme}://{target.host}:{target.port}", start + header_lines(headers))

    async def post(
        self,
        url: str,
        headers: Sequence[tuple[str, str]],
        body: bytes,
        *,
        deadline: int,
        now: int | None = None,
    ) -> Outcome:
        """One request within `deadline` µs. Raises Invalid for headers that are not lines; a bad URL is an outcome."""
        try:
            prepared = self.prepare(url, headers)
        except UrlRefused as refused:
            return Outcome(result=Result.RETRY, reason=Reason.REFUSED_ADDRESS, detail=refused.detail, url=url)
        return await self.send(prepared, b"", body, deadline=deadline, now=now)

    async def send(
        self, prepared: Prepared, extra_head: bytes, body: bytes, *, deadline: int, now: int | None = None
    ) -> Outcome:
        """One request within `deadline` µs over all phases. `extra_head`: further header lines, each ended by CR LF.

        `now` (µs UTC) serves a `Retry-After` with a date in an answer without one.
        """
        started = self._ticks()
        dialler = self._dialler or self._start()
        pool = dialler.pool
        head = b"%b%bcontent-length: %d\r\n\r\n" % (prepared.head, extra_head, len(body))
        ends = pool.loop.time() + deadline / SECOND
        connection = pool.take(prepared.key)
        if connection is None:
            return await self._send_fresh(dialler, prepared, head, body, ends, started, now)
        # if the receiver closes it at this moment, the attempt has failed: nobody knows whether the request was read, and
        # to send it again here would be a request that no attempt records
        answer = await connection.exchange(head, body, deadline)
        timing = Timing((answer.ended - started) // 1_000, first_byte=_first_byte(answer, started))
        return _outcome(prepared, head, answer, timing, now)

    async def close(self) -> None:
        """Close all connections; requests under way end as closed."""
        if self._dialler is not None:
            await self._dialler.pool.close()

    async def _send_fresh(
        self,
        dialler: Dialler,
        prepared: Prepared,
        head: bytes,
        body: bytes,
        ends: float,
        started: int,
        now: int | None,
    ) -> Outcome:
        """The same, over a new connection; `ends` is of the loop's time (s), `started` of the ticks (ns)."""
        phases = Phases()
        try:
            async with asyncio.timeout_at(ends):
                connection = await dialler.open(prepared.target, prepared.key, phases, ends)
        except TimeoutError:
            failed = ConnectFailed(Reason.TIMEOUT, _LATE[phases.now])
        except AddressRefused as refused:
            log.warning("refused: %s", refused.diagnosis)
            failed = ConnectFailed(Reason.REFUSED_ADDRESS, refused.detail)
        except NameFailed as unknown:
            failed = ConnectFailed(Reason.NAME, unknown.detail)
        except ConnectFailed as error:
            failed = error
        else:
            sent = self._ticks()
            answer = await connection.exchange(head, body, round((ends - dialler.loop.time()) * SECOND))
            total = (answer.ended - started) // 1_000
            timing = Timing(total, phases.dns, phases.connect, phases.tls, _first_byte(answer, sent))
            return _outcome(prepared, head, answer, timing, now)
        total = (self._ticks() - started) // 1_000
        return Outcome(
            result=Result.RETRY,
            reason=failed.reason,
            detail=failed.detail,
            url=prepared.target.url,
            timing=Timing(total, phases.dns, phases.connect, phases.tls),
        )

    def _start(self) -> Dialler:
        pool = Pool(self._limits, asyncio.get_running_loop())
        self._dialler = Dialler(self._guard, pool, self._limits, self._tls, self._dial, self._ticks)
        return self._dialler

    def _tls(self) -> ssl.SSLContext:
        """Made when it is first needed: reading the system's certificates takes tens of milliseconds."""
        if self._given_tls is None:
            self._given_tls = tls_context()
        return self._given_tls


def _first_byte(answer: Answer, sent: int) -> int | None:
    """From the request to the first byte of its answer (µs)."""
    return None if answer.silent else (answer.first_byte - sent) // 1_000


def _outcome(prepared: Prepared, head: bytes, answer: Answer, timing: Timing, now: int | None) -> Outcome:
    status, reason = answer.status, answer.failure or Reason.STATUS
    result, wait, detail = Result.OK, None, answer.detail
    if not 200 <= status < 300:
        wait = _wait(answer.head, now)
        result = result_of(status, wait)
        if 300 <= status < 400:
            detail = detail or _REDIRECT
    if answer.failure is not None:
        result = Result.RETRY  # half an answer decides nothing
    return Outcome(
        result=result,
        reason=reason,
        status=status,
        detail=detail,
        retry_after=wait,
        url=prepared.target.url,
        request_head=head,
        response_head=answer.head,
        response_body=answer.body,
        response_cut=answer.cut,
        timing=timing,
    )


def _wait(head: bytes, now: int | None) -> int | None:
    """The `Retry-After` of an answer (µs)."""
    asked = _RETRY_AFTER.search(head)
    if asked is None:
        return None
    date = _DATE.search(head)
    return retry_after(asked[1].decode("latin-1"), date=None if date is None else date[1].decode("latin-1"), now=now)
