"""Which addresses, names and ports an outbound connection may have: pure verdicts over tables that are written out.

The tables follow the IANA special-purpose registries (RFC 6890 and its successors). They do not lean on
`ipaddress.is_global`, whose answers change between Python versions and let embedded IPv4 addresses through.
"""

import ipaddress
import re
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from typing import Self, TypeVar

import msgspec

from tenterhook.errors import ConfigurationError, Invalid
from tenterhook.setting_kinds import Network, items, parse_names, parse_nat64, parse_networks
from tenterhook.urls import Address, Target, write

_T = TypeVar("_T")

MAX_ADDRESSES = 32


class Rule(StrEnum):
    """Which rule decided."""

    PUBLIC = "public"
    ALLOW_LIST = "allow_list"
    DENY_LIST = "deny_list"
    OWN_ADDRESS = "own_address"
    SCOPED = "scoped"
    NO_ADDRESS = "no_address"
    TOO_MANY = "too_many_addresses"
    PEER = "peer"

    THIS_NETWORK = "this_network"
    PRIVATE = "private"
    CARRIER_NAT = "carrier_nat"
    LOOPBACK = "loopback"
    CLOUD_HOST = "cloud_host"
    LINK_LOCAL = "link_local"
    PROTOCOL = "protocol_assignments"
    DOCUMENTATION = "documentation"
    RELAY_6TO4 = "relay_6to4"
    BENCHMARK = "benchmark"
    MULTICAST = "multicast"
    RESERVED = "reserved"
    UNSPECIFIED = "unspecified"
    MAPPED = "ipv4_mapped"
    COMPATIBLE = "ipv4_compatible"
    TRANSLATED = "ipv4_translated"
    NAT64 = "nat64"
    NAT64_LOCAL = "nat64_local"
    SIX_TO_FOUR = "6to4"
    ISATAP = "isatap"
    DISCARD = "discard"
    SEGMENT_ROUTING = "segment_routing"
    UNIQUE_LOCAL = "unique_local"
    SITE_LOCAL = "site_local"
    OUTSIDE_GLOBAL = "outside_2000_3"

    SCHEME = "scheme"
    PORT = "port"
    LOCALHOST = "name_localhost"
    NO_DOT = "name_without_dot"
    LOCAL_NAME = "name_local"
    NEVER_PUBLIC = "name_never_public"


class Verdict(msgspec.Struct, frozen=True):
    """Whether, by which rule, and a sentence for the operator."""

    allowed: bool
    rule: Rule
    detail: str


class _Block(msgspec.Struct, frozen=True):
    network: Network
    first: int
    last: int
    rule: Rule
    what: str


def _blocks(*rows: tuple[str, Rule, str]) -> tuple[_Block, ...]:
    networks = [(ipaddress.ip_network(text), rule, what) for text, rule, what in rows]
    return tuple(_Block(n, int(n[0]), int(n[-1]), rule, what) for n, rule, what in networks)


