"""Proof that a request is genuine: the rows of a provider file, compiled, and the check of one request against them.

Order: find and parse the signature, compute, compare in constant time, and only then the timestamp. Any row and secret
that verify are enough; what is wrong with one candidate fails that candidate only.
"""

from collections.abc import Iterator, Sequence
from typing import Literal

from msgspec import Struct, field

from tenterhook.clock import SECOND
from tenterhook.errors import Invalid
from tenterhook.receive.facts import Facts
from tenterhook.receive.locate import Locator, Read, Template, Variables, named, reader, template, uses, uses_json
from tenterhook.receive.schemes import ENCODINGS, KEYS, SCHEMES, UNITS, Decode, KeyOf, Scheme, Unit, entry
from tenterhook.receive.signature import Parse, ParseSpec, parser
from tenterhook.receive.verdict import RANK, Reason, Refused

MAX_CANDIDATES = 32
"""So many signatures of one request are looked at."""


class TimestampSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the timestamp is (a locator, or the parsed signature), its unit, and how far off it may be (seconds)."""

    source: Locator | Literal["signature"] = field(name="from")
    unit: str = "s"
    tolerance: int


class RowSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One way in which requests of a provider are proven."""

    name: str
    scheme: str
    signature: Locator | tuple[Locator, ...] = ()
    parse: ParseSpec = ParseSpec()
    encoding: str = "text"
    content: str | tuple[str, ...] = "{body}"
    key: str = "utf8"
    key_suffix: str = ""
    message_id: Locator | None = None
    nonce: Locator | None = None
    timestamp: TimestampSpec | None = None

    @property
    def locators(self) -> tuple[Locator, ...]:
        """The places where a signature may be."""
        return (self.signature,) if isinstance(self.signature, Locator) else self.signature

    @property
    def templates(self) -> tuple[str, ...]:
        """The templates of the signed content, the first that can be rendered counts."""
        return (self.content,) if isinstance(self.content, str) else self.content


class Clocked(Struct, frozen=True):
    """A compiled TimestampSpec, the tolerance in µs; without `read` the parsed signature has the text."""

    read: Read | None
    unit: Unit
    tolerance: int


class Row(Struct, frozen=True, kw_only=True):
    """A compiled RowSpec, for one place of the signature; `read` is None where nothing is proven."""

    spec: RowSpec
    place: tuple[str, str]
    read: Read | None
    parse: Parse
    decode: Decode
    contents: tuple[Template, ...]
    scheme: Scheme
    key_of: KeyOf
    message_id: Read | None
    nonce: Read | None
    timestamp: Clocked | None
    members_prove: bool

    @property
    def open_timestamp(self) -> bool:
        """Whether the timestamp is outside of what is signed, where anybody can write it anew."""
        spec = self.spec.timestamp
        if self.timestamp is None or spec is None:
            return False
        if isinstance(spec.source, Locator) and (spec.source.json or spec.source.form):
            return False
        return not all(uses(text, "ts") for text in self.spec.templates)

    def key(self, secret: str) -> bytes | None:
        """The key that a secret is for this row; None for a secret of another kind. Raises Invalid if malformed."""
        key = self.key_of(secret)
        return None if key is None else key + self.spec.key_suffix.encode()


class Evidence(Struct):
    """What a request shows for itself under one row."""

    candidates: list[bytes]
    known: Variables


class Proof(Struct, frozen=True):
    """The row and the index of the secret that verified; None where nothing was asked for."""

    row: str
    secret: int | None


def rows(specs: Sequence[RowSpec]) -> tuple[Row, ...]:
    """The compiled rows, one for each place of a signature. Raises Invalid, also if there is none."""
    found = [row for spec in specs for row in _compiled(spec)]
    if not found:
        raise Invalid("nothing says where the proof is: name a header or a query parameter", ("body", "options"))
    return tuple(found)


def _compiled(spec: RowSpec) -> Iterator[Row]:
    scheme = entry(SCHEMES, "scheme", spec.scheme)
    places: list[tuple[Locator | None, tuple[str, str] | None]] = [(one, named(one)) for one in spec.locators]
    if not scheme.proves:
        places = [(None, ("", ""))]
    for locator, place in places:
        if place is not None:
            yield Row(
                spec=spec,
                place=place,
                read=reader(locator),
                parse=parser(spec.parse),
                decode=entry(ENCODINGS, "encoding", spec.encoding).decode,
                contents=tuple(template(text) for text in spec.templates),
                scheme=scheme,
                key_of=entry(KEYS, "key", spec.key),
                message_id=reader(spec.message_id),
                nonce=reader(spec.nonce),
                timestamp=_clocked(spec.timestamp),
                members_prove=_members_prove(spec),
            )


