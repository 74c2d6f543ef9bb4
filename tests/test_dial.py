"""How connections are opened: judged addresses only, the peer compared, TLS verified, the environment ignored."""

import asyncio
import errno
import re
import socket
import ssl
from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from pathlib import Path

import pytest
import trustme

import tenterhook
from tenterhook.clock import MILLISECOND, SECOND
from tenterhook.model import Outcome, Reason, Result
from tenterhook.netguard import Guard, Rules
from tenterhook.senders.dial import dial
from tenterhook.senders.http import HttpClient
from tenterhook.senders.limits import Limits
from tenterhook.urls import Address
from tests.receiver import (
    DEADLINE,
    HEAD,
    OK,
    SHORT,
    Names,
    Peer,
    Receiver,
    answering,
    both_loops,
    client,
    close_at_once,
    flooding,
    guard,
    post,
    receiving,
    reset_at_once,
    silence,
    tick,
)  # fmt: skip
from tests.simulation.loop import VirtualLoop

# TLS


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def presenting(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    return context


async def secure_post(
    made: HttpClient, receiver: Receiver, host: str = "a.example", deadline: int = DEADLINE
) -> Outcome:
    return await made.post(receiver.url(host=host, scheme="https"), (), b"{}", deadline=deadline)


@both_loops
async def test_tls(authority: trustme.CA) -> None:
    seen: list[str | None] = []
    served = presenting(authority, "a.example")
    served.sni_callback = lambda _, name, __: seen.append(name)
    async with answering(OK, tls=served) as receiver, client(tls=trusting(authority)) as made:
        first, second = await secure_post(made, receiver), await secure_post(made, receiver)
    assert first.result is second.result is Result.OK
    assert seen == ["a.example"]
    assert first.timing.tls and first.timing.dns is not None
    assert second.timing.tls is second.timing.dns is second.timing.connect is None
    assert receiver.connections == 1


@both_loops
async def test_tls_to_an_address(authority: trustme.CA) -> None:
    async with (
        answering(OK, tls=presenting(authority, "127.0.0.1")) as receiver,
        client(tls=trusting(authority)) as made,
    ):
        assert (await secure_post(made, receiver, "127.0.0.1")).result is Result.OK


@both_loops
async def test_a_certificate_for_another_name(authority: trustme.CA) -> None:
    async with (
        answering(OK, tls=presenting(authority, "b.example")) as receiver,
        client(tls=trusting(authority)) as made,
    ):
        outcome = await secure_post(made, receiver)
    assert (outcome.result, outcome.reason) == (Result.RETRY, Reason.TLS)
    assert outcome.detail == "The receiver's certificate is for another name."
    assert receiver.requests == []


@both_loops
async def test_a_certificate_of_nobody(authority: trustme.CA) -> None:
    async with answering(OK, tls=presenting(authority, "a.example")) as receiver, client() as made:
        outcome = await secure_post(made, receiver)
    assert outcome.reason is Reason.TLS
    assert "not signed by a known authority" in outcome.detail
    assert receiver.requests == []


@both_loops
async def test_old_tls_is_refused(authority: trustme.CA) -> None:
    served = presenting(authority, "a.example")
    served.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning):
        served.minimum_version = served.maximum_version = ssl.TLSVersion.TLSv1_1
    async with answering(OK, tls=served) as receiver, client(tls=trusting(authority)) as made:
        assert (await secure_post(made, receiver)).reason is Reason.TLS


@pytest.mark.parametrize(
    ("script", "reason"),
    [(silence, Reason.TIMEOUT), (close_at_once, Reason.TLS), (reset_at_once, Reason.TLS), (flooding(OK), Reason.TLS)],
)
@both_loops
async def test_handshakes_that_fail(
    authority: trustme.CA, script: Callable[[Peer], Awaitable[None]], reason: Reason
) -> None:
    async with receiving(script) as receiver, client(tls=trusting(authority)) as made:
        outcome = await secure_post(made, receiver, deadline=SHORT if reason is Reason.TIMEOUT else DEADLINE)
    assert (outcome.reason, outcome.status, outcome.timing.tls) == (reason, 0, None)


def test_a_context_that_trusts_everybody_is_refused() -> None:
    lax = ssl.create_default_context()
    lax.check_hostname = False
    with pytest.raises(ValueError, match="does not verify"):
        HttpClient(guard(), tls=lax)


# a resolver that changes

PUBLIC = "8.8.8.8"


