"""The expected verdicts are literals, so that they hold on every Python version."""

import bisect
import ipaddress
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tenterhook.addresses import Rule, Rules, judge, judge_all, judge_target
from tenterhook.errors import ConfigurationError
from tenterhook.urls import Address, parse

NONE = Rules()
NAT64 = Rules(nat64=True)

# network, rule, first, last, neighbour below, neighbour above, verdicts on the neighbours (None: allowed)
NETWORKS_V4 = [
    (Rule.THIS_NETWORK, "0.0.0.0", "0.255.255.255", None, ("1.0.0.0", None)),
    (Rule.PRIVATE, "10.0.0.0", "10.255.255.255", ("9.255.255.255", None), ("11.0.0.0", None)),
    (Rule.CARRIER_NAT, "100.64.0.0", "100.127.255.255", ("100.63.255.255", None), ("100.128.0.0", None)),
    (Rule.LOOPBACK, "127.0.0.0", "127.255.255.255", ("126.255.255.255", None), ("128.0.0.0", None)),
    (Rule.CLOUD_HOST, "168.63.129.16", "168.63.129.16", ("168.63.129.15", None), ("168.63.129.17", None)),
    (Rule.LINK_LOCAL, "169.254.0.0", "169.254.255.255", ("169.253.255.255", None), ("169.255.0.0", None)),
    (Rule.PRIVATE, "172.16.0.0", "172.31.255.255", ("172.15.255.255", None), ("172.32.0.0", None)),
    (Rule.PROTOCOL, "192.0.0.0", "192.0.0.255", ("191.255.255.255", None), ("192.0.1.0", None)),
    (Rule.DOCUMENTATION, "192.0.2.0", "192.0.2.255", ("192.0.1.255", None), ("192.0.3.0", None)),
    (Rule.RELAY_6TO4, "192.88.99.0", "192.88.99.255", ("192.88.98.255", None), ("192.88.100.0", None)),
    (Rule.PRIVATE, "192.168.0.0", "192.168.255.255", ("192.167.255.255", None), ("192.169.0.0", None)),
    (Rule.BENCHMARK, "198.18.0.0", "198.19.255.255", ("198.17.255.255", None), ("198.20.0.0", None)),
    (Rule.DOCUMENTATION, "198.51.100.0", "198.51.100.255", ("198.51.99.255", None), ("198.51.101.0", None)),
    (Rule.DOCUMENTATION, "203.0.113.0", "203.0.113.255", ("203.0.112.255", None), ("203.0.114.0", None)),
    (Rule.MULTICAST, "224.0.0.0", "239.255.255.255", ("223.255.255.255", None), ("240.0.0.0", Rule.RESERVED)),
    (Rule.RESERVED, "240.0.0.0", "255.255.255.255", ("239.255.255.255", Rule.MULTICAST), None),
]
F = ":ffff:ffff:ffff:ffff:ffff:ffff"
OUTSIDE = Rule.OUTSIDE_GLOBAL
NETWORKS_V6 = [
    (Rule.PROTOCOL, "2001::", f"2001:1ff{F}", (f"2000:ffff{F}", None), ("2001:200::", None)),
    (Rule.DOCUMENTATION, "2001:db8::", f"2001:db8{F}", (f"2001:db7{F}", None), ("2001:db9::", None)),
    (Rule.SIX_TO_FOUR, "2002::", f"2002:ffff{F}", (f"2001:ffff{F}", None), ("2003::", None)),
    (Rule.DOCUMENTATION, "3fff::", f"3fff:fff{F}", (f"3ffe:ffff{F}", None), ("3fff:1000::", None)),
    (Rule.UNSPECIFIED, "::", "::", None, ("::1", Rule.LOOPBACK)),
    (Rule.LOOPBACK, "::1", "::1", ("::", Rule.UNSPECIFIED), ("::2", Rule.COMPATIBLE)),
    (Rule.COMPATIBLE, "::2", "::ffff:ffff", ("::1", Rule.LOOPBACK), ("::1:0:0", OUTSIDE)),
    (Rule.MAPPED, "::ffff:0:0", "::ffff:ffff:ffff", ("::fffe:ffff:ffff", OUTSIDE), ("::1:0:0:0", OUTSIDE)),
    (
        Rule.TRANSLATED,
        "::ffff:0:0:0",
        "::ffff:0:ffff:ffff",
        ("::fffe:ffff:ffff:ffff", OUTSIDE),
        ("::ffff:1:0:0", OUTSIDE),
    ),
    (
        Rule.NAT64_LOCAL,
        "64:ff9b:1::",
        "64:ff9b:1:ffff:ffff:ffff:ffff:ffff",
        ("64:ff9b:0:ffff:ffff:ffff:ffff:ffff", OUTSIDE),
        ("64:ff9b:2::", OUTSIDE),
    ),
    (
        Rule.DISCARD,
        "100::",
        "100:0:0:1:ffff:ffff:ffff:ffff",
        (f"ff:ffff{F}", OUTSIDE),
        ("100:0:0:2::", OUTSIDE),
    ),
    (Rule.SEGMENT_ROUTING, "5f00::", f"5f00:ffff{F}", (f"5eff:ffff{F}", OUTSIDE), ("5f01::", OUTSIDE)),
    (Rule.UNIQUE_LOCAL, "fc00::", f"fdff:ffff{F}", (f"fbff:ffff{F}", OUTSIDE), ("fe00::", OUTSIDE)),
    (Rule.LINK_LOCAL, "fe80::", f"febf:ffff{F}", (f"fe7f:ffff{F}", OUTSIDE), ("fec0::", Rule.SITE_LOCAL)),
    (Rule.SITE_LOCAL, "fec0::", f"feff:ffff{F}", (f"febf:ffff{F}", Rule.LINK_LOCAL), ("ff00::", Rule.MULTICAST)),
    (Rule.MULTICAST, "ff00::", f"ffff:ffff{F}", (f"feff:ffff{F}", Rule.SITE_LOCAL), None),
    (OUTSIDE, "4000::", f"5eff:ffff{F}", (f"3fff:ffff{F}", None), ("5f00::", Rule.SEGMENT_ROUTING)),
    (OUTSIDE, "101::", f"1fff:ffff{F}", (f"100:ffff{F}", OUTSIDE), ("2000::", None)),
]


