"""The guard of every outbound connection whose host a tenant or a received request chose: public receivers only.

A name is resolved once per connection, all its addresses are judged, the connection goes to one of them by number, and
the peer is compared. The rules themselves are in `addresses`.
"""

import asyncio
import ipaddress
import math
import socket
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

import msgspec

from tenterhook.addresses import Rule, Rules, Verdict, is_localhost, judge, judge_all, judge_target, matches
from tenterhook.clock import SECOND
from tenterhook.errors import TenterhookError
from tenterhook.urls import Address, Target, UrlRefused, parse, write

__all__ = [
    "Address",
    "AddressRefused",
    "Finding",
    "Guard",
    "NameFailed",
    "Resolver",
    "Rule",
    "Rules",
    "SystemResolver",
    "Verdict",
    "judge",
    "judge_all",
    "judge_target",
    "own_addresses",
]

RESOLVE_DEADLINE = 5 * SECOND
NOT_PUBLIC = "The target is not a public address."
_SHOWN = 8
"""How many addresses a line of the log shows."""

_T = TypeVar("_T")
_Answer = list[Address] | str
"""The addresses, or what went wrong."""
_NOT_CACHED: tuple[float, list[Address]] = (-math.inf, [])


class NameFailed(TenterhookError):
    """The name of the target does not resolve."""

    code = "name_failed"
    status = 422

    def __init__(self, diagnosis: str) -> None:
        super().__init__()
        self.diagnosis = diagnosis
        """For the operator: the name, and what the resolver said."""


class AddressRefused(UrlRefused):
    """The rules refuse the target. A tenant sees one and the same message for everything that an address decided."""

    def __init__(self, verdict: Verdict, diagnosis: str, detail: str = NOT_PUBLIC) -> None:
        super().__init__(verdict.rule, detail)
        self.diagnosis = diagnosis
        """For the operator's log: the name, its addresses, the rule."""


class Resolver(Protocol):
    """Asks for the addresses of a name."""

    async def resolve(self, host: str) -> list[Address]:
        """All addresses of a name in normal form (no trailing dot). Raises NameFailed."""


class Finding(msgspec.Struct, frozen=True):
    """One row of an explanation: what was judged (`url`, `name`, `address`, `target` for the whole), and the verdict."""

    subject: str
    value: str
    allowed: bool
    rule: StrEnum
    detail: str


