"""Header lines of what is sent: how they are written, and which of them a customer may set."""

import re
from collections.abc import Iterable, Mapping

from tenterhook.errors import Invalid

MAX_HEADERS = 50
MAX_NAME_BYTES = 256
MAX_VALUE_BYTES = 4_096

# RFC 9110, section 5.6.2 (token) and 5.5 (field value, here without the tab)
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")

_OURS = "this name is set by the server"
_FRAMING = "this name belongs to the connection"
_CACHING = "this name belongs to responses and caches"
_CLOUD = "this name opens metadata services or belongs to a cloud's own proxies"

FORBIDDEN = {
    **dict.fromkeys(("user-agent", "content-type"), _OURS),
    **dict.fromkeys(("content-encoding", "content-language", "content-location", "accept-encoding"), _OURS),
    **dict.fromkeys(("host", "content-length", "transfer-encoding", "connection", "keep-alive"), _FRAMING),
    **dict.fromkeys(("upgrade", "te", "trailer", "trailers", "expect", "http2-settings"), _FRAMING),
    **dict.fromkeys(("age", "cache-control", "clear-site-data", "expires", "pragma", "warning"), _CACHING),
    **dict.fromkeys(("metadata", "metadata-flavor"), _CLOUD),
}
"""Names that a custom header may not have, in lower case, and why."""

FORBIDDEN_PREFIXES = {
    **dict.fromkeys(("webhook-", "svix-", "x-svix-", "tenterhook-"), _OURS),
    "proxy-": _FRAMING,
    **dict.fromkeys(("x-amz-", "x-amzn-", "x-aws-", "x-google", "x-goog-", "x-gfe", "x-azure-", "x-fd-"), _CLOUD),
}
"""What the name of a custom header may not begin with, in lower case, and why."""

SENSITIVE = frozenset(
    ("authorization", "proxy-authorization", "proxy-authenticate", "www-authenticate", "x-api-key", "x-auth-token")
)
"""Names (in lower case) of headers whose values are credentials: sent, but neither recorded nor shown."""

HIDDEN = b"***"

Headers = Mapping[str, str] | Iterable[tuple[str, str]]


def check_headers(headers: Headers) -> tuple[tuple[str, str], ...]:
    """The custom headers of an endpoint as they are kept: in their order and letter case.

    Names are unique without regard to case; at most MAX_HEADERS, values of at most MAX_VALUE_BYTES in UTF-8.
    Raises Invalid with the place of the first fault.
    """
    pairs = tuple(headers.items() if isinstance(headers, Mapping) else headers)
    if len(pairs) > MAX_HEADERS:
        raise _refused(f"at most {MAX_HEADERS} headers")
    seen: set[str] = set()
    for name, value in pairs:
        _check_name(name)
        _check_value(name, value)
        if name.lower() in seen:
            raise _refused("this name is given twice (letter case makes no difference)", name)
        seen.add(name.lower())
    return pairs


def header_lines(headers: Iterable[tuple[str, str]]) -> bytes:
    """The header lines for the wire, each ended by CR LF. Raises Invalid for what would not be one line each."""
    lines = []
    for name, value in headers:
        _check_form(name, value)
        lines.append(f"{name}: {value}\r\n")
    return "".join(lines).encode()


def without_credentials(head: bytes) -> bytes:
    """The head of a request as it may be recorded: the values of sensitive headers replaced."""
    lines = head.split(b"\r\n")
    return b"\r\n".join(
        line[: line.index(b":")] + b": " + HIDDEN
        if line.partition(b":")[0].lower().decode("latin-1") in SENSITIVE
        else line
        for line in lines
    )


def _check_name(name: str) -> None:
    lower = name.lower()
    why = FORBIDDEN.get(lower) or next(
        (why for start, why in FORBIDDEN_PREFIXES.items() if lower.startswith(start)), ""
    )
    if why:
        raise _refused(f"not allowed: {why}", name)
    if len(name) > MAX_NAME_BYTES:
        raise _refused(f"a name has at most {MAX_NAME_BYTES} characters", name)


def _check_value(name: str, value: str) -> None:
    _check_form(name, value)
    if len(value.encode()) > MAX_VALUE_BYTES:
        raise _refused(f"a value has at most {MAX_VALUE_BYTES} bytes", name)
    if value != value.strip(" "):
        raise _refused("a value neither begins nor ends with a space", name)


def _check_form(name: str, value: str) -> None:
    if not _NAME.fullmatch(name):
        raise _refused("not a valid header name", name)
    if _CONTROL.search(value):
        raise _refused("a value has no line ends and no other control characters", name)
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _refused("a value has a character that cannot be encoded", name) from None


def _refused(detail: str, name: str | None = None) -> Invalid:
    place = ("body", "headers") if name is None else ("body", "headers", name)
    return Invalid(detail, loc=place)