def _edges() -> list[tuple[str, Rule]]:
    edges: dict[str, Rule] = {}
    for rule, first, last, below, above in [*NETWORKS_V4, *NETWORKS_V6]:
        edges |= {first: rule, last: rule}
        edges |= {address: found or Rule.PUBLIC for address, found in filter(None, (below, above))}
    return list(edges.items())


CASES = [
    *_edges(),
    *[(text, Rule.PUBLIC) for text in ("1.1.1.1", "8.8.8.8", "192.31.196.1", "192.52.193.1", "192.175.48.1")],
    ("2001:4860:4860::8888", Rule.PUBLIC),
    ("2606:4700:4700::1111", Rule.PUBLIC),
    ("2a00:1450:4001::1", Rule.PUBLIC),
    ("2001:200::1", Rule.PUBLIC),
    ("2620:4f:8000::1", Rule.PUBLIC),
    ("::127.0.0.1", Rule.COMPATIBLE),
    ("::8.8.8.8", Rule.COMPATIBLE),
    ("::ffff:127.0.0.1", Rule.MAPPED),
    ("::ffff:10.0.0.1", Rule.MAPPED),
    ("::ffff:8.8.8.8", Rule.MAPPED),
    ("::ffff:0:127.0.0.1", Rule.TRANSLATED),
    ("::ffff:0:8.8.8.8", Rule.TRANSLATED),
    # the edges of NAT64 carry addresses that are never reached
    ("64:ff9a:ffff:ffff:ffff:ffff:ffff:ffff", OUTSIDE),
    ("64:ff9b::", Rule.THIS_NETWORK),
    ("64:ff9b::ffff:ffff", Rule.RESERVED),
    ("64:ff9b::1:0:0", OUTSIDE),
    ("64:ff9b::1:808:808", OUTSIDE),
    ("64:ff9b:1::808:808", Rule.NAT64_LOCAL),
    ("64:ff9a:ffff:ffff:ffff:ffff:808:808", OUTSIDE),
    ("2002:7f00:1::", Rule.SIX_TO_FOUR),
    ("2002:808:808::1", Rule.SIX_TO_FOUR),
    *[(text, Rule.PROTOCOL) for text in ("2001::1", "2001:1::1", "2001:2::1", "2001:10::1", "2001:20::1")],
    ("2600::5efe:7f00:1", Rule.ISATAP),
    ("2600::200:5efe:7f00:1", Rule.ISATAP),
    ("2600::5efe:808:808", Rule.ISATAP),
    ("2600::5efd:7f00:1", Rule.PUBLIC),
    ("2600::5eff:7f00:1", Rule.PUBLIC),
    ("2600::100:5efe:7f00:1", Rule.PUBLIC),
    ("2600::300:5efe:7f00:1", Rule.PUBLIC),
    ("100::1", Rule.DISCARD),
    ("100:0:0:1::1", Rule.DISCARD),
    ("5f00::1", Rule.SEGMENT_ROUTING),
    ("4000::", OUTSIDE),
    ("fc00::1", Rule.UNIQUE_LOCAL),
    ("fe80::1", Rule.LINK_LOCAL),
    ("fec0::1", Rule.SITE_LOCAL),
    ("ff02::1", Rule.MULTICAST),
    ("ff0e::1", Rule.MULTICAST),
    ("239.255.255.250", Rule.MULTICAST),
    ("255.255.255.255", Rule.RESERVED),
    ("2001:4860:4860::8888%eth0", Rule.SCOPED),
    ("fe80::1%1", Rule.SCOPED),
    # cloud metadata
    ("169.254.169.254", Rule.LINK_LOCAL),
    ("169.254.169.253", Rule.LINK_LOCAL),
    ("169.254.170.2", Rule.LINK_LOCAL),
    ("169.254.170.23", Rule.LINK_LOCAL),
    ("169.254.0.23", Rule.LINK_LOCAL),
    ("100.100.100.200", Rule.CARRIER_NAT),
    ("168.63.129.16", Rule.CLOUD_HOST),
    ("192.0.0.192", Rule.PROTOCOL),
    ("fd00:ec2::254", Rule.UNIQUE_LOCAL),
    ("fd00:ec2::253", Rule.UNIQUE_LOCAL),
    ("fd00:ec2::23", Rule.UNIQUE_LOCAL),
    ("fd20:ce::254", Rule.UNIQUE_LOCAL),
    ("fe80::a9fe:a9fe", Rule.LINK_LOCAL),
]


