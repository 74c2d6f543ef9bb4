"""The kinds of values that settings have: how each is read from text, shown, and written in TOML."""

import re
from collections.abc import Callable, Iterable
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any
from urllib.parse import urlsplit

from msgspec import Struct

from tenterhook.errors import Invalid
from tenterhook.units import LARGEST, LONGEST, format_duration, format_size, parse_duration, parse_size

Network = IPv4Network | IPv6Network

TOML_NAMES: dict[type, str] = {
    str: "a string",
    bool: "true or false",
    int: "an integer",
    float: "a number",
    list: "an array",
    dict: "a table",
}
"""The types of TOML, as errors call them; what is missing here is a date or a time."""

_NAT64_LENGTHS = (32, 40, 48, 56, 64, 96)  # RFC 6052, section 2.2
_WELL_KNOWN_NAT64 = IPv6Network("64:ff9b::/96")
_GLOBAL = IPv6Network("2000::/3")
_MAPPED = IPv6Network("::ffff:0:0/96")


class Kind(Struct, frozen=True):
    """How a value of this kind is read and shown. `noun` is for docs; `toml` are the types that the file may use."""

    noun: str
    parse: Callable[[str], Any]
    show: Callable[[Any], str] = str
    toml: tuple[type, ...] = (str,)

    def text(self, value: object) -> str:
        """What the environment would hold for a TOML value. Raises Invalid for a wrong type, without the value."""
        if type(value) not in self.toml:
            wanted = " or ".join(TOML_NAMES[kind] for kind in self.toml)
            raise Invalid(f"must be {wanted}, not {toml_name(value)} ({self.noun})")
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, list):
            if not all(isinstance(item, str) for item in value):
                raise Invalid("must be an array of strings")
            return ",".join(value) or "none"
        return str(value)


def toml_name(value: object) -> str:
    """What TOML calls the type of a value: `an integer`."""
    return TOML_NAMES.get(type(value), "a date or time")


def between(parse: Callable[[str], int], show: Callable[[int], str], low: int, high: int) -> Callable[[str], int]:
    """A parser that also refuses what is below `low` or above `high`."""

    def bounded(text: str) -> int:
        value = parse(text)
        if not low <= value <= high:
            raise Invalid(f"{show(value)} is out of range: take {show(low)} to {show(high)}")
        return value

    return bounded


def _number(text: str) -> int:
    if not re.fullmatch(r"-?[0-9]{1,18}", text):
        raise Invalid(f"{text!r} is not a whole number")
    return int(text)


def whole(low: int, high: int) -> Kind:
    """A whole number in a range."""
    return Kind(f"{low} to {high}", between(_number, str, low, high), str, (int,))


def duration(low: int, high: int = LONGEST) -> Kind:
    """A duration in a range of microseconds."""
    noun = f"{format_duration(low)} to {format_duration(high)}" if high < LONGEST else f"from {format_duration(low)}"
    return Kind(f"duration, {noun}", between(parse_duration, format_duration, low, high), format_duration)


def size(low: int, high: int = LARGEST) -> Kind:
    """A size in a range of bytes."""
    noun = f"{format_size(low)} to {format_size(high)}" if high < LARGEST else f"from {format_size(low)}"
    return Kind(f"size, {noun}", between(parse_size, format_size, low, high), format_size)


def choice(*words: str) -> Kind:
    """One of a few words."""

    def parse(text: str) -> str:
        if text not in words:
            raise Invalid(f"{text!r} is not known: take {', '.join(words[:-1])} or {words[-1]}")
        return text

    return Kind(" or ".join(words), parse)


def _switch(text: str) -> bool:
    if text.lower() in ("true", "yes", "on", "1"):
        return True
    if text.lower() in ("false", "no", "off", "0"):
        return False
    raise Invalid(f"{text!r} is neither true nor false")


def _text(text: str) -> str:
    if not text or not text.isprintable():
        raise Invalid("must be printable text that is not empty")
    return text


def _credential(text: str) -> str:
    if not text or any(not "!" <= character <= "~" for character in text):
        raise Invalid("must consist of visible ASCII characters, without spaces")
    return text


def _keys(text: str) -> str:
    if not text or any(not " " <= character <= "~" for character in text):
        raise Invalid("must consist of visible ASCII characters; several keys are separated by commas")
    return text


