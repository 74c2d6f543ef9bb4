"""Pieces that the request and response models share: names, limits, instants as text."""

from base64 import b64encode
from typing import Annotated, Any
from urllib.parse import urlsplit

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from tenterhook.clock import HOUR, SECOND, from_rfc3339, to_rfc3339
from tenterhook.errors import Invalid, Managed
from tenterhook.model import Endpoint, Source

Uid = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=256,
        pattern=r"^[a-zA-Z0-9\-_.]+\Z",
        description="A name of your own, good in the place of the id; it must not begin like an id.",
    ),
]
Name = Annotated[str, Meta(min_length=1, max_length=256, pattern=r"^[a-zA-Z0-9\-_.]+\Z", examples=["invoice.paid"])]
Pattern = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=256,
        pattern=r"^[a-zA-Z0-9\-_.*]+\Z",
        description="An event type, or a glob over event types.",
        examples=["invoice.*"],
    ),
]
Channel = Annotated[str, Meta(min_length=1, max_length=128, pattern=r"^[a-zA-Z0-9\-_.:+]+\Z")]
Tag = Annotated[str, Meta(min_length=1, max_length=128, pattern=r"^[a-zA-Z0-9\-_./\\#]+\Z")]
Text = Annotated[str, Meta(max_length=4096, pattern=r"^[^\x00-\x08]*\Z")]
Title = Annotated[str, Meta(min_length=1, max_length=4096, pattern=r"^[^\x00-\x08]*\Z", examples=["Acme"])]
Url = Annotated[str, Meta(examples=["https://acme.example/hooks"], extra_json_schema={"format": "uri"})]
Rate = Annotated[int, Meta(ge=1, le=65_535)]
Hours = Annotated[int, Meta(ge=1, le=876_000)]
"""Up to a century, which is for ever."""
MOST_METADATA = 4_096
Metadata = Annotated[dict[str, str], Meta(description=f"At most {MOST_METADATA} bytes as JSON.")]
Time = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
"""An instant; in a request one without an offset means UTC."""
Since = Annotated[Time, Meta(examples=["2026-01-31T12:00:00Z"])]
Until = Annotated[Time, Meta(examples=["2026-02-01T12:00:00Z"])]
Encoding = Annotated[str, Meta(extra_json_schema={"enum": ["utf-8", "base64"]})]
"""How `text_of` wrote bytes."""
Payload = Annotated[
    Raw,
    Meta(description="Stored and sent byte for byte.", examples=[{"id": 7}], extra_json_schema={"type": "object"}),
]
MASK = "***"

instant = to_rfc3339


class In(Struct, rename="camel", kw_only=True):
    """A request model: unknown fields are ignored, as the wire API wants."""


class Out(Struct, rename="camel", kw_only=True, omit_defaults=False):
    """A response model; a field that is UNSET is left out."""


def unset(value: "str | None") -> "str | UnsetType":
    """None as a field that is left out."""
    return UNSET if value is None else value


def given(**fields: Any) -> dict[str, Any]:
    """The fields that a request names, whatever their value."""
    return {name: value for name, value in fields.items() if value is not UNSET}


def metadata_of(metadata: Metadata | None) -> Metadata:
    """null means none. Raises Invalid for more than 4096 bytes as JSON."""
    if metadata and len(msgspec.json.encode(metadata)) > MOST_METADATA:
        raise Invalid(f"metadata may have at most {MOST_METADATA} bytes as JSON", ("body", "metadata"))
    return metadata or {}


def uid_of(uid: str | None, prefix: str) -> str | None:
    """A uid must not be taken for an id of its kind. Raises Invalid."""
    if uid is not None and uid.startswith(prefix):
        raise Invalid(f"a uid must not begin with {prefix}", ("body", "uid"))
    return uid


def instant_in(text: str, field: str) -> int:
    """The instant (µs UTC) in a field of the body; one without an offset means UTC. Raises Invalid."""
    try:
        return from_rfc3339(text)
    except (ValueError, OverflowError):
        raise Invalid(f"{field} must be an RFC 3339 date-time such as 2026-01-31T12:00:00Z", ("body", field)) from None


def micros(seconds: float) -> int:
    """Seconds of the wire as a span."""
    return round(seconds * SECOND)


def seconds(span: int) -> int | float:
    """A span as seconds of the wire, whole where it is."""
    return span // SECOND if span % SECOND == 0 else span / SECOND


def span_of(hours: "int | UnsetType | None") -> "int | UnsetType | None":
    """Hours of the wire as a span (µs)."""
    return hours * HOUR if isinstance(hours, int) else hours


def hours(span: int | None) -> int | float | None:
    """A span as hours of the wire, whole where it is."""
    return None if span is None else span // HOUR if span % HOUR == 0 else span / HOUR


def text_of(data: bytes) -> tuple[str, str]:
    """Bytes for JSON, and how they are written: (text, "utf-8"), or (base64, "base64") for what is not UTF-8."""
    try:
        return data.decode(), "utf-8"
    except UnicodeDecodeError:
        return b64encode(data).decode(), "base64"


def masked_url(url: str) -> str:
    """`https://hooks.slack.com/services/T0/B0/x` → `https://hooks.slack.com/services/***`."""
    parts = urlsplit(url)
    first, slash, _ = parts.path.removeprefix("/").partition("/")
    return f"{parts.scheme}://{parts.netloc}/{first + slash if slash else ''}{MASK}"


def changeable(thing: Endpoint | Source) -> None:
    """Raises Managed for what the configuration file owns."""
    if thing.managed:
        raise Managed