@pytest.mark.parametrize(("text", "rule"), CASES)
@pytest.mark.parametrize("rules", [NONE, NAT64], ids=["plain", "nat64"])
def test_the_table(text: str, rule: Rule, rules: Rules) -> None:
    verdict = judge(ip_address(text), rules)
    assert (verdict.allowed, verdict.rule) == (rule is Rule.PUBLIC, rule)
    assert verdict.detail


@pytest.mark.parametrize(
    ("text", "rules", "rule"),
    [
        ("64:ff9b::7f00:1", NONE, Rule.NAT64),
        ("64:ff9b::a9fe:a9fe", NONE, Rule.NAT64),
        ("64:ff9b::808:808", NONE, Rule.NAT64),
        ("64:ff9b::7f00:1", NAT64, Rule.LOOPBACK),
        ("64:ff9b::a9fe:a9fe", NAT64, Rule.LINK_LOCAL),
        ("64:ff9b::a00:1", NAT64, Rule.PRIVATE),
        ("64:ff9b::808:808", NAT64, Rule.PUBLIC),
        ("64:ff9b::808:808", Rules.parse(nat64_prefixes="64:ff9b::/96"), Rule.PUBLIC),
        ("64:ff9b::7f00:1", Rules.parse(nat64_prefixes="64:ff9b::/96"), Rule.LOOPBACK),
        ("64:ff9b::a00:1", Rules.parse("10.0.0.0/8", nat64=True), Rule.ALLOW_LIST),
        ("64:ff9b::a00:1", Rules.parse("10.0.0.0/8"), Rule.NAT64),
        ("64:ff9b::808:808", Rules.parse("64:ff9b::/96"), Rule.ALLOW_LIST),
        ("64:ff9b::808:808", Rules.parse("64:ff9b::/96", "8.8.8.8"), Rule.DENY_LIST),
        ("64:ff9b::808:808", Rules.parse("64:ff9b::/96", "8.8.8.8", nat64=True), Rule.DENY_LIST),
        ("64:ff9b::808:808", Rules.parse("8.8.8.8", "64:ff9b::/96", nat64=True), Rule.DENY_LIST),
        ("64:ff9b::e000:1", Rules.parse("::/0, 0.0.0.0/0", nat64=True), Rule.MULTICAST),
        ("64:ff9b::1", Rules.parse("::/0, 0.0.0.0/0"), Rule.THIS_NETWORK),
        ("64:ff9b::808:808", Rules(nat64=True, own=frozenset([IPv4Address("8.8.8.8")])), Rule.OWN_ADDRESS),
    ],
)
def test_nat64_is_judged_by_the_address_inside(text: str, rules: Rules, rule: Rule) -> None:
    verdict = judge(ip_address(text), rules)
    assert (verdict.allowed, verdict.rule) == (rule in (Rule.PUBLIC, Rule.ALLOW_LIST), rule)