class Guard:
    """Gives out the addresses that a connection may go to, and nothing else does."""

    def __init__(self, rules: Rules, resolver: Resolver, *, deadline: int = RESOLVE_DEADLINE) -> None:
        """`deadline` (µs) bounds one lookup."""
        self.rules = rules
        self._resolver = resolver
        self._deadline = deadline / SECOND

    @classmethod
    def of_machine(cls, rules: Rules) -> Self:
        """A guard with the system's resolver; the addresses of this machine's interfaces join `rules.own`."""
        rules = msgspec.structs.replace(rules, own=rules.own | own_addresses())
        return cls(rules, SystemResolver(as_written=rules.allowed_names))

    def target(self, text: str) -> Target:
        """The target that a URL names, scheme, port and name judged; what to ask when a URL is saved.

        Raises UrlRefused.
        """
        target = parse(text)
        self._admit(target)
        return target

    async def addresses(self, target: Target) -> list[Address]:
        """The addresses to connect to, all of them judged, in the resolver's order.

        Raises AddressRefused (scheme, port, name or an address against the rules) and NameFailed (no such name, no
        address, no answer in time).
        """
        self._admit(target)
        found = [target.literal] if target.literal is not None else await self._resolve(target.host)
        verdict = judge_all(found, self.rules)
        if not verdict.allowed:
            shown = ", ".join(write(address) for address in found[:_SHOWN]) + (", …" if len(found) > _SHOWN else "")
            raise AddressRefused(verdict, f"{target.host} [{shown}]: {verdict.detail}")
        return found

    def check_peer(self, peer: tuple[Any, ...], judged: Iterable[Address]) -> None:
        """Compare a connected socket's peer (as `getpeername` gives it) with the judged addresses.

        Raises AddressRefused when it is none of them: then the connection was wired past the guard.
        """
        address = _of_socket(peer)
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        if address is None or address not in judged:
            raise AddressRefused(Verdict(False, Rule.PEER, ""), f"connected to {peer!r}, which was not judged")

    async def explain(self, text: str) -> list[Finding]:
        """Each step of the judgement on a URL, for the operator's eyes. Raises nothing for a refusal."""
        try:
            target = parse(text)
        except UrlRefused as refused:
            return [Finding("url", text, False, refused.rule, refused.detail)]
        verdict = judge_target(target, self.rules)
        findings = [Finding("url", target.url, verdict.allowed, verdict.rule, verdict.detail)]
        if not verdict.allowed:
            return findings
        try:
            found = [target.literal] if target.literal is not None else await self._resolve(target.host)
        except NameFailed as failed:
            return [*findings, Finding("name", target.host, False, Rule.NO_ADDRESS, failed.diagnosis)]
        for address in found:
            verdict = judge(address, self.rules)
            findings.append(Finding("address", write(address), verdict.allowed, verdict.rule, verdict.detail))
        verdict = judge_all(found, self.rules)
        return [*findings, Finding("target", target.host, verdict.allowed, verdict.rule, verdict.detail)]

    def _admit(self, target: Target) -> None:
        verdict = judge_target(target, self.rules)
        if not verdict.allowed:
            # the text alone decided, so saying why gives nothing away
            raise AddressRefused(verdict, verdict.detail, f"The URL is refused: {verdict.detail}.")

    async def _resolve(self, host: str) -> list[Address]:
        try:
            async with asyncio.timeout(self._deadline):
                found = await self._resolver.resolve(host)
        except TimeoutError:
            raise NameFailed(f"{host}: no answer within {self._deadline:g} s") from None
        if not found:
            raise NameFailed(f"{host}: no addresses")
        return found


class _Lookup:
    """One running call, and how many wait for it."""

    __slots__ = ("answer", "call", "waiters")

    def __init__(self, call: Future[_Answer]) -> None:
        self.call = call
        self.answer = asyncio.wrap_future(call)
        self.waiters = 0


