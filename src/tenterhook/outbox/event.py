"""An event of an outbox: what it may consist of. The limits are those that the REST API has for a message."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from tenterhook.errors import Invalid

Name = Annotated[str, Meta(min_length=1, max_length=256, pattern=r"^[a-zA-Z0-9\-_.]+\Z")]
"""An application, an event type, or an event id."""
Channel = Annotated[str, Meta(min_length=1, max_length=128, pattern=r"^[a-zA-Z0-9\-_.:+]+\Z")]
Tag = Annotated[str, Meta(min_length=1, max_length=128, pattern=r"^[a-zA-Z0-9\-_./\\#]+\Z")]
Key = Annotated[str, Meta(min_length=1, max_length=256, pattern=r"^[^\x00-\x08]*\Z")]


class Event(Struct, frozen=True, kw_only=True):
    """What shall become a message. `payload` is the text of a JSON object, as it will be sent."""

    application: Name
    event_type: Name
    payload: str
    key: Key | None = None
    event_id: Name | None = None
    channels: Annotated[tuple[Channel, ...], Meta(max_length=10)] = ()
    tags: Annotated[tuple[Tag, ...], Meta(max_length=5)] = ()


def event_of(payload: object, **fields: object) -> Event:
    """The event with this payload (JSON as text or bytes, or an object to encode) and these other fields.

    Raises Invalid, which names the field.
    """
    try:
        plain = {name: _plain(value) for name, value in fields.items()}
        event = msgspec.convert({"payload": json_object(payload), **plain}, Event)
        (event.key or "").encode()
    except msgspec.ValidationError as wrong:
        raise Invalid(f"the event is not right: {wrong}") from None
    except UnicodeEncodeError:
        raise Invalid("the event is not right: the key is not text that UTF-8 can hold") from None
    if event.event_id is not None and event.event_id.startswith("msg_"):
        raise Invalid("the event is not right: an event_id must not begin with msg_")
    return event


def _plain(value: object) -> object:
    """Members of a StrEnum as the text that they are: drivers have ideas of their own about enums."""
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    return str.__str__(value) if isinstance(value, str) else value


def json_object(payload: object) -> str:
    """The payload as text, found to be a JSON object. Bytes and text stay as they are. Raises Invalid."""
    try:
        data = _encoded(payload)
        if not isinstance(msgspec.json.decode(data), dict):
            raise Invalid("the payload must be a JSON object")
        return data.decode()
    except UnicodeError:
        raise Invalid("the payload is not UTF-8") from None
    except (msgspec.MsgspecError, RecursionError) as wrong:
        raise Invalid(f"the payload is not JSON: {wrong}") from None


def _encoded(payload: Any) -> bytes:
    if isinstance(payload, str):
        return payload.encode()
    if isinstance(payload, bytes | bytearray | memoryview):
        return bytes(payload)
    try:
        return msgspec.json.encode(payload)
    except UnicodeError:
        raise
    except (TypeError, ValueError, OverflowError) as wrong:
        raise Invalid(f"the payload cannot be written as JSON: {wrong}") from None