# RFC 6052 §2.4, the examples for 192.0.2.33, with the documentation prefix in place of a public one
@pytest.mark.parametrize(
    ("prefix", "text"),
    [
        ("2600:db8::/32", "2600:db8:c000:221::"),
        ("2600:db8:100::/40", "2600:db8:1c0:2:21::"),
        ("2600:db8:122::/48", "2600:db8:122:c000:2:2100::"),
        ("2600:db8:122:300::/56", "2600:db8:122:3c0:0:221::"),
        # bits 64–71 should be zero; what stands there is no part of the address
        ("2600:db8:122:300::/56", "2600:db8:122:3c0:ff00:221::"),
        ("2600:db8:122:344::/64", "2600:db8:122:344:c0:2:2100::"),
        ("2600:db8:122:344::/96", "2600:db8:122:344::192.0.2.33"),
    ],
)
def test_nat64_prefixes_of_the_operator(prefix: str, text: str) -> None:
    rules = Rules.parse(nat64_prefixes=prefix)
    verdict = judge(ip_address(text), rules)
    assert (verdict.allowed, verdict.rule) == (False, Rule.DOCUMENTATION)
    assert "192.0.2.33" in verdict.detail
    assert judge(ip_address(text), NONE).allowed
    assert judge(ip_address(text), Rules.parse("192.0.2.33", nat64_prefixes=prefix)).rule is Rule.ALLOW_LIST


@pytest.mark.parametrize(
    ("text", "rules", "rule"),
    [
        ("127.0.0.1", Rules.parse("127.0.0.0/8,::1/128"), Rule.ALLOW_LIST),
        ("::1", Rules.parse("127.0.0.0/8,::1/128"), Rule.ALLOW_LIST),
        ("::ffff:127.0.0.1", Rules.parse("127.0.0.0/8,::1/128"), Rule.MAPPED),
        ("::1", Rules.parse("127.0.0.0/8"), Rule.LOOPBACK),
        ("10.1.2.3", Rules.parse("10.0.0.0/8", "10.1.0.0/16"), Rule.DENY_LIST),
        ("10.2.0.0", Rules.parse("10.0.0.0/8", "10.1.0.0/16"), Rule.ALLOW_LIST),
        ("10.0.255.255", Rules.parse("10.0.0.0/8", "10.1.0.0/16"), Rule.ALLOW_LIST),
        ("8.8.8.8", Rules.parse(deny="8.8.8.8"), Rule.DENY_LIST),
        ("8.8.8.9", Rules.parse(deny="8.8.8.8"), Rule.PUBLIC),
        ("2600::1", Rules.parse(deny="2600::/16"), Rule.DENY_LIST),
        ("8.8.8.8", Rules(own=frozenset([IPv4Address("8.8.8.8")])), Rule.OWN_ADDRESS),
        ("8.8.8.8", Rules.parse("8.8.8.8", own=[IPv4Address("8.8.8.8")]), Rule.ALLOW_LIST),
        ("2600::1", Rules(own=frozenset([IPv6Address("2600::1")])), Rule.OWN_ADDRESS),
        ("0.0.0.0", Rules.parse("0.0.0.0/0,::/0"), Rule.THIS_NETWORK),
        ("224.0.0.1", Rules.parse("0.0.0.0/0,::/0"), Rule.MULTICAST),
        ("255.255.255.255", Rules.parse("0.0.0.0/0,::/0"), Rule.RESERVED),
        ("::", Rules.parse("0.0.0.0/0,::/0"), Rule.UNSPECIFIED),
        ("ff02::1", Rules.parse("0.0.0.0/0,::/0"), Rule.MULTICAST),
        ("::ffff:10.0.0.1", Rules.parse("::/0", "10.0.0.0/8"), Rule.MAPPED),
        ("2600::1%eth0", Rules.parse("0.0.0.0/0,::/0"), Rule.SCOPED),
        ("169.254.169.254", Rules.parse("0.0.0.0/0,::/0"), Rule.ALLOW_LIST),
    ],
)
def test_the_order_of_the_lists(text: str, rules: Rules, rule: Rule) -> None:
    verdict = judge(ip_address(text), rules)
    assert (verdict.allowed, verdict.rule) == (rule in (Rule.PUBLIC, Rule.ALLOW_LIST), rule)