NEVER_V4 = _blocks(
    ("0.0.0.0/8", Rule.THIS_NETWORK, "this network; 0.0.0.0 reaches loopback"),
    ("224.0.0.0/4", Rule.MULTICAST, "multicast"),
    ("240.0.0.0/4", Rule.RESERVED, "reserved, and broadcast"),
)
REFUSED_V4 = _blocks(
    ("10.0.0.0/8", Rule.PRIVATE, "private"),
    ("100.64.0.0/10", Rule.CARRIER_NAT, "carrier-grade NAT"),
    ("127.0.0.0/8", Rule.LOOPBACK, "loopback"),
    ("168.63.129.16/32", Rule.CLOUD_HOST, "Azure's host service"),
    ("169.254.0.0/16", Rule.LINK_LOCAL, "link-local, cloud metadata"),
    ("172.16.0.0/12", Rule.PRIVATE, "private"),
    ("192.0.0.0/24", Rule.PROTOCOL, "IETF protocol assignments"),
    ("192.0.2.0/24", Rule.DOCUMENTATION, "documentation"),
    ("192.88.99.0/24", Rule.RELAY_6TO4, "former 6to4 relays"),
    ("192.168.0.0/16", Rule.PRIVATE, "private"),
    ("198.18.0.0/15", Rule.BENCHMARK, "benchmarking"),
    ("198.51.100.0/24", Rule.DOCUMENTATION, "documentation"),
    ("203.0.113.0/24", Rule.DOCUMENTATION, "documentation"),
)
NEVER_V6 = _blocks(
    ("::/128", Rule.UNSPECIFIED, "unspecified"),
    ("ff00::/8", Rule.MULTICAST, "multicast"),
    # the operating system connects to the IPv4 address inside: an allowed ::/0 would get round an IPv4 deny list
    ("::ffff:0:0/96", Rule.MAPPED, "IPv4-mapped"),
)
GLOBAL_V6 = ipaddress.IPv6Network("2000::/3")
REFUSED_V6 = _blocks(
    ("2001::/23", Rule.PROTOCOL, "IETF protocol assignments, Teredo"),
    ("2001:db8::/32", Rule.DOCUMENTATION, "documentation"),
    ("2002::/16", Rule.SIX_TO_FOUR, "6to4"),
    ("3fff::/20", Rule.DOCUMENTATION, "documentation"),
    # what follows lies outside 2000::/3 and is refused anyway; the rows give the reason its name
    ("::1/128", Rule.LOOPBACK, "loopback"),
    ("::/96", Rule.COMPATIBLE, "IPv4-compatible"),
    ("::ffff:0:0:0/96", Rule.TRANSLATED, "IPv4-translated"),
    ("64:ff9b::/96", Rule.NAT64, "NAT64"),
    ("64:ff9b:1::/48", Rule.NAT64_LOCAL, "local NAT64"),
    ("100::/64", Rule.DISCARD, "discard-only"),
    ("100:0:0:1::/64", Rule.DISCARD, "dummy prefix"),
    ("5f00::/16", Rule.SEGMENT_ROUTING, "segment routing"),
    ("fc00::/7", Rule.UNIQUE_LOCAL, "unique local, cloud metadata"),
    ("fe80::/10", Rule.LINK_LOCAL, "link-local"),
    ("fec0::/10", Rule.SITE_LOCAL, "former site-local"),
)
_ISATAP = frozenset((0x0000_5EFE, 0x0200_5EFE))
NAT64_PREFIX = ipaddress.IPv6Network("64:ff9b::/96")
_LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))
_PUBLIC = Verdict(True, Rule.PUBLIC, "a public address")

# names of RFC 6761, 6762, 8375, 9476 and those that home and company networks took without asking
LOCALHOST_NAMES = frozenset(("localhost.localdomain", "ip6-localhost", "ip6-loopback"))
LOCAL_NAMES = ("local", "internal", "home.arpa", "localdomain", "lan", "intranet", "corp", "home", "private")
NEVER_NAMES = ("onion", "invalid", "alt")

# above 1023, those that browsers refuse as well: ports of services that act on what a request happens to contain
REFUSED_PORTS = frozenset(
    (1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080)
)
_PORT = re.compile(r"[0-9]{1,5}")