class SystemResolver:
    """The system's `getaddrinfo`, in threads of its own, with a small cache of addresses (never of verdicts).

    Concurrent lookups of one name share one call. A name that held a thread longer than anybody waited for it is asked
    in a second, smaller pool from then on, until it answers in time: slow names hold up each other, and nobody else.
    """

    def __init__(
        self,
        threads: int = 8,
        cache_seconds: float = 30,
        cache_size: int = 10_000,
        *,
        as_written: tuple[str, ...] = (),
        getaddrinfo: Callable[..., list[Any]] = socket.getaddrinfo,
    ) -> None:
        """`as_written`: names or `*.suffix` that are asked without the trailing dot, so that `/etc/hosts` serves them."""
        self._pool = ThreadPoolExecutor(threads, "resolve")
        self._slow_pool = ThreadPoolExecutor(max(1, threads // 4), "resolve-slow")
        self._cache_seconds = cache_seconds
        self._cache_size = cache_size
        self._as_written = as_written
        self._getaddrinfo = getaddrinfo
        self._cache: dict[str, tuple[float, list[Address]]] = {}
        self._lookups: dict[str, _Lookup] = {}
        self._slow: dict[str, None] = {}

    async def resolve(self, host: str) -> list[Address]:
        """All addresses of a name, IPv4 and IPv6 in one call. Raises NameFailed."""
        loop = asyncio.get_running_loop()
        until, addresses = self._cache.get(host, _NOT_CACHED)
        if loop.time() < until:
            return list(addresses)
        lookup = self._lookups.get(host)
        if lookup is None or lookup.answer.get_loop() is not loop:
            lookup = self._start(host)
        lookup.waiters += 1
        try:
            answer = await asyncio.shield(lookup.answer)
        finally:
            lookup.waiters -= 1
            if not lookup.waiters and not lookup.answer.done():
                self._abandon(host, lookup)
        if isinstance(answer, str):
            raise NameFailed(f"{host}: {answer}")
        return list(answer)

    def close(self) -> None:
        """Let go of the threads; calls that run end by themselves."""
        for pool in (self._pool, self._slow_pool):
            pool.shutdown(wait=False, cancel_futures=True)

    def _start(self, host: str) -> _Lookup:
        pool = self._slow_pool if host in self._slow else self._pool
        lookup = _Lookup(pool.submit(self._ask, host))
        self._lookups[host] = lookup
        lookup.answer.add_done_callback(lambda done: self._finish(host, lookup, done))
        return lookup

    def _abandon(self, host: str, lookup: _Lookup) -> None:
        """Nobody waits any more: drop the call if it has not begun, else remember that the name is slow."""
        if not lookup.call.cancel():
            _remember(self._slow, host, None, self._cache_size)
        elif self._lookups.get(host) is lookup:
            del self._lookups[host]

    def _finish(self, host: str, lookup: _Lookup, done: asyncio.Future[_Answer]) -> None:
        if self._lookups.get(host) is lookup:
            del self._lookups[host]
        if done.cancelled():
            return
        answer = done.result()
        if lookup.waiters:
            self._slow.pop(host, None)
        if not isinstance(answer, str):
            until = done.get_loop().time() + self._cache_seconds
            _remember(self._cache, host, (until, answer), self._cache_size)

    def _ask(self, host: str) -> _Answer:
        """Runs in a thread."""
        try:
            rows = self._getaddrinfo(self._query(host), None, type=socket.SOCK_STREAM)
        except OSError as error:
            return error.strerror or type(error).__name__
        except UnicodeError:
            return "not a name"
        found = (_of_socket(row[4]) for row in rows)
        return list(dict.fromkeys(address for address in found if address is not None)) or "no addresses"

    def _query(self, host: str) -> bytes:
        """The text asked: fully qualified, so that no search domain is tried; bytes, so that no codec touches it.

        `localhost` and other names of `/etc/hosts` are found without the dot only.
        """
        plain = "." not in host or is_localhost(host) or any(matches(host, name) for name in self._as_written)
        return (host if plain or _is_literal(host) else host + ".").encode("ascii")


def own_addresses() -> frozenset[Address]:
    """The addresses of this machine's interfaces, as far as it tells; where /proc is missing, those of its host name."""
    return _linux_ipv4() | _linux_ipv6() or _host_name_addresses()


def _linux_ipv4() -> frozenset[Address]:
    """Of /proc/net/fib_trie: each leaf (`|-- 192.0.2.2`) is followed by its routes; `/32 host LOCAL` is our own."""
    found: set[Address] = set()
    leaf = ""
    for line in _lines("/proc/net/fib_trie"):
        words = line.split()
        if len(words) == 2 and words[0] == "|--":
            leaf = words[1]
        elif words[:3] == ["/32", "host", "LOCAL"]:
            found.add(ipaddress.IPv4Address(leaf))
    return frozenset(found)


def _linux_ipv6() -> frozenset[Address]:
    lines = (line.split() for line in _lines("/proc/net/if_inet6"))
    return frozenset(ipaddress.IPv6Address(int(words[0], 16)) for words in lines if words)


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text("ascii", "replace").splitlines()
    except OSError:
        return []


def _host_name_addresses() -> frozenset[Address]:
    try:
        rows = socket.getaddrinfo(socket.gethostname(), None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return frozenset()
    return frozenset(address for row in rows if (address := _of_socket(row[4])) is not None)


def _of_socket(peer: tuple[Any, ...]) -> Address | None:
    """The address in a socket address, with its scope if it has one; None for what is not an IP address."""
    try:
        address = ipaddress.ip_address(str(peer[0]))
        if len(peer) == 4 and peer[3] and address.version == 6 and address.scope_id is None:
            return ipaddress.IPv6Address(f"{address}%{peer[3]}")
    except (ValueError, IndexError):
        return None
    return address


def _is_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _remember(table: dict[str, _T], name: str, value: _T, size: int) -> None:
    """Put in at the young end; the oldest entry goes when the table is full."""
    table.pop(name, None)
    while len(table) >= max(size, 1):
        del table[next(iter(table))]
    table[name] = value