# a second implementation: the first address of each interval, and whether the interval is allowed
INTERVALS_V4 = [
    *[("0.0.0.0", False), ("1.0.0.0", True), ("10.0.0.0", False), ("11.0.0.0", True), ("100.64.0.0", False)],
    *[("100.128.0.0", True), ("127.0.0.0", False), ("128.0.0.0", True), ("168.63.129.16", False)],
    *[("168.63.129.17", True), ("169.254.0.0", False), ("169.255.0.0", True), ("172.16.0.0", False)],
    *[("172.32.0.0", True), ("192.0.0.0", False), ("192.0.1.0", True), ("192.0.2.0", False), ("192.0.3.0", True)],
    *[("192.88.99.0", False), ("192.88.100.0", True), ("192.168.0.0", False), ("192.169.0.0", True)],
    *[("198.18.0.0", False), ("198.20.0.0", True), ("198.51.100.0", False), ("198.51.101.0", True)],
    *[("203.0.113.0", False), ("203.0.114.0", True), ("224.0.0.0", False)],
]
INTERVALS_V6 = [
    *[("::", False), ("2000::", True), ("2001::", False), ("2001:200::", True), ("2001:db8::", False)],
    *[("2001:db9::", True), ("2002::", False), ("2003::", True), ("3fff::", False), ("3fff:1000::", True)],
    ("4000::", False),
]
STARTS_V4 = [int(IPv4Address(text)) for text, _ in INTERVALS_V4]
STARTS_V6 = [int(IPv6Address(text)) for text, _ in INTERVALS_V6]


def _naive_v4(value: int) -> bool:
    return INTERVALS_V4[bisect.bisect_right(STARTS_V4, value) - 1][1]


def _naive_v6(value: int) -> bool:
    isatap = f"{value:032x}"[16:24] in ("00005efe", "02005efe")
    return INTERVALS_V6[bisect.bisect_right(STARTS_V6, value) - 1][1] and not isatap


def _near(starts: list[int], bits: int) -> st.SearchStrategy[int]:
    """Any value, and often one beside an edge of the table."""
    edge = st.builds(lambda start, step: (start + step) % (1 << bits), st.sampled_from(starts), st.integers(-2, 2))
    return edge | st.integers(0, (1 << bits) - 1)


V4 = _near(STARTS_V4, 32)
# most of the space is outside 2000::/3, so half of the values are put inside, and some made ISATAP
V6 = (
    _near(STARTS_V6, 128)
    | st.integers(0x2 << 124, (0x4 << 124) - 1)
    | st.builds(
        lambda high, mark, low: high << 64 | mark << 32 | low,
        st.integers(0x2 << 60, (0x4 << 60) - 1),
        st.sampled_from([0x5EFE, 0x0200_5EFE, 0x5EFD, 0x5EFF, 0x0100_5EFE, 0x0300_5EFE]),
        st.integers(0, 2**32 - 1),
    )
)
ADDRESSES = st.builds(IPv4Address, V4) | st.builds(IPv6Address, V6)