class Rules(msgspec.Struct, frozen=True):
    """What the operator decides; a tenant never does.

    allow: networks that may be reached although the tables refuse them.
    deny: networks that may not be reached; stronger than `allow`.
    nat64: judge `64:ff9b::/96` by the IPv4 address inside, for hosts behind NAT64 and DNS64.
    nat64_prefixes: NAT64 prefixes (RFC 6052) judged likewise, the operator's own or the well-known one.
    own: the addresses of this machine's interfaces, refused whatever their range.
    https_only: refuse `http`.
    allowed_names: names, or `*.suffix`, that pass the name filter; their addresses are judged as always.
    ports: None for the built-in rule, else the only ports allowed.
    """

    allow: tuple[Network, ...] = ()
    deny: tuple[Network, ...] = ()
    nat64: bool = False
    own: frozenset[Address] = frozenset()
    https_only: bool = False
    allowed_names: tuple[str, ...] = ()
    ports: frozenset[int] | None = None
    nat64_prefixes: tuple[ipaddress.IPv6Network, ...] = ()

    @classmethod
    def parse(
        cls,
        allow: str = "",
        deny: str = "",
        *,
        nat64: bool = False,
        nat64_prefixes: str = "",
        own: Iterable[Address] = (),
        https_only: bool = False,
        allowed_names: str = "",
        ports: str = "",
    ) -> Self:
        """Rules from text in the form of the settings. Raises ConfigurationError, naming the parameter."""
        return cls(
            allow=_read("allow", parse_networks, allow),
            deny=_read("deny", parse_networks, deny),
            nat64=nat64,
            own=frozenset(own),
            https_only=https_only,
            allowed_names=_read("allowed_names", parse_names, allowed_names),
            ports=frozenset(_read("ports", _parse_ports, ports)) or None,
            nat64_prefixes=_read("nat64_prefixes", parse_nat64, nat64_prefixes),
        )

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the operator should read at start: lists that switch the guard off."""
        return tuple(
            f"The allow list holds {network}: outbound connections reach every address of that family, "
            "this machine and cloud metadata services included."
            for network in self.allow
            if network.prefixlen == 0
        )


def judge(address: Address, rules: Rules) -> Verdict:
    """The verdict on one address: never, deny list, allow list, own addresses, tables; the first that speaks decides.

    An address that carries an IPv4 address through NAT64 is denied when either of the two is; where NAT64 is on, it is
    otherwise judged by the inner one.
    """
    if isinstance(address, ipaddress.IPv6Address) and address.scope_id is not None:
        return Verdict(False, Rule.SCOPED, f"{write(address)} has a scope: it is local to a link")
    inner, translated = _nat64(address, rules)
    faces = (address,) if inner is None else (address, inner)
    return (
        _first(_never(face) for face in faces)
        or _first(_listed(face, rules.deny, False) for face in faces)
        or _first(_listed(face, rules.allow, True) for face in (faces if translated else (address,)))
        or _first(_own(face, rules) for face in faces)
        or _tables(inner if translated and inner is not None else address)
    )


def judge_all(addresses: Iterable[Address], rules: Rules) -> Verdict:
    """The verdict on an answer: one refused address refuses it, so does none, so do more than 32.

    Taking the good ones of a mixed answer would leave a chance that another step takes the bad one.
    """
    found = list(addresses)
    if not found:
        return Verdict(False, Rule.NO_ADDRESS, "no address")
    if len(found) > MAX_ADDRESSES:
        return Verdict(False, Rule.TOO_MANY, f"{len(found)} addresses, more than {MAX_ADDRESSES}")
    if len(found) > 1:
        # so that the reason shown does not depend on the order of the answer
        found.sort(key=lambda address: (address.version, int(address), str(address)))
    verdicts = [judge(address, rules) for address in found]
    return next((verdict for verdict in verdicts if not verdict.allowed), verdicts[0])


def judge_target(target: Target, rules: Rules) -> Verdict:
    """The verdict on what the text of a URL says: scheme, port, name. A first filter; the addresses decide."""
    if rules.https_only and target.scheme != "https":
        return Verdict(False, Rule.SCHEME, "only https is allowed here")
    if not _port_allowed(target.port, rules):
        return Verdict(False, Rule.PORT, f"port {target.port} is not allowed")
    if target.literal is not None:
        return Verdict(True, Rule.PUBLIC, "the address decides")
    return _judge_name(target.host, rules)


def _never(address: Address) -> Verdict | None:
    return _in_blocks(address, NEVER_V4 if address.version == 4 else NEVER_V6)


def _listed(address: Address, networks: tuple[Network, ...], allowed: bool) -> Verdict | None:
    for network in networks:
        if address in network:
            rule = Rule.ALLOW_LIST if allowed else Rule.DENY_LIST
            return Verdict(allowed, rule, f"{write(address)} is in {network} of the {rule.replace('_', ' ')}")
    return None


def _own(address: Address, rules: Rules) -> Verdict | None:
    if address not in rules.own:
        return None
    return Verdict(False, Rule.OWN_ADDRESS, f"{write(address)} is an address of this machine")


def _tables(address: Address) -> Verdict:
    if address.version == 4:
        return _in_blocks(address, REFUSED_V4) or _PUBLIC
    refused = _in_blocks(address, REFUSED_V6)
    if refused is not None:
        return refused
    if address not in GLOBAL_V6:
        return Verdict(False, Rule.OUTSIDE_GLOBAL, f"{write(address)} is outside {GLOBAL_V6}")
    if int(address) >> 32 & 0xFFFF_FFFF in _ISATAP:
        return Verdict(False, Rule.ISATAP, f"{write(address)} is an ISATAP address")
    return _PUBLIC


def _in_blocks(address: Address, blocks: Sequence[_Block]) -> Verdict | None:
    value = int(address)
    for block in blocks:
        if block.first <= value <= block.last:
            return Verdict(False, block.rule, f"{write(address)} is in {block.network} ({block.what})")
    return None


def _first(verdicts: Iterable[Verdict | None]) -> Verdict | None:
    return next((verdict for verdict in verdicts if verdict is not None), None)


def _nat64(address: Address, rules: Rules) -> tuple[ipaddress.IPv4Address | None, bool]:
    """The IPv4 address that NAT64 would connect to, and whether the operator says that there is a NAT64."""
    if address.version == 4:
        return None, False
    for prefix in rules.nat64_prefixes:
        if address in prefix:
            return _inside(int(address), prefix.prefixlen), True
    if address in NAT64_PREFIX:
        return _inside(int(address), 96), rules.nat64
    return None, False


def _inside(value: int, length: int) -> ipaddress.IPv4Address:
    """The IPv4 address after a prefix, around bits 64–71, which stay free (RFC 6052 §2.2)."""
    if length == 96:
        return ipaddress.IPv4Address(value & 0xFFFF_FFFF)
    without = (value >> 64) << 56 | value & ((1 << 56) - 1)
    return ipaddress.IPv4Address(without >> (120 - length - 32) & 0xFFFF_FFFF)


def _port_allowed(port: int, rules: Rules) -> bool:
    if rules.ports is not None:
        return port in rules.ports
    return port in (80, 443) or (port >= 1024 and port not in REFUSED_PORTS)


def _judge_name(name: str, rules: Rules) -> Verdict:
    if _ends_with(name, NEVER_NAMES):
        return Verdict(False, Rule.NEVER_PUBLIC, f"{name} is never in public DNS")
    rule = _local_rule(name)
    if rule is None:
        return Verdict(True, Rule.PUBLIC, "a public name")
    if any(matches(name, pattern) for pattern in rules.allowed_names):
        return Verdict(True, Rule.ALLOW_LIST, f"{name} is a name that the operator allows")
    if rule is Rule.LOCALHOST and is_localhost(name) and _loopback_allowed(rules):
        return Verdict(True, Rule.ALLOW_LIST, f"{name}: loopback is in the allow list")
    return Verdict(False, rule, f"{name} is a name of this machine or its network")


def _local_rule(name: str) -> Rule | None:
    if name in LOCALHOST_NAMES or is_localhost(name):
        return Rule.LOCALHOST
    if "." not in name:
        return Rule.NO_DOT
    return Rule.LOCAL_NAME if _ends_with(name, LOCAL_NAMES) else None


def is_localhost(name: str) -> bool:
    """Whether a name means this machine by RFC 6761."""
    return _ends_with(name, ("localhost",))


def _ends_with(name: str, suffixes: Iterable[str]) -> bool:
    return any(name == suffix or name.endswith("." + suffix) for suffix in suffixes)


def matches(name: str, pattern: str) -> bool:
    """Whether a name is the one that the operator wrote, or ends in its `*.suffix`."""
    return name.endswith(pattern[1:]) if pattern.startswith("*.") else name == pattern


def _loopback_allowed(rules: Rules) -> bool:
    return any(
        network.version == loopback.version and network.overlaps(loopback)
        for network in rules.allow
        for loopback in _LOOPBACK
    )


def _read(key: str, parse_list: Callable[[str], tuple[_T, ...]], text: str) -> tuple[_T, ...]:
    try:
        return parse_list(text.strip()) if text.strip() else ()
    except Invalid as wrong:
        raise ConfigurationError(f"{key}: {wrong.detail}") from None


def _parse_ports(text: str) -> tuple[int, ...]:
    found: list[int] = []
    for word in items(text):
        low, dash, high = word.partition("-")
        bounds = [int(part) if _PORT.fullmatch(part) else 0 for part in ((low, high) if dash else (low, low))]
        if not 1 <= bounds[0] <= bounds[1] <= 65_535:
            raise Invalid(f"{word!r} is not a port such as 443, nor a range such as 8000-8999")
        found += range(bounds[0], bounds[1] + 1)
    return tuple(found)
