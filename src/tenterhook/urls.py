"""The text of a target: taken apart once, written back in one normal form, which alone is stored and used.

Two parsers that disagree about the host are the classic hole, so nothing after this one reads the text again. The
rules are those of RFC 3986 less all that is ambiguous; host names follow UTS 46 and IDNA 2008.
"""

import ipaddress
import re
from enum import StrEnum

import idna
import msgspec

from tenterhook.errors import Invalid

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

DEFAULT_PORTS = {"http": 80, "https": 443}
MAX_URL = 8_192
MAX_NAME = 253
MAX_LABEL = 63


class Reason(StrEnum):
    """Why a URL is refused for its text alone."""

    TOO_LONG = "url_too_long"
    CHARACTER = "url_character"
    SCHEME = "url_scheme"
    NO_HOST = "url_no_host"
    FRAGMENT = "url_fragment"
    BACKSLASH = "url_backslash"
    USER_INFO = "url_user_info"
    BRACKET = "url_bracket"
    ZONE = "url_zone"
    PORT = "url_port"
    PERCENT = "host_percent"
    HOST_CHARACTER = "host_character"
    NUMBER = "host_number"
    EMPTY_LABEL = "host_empty_label"
    LABEL_LENGTH = "host_label_length"
    NAME_LENGTH = "host_name_length"
    IDNA = "host_idna"


class UrlRefused(Invalid):
    """The URL is not acceptable; `rule` says which rule refused it."""

    def __init__(self, rule: StrEnum, detail: str) -> None:
        super().__init__(detail)
        self.rule = rule


class Target(msgspec.Struct, frozen=True):
    """Where a request goes.

    `host` is ASCII, lower case, without a trailing dot, an IPv6 address without brackets: the name that is resolved,
    sent as SNI and compared with the certificate. `path` is what the request line carries, query included. `literal`
    is the address when the host is one.
    """

    scheme: str
    host: str
    port: int
    path: str
    url: str
    literal: Address | None

    @property
    def authority(self) -> str:
        """The value of the `Host` header."""
        return _authority(self.scheme, self.host, self.port)


def parse(text: str) -> Target:
    """The target that a URL names. Raises UrlRefused for every text that has more than one reading."""
    if len(text) > MAX_URL:
        raise UrlRefused(Reason.TOO_LONG, f"A URL has at most {MAX_URL} characters.")
    if _UNPRINTABLE.search(text):
        raise UrlRefused(
            Reason.CHARACTER, "A URL has no spaces and no control characters; write them as %20 and so on."
        )
    scheme, rest = _split_scheme(text)
    if "#" in rest:
        raise UrlRefused(Reason.FRAGMENT, "A fragment (#…) is never sent; leave it out.")
    end = _AUTHORITY_END.search(rest)
    authority, tail = (rest, "") if end is None else (rest[: end.start()], rest[end.start() :])
    host, port, literal = _split_authority(authority)
    port = port or DEFAULT_PORTS[scheme]
    path = _quote(tail if tail.startswith("/") else "/" + tail)
    return Target(scheme, host, port, path, f"{scheme}://{_authority(scheme, host, port)}{path}", literal)


def parse_host(text: str) -> tuple[str, Address | None]:
    """A host name or IPv4 address in normal form, and the address if it is one. Raises UrlRefused."""
    name = _to_ascii(text)
    name = name.removesuffix(".")
    labels = name.split(".")
    if not all(labels):
        raise UrlRefused(Reason.EMPTY_LABEL, "The host has an empty label.")
    if _NUMBER.fullmatch(labels[-1]):
        return _dotted_quad(name)
    for label in labels:
        _check_label(label)
    if len(name) > MAX_NAME:
        raise UrlRefused(Reason.NAME_LENGTH, f"A host name has at most {MAX_NAME} characters.")
    return name, None


def write(address: Address) -> str:
    """An address in its normal form (RFC 5952); `str` writes mapped ones as the Python version likes."""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(address) if mapped is None else f"::ffff:{mapped}"


# C0 and C1 controls, all white space, line and paragraph separators, lone surrogates
_UNPRINTABLE = re.compile(r"[\x00-\x20\x7f-\xa0\s\u2028\u2029\ud800-\udfff]")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_AUTHORITY_END = re.compile(r"[/?]")
_PORT = re.compile(r"[0-9]{1,5}")
_IPV6_TEXT = re.compile(r"[0-9A-Fa-f:.]+")
_NUMBER = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")
_QUAD = re.compile(r"(?:0|[1-9][0-9]{0,2})(?:\.(?:0|[1-9][0-9]{0,2})){3}")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?")
_TO_QUOTE = re.compile(r"""[^\x21-\x7e]|["<>\\^`{|}]|%(?![0-9A-Fa-f]{2})""")