@given(V4)
def test_ipv4_equals_the_second_implementation(value: int) -> None:
    assert judge(IPv4Address(value), NONE).allowed == _naive_v4(value)


@given(V6)
def test_ipv6_equals_the_second_implementation(value: int) -> None:
    assert judge(IPv6Address(value), NONE).allowed == _naive_v6(value)


@given(st.integers(0, (0x2 << 124) - 1) | st.integers(0x4 << 124, 2**128 - 1))
def test_nothing_outside_the_global_block(value: int) -> None:
    assert not judge(IPv6Address(value), NONE).allowed


def _embedded(value: int) -> list[IPv6Address]:
    inverted = value ^ 0xFFFF_FFFF
    return [
        IPv6Address(0xFFFF << 32 | value),
        IPv6Address(value),
        IPv6Address(0xFFFF << 48 | value),
        IPv6Address(0x2002 << 112 | value << 80),
        IPv6Address(0x2001_0000 << 96 | value << 64 | inverted),
        IPv6Address(0x2600 << 112 | 0x0000_5EFE << 32 | value),
        IPv6Address(0x2600 << 112 | 0x0200_5EFE << 32 | value),
        IPv6Address(0x0064_FF9B_0001 << 80 | value),
    ]


@given(V4)
def test_embedded_ipv4_is_refused(value: int) -> None:
    for rules in (NONE, NAT64):
        assert not any(judge(address, rules).allowed for address in _embedded(value))
    nat64 = IPv6Address(0x0064_FF9B << 96 | value)
    assert not judge(nat64, NONE).allowed
    assert judge(nat64, NAT64).allowed == _naive_v4(value)


@given(st.lists(ADDRESSES, min_size=1, max_size=6), st.randoms(use_true_random=False), ADDRESSES)
def test_an_answer_has_no_order_and_more_is_never_better(answer: list[Address], random: object, more: Address) -> None:
    verdict = judge_all(answer, NONE)
    shuffled = list(answer)
    random.shuffle(shuffled)  # type: ignore[attr-defined]  # hypothesis gives a random.Random
    assert judge_all(shuffled, NONE) == verdict
    assert verdict.allowed == all(judge(address, NONE).allowed for address in answer)
    if not verdict.allowed:
        assert not judge_all([*answer, more], NONE).allowed


@given(st.lists(st.builds(IPv4Address, st.integers(0x0101_0101, 0x0101_FFFF)), min_size=30, max_size=35))
@example([IPv4Address(0x0101_0101)] * 32)
@example([IPv4Address(0x0101_0101)] * 33)
def test_an_answer_has_at_most_32_addresses(answer: list[Address]) -> None:
    verdict = judge_all(answer, NONE)
    assert verdict.allowed == (len(answer) <= 32)
    assert verdict.rule is (Rule.PUBLIC if len(answer) <= 32 else Rule.TOO_MANY)


def test_an_empty_answer_is_refused() -> None:
    assert judge_all([], NONE).rule is Rule.NO_ADDRESS


@given(V4, st.integers(8, 31), st.integers(1, 8))
def test_a_hole_in_an_allowed_network(value: int, length: int, deeper: int) -> None:
    allowed = IPv4Network((value, length), strict=False)
    hole = IPv4Network((value, min(length + deeper, 32)), strict=False)
    rules = Rules(allow=(allowed,), deny=(hole,))
    never = [IPv4Network("0.0.0.0/8"), IPv4Network("224.0.0.0/3")]
    for probe in (int(hole[0]) - 1, int(hole[0]), int(hole[-1]), int(hole[-1]) + 1):
        if not 0 <= probe < 2**32:
            continue
        address = IPv4Address(probe)
        verdict = judge(address, rules)
        if any(address in network for network in never) or address in hole:
            assert not verdict.allowed
        elif address in allowed:
            assert verdict.rule is Rule.ALLOW_LIST


@given(
    st.integers(0, 2**24 - 1)
    | st.integers(0xE000_0000, 2**32 - 1)
    | st.just(2**128)
    | st.integers(0xFF << 120, 2**128 - 1)
)
def test_never_means_never(value: int) -> None:
    address = ip_address(value) if value != 2**128 else IPv6Address(0)
    rules = Rules(allow=(IPv4Network("0.0.0.0/0"), IPv6Network("::/0")), nat64=True)
    assert not judge(address, rules).allowed


