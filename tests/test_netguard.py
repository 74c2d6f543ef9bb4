import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenterhook.netguard import (
    AddressRefused,
    Guard,
    NameFailed,
    Rule,
    Rules,
    SystemResolver,
    own_addresses,
)
from tenterhook.urls import Address, Reason, Target, UrlRefused, parse
from tests.api import GRACE

PUBLIC = "8.8.8.8"
OTHER = "1.1.1.1"
NOT_PUBLIC = "The target is not a public address."


class Script:
    """A resolver with an answer for each call; it keeps the names that it was asked."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def resolve(self, host: str) -> list[Address]:
        self.asked.append(host)
        return [ip_address(text) for text in self.answers.pop(0)]


class Silent:
    async def resolve(self, host: str) -> list[Address]:
        await asyncio.Event().wait()
        raise AssertionError


TARGET = parse("https://a.example/hook")


async def test_public_first_then_loopback() -> None:
    script = Script([PUBLIC], ["127.0.0.1"])
    guard = Guard(Rules(), script)
    assert await guard.addresses(TARGET) == [IPv4Address(PUBLIC)]
    assert script.asked == ["a.example"]
    with pytest.raises(AddressRefused) as refused:
        await guard.addresses(TARGET)
    assert script.asked == ["a.example", "a.example"]
    assert refused.value.rule is Rule.LOOPBACK


@pytest.mark.parametrize(
    ("answer", "rule"),
    [
        (["10.0.0.1"], Rule.PRIVATE),
        ([PUBLIC, "169.254.169.254"], Rule.LINK_LOCAL),
        (["169.254.169.254", PUBLIC], Rule.LINK_LOCAL),
        ([PUBLIC, "::ffff:127.0.0.1"], Rule.MAPPED),
        (["2606:4700:4700::1111", "fe80::1%eth0"], Rule.SCOPED),
        ([f"8.8.{high}.{low}" for high in range(4) for low in range(250)], Rule.TOO_MANY),
    ],
)
async def test_one_refused_address_refuses_the_answer(answer: list[str], rule: Rule) -> None:
    with pytest.raises(AddressRefused) as refused:
        await Guard(Rules(), Script(answer)).addresses(TARGET)
    assert refused.value.rule is rule


async def test_good_answers_keep_their_order() -> None:
    answer = ["2606:4700:4700::1111", PUBLIC, OTHER]
    found = await Guard(Rules(), Script(answer)).addresses(TARGET)
    assert [str(address) for address in found] == answer


async def test_the_tenant_reads_nothing_about_addresses() -> None:
    guard = Guard(Rules(), Script(["10.1.2.3", PUBLIC]))
    with pytest.raises(AddressRefused) as refused:
        await guard.addresses(TARGET)
    assert str(refused.value) == refused.value.detail == NOT_PUBLIC
    for part in ("a.example", "10.1.2.3", PUBLIC, "10.0.0.0/8", "private"):
        assert part in refused.value.diagnosis


async def test_the_log_does_not_fill_with_addresses() -> None:
    with pytest.raises(AddressRefused) as refused:
        await Guard(Rules(), Script([PUBLIC] * 1000)).addresses(TARGET)
    assert len(refused.value.diagnosis) < 300


async def test_an_empty_answer_is_a_failure_of_the_name() -> None:
    with pytest.raises(NameFailed):
        await Guard(Rules(), Script([])).addresses(TARGET)


async def test_an_answer_after_the_deadline_fails_in_time() -> None:
    async with asyncio.timeout(GRACE):
        with pytest.raises(NameFailed) as failed:
            await Guard(Rules(), Silent(), deadline=1_000).addresses(TARGET)
    assert "a.example" in failed.value.diagnosis
    assert "a.example" not in str(failed.value)


@pytest.mark.parametrize(
    ("url", "rule"),
    [
        ("http://127.0.0.1/", Rule.LOOPBACK),
        ("http://①②⑦.0.0.1/", Rule.LOOPBACK),
        ("http://[::1]/", Rule.LOOPBACK),
        ("http://[::ffff:8.8.8.8]/", Rule.MAPPED),
        ("http://169.254.169.254/latest/meta-data", Rule.LINK_LOCAL),
        ("http://[64:ff9b::7f00:1]/", Rule.NAT64),
    ],
)
async def test_literals_take_the_same_path(url: str, rule: Rule) -> None:
    script = Script()
    with pytest.raises(AddressRefused) as refused:
        await Guard(Rules(), script).addresses(parse(url))
    assert (refused.value.rule, refused.value.detail) == (rule, NOT_PUBLIC)
    assert script.asked == []


async def test_a_public_literal_needs_no_resolver() -> None:
    script = Script()
    found = await Guard(Rules(), script).addresses(parse("https://[2606:4700:4700::1111]:8443/"))
    assert (found, script.asked) == ([IPv6Address("2606:4700:4700::1111")], [])


@pytest.mark.parametrize(
    ("url", "rules", "rule"),
    [
        ("https://localhost/", Rules(), Rule.LOCALHOST),
        ("https://printer.local/", Rules(), Rule.LOCAL_NAME),
        ("https://intranet/", Rules(), Rule.NO_DOT),
        ("https://a.example:25/", Rules(), Rule.PORT),
        ("http://a.example/", Rules(https_only=True), Rule.SCHEME),
    ],
)
async def test_what_the_text_says_is_judged_before_a_name_is_asked(url: str, rules: Rules, rule: Rule) -> None:
    script = Script([PUBLIC])
    guard = Guard(rules, script)
    with pytest.raises(AddressRefused) as refused:
        await guard.addresses(parse(url))
    assert refused.value.rule is rule
    with pytest.raises(AddressRefused) as again:
        guard.target(url)
    assert again.value.rule is rule
    assert script.asked == []


def test_a_target_for_saving() -> None:
    guard = Guard(Rules(), Script())
    assert guard.target("HTTPS://A.example.") == parse("https://a.example/")
    with pytest.raises(UrlRefused) as refused:
        guard.target("https://u@a.example/")
    assert refused.value.rule is Reason.USER_INFO


async def test_saved_while_public_and_refused_at_delivery() -> None:
    script = Script([PUBLIC], ["10.0.0.1"])
    guard = Guard(Rules(), script)
    saved = guard.target("https://a.example/hook")
    await guard.addresses(saved)
    with pytest.raises(AddressRefused):
        await guard.addresses(parse(saved.url))


async def test_development_on_the_own_machine() -> None:
    guard = Guard(Rules.parse("127.0.0.0/8,::1/128"), Script(["127.0.0.1", "::1"], ["127.0.0.1", "10.0.0.1"]))
    target = parse("http://localhost:9000/")
    assert await guard.addresses(target) == [IPv4Address("127.0.0.1"), IPv6Address("::1")]
    with pytest.raises(AddressRefused):
        await guard.addresses(target)


@given(st.text(alphabet="aA1.-_üß。ⓛ", min_size=1, max_size=20))
def test_the_name_asked_is_the_name_sent(host: str) -> None:
    try:
        target = parse(f"https://{host}/")
    except UrlRefused:
        return
    script = Script([PUBLIC])
    try:
        asyncio.run(Guard(Rules(), script).addresses(target))
    except AddressRefused:
        assert script.asked == []
    else:
        assert script.asked == ([] if target.literal else [target.authority])


@pytest.mark.parametrize(
    ("peer", "accepted"),
    [
        ((PUBLIC, 443), True),
        (("::ffff:8.8.8.8", 443, 0, 0), True),
        (("2606:4700:4700::1111", 443, 0, 0), True),
        (("2606:4700:4700::1111", 443, 0, 2), False),
        ((OTHER, 443), False),
        (("127.0.0.1", 443), False),
        (("::ffff:127.0.0.1", 443, 0, 0), False),
        ((), False),
        (("/run/x.sock",), False),
        ((134744072, 443), False),
    ],
)
def test_the_peer_is_one_of_the_judged(peer: tuple[object, ...], accepted: bool) -> None:
    guard = Guard(Rules(), Script())
    judged = [IPv4Address(PUBLIC), IPv6Address("2606:4700:4700::1111")]
    if accepted:
        guard.check_peer(peer, judged)
        return
    with pytest.raises(AddressRefused) as refused:
        guard.check_peer(peer, judged)
    assert (refused.value.rule, refused.value.detail) == (Rule.PEER, NOT_PUBLIC)


async def test_the_peer_of_a_real_connection() -> None:
    guard = Guard(Rules.parse("127.0.0.0/8"), Script())
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        peer = writer.get_extra_info("peername")
        guard.check_peer(peer, [IPv4Address("127.0.0.1")])
        with pytest.raises(AddressRefused):
            guard.check_peer(peer, [IPv4Address(PUBLIC)])
        writer.close()
        await writer.wait_closed()


async def test_explains_every_step() -> None:
    guard = Guard(Rules(), Script([PUBLIC, "10.0.0.1"]))
    rows = await guard.explain("HTTPS://A.example:8443")
    assert [(row.subject, row.value, row.allowed, row.rule) for row in rows] == [
        ("url", "https://a.example:8443/", True, Rule.PUBLIC),
        ("address", "8.8.8.8", True, Rule.PUBLIC),
        ("address", "10.0.0.1", False, Rule.PRIVATE),
        ("target", "a.example", False, Rule.PRIVATE),
    ]
    assert all(row.detail for row in rows)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://u@a.example/", [("url", "https://u@a.example/", False, Reason.USER_INFO)]),
        ("https://a.local/", [("url", "https://a.local/", False, Rule.LOCAL_NAME)]),
        (
            "https://a.example/",
            [("url", "https://a.example/", True, Rule.PUBLIC), ("name", "a.example", False, Rule.NO_ADDRESS)],
        ),
        (
            "http://[::ffff:1.1.1.1]/",
            [
                ("url", "http://[::ffff:1.1.1.1]/", True, Rule.PUBLIC),
                ("address", "::ffff:1.1.1.1", False, Rule.MAPPED),
                ("target", "::ffff:1.1.1.1", False, Rule.MAPPED),
            ],
        ),
    ],
)
async def test_explains_refusals(url: str, expected: list[tuple[object, ...]]) -> None:
    rows = await Guard(Rules(), Script([])).explain(url)
    assert [(row.subject, row.value, row.allowed, row.rule) for row in rows] == expected


class Names:
    """In place of `getaddrinfo`: keeps the queries; a name in `gates` is answered when its gate opens."""

    def __init__(self, **answers: list[tuple[object, ...]]) -> None:
        self.answers = answers
        self.asked: list[str] = []
        self.kinds: list[object] = []
        self.begun: dict[str, threading.Event] = {}
        self.gates: dict[str, threading.Event] = {}

    def hold(self, query: str) -> tuple[threading.Event, threading.Event]:
        self.begun[query], self.gates[query] = threading.Event(), threading.Event()
        return self.begun[query], self.gates[query]

    def __call__(self, host: bytes, port: object, **options: object) -> list[tuple[object, ...]]:
        query = host.decode()
        self.asked.append(query)
        self.kinds.append((port, options))
        if query in self.gates:
            self.begun[query].set()
            assert self.gates[query].wait(GRACE)
        peers = self.answers.get(query.split(".")[0], [(PUBLIC, 0)])
        return [(0, socket.SOCK_STREAM, 6, "", peer) for peer in peers]


@pytest.fixture
def make() -> Iterator[Callable[..., SystemResolver]]:
    made: list[SystemResolver] = []

    def factory(names: Callable[..., object] | None = None, **options: object) -> SystemResolver:
        resolver = SystemResolver(getaddrinfo=names or socket.getaddrinfo, **options)  # type: ignore[arg-type]  # a stand-in
        made.append(resolver)
        return resolver

    yield factory
    for resolver in made:
        resolver.close()


Make = Callable[..., SystemResolver]


async def test_the_system_knows_localhost(make: Make) -> None:
    found = await make().resolve("localhost")
    assert found
    assert all(address.is_loopback for address in found)


@pytest.mark.parametrize("text", ["127.0.0.1", "::1"])
async def test_numbers_resolve_to_themselves(make: Make, text: str) -> None:
    assert await make().resolve(text) == [ip_address(text)]


@pytest.mark.parametrize(
    ("host", "query"),
    [
        ("kubernetes.default", "kubernetes.default."),
        ("a.example", "a.example."),
        ("localhost", "localhost"),
        ("app.localhost", "app.localhost"),
        ("receiver", "receiver"),
        ("hooks.internal", "hooks.internal"),
        ("a.corp", "a.corp"),
        ("a.b", "a.b."),
    ],
)
async def test_names_are_asked_fully_qualified_and_once(make: Make, host: str, query: str) -> None:
    names = Names()
    await make(names, as_written=("hooks.internal", "*.corp")).resolve(host)
    assert names.asked == [query]
    assert names.kinds == [(None, {"type": socket.SOCK_STREAM})]


async def test_answers_of_both_families_with_scopes_and_without_doubles(make: Make) -> None:
    names = Names(
        a=[
            ("2606:4700:4700::1111", 0, 0, 0),
            (PUBLIC, 0),
            (PUBLIC, 0),
            ("2600::1", 0, 0, 3),
            ("fe80::1%eth0", 0, 0, 2),
        ]
    )
    found = await make(names).resolve("a.example")
    assert [str(address) for address in found] == [
        "2606:4700:4700::1111",
        PUBLIC,
        "2600::1%3",
        "fe80::1%eth0",
    ]


async def test_no_such_name(make: Make) -> None:
    def missing(*_: object, **__: object) -> list[object]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    with pytest.raises(NameFailed) as failed:
        await make(missing).resolve("a.example")
    assert failed.value.diagnosis == "a.example: Name or service not known"
    assert str(failed.value) == "The name of the target does not resolve."


async def test_a_name_without_addresses_fails(make: Make) -> None:
    with pytest.raises(NameFailed):
        await make(Names(a=[])).resolve("a.example")


async def test_concurrent_lookups_share_one_call(make: Make) -> None:
    names = Names()
    begun, gate = names.hold("a.example.")
    resolver = make(names, cache_seconds=0)
    lookups = [asyncio.create_task(resolver.resolve("a.example")) for _ in range(5)]
    await asyncio.to_thread(begun.wait, GRACE)
    lookups[0].cancel()
    gate.set()
    answers = await asyncio.gather(*lookups, return_exceptions=True)
    assert isinstance(answers[0], asyncio.CancelledError)
    assert answers[1:] == [[IPv4Address(PUBLIC)]] * 4
    assert names.asked == ["a.example."]


async def test_an_answer_is_not_shared_between_callers(make: Make) -> None:
    resolver = make(Names())
    (await resolver.resolve("a.example")).clear()
    (await resolver.resolve("a.example")).clear()
    assert await resolver.resolve("a.example") == [IPv4Address(PUBLIC)]


class Shifted(asyncio.SelectorEventLoop):
    """A loop whose clock can be moved on."""

    shift = 0.0

    def time(self) -> float:
        return super().time() + self.shift


def _run(main: Callable[[Shifted], object]) -> None:
    async def body() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, Shifted)
        await main(loop)  # type: ignore[misc]  # the callers pass coroutine functions

    with asyncio.Runner(loop_factory=Shifted) as runner:
        runner.run(body())


def test_addresses_are_kept_for_a_while(make: Make) -> None:
    async def main(loop: Shifted) -> None:
        names = Names()
        resolver = make(names, cache_seconds=30)
        await resolver.resolve("a.example")
        loop.shift = 29
        await resolver.resolve("a.example")
        assert len(names.asked) == 1
        loop.shift = 31
        await resolver.resolve("a.example")
        assert len(names.asked) == 2

    _run(main)


async def test_failures_are_not_kept(make: Make) -> None:
    names = Names(a=[])
    resolver = make(names)
    for _ in range(2):
        with pytest.raises(NameFailed):
            await resolver.resolve("a.example")
    assert len(names.asked) == 2


async def test_verdicts_are_not_kept(make: Make) -> None:
    resolver = make(Names(a=[("10.0.0.1", 0)]))
    assert await Guard(Rules.parse("10.0.0.0/8"), resolver).addresses(TARGET)
    with pytest.raises(AddressRefused):
        await Guard(Rules(), resolver).addresses(TARGET)


async def test_the_oldest_entry_leaves_a_full_cache(make: Make) -> None:
    names = Names()
    resolver = make(names, cache_size=2)
    for host in ("a.example", "b.example", "c.example", "b.example", "c.example", "a.example"):
        await resolver.resolve(host)
    assert names.asked == ["a.example.", "b.example.", "c.example.", "a.example."]


async def _cancel(task: "asyncio.Task[list[Address]]") -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_lookup_that_nobody_waits_for_is_dropped(make: Make) -> None:
    names = Names()
    begun, gate = names.hold("slow.example.")
    resolver = make(names, threads=1)
    first = asyncio.create_task(resolver.resolve("slow.example"))
    await asyncio.to_thread(begun.wait, GRACE)
    queued = asyncio.create_task(resolver.resolve("queued.example"))
    await asyncio.wait([queued], timeout=0)
    await _cancel(queued)
    again = asyncio.create_task(resolver.resolve("again.example"))
    gate.set()
    await asyncio.gather(first, again)
    assert names.asked == ["slow.example.", "again.example."]


async def test_a_dropped_name_can_be_asked_again_at_once(make: Make) -> None:
    names = Names()
    begun, gate = names.hold("slow.example.")
    resolver = make(names, threads=1)
    first = asyncio.create_task(resolver.resolve("slow.example"))
    await asyncio.to_thread(begun.wait, GRACE)
    queued = asyncio.create_task(resolver.resolve("queued.example"))
    await asyncio.wait([queued], timeout=0)
    queued.cancel()
    again = asyncio.create_task(resolver.resolve("queued.example"))
    await asyncio.wait([again], timeout=0)
    gate.set()
    assert await again == [IPv4Address(PUBLIC)]
    await first


async def test_a_running_lookup_serves_who_comes_later(make: Make) -> None:
    names = Names()
    begun, gate = names.hold("slow.example.")
    resolver = make(names)
    first = asyncio.create_task(resolver.resolve("slow.example"))
    await asyncio.to_thread(begun.wait, GRACE)
    await _cancel(first)
    second = asyncio.create_task(resolver.resolve("slow.example"))
    await asyncio.wait([second], timeout=0)
    gate.set()
    assert await second == [IPv4Address(PUBLIC)]
    assert names.asked == ["slow.example."]


async def test_slow_names_hold_up_each_other_only(make: Make) -> None:
    names = Names()
    begun, gate = names.hold("slow.example.")
    resolver = make(names, threads=1, cache_seconds=0)
    first = asyncio.create_task(resolver.resolve("slow.example"))
    await asyncio.to_thread(begun.wait, GRACE)
    await _cancel(first)
    gate.set()
    await resolver.resolve("other.example")
    begun, gate = names.hold("slow.example.")
    second = asyncio.create_task(resolver.resolve("slow.example"))
    await asyncio.to_thread(begun.wait, GRACE)
    async with asyncio.timeout(GRACE):
        await resolver.resolve("fast.example")
    assert not second.done()
    gate.set()
    assert await second == [IPv4Address(PUBLIC)]


def test_one_resolver_in_two_loops(make: Make) -> None:
    resolver = make(Names(), cache_seconds=0)
    for _ in range(2):
        assert asyncio.run(resolver.resolve("a.example")) == [IPv4Address(PUBLIC)]


def test_a_lookup_of_a_loop_that_ended_is_not_waited_for(make: Make) -> None:
    names = Names()
    begun, gate = names.hold("slow.example.")
    resolver = make(names)

    async def give_up() -> None:
        first = asyncio.create_task(resolver.resolve("slow.example"))
        await asyncio.to_thread(begun.wait, GRACE)
        await _cancel(first)

    async def again() -> list[Address]:
        second = asyncio.create_task(resolver.resolve("slow.example"))
        await asyncio.wait([second], timeout=0)
        gate.set()
        async with asyncio.timeout(GRACE):
            return await second

    asyncio.run(give_up())
    assert asyncio.run(again()) == [IPv4Address(PUBLIC)]


def test_the_own_addresses_are_those_of_the_interfaces() -> None:
    found = own_addresses()
    assert IPv4Address("127.0.0.1") in found
    for address in found:
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        # only an address of this machine can be bound; link-local ones would need their interface
        if not address.is_link_local:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.bind((str(address), 0))
    assert IPv4Address("0.0.0.0") not in found


async def test_a_guard_of_this_machine_refuses_its_own_addresses() -> None:
    guard = Guard.of_machine(Rules(own=frozenset([IPv4Address(OTHER)])))
    assert guard.rules.own == own_addresses() | {IPv4Address(OTHER)}
    with pytest.raises(AddressRefused) as refused:
        await guard.addresses(parse(f"https://{OTHER}/"))
    assert refused.value.rule is Rule.OWN_ADDRESS


async def test_a_guard_of_this_machine_resolves_with_the_system() -> None:
    guard = Guard.of_machine(Rules.parse("127.0.0.0/8,::1/128"))
    target: Target = guard.target("http://localhost:9000/")
    assert all(address.is_loopback for address in await guard.addresses(target))
