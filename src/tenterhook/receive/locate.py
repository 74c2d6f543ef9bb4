"""Locators, extractors and templates: where a provider file says that something is, compiled into functions of Facts.

A locator whose name is empty is left out: that is how an option of a source is switched off.
"""

import hashlib
import re
from collections.abc import Callable, Iterable
from typing import Literal

from msgspec import Struct

from tenterhook.errors import Invalid
from tenterhook.receive.facts import Facts

Read = Callable[[Facts], bytes | None]
Extract = Callable[[Facts], tuple[bytes, ...]]
Template = Callable[["Variables"], bytes | None]

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VARIABLE = re.compile(r"\{([^{}]*)\}")


class Locator(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a value is; exactly one field is set."""

    header: str | None = None
    query: str | None = None
    form: str | None = None
    json: str | None = None


class Extractor(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the parts of a name are; all that exist are joined with a full stop, in the order of the fields."""

    header: str | tuple[str, ...] = ()
    query: str | tuple[str, ...] = ()
    form: str | tuple[str, ...] = ()
    json: str | tuple[str, ...] = ()
    body: Literal["sha256"] | None = None


class Variables(Struct):
    """What a template can draw on."""

    facts: Facts
    ts: bytes | None = None
    id: bytes | None = None
    nonce: bytes | None = None
    secret: bytes | None = None


def _header(name: str) -> Read:
    if not _TOKEN.fullmatch(name):
        raise Invalid(f"{name!r} is no name of a header")
    wanted = name.lower().encode()
    return lambda facts: facts.header(wanted)


def _query(name: str) -> Read:
    wanted = name.encode()
    return lambda facts: facts.query(wanted)


def _form(name: str) -> Read:
    wanted = name.encode()
    return lambda facts: facts.form(wanted)


def _json(path: str) -> Read:
    steps = tuple(path.split("."))
    return lambda facts: facts.member(steps)


KINDS: dict[str, Callable[[str], Read]] = {"header": _header, "query": _query, "form": _form, "json": _json}


def named(locator: Locator) -> tuple[str, str] | None:
    """Kind and name of a locator, None if its name is empty. Raises Invalid unless it has exactly one kind."""
    found = [(kind, name) for kind in KINDS if (name := getattr(locator, kind)) is not None]
    if len(found) != 1:
        raise Invalid(f"a locator has exactly one of {', '.join(KINDS)}, this one has {len(found)}")
    return found[0] if found[0][1] else None


def reader(locator: Locator | None) -> Read | None:
    """The function that reads what a locator points at; None if there is nothing to read. Raises Invalid."""
    place = named(locator) if locator is not None else None
    return KINDS[place[0]](place[1]) if place is not None else None


def _body_hash(facts: Facts) -> bytes:
    return hashlib.sha256(facts.request.body).hexdigest().encode()


def _parts(spec: Extractor) -> list[Read]:
    reads = []
    for kind, make in KINDS.items():
        names = getattr(spec, kind)
        reads += [make(name) for name in ((names,) if isinstance(names, str) else names) if name]
    if spec.body is not None:
        reads.append(_body_hash)
    return reads


def extractor(spec: Extractor | Iterable[Extractor]) -> Extract:
    """The function that gives the parts of the first extractor that yields any. Raises Invalid."""
    choices = [_parts(one) for one in ((spec,) if isinstance(spec, Extractor) else spec)]

    def extract(facts: Facts) -> tuple[bytes, ...]:
        for reads in choices:
            if parts := tuple(part for read in reads if (part := read(facts))):
                return parts
        return ()

    return extract


PLAIN: dict[str, Template] = {
    "body": lambda known: known.facts.request.body,
    "ts": lambda known: known.ts,
    "id": lambda known: known.id,
    "nonce": lambda known: known.nonce,
    "secret": lambda known: known.secret,
    "method": lambda known: known.facts.request.method.encode("utf-8", "surrogatepass"),
    "path": lambda known: known.facts.request.path.encode("utf-8", "surrogatepass"),
}
"""The variables of templates that are not read by a locator."""


def _variable(text: str) -> Template:
    if text in PLAIN:
        return PLAIN[text]
    if text.startswith("json?"):
        optional = _json(text.removeprefix("json?"))
        return lambda known: optional(known.facts) or b""
    kind, colon, name = text.partition(":")
    if not colon or kind not in KINDS or not name:
        raise Invalid(f"{{{text}}} is no variable of a template")
    read = KINDS[kind](name)
    return lambda known: read(known.facts)


def template(text: str) -> Template:
    """The function that renders a template; None where one of its variables is missing. Raises Invalid."""
    parts: list[bytes | Template] = []
    for place, piece in enumerate(_VARIABLE.split(text)):
        if place % 2:
            parts.append(_variable(piece))
        elif "{" in piece or "}" in piece:
            raise Invalid(f"{text!r} has a brace that belongs to no variable")
        elif piece:
            parts.append(piece.encode())
    if len(parts) == 1 and not isinstance(parts[0], bytes):
        return parts[0]

    def render(known: Variables) -> bytes | None:
        rendered = []
        for part in parts:
            value = part if isinstance(part, bytes) else part(known)
            if value is None:
                return None
            rendered.append(value)
        return b"".join(rendered)

    return render


def uses_json(text: str) -> bool:
    """Whether a template reads members of the body."""
    return any(name.startswith("json") for name in _VARIABLE.findall(text))


def uses(text: str, variable: str) -> bool:
    """Whether a template has this variable."""
    return variable in _VARIABLE.findall(text)
