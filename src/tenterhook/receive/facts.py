"""Reading a received request: header lines, query, form and JSON members, each parsed once and only when asked for.

Everything is bytes, as received. What is absent or unreadable is None; what must be single and is repeated is Refused.
"""

import json
import re
from binascii import a2b_qp
from functools import cached_property

import msgspec

from tenterhook.model import Request
from tenterhook.receive.verdict import Reason, Refused

MAX_FIELDS = 1_000
"""A query or form with more fields than this is not read."""

MAX_STRAYS = 1_000
"""A field with more percent signs that begin no escape than this is not percent-encoded."""

_FORM = b"application/x-www-form-urlencoded"
_STRAY = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_UNREADABLE = (msgspec.MsgspecError, ValueError, RecursionError)
_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
_items = msgspec.json.Decoder(list[msgspec.Raw])
_text = msgspec.json.Decoder(str)


def is_form(content_type: bytes) -> bool:
    """Whether a Content-Type says that the body is an HTML form's."""
    return content_type.partition(b";")[0].strip().lower() == _FORM


def fields(encoded: bytes) -> dict[bytes, list[bytes]]:
    """The fields of a query or form body, percent-decoded; nothing if there are too many."""
    found: dict[bytes, list[bytes]] = {}
    if encoded.count(b"&") >= MAX_FIELDS:
        return found
    for part in encoded.split(b"&"):
        name, _, value = part.replace(b"+", b" ").partition(b"=")
        found.setdefault(_unquoted(name), []).append(_unquoted(value))
    return found


def _unquoted(text: bytes) -> bytes:
    """Percent-decoded; a `%` without two hexadecimal digits stands for itself.

    Percent-encoding is quoted-printable with another sign, and that is decoded in one pass in C. `unquote_to_bytes`
    makes objects of every escape: seconds and gigabytes for a large form.
    """
    if b"%" not in text:
        return text
    escaped, strays = _STRAY.subn(b"%25", text, MAX_STRAYS)
    if strays == MAX_STRAYS:
        return text
    return a2b_qp(escaped.replace(b"=", b"=3D").replace(b"%", b"="))


def decoded(document: bytes | msgspec.Raw) -> object | None:
    """JSON as Python values; None if it is not JSON."""
    try:
        value: object = msgspec.json.decode(document)
        return value
    except _UNREADABLE:
        return None


def decoded_within(document: bytes, most: int) -> object | None:
    """As `decoded`; of a document of more than `most` bytes only the members that fit into them together, in order.

    What is left out costs neither time nor memory. None too for a larger document that is no object.
    """
    if len(document) <= most:
        return decoded(document)
    try:
        members = _members.decode(document)
    except _UNREADABLE:
        return None
    found: dict[str, object] = {}
    for name, node in members.items():
        size = len(memoryview(node))
        if size <= most:
            found[name] = decoded(node)
            most -= size
    return found


def _inside(node: "bytes | msgspec.Raw", step: str) -> msgspec.Raw | None:
    """The member or list item `step` of a JSON value."""
    try:
        if bytes(memoryview(node)[:1]) == b"[":
            return _items.decode(node)[int(step)] if step.isascii() and step.isdigit() else None
        return _members.decode(node).get(step)
    except (*_UNREADABLE, IndexError):
        return None


def _scalar(node: msgspec.Raw) -> bytes | None:
    """A JSON text as UTF-8, a number as it is written; None for anything else."""
    raw = bytes(node)
    if raw[:1] != b'"':
        return raw if raw[:1].isdigit() or raw[:1] == b"-" else None
    try:
        return _text.decode(raw).encode()
    except _UNREADABLE:
        return None


def _refuse_repeats(pairs: list[tuple[str, object]]) -> None:
    if len({name for name, _ in pairs}) != len(pairs):
        raise Refused(Reason.REPEATED_MEMBER, "the JSON body has a repeated member")


class Facts:
    """One request, as the readers of a provider see it; `json_field` is the form field that holds the JSON."""

    def __init__(self, request: Request, json_field: str | None) -> None:
        self.request = request
        self._json_field = json_field.encode() if json_field else None

    @cached_property
    def _headers(self) -> dict[bytes, list[bytes]]:
        index: dict[bytes, list[bytes]] = {}
        for name, value in self.request.headers:
            index.setdefault(name.lower(), []).append(value)
        return index

    @cached_property
    def _query(self) -> dict[bytes, list[bytes]]:
        return fields(self.request.query)

    @cached_property
    def _form(self) -> dict[bytes, list[bytes]]:
        return fields(self.request.body) if self._is_form else {}

    @property
    def _is_form(self) -> bool:
        return any(is_form(value) for value in self._headers.get(b"content-type", ()))

    @cached_property
    def document(self) -> bytes | None:
        """The bytes that should be JSON: the body, or the field of a form that holds it."""
        if self._json_field is not None and self._is_form:
            values = self._form.get(self._json_field, [])
            return values[0] if len(values) == 1 else None
        return self.request.body

    @cached_property
    def _top(self) -> dict[str, msgspec.Raw]:
        try:
            return _members.decode(self.document or b"")
        except _UNREADABLE:
            return {}

    def header(self, name: bytes) -> bytes | None:
        """The value of a header that may occur once; `name` in lower case."""
        values = self._headers.get(name)
        if values is None:
            return None
        if len(values) > 1:
            raise Refused(Reason.REPEATED_HEADER, f"the header {name.decode()} is repeated")
        return values[0].strip(b" \t")

    def query(self, name: bytes) -> bytes | None:
        """The value of a query parameter that may occur once."""
        return _single(self._query, name)

    def form(self, name: bytes) -> bytes | None:
        """The value of a form field that may occur once."""
        return _single(self._form, name)

    def member(self, path: tuple[str, ...]) -> bytes | None:
        """The text or number at a path of the JSON document."""
        node = self._top.get(path[0])
        for step in path[1:]:
            if node is None:
                return None
            node = _inside(node, step)
        return None if node is None else _scalar(node)

    def refuse_repeated_members(self) -> None:
        """Raises Refused if an object of the JSON document repeats a member; for members that carry proof.

        A document that cannot be checked is refused too: another parser might read it, and differently.
        """
        try:
            json.loads(self.document or b"", object_pairs_hook=_refuse_repeats)
        except (ValueError, RecursionError):
            raise Refused(
                Reason.MISSING_PART, "the body is not JSON that can be checked for repeated members"
            ) from None


def _single(found: dict[bytes, list[bytes]], name: bytes) -> bytes | None:
    values = found.get(name)
    if values is None:
        return None
    if len(values) > 1:
        raise Refused(Reason.REPEATED_PARAMETER, f"the parameter {name.decode()} is repeated")
    return values[0]