class Dials:
    """A dialler that keeps what it is asked for. It never leaves loopback: `wire` is where an address really leads."""

    def __init__(self, wire: dict[str, str | None]) -> None:
        self._wire = wire
        self.asked: list[str] = []

    async def __call__(self, address: Address, port: int) -> socket.socket:
        self.asked.append(str(address))
        leads_to = self._wire.get(str(address), "")
        if leads_to is None:
            await asyncio.Event().wait()
        if not leads_to:
            raise OSError(errno.ENETUNREACH, "unreachable")
        return await dial(ip_address(leads_to), port)


async def named(made: HttpClient, receiver: Receiver, deadline: int = DEADLINE) -> Outcome:
    return await made.post(receiver.url(host="a.example"), (), b"{}", deadline=deadline)


@both_loops
async def test_one_resolution_per_connection_and_the_judged_address_only() -> None:
    names, dials = Names([PUBLIC], ["127.0.0.1"]), Dials({})
    async with answering(OK) as receiver, client(over=guard(names, Rules()), dial=dials) as made:
        first = await named(made, receiver)
        assert (names.asked, dials.asked) == (["a.example"], [PUBLIC])
        second = await named(made, receiver)
    assert (first.reason, second.reason) == (Reason.CONNECT, Reason.REFUSED_ADDRESS)
    assert dials.asked == [PUBLIC]
    assert receiver.connections == 0


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (["10.0.0.1"], Reason.REFUSED_ADDRESS),
        ([PUBLIC, "169.254.169.254"], Reason.REFUSED_ADDRESS),
        (["169.254.169.254", PUBLIC], Reason.REFUSED_ADDRESS),
        ([PUBLIC, "::ffff:127.0.0.1"], Reason.REFUSED_ADDRESS),
        ([f"8.8.{high}.{low}" for high in range(4) for low in range(250)], Reason.REFUSED_ADDRESS),
        ([], Reason.NAME),
    ],
)
@both_loops
async def test_answers_that_are_not_dialled(answer: list[str], reason: Reason) -> None:
    dials = Dials({})
    async with answering(OK) as receiver, client(over=guard(Names(answer), Rules()), dial=dials) as made:
        outcome = await named(made, receiver)
    assert (outcome.result, outcome.reason, dials.asked) == (Result.RETRY, reason, [])


class NoAnswer:
    async def resolve(self, host: str) -> list[Address]:
        await asyncio.Event().wait()
        raise AssertionError


@pytest.mark.parametrize(
    ("lookup", "whole", "reason"),
    [(SHORT, DEADLINE, Reason.NAME), (DEADLINE, SHORT, Reason.TIMEOUT)],
    ids=["of the lookup", "of the request"],
)
@both_loops
async def test_no_answer_before_the_deadline(lookup: int, whole: int, reason: Reason) -> None:
    over = Guard(Rules(), NoAnswer(), deadline=lookup)
    async with answering(OK) as receiver, client(over=over) as made:
        outcome = await named(made, receiver, deadline=whole)
    assert (outcome.reason, outcome.timing.dns) == (reason, None)
    assert outcome.timing.total < DEADLINE // 2
    assert "name" in outcome.detail


@pytest.mark.parametrize("first", ["", None], ids=["refuses", "is silent"])
@both_loops
async def test_fallback_stays_inside_the_judged_addresses(first: str | None) -> None:
    dials = Dials({"127.0.0.2": first, "127.0.0.1": "127.0.0.1"})
    names = Names(["127.0.0.2", "127.0.0.1"], [PUBLIC])
    async with answering(OK) as receiver, client(over=guard(names), dial=dials) as made:
        outcome = await named(made, receiver, deadline=2 * SECOND)
    assert outcome.result is Result.OK
    assert (names.asked, dials.asked) == (["a.example"], ["127.0.0.2", "127.0.0.1"])


@both_loops
async def test_all_addresses_are_silent() -> None:
    dials = Dials({"127.0.0.1": None, "127.0.0.2": None})
    names = Names(["127.0.0.1", "127.0.0.2"])
    async with answering(OK) as receiver, client(over=guard(names), dial=dials) as made:
        outcome = await named(made, receiver, deadline=SECOND)
    assert (outcome.reason, dials.asked) == (Reason.TIMEOUT, ["127.0.0.1", "127.0.0.2"])
    assert SECOND // 2 < outcome.timing.total < DEADLINE // 2


@both_loops
async def test_connecting_has_a_limit_of_its_own() -> None:
    dials = Dials({"127.0.0.1": None})
    async with answering(OK) as receiver, client(Limits(connect=SHORT), dial=dials) as made:
        outcome = await named(made, receiver)
    assert outcome.reason is Reason.TIMEOUT
    assert outcome.timing.total < DEADLINE // 2


