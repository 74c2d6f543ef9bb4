"""Opens connections to receivers: resolve, judge, connect by number, compare the peer, TLS. The only module that does."""

import asyncio
import functools
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence

from tenterhook.clock import SECOND
from tenterhook.model import Reason
from tenterhook.netguard import Guard
from tenterhook.senders.connection import Connection
from tenterhook.senders.limits import Limits
from tenterhook.senders.pool import Pool
from tenterhook.urls import Address, Target, write

Dial = Callable[[Address, int], Awaitable[socket.socket]]
"""Connects to an address and a port. Raises OSError."""

NO_CONNECTION = "The connection could not be established."
NO_CONNECTION_IN_TIME = "The connection could not be established in time."
SHUT_DOWN = "The server is being shut down."
NO_TLS = "The TLS handshake failed."

_CERTIFICATE = {
    9: "The receiver's certificate is not valid yet.",
    10: "The receiver's certificate has expired.",
    18: "The receiver's certificate is self-signed.",
    19: "The receiver's certificate is not signed by a known authority.",
    20: "The receiver's certificate is not signed by a known authority, or a certificate in between is missing.",
    21: "The receiver's certificate is not signed by a known authority, or a certificate in between is missing.",
    62: "The receiver's certificate is for another name.",
    64: "The receiver's certificate is for another address.",
}
"""OpenSSL's verification results that somebody can act upon."""


class ConnectFailed(Exception):
    """No connection; `detail` is for people and tells nothing of the network."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


class Phases:
    """How long the phases of a connection took (µs), as far as they came; `now` names the one under way."""

    __slots__ = ("connect", "dns", "now", "tls")

    def __init__(self) -> None:
        self.dns: int | None = None
        self.connect: int | None = None
        self.tls: int | None = None
        self.now = "dns"


async def dial(address: Address, port: int) -> socket.socket:
    """A socket connected to an address, given by number, so that nothing is resolved again. Raises OSError."""
    connecting = socket.socket(socket.AF_INET if address.version == 4 else socket.AF_INET6, socket.SOCK_STREAM)
    try:
        connecting.setblocking(False)
        connecting.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(connecting, (write(address), port))
    except BaseException:
        connecting.close()
        raise
    return connecting


def tls_context() -> ssl.SSLContext:
    """The system's trust, TLS 1.2 at least, HTTP/1.1."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


class Dialler:
    """Makes connections for a pool; all of them pass the guard."""

    def __init__(
        self,
        guard: Guard,
        pool: Pool,
        limits: Limits,
        tls: Callable[[], ssl.SSLContext],
        dial: Dial,
        ticks: Callable[[], int],
    ) -> None:
        self._guard, self._limits, self._tls, self._dial, self._ticks = guard, limits, tls, dial, ticks
        self.pool, self.loop = pool, pool.loop

    async def open(self, target: Target, key: str, phases: Phases, ends: float) -> Connection:
        """A fresh connection, before `ends` (the loop's time, s) as far as sharing the time among addresses goes.

        Raises AddressRefused, NameFailed, ConnectFailed.
        """
        if self.pool.closed:
            raise ConnectFailed(Reason.CLOSED, SHUT_DOWN)
        started = self._ticks()
        judged = tuple(await self._guard.addresses(target))
        resolved = self._ticks()
        if target.literal is None:
            phases.dns = (resolved - started) // 1_000
        phases.now = "connect"
        ends = min(ends, self.loop.time() + self._limits.connect / SECOND)
        connected = await self._connect(judged, target.port, ends)
        phases.connect = (self._ticks() - resolved) // 1_000
        factory = functools.partial(Connection, key, judged, self.pool, self._limits, self._ticks)
        if target.scheme == "https":
            return await self._secure(connected, target.host, factory, phases, ends)
        try:
            return (await self.loop.create_connection(factory, sock=connected))[1]
        except OSError:
            connected.close()
            raise ConnectFailed(Reason.CONNECT, NO_CONNECTION) from None

    async def _connect(self, judged: Sequence[Address], port: int, ends: float) -> socket.socket:
        """The first address that takes the connection; each gets its share of the time that is left."""
        loop = self.loop
        for number, address in enumerate(judged):
            share = (ends - loop.time()) / (len(judged) - number)
            try:
                async with asyncio.timeout(share):
                    connected = await self._dial(address, port)
            except OSError as error:  # TimeoutError too
                failed = error
                continue
            try:
                self._guard.check_peer(connected.getpeername(), judged)
            except OSError as error:
                connected.close()
                failed = error
                continue
            except BaseException:
                connected.close()
                raise
            return connected
        if isinstance(failed, TimeoutError):
            raise ConnectFailed(Reason.TIMEOUT, NO_CONNECTION_IN_TIME)
        raise ConnectFailed(Reason.CONNECT, NO_CONNECTION)

    async def _secure(
        self, connected: socket.socket, host: str, factory: Callable[[], Connection], phases: Phases, ends: float
    ) -> Connection:
        loop = self.loop
        phases.now = "tls"
        started = self._ticks()
        left = ends - loop.time()
        try:
            async with asyncio.timeout(left):
                _, connection = await loop.create_connection(
                    factory,
                    sock=connected,
                    ssl=self._tls(),
                    server_hostname=host,
                    ssl_handshake_timeout=max(left, 0) + 1,  # ours comes first
                )
        except TimeoutError:
            raise ConnectFailed(Reason.TIMEOUT, NO_CONNECTION_IN_TIME) from None
        except ssl.SSLCertVerificationError as error:
            detail = _CERTIFICATE.get(error.verify_code, "The receiver's certificate is not trusted.")
            raise ConnectFailed(Reason.TLS, detail) from None
        except (OSError, ValueError):
            raise ConnectFailed(Reason.TLS, NO_TLS) from None
        phases.tls = (self._ticks() - started) // 1_000
        return connection