NAMES = [
    ("localhost", Rule.LOCALHOST),
    ("app.localhost", Rule.LOCALHOST),
    ("a.b.localhost", Rule.LOCALHOST),
    ("localhost.localdomain", Rule.LOCALHOST),
    ("ip6-localhost", Rule.LOCALHOST),
    ("ip6-loopback", Rule.LOCALHOST),
    ("ⓛocalhost", Rule.LOCALHOST),
    ("LOCALHOST.", Rule.LOCALHOST),
    ("intranet", Rule.NO_DOT),
    ("instance-data", Rule.NO_DOT),
    ("printer.local", Rule.LOCAL_NAME),
    ("metadata.google.internal", Rule.LOCAL_NAME),
    ("host.docker.internal", Rule.LOCAL_NAME),
    ("gateway.docker.internal", Rule.LOCAL_NAME),
    ("kubernetes.default.svc.cluster.local", Rule.LOCAL_NAME),
    ("nas.home.arpa", Rule.LOCAL_NAME),
    ("home.arpa", Rule.LOCAL_NAME),
    ("a.localdomain", Rule.LOCAL_NAME),
    ("a.lan", Rule.LOCAL_NAME),
    ("a.intranet", Rule.LOCAL_NAME),
    ("a.corp", Rule.LOCAL_NAME),
    ("a.home", Rule.LOCAL_NAME),
    ("a.private", Rule.LOCAL_NAME),
    ("a.onion", Rule.NEVER_PUBLIC),
    ("a.invalid", Rule.NEVER_PUBLIC),
    ("a.alt", Rule.NEVER_PUBLIC),
    ("onion", Rule.NEVER_PUBLIC),
    ("example.com", Rule.PUBLIC),
    ("localhost.example.com", Rule.PUBLIC),
    ("notlocalhost.example", Rule.PUBLIC),
    ("a.mylocal", Rule.PUBLIC),
    ("local.example", Rule.PUBLIC),
    ("a.test", Rule.PUBLIC),
    ("a.example", Rule.PUBLIC),
    ("metadata.tencentyun.com", Rule.PUBLIC),
    ("127.0.0.1.nip.io", Rule.PUBLIC),
    ("8.8.8.8", Rule.PUBLIC),
]


@pytest.mark.parametrize(("name", "rule"), NAMES)
def test_names(name: str, rule: Rule) -> None:
    verdict = judge_target(parse(f"https://{name}/"), NONE)
    assert (verdict.allowed, verdict.rule) == (rule is Rule.PUBLIC, rule)


@pytest.mark.parametrize(
    ("name", "rules", "allowed"),
    [
        ("localhost", Rules.parse("127.0.0.0/8"), True),
        ("localhost", Rules.parse("127.0.0.1"), True),
        ("localhost", Rules.parse("::1"), True),
        ("app.localhost", Rules.parse("::1"), True),
        ("localhost", Rules.parse("10.0.0.0/8, fd00::/8"), False),
        ("ip6-loopback", Rules.parse("127.0.0.0/8"), False),
        ("intranet", Rules.parse("127.0.0.0/8"), False),
        ("hooks.internal", Rules.parse(allowed_names="hooks.internal"), True),
        ("hooks.internal", Rules.parse(allowed_names="Hooks.Internal."), True),
        ("a.hooks.internal", Rules.parse(allowed_names="hooks.internal"), False),
        ("a.hooks.internal", Rules.parse(allowed_names="*.internal"), True),
        ("internal", Rules.parse(allowed_names="*.internal"), False),
        ("receiver", Rules.parse(allowed_names="other receiver"), True),
        ("localhost", Rules.parse(allowed_names="localhost"), True),
        ("a.onion", Rules.parse(allowed_names="*.onion"), False),
    ],
)
def test_names_that_the_operator_allows(name: str, rules: Rules, allowed: bool) -> None:
    assert judge_target(parse(f"https://{name}/"), rules).allowed is allowed


REFUSED_PORTS = [
    *[1, 22, 25, 53, 79, 81, 110, 442, 444, 1023],
    *[1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566],
    *[6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080],
]