@both_loops
async def test_a_kept_connection_serves_until_its_age_limit() -> None:
    names = Names(["127.0.0.1"], ["10.0.0.1"])
    async with answering(OK) as receiver, client(Limits(age=SECOND), over=guard(names)) as made:
        assert (await named(made, receiver)).result is Result.OK
        assert (await named(made, receiver)).result is Result.OK
        await tick(1)
        outcome = await named(made, receiver)
    assert outcome.reason is Reason.REFUSED_ADDRESS
    assert (len(names.asked), receiver.connections) == (2, 1)


@pytest.mark.parametrize("scheme", ["http", "https"])
@both_loops
async def test_a_connection_that_leads_elsewhere_is_closed_before_a_byte_is_sent(scheme: str) -> None:
    got: list[bytes] = []
    ended = asyncio.Event()

    async def script(peer: Peer) -> None:
        try:
            got.append(await peer.read(1))
        finally:
            ended.set()

    dials = Dials({PUBLIC: "127.0.0.1"})
    async with receiving(script) as receiver, client(over=guard(Names([PUBLIC]), Rules()), dial=dials) as made:
        url = receiver.url(host="a.example", scheme=scheme)
        outcome = await made.post(url, (), b"{}", deadline=DEADLINE)
        await ended.wait()
    assert (outcome.reason, got) == (Reason.REFUSED_ADDRESS, [])
    assert outcome.detail == "The target is not a public address."


def test_deadlines_in_virtual_time() -> None:
    async def scenario() -> tuple[Outcome, float]:
        loop = asyncio.get_running_loop()
        async with client(Limits(connect=40 * SECOND), dial=Dials({"127.0.0.1": None})) as made:
            began = loop.time()
            outcome = await made.post("http://a.example/", (), b"", deadline=30 * SECOND)
            return outcome, loop.time() - began

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        outcome, lasted = runner.run(scenario())
    assert outcome.reason is Reason.TIMEOUT
    assert lasted == pytest.approx(30)


# the guard and the machine


@both_loops
async def test_proxies_of_the_environment_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with answering(OK) as receiver, client() as made:
        assert (await post(made, receiver)).result is Result.OK


@both_loops
async def test_a_refused_address_is_told_in_one_sentence() -> None:
    async with answering(OK) as receiver, client(over=guard(rules=Rules())) as made:
        by_name = await made.post(receiver.url(host="a.example"), (), b"", deadline=DEADLINE)
        by_number = await post(made, receiver)
    for outcome in (by_name, by_number):
        assert (outcome.result, outcome.reason) == (Result.RETRY, Reason.REFUSED_ADDRESS)
        assert outcome.detail == "The target is not a public address."
        assert outcome.request_head == b""
    assert receiver.connections == 0


@pytest.mark.parametrize(
    "url", ["ftp://a.example/", "http://a.example:25/", "http://127.1/", "http://a@b.example/", ""]
)
@both_loops
async def test_urls_that_are_refused(url: str) -> None:
    async with client() as made:
        outcome = await made.post(url, (), b"", deadline=DEADLINE)
    assert (outcome.result, outcome.reason, outcome.timing.connect) == (Result.RETRY, Reason.REFUSED_ADDRESS, None)
    assert outcome.detail


@both_loops
async def test_nobody_listens() -> None:
    async with answering(OK) as receiver:
        pass
    async with client() as made:
        outcome = await post(made, receiver)
    assert (outcome.reason, outcome.timing.connect) == (Reason.CONNECT, None)
    assert outcome.detail == "The connection could not be established."


@both_loops
async def test_phases_are_measured() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await tick(0.02)
        peer.send(HEAD + b"Content-Length: 1\r\n\r\n")
        await tick(0.2)
        peer.send(b"x")
        await peer.gone()

    async with receiving(script) as receiver, client() as made:
        outcome = await made.post(receiver.url(host="a.example"), (), b"", deadline=DEADLINE)
    timing = outcome.timing
    assert timing.first_byte is not None and timing.connect is not None and timing.dns is not None
    assert timing.first_byte >= 15 * MILLISECOND
    assert timing.total >= timing.first_byte + 50 * MILLISECOND
    assert timing.total >= timing.dns + timing.connect + timing.first_byte


def test_only_one_module_opens_connections() -> None:
    """Every outbound path must pass the guard."""
    root = Path(tenterhook.__file__).parent
    clients = re.compile(
        r"^\s*(?:from|import) (?:aiohttp|httpx|requests|urllib3|urllib\.request|http\.client|smtplib)\b", re.M
    )
    connects = re.compile(r"\b(?:sock_connect|create_connection|open_connection|create_datagram_endpoint)\(")
    names = {
        str(path.relative_to(root))
        for path in root.rglob("*.py")
        for text in [path.read_text("utf-8")]
        if clients.search(text) or connects.search(text)
    }
    # remote.py is the command line's way to a server that its user names
    assert names - {"remote.py"} == {"senders/dial.py"}