def _database(text: str) -> str:
    """The URL of a database; errors do not repeat it, as it may hold a password."""
    if text.startswith("postgres://"):
        text = text.replace("postgres://", "postgresql://", 1)
    scheme, _, rest = text.partition("://")
    if scheme == "sqlite" and rest.startswith("/") and rest not in ("/", "/:memory:") and rest.isprintable():
        return text
    if scheme == "postgresql" and rest and rest.isprintable():
        return text
    raise Invalid("must be sqlite:/// and the path of a file, such as sqlite:///tenterhook.db")


def _without_password(url: str) -> str:
    scheme, _, rest = url.partition("://")
    if scheme == "sqlite":
        return url
    user, at, place = rest.rpartition("@")
    # passwords also come as parameters, and those after an @ of their own have lost the question mark
    return f"{scheme}://{user.partition(':')[0]}{':***' if ':' in user else ''}{at}{re.split('[?&]', place)[0]}"


def _optional_url(text: str) -> str | None:
    if text.lower() == "none":
        return None
    try:
        url = urlsplit(text)
        good = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:
        good = False
    if not good or not text.isprintable() or any(mark in text for mark in "?#@ \\"):
        raise Invalid(f"{text!r} is not a URL of a server: write https:// or http://, a host, and perhaps a path")
    return text.rstrip("/")


def items(text: str) -> list[str]:
    """The parts of a list separated by commas or blanks; `none` is the empty list."""
    return [] if text.lower() == "none" else re.split(r"\s*,\s*|\s+", text)


def parse_networks(text: str) -> tuple[Network, ...]:
    """Networks in CIDR form without host bits, or single addresses, separated by commas or blanks. Raises Invalid."""
    return tuple(_network(part) for part in items(text))


def _network(text: str) -> Network:
    try:
        loose = ip_network(text, strict=False)
    except ValueError:
        raise Invalid(f"{text!r} is not a network: write an address and a length, such as 10.0.0.0/8") from None
    if "%" in text:
        raise Invalid(f"{text!r} has a scope: leave out the % and what follows")
    if "/" in text and ip_network(text.partition("/")[0]).network_address != loose.network_address:
        raise Invalid(f"{text!r} has bits set after its prefix: write {loose}")
    if isinstance(loose, IPv6Network) and loose.subnet_of(_MAPPED):
        raise Invalid(f"{text!r} is IPv4-mapped and would match nothing: write the IPv4 network")
    return loose


def parse_names(text: str) -> tuple[str, ...]:
    """Host names, or `*.` and a suffix. Raises Invalid."""
    for name in (names := items(text)):
        if not re.fullmatch(r"(?i:(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?)", name):
            raise Invalid(f"{name!r} is not a host name: write name, name.example or *.example")
    return tuple(name.lower().removesuffix(".") for name in names)


def parse_nat64(text: str) -> tuple[IPv6Network, ...]:
    """NAT64 prefixes (RFC 6052): the well-known one, or an operator's own, inside 2000::/3. Raises Invalid."""
    found = []
    for network in parse_networks(text):
        known = isinstance(network, IPv6Network) and (network == _WELL_KNOWN_NAT64 or network.subnet_of(_GLOBAL))
        if not isinstance(network, IPv6Network) or not known or network.prefixlen not in _NAT64_LENGTHS:
            raise Invalid(
                f"{network} cannot be a NAT64 prefix: take {_WELL_KNOWN_NAT64}, or one inside {_GLOBAL} with a length of"
                f" {', '.join(map(str, _NAT64_LENGTHS))}"
            )
        found.append(network)
    return tuple(found)


def parse_schedule(text: str) -> tuple[int, ...]:
    """`5s,5m` → the waits in µs. Raises Invalid, also for more than 100."""
    waits = tuple(parse_duration(part) for part in items(text))
    if len(waits) > 100:
        raise Invalid(f"{len(waits)} retries are too many: give at most 100")
    return waits


def _listed(show: Callable[[Any], str] = str) -> Callable[[Iterable[Any]], str]:
    return lambda values: ",".join(map(show, values)) or "none"


TEXT = Kind("text", _text)
CREDENTIAL = Kind("secret text", _credential)
KEYS = Kind("secret text", _keys)
SWITCH = Kind("true or false", _switch, lambda value: str(value).lower(), (bool,))
DATABASE = Kind("URL", _database, _without_password)
URL = Kind("URL or none", _optional_url)
NETWORKS = Kind("networks", parse_networks, _listed(), (str, list))
NAMES = Kind("host names", parse_names, _listed(), (str, list))
NAT64 = Kind("networks", parse_nat64, _listed(), (str, list))
SCHEDULE = Kind("durations", parse_schedule, _listed(format_duration), (str, list))