@pytest.mark.parametrize("port", REFUSED_PORTS)
@pytest.mark.parametrize("host", ["a.example", "127.0.0.1", "localhost"])
def test_refused_ports_hold_for_allowed_networks_too(port: int, host: str) -> None:
    verdict = judge_target(parse(f"http://{host}:{port}/"), Rules.parse("127.0.0.0/8"))
    assert (verdict.allowed, verdict.rule) == (False, Rule.PORT)


@pytest.mark.parametrize("port", [80, 443, 1024, 1718, 1721, 6664, 6670, 8080, 9000, 10079, 10081, 65535])
def test_allowed_ports(port: int) -> None:
    assert judge_target(parse(f"http://a.example:{port}/"), NONE).allowed


def test_the_operator_narrows_or_widens_the_ports() -> None:
    rules = Rules.parse(ports="443, 25 8000-8001")
    allowed = {port for port in range(1, 65_536) if judge_target(parse(f"https://a.example:{port}/"), rules).allowed}
    assert allowed == {25, 443, 8000, 8001}


def test_https_only() -> None:
    rules = Rules(https_only=True)
    assert judge_target(parse("http://a.example/"), rules).rule is Rule.SCHEME
    assert judge_target(parse("https://a.example/"), rules).allowed


@pytest.mark.parametrize(
    ("key", "text", "says"),
    [
        ("allow", "10.0.0.1/8", "write 10.0.0.0/8"),
        ("allow", "10.0.0.0/33", "10.0.0.0/33"),
        ("allow", "localhost", "localhost"),
        ("allow", "fe80::1%eth0", "scope"),
        ("allow", "::ffff:10.0.0.0/104", "IPv4"),
        ("deny", "10.0.0.0/8;11.0.0.0/8", "10.0.0.0/8;11.0.0.0/8"),
        ("nat64_prefixes", "10.0.0.0/8", "NAT64"),
        ("nat64_prefixes", "2600::/33", "length"),
        ("nat64_prefixes", "fd00::/96", "2000::/3"),
        ("ports", "0", "0"),
        ("ports", "65536", "65536"),
        ("ports", "90-80", "90-80"),
        ("ports", "80-", "80-"),
        ("ports", "https", "https"),
        ("allowed_names", "*", "*"),
        ("allowed_names", "a.*", "a.*"),
        ("allowed_names", "http://a.internal", "http://a.internal"),
    ],
)
def test_settings_that_are_refused(key: str, text: str, says: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        Rules.parse(**{key: text})  # type: ignore[arg-type]  # every key here takes text
    assert refused.value.detail.startswith(f"{key}: ")
    assert says in refused.value.detail


def test_settings_are_lists_of_networks() -> None:
    rules = Rules.parse(" 127.0.0.0/8,::1/128  10.1.2.3 ", "\n10.0.0.0/8\n")
    assert rules.allow == (
        IPv4Network("127.0.0.0/8"),
        IPv6Network("::1/128"),
        IPv4Network("10.1.2.3/32"),
    )
    assert rules.deny == (IPv4Network("10.0.0.0/8"),)
    assert Rules.parse() == NONE


@pytest.mark.parametrize(("allow", "warned"), [("0.0.0.0/0", 1), ("0.0.0.0/0,::/0", 2), ("10.0.0.0/8", 0), ("", 0)])
def test_an_allow_list_of_everything_is_worth_a_warning(allow: str, warned: int) -> None:
    assert len(Rules.parse(allow).warnings) == warned


@given(st.text())
def test_any_setting_is_rules_or_a_configuration_error(text: str) -> None:
    for key in ("allow", "deny", "nat64_prefixes", "ports", "allowed_names"):
        try:
            Rules.parse(**{key: text})  # type: ignore[arg-type]  # every key here takes text
        except ConfigurationError as refused:
            assert refused.detail.startswith(key)


def test_the_tables_do_not_follow_the_standard_library() -> None:
    """Addresses that some Python versions call global."""
    for text in ("224.0.0.1", "64:ff9b::7f00:1", "::ffff:0:7f00:1", "fec0::1", "3fff::1", "5f00::1", "2002:7f00:1::"):
        assert not judge(ipaddress.ip_address(text), NONE).allowed