def _authority(scheme: str, host: str, port: int) -> str:
    shown = f"[{host}]" if ":" in host else host
    return shown if port == DEFAULT_PORTS[scheme] else f"{shown}:{port}"


def _split_scheme(text: str) -> tuple[str, str]:
    found = _SCHEME.match(text)
    if found is None or found[1].lower() not in DEFAULT_PORTS:
        raise UrlRefused(Reason.SCHEME, "A URL starts with https:// or http://.")
    rest = text[found.end() :]
    if not rest.startswith("//"):
        raise UrlRefused(Reason.NO_HOST, "The URL names no host.")
    return found[1].lower(), rest[2:]


def _split_authority(authority: str) -> tuple[str, int, Address | None]:
    """Host, port (0 for none), address."""
    if "\\" in authority:
        raise UrlRefused(Reason.BACKSLASH, "A backslash cannot stand in the host.")
    if "@" in authority:
        raise UrlRefused(Reason.USER_INFO, "A user name or password cannot stand in the URL; use a header.")
    if authority.startswith("["):
        inside, bracket, after = authority[1:].partition("]")
        if not bracket or (after and not after.startswith(":")):
            raise UrlRefused(Reason.BRACKET, "An IPv6 address stands in brackets, with nothing but a port behind them.")
        address = _ipv6(inside)
        return write(address), _port(after[1:]), address
    name, _, port = authority.partition(":")
    if not name:
        raise UrlRefused(Reason.NO_HOST, "The URL names no host.")
    number = _port(port)
    host, literal = parse_host(name)
    return host, number, literal


def _port(text: str) -> int:
    """The port that stands after the colon, 0 for none."""
    if not text:
        return 0
    if not _PORT.fullmatch(text) or not 1 <= int(text) <= 65_535:
        raise UrlRefused(Reason.PORT, "A port is a number from 1 to 65535.")
    return int(text)


def _ipv6(text: str) -> ipaddress.IPv6Address:
    if "%" in text:
        raise UrlRefused(Reason.ZONE, "An IPv6 address with a zone is local to one machine.")
    # stricter than ipaddress, whose idea of the grammar changes with the Python version
    if not _IPV6_TEXT.fullmatch(text):
        raise UrlRefused(Reason.BRACKET, "Only an IPv6 address stands in brackets.")
    try:
        return ipaddress.IPv6Address(text)
    except ValueError:
        raise UrlRefused(Reason.BRACKET, "Only an IPv6 address stands in brackets.") from None


def _dotted_quad(name: str) -> tuple[str, Address]:
    """Four plain decimal parts, or nothing: `inet_aton` reads 0177.1, 0x7f000001 and 2130706433 as 127.0.0.1."""
    if _QUAD.fullmatch(name):
        try:
            return name, ipaddress.IPv4Address(name)
        except ValueError:
            pass
    raise UrlRefused(Reason.NUMBER, "A host that ends in a number is an IPv4 address: four decimal numbers up to 255.")


def _to_ascii(text: str) -> str:
    """The name in ASCII and lower case. UTS 46 comes first: it makes `127.0.0.1` of circled and full-width digits."""
    if text.isascii():
        mapped = text.lower()
    elif len(text) > MAX_NAME:
        raise UrlRefused(Reason.NAME_LENGTH, f"A host name has at most {MAX_NAME} characters.")
    else:
        try:
            mapped = idna.uts46_remap(text, std3_rules=False)
        except UnicodeError:
            raise UrlRefused(Reason.IDNA, "The host is not a valid international name.") from None
    if "%" in mapped:
        raise UrlRefused(Reason.PERCENT, "A percent sign cannot stand in the host.")
    return ".".join(label if label.isascii() else _encode(label) for label in mapped.split("."))


def _encode(label: str) -> str:
    try:
        return idna.alabel(label).decode("ascii")
    except UnicodeError:
        raise UrlRefused(Reason.IDNA, "The host is not a valid international name.") from None


def _check_label(label: str) -> None:
    if len(label) > MAX_LABEL:
        raise UrlRefused(Reason.LABEL_LENGTH, f"A label of a host name has at most {MAX_LABEL} characters.")
    if not _LABEL.fullmatch(label):
        raise UrlRefused(Reason.HOST_CHARACTER, "A host name consists of letters, digits, hyphens inside, and dots.")
    if label.startswith("xn--"):
        try:
            survives = idna.alabel(idna.ulabel(label)).decode("ascii") == label
        except UnicodeError:
            survives = False
        if not survives:
            raise UrlRefused(Reason.IDNA, "The host is not a valid international name.")


def _quote(text: str) -> str:
    """Percent-encode what may not stand on a request line; what is encoded already stays as it is."""
    return _TO_QUOTE.sub(lambda found: "".join(f"%{byte:02X}" for byte in found[0].encode()), text)