def _clocked(spec: TimestampSpec | None) -> Clocked | None:
    if spec is None:
        return None
    unit = entry(UNITS, "timestamp.unit", spec.unit)
    if spec.source == "signature":
        return Clocked(None, unit, spec.tolerance * SECOND)
    read = reader(spec.source)
    return None if read is None else Clocked(read, unit, spec.tolerance * SECOND)


def _members_prove(spec: RowSpec) -> bool:
    """Whether a member of the JSON body is part of the proof, so that two of one name would be two meanings."""
    places = [*spec.locators, spec.message_id, spec.nonce]
    if spec.timestamp is not None and isinstance(spec.timestamp.source, Locator):
        places.append(spec.timestamp.source)
    return any(place is not None and place.json for place in places) or any(uses_json(text) for text in spec.templates)


def _gathered(row: Row, read: Read, facts: Facts) -> Evidence:
    """What the request has to show. Raises Refused where something is missing or malformed."""
    value = read(facts)
    if value is None:
        raise Refused(Reason.MISSING_SIGNATURE, f"there is no {' '.join(row.place)}")
    if row.members_prove:
        facts.refuse_repeated_members()
    parsed = row.parse(value)
    decoded = [row.decode(text) for text in parsed.signatures[:MAX_CANDIDATES]] if parsed is not None else []
    candidates = [candidate for candidate in decoded if candidate]
    if parsed is None or not candidates:
        raise Refused(Reason.MALFORMED_SIGNATURE, f"the {' '.join(row.place)} does not hold a signature of its form")
    known = Variables(facts)
    if row.timestamp is not None:
        known.ts = row.timestamp.read(facts) if row.timestamp.read is not None else parsed.timestamp
        if not known.ts:
            raise Refused(Reason.TIMESTAMP_MISSING, "there is no timestamp")
    known.id = row.message_id(facts) if row.message_id is not None else None
    known.nonce = row.nonce(facts) if row.nonce is not None else None
    return Evidence(candidates, known)


def content(row: Row, known: Variables) -> bytes:
    """The signed bytes. Raises Refused if each template lacks something."""
    for render in row.contents:
        rendered = render(known)
        if rendered is not None:
            return rendered
    raise Refused(Reason.MISSING_PART, f"something that is signed is missing: {' or '.join(row.spec.templates)}")


def _matches(row: Row, evidence: Evidence, key: bytes) -> bool:
    evidence.known.secret = key
    signed = content(row, evidence.known)
    return row.scheme.check(key, signed, evidence.candidates)


def _check_age(clocked: Clocked, text: bytes, now: int) -> None:
    """Raises Refused unless the timestamp is well-formed and close to `now`, either way."""
    instant = clocked.unit.parse(text)
    if instant is None:
        raise Refused(Reason.TIMESTAMP_MALFORMED, "the timestamp is not of its form")
    age = now - instant
    if abs(age) <= clocked.tolerance:
        return
    reason, word = (Reason.TIMESTAMP_TOO_OLD, "behind") if age > 0 else (Reason.TIMESTAMP_TOO_NEW, "ahead of")
    limit = clocked.tolerance // SECOND
    raise Refused(reason, f"the timestamp is {abs(age) // SECOND} s {word} our clock, {limit} s are allowed")


def _prove_row(row: Row, facts: Facts, secrets: Sequence[str], now: int) -> Proof:
    """The proof under one row. Raises Refused."""
    if row.read is None:
        return Proof(row.spec.name, None)
    keys = [(index, key) for index, secret in enumerate(secrets) if (key := usable_key(row, secret))]
    if not keys:
        raise Refused(Reason.NOT_CONFIGURED, "the source has no secret to verify with")
    evidence = _gathered(row, row.read, facts)
    for index, key in keys:
        if _matches(row, evidence, key):
            if row.timestamp is not None:
                _check_age(row.timestamp, evidence.known.ts or b"", now)
            return Proof(row.spec.name, index)
    raise Refused(Reason.SIGNATURE_MISMATCH, f"the {' '.join(row.place)} does not fit the request and the secret")


def usable_key(row: Row, secret: str) -> bytes | None:
    """The key of a secret under a row, None if it cannot be one."""
    try:
        return row.key(secret) if secret else None
    except Invalid:
        return None


def prove(rows: Sequence[Row], facts: Facts, secrets: Sequence[str], now: int) -> Proof:
    """The first row and secret that verify the request at `now` (µs UTC).

    Raises Refused with the reason of the row that came closest.
    """
    closest: Refused | None = None
    for row in rows:
        try:
            return _prove_row(row, facts, secrets, now)
        except Refused as refused:
            if closest is None or RANK[refused.reason] > RANK[closest.reason]:
                closest = refused
    raise closest or Refused(Reason.NOT_CONFIGURED, "the provider names no way of proof")
