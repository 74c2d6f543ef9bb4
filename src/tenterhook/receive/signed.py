"""The other side of a source: requests signed as the provider signs them, for tests, demonstrations and `trigger`."""

import hashlib
from collections.abc import Mapping
from urllib.parse import quote_from_bytes

import msgspec

from tenterhook.clock import SECOND
from tenterhook.errors import Invalid
from tenterhook.model import Request
from tenterhook.receive.facts import Facts
from tenterhook.receive.locate import Locator, Variables, named
from tenterhook.receive.proof import Row, content
from tenterhook.receive.provider import Provider, Sample
from tenterhook.receive.schemes import ENCODINGS, SIGNING_KEYS
from tenterhook.receive.signature import written
from tenterhook.receive.verdict import Refused


def sign(
    provider: Provider,
    request: Request,
    secret: str,
    *,
    now: int,
    options: Mapping[str, str] | None = None,
    row: str | None = None,
) -> Request:
    """The request with the proof that this provider would add at `now` (µs UTC), in place of any that it has.

    The first row that can use the secret signs, or the one named `row`; `v1a` of Standard Webhooks wants the private
    key (`whsk_`). An id that is signed and missing is made from body and time. Raises Invalid where that cannot be.
    """
    rules = provider.rules(options or {})
    for candidate in rules.rows:
        if row in (None, candidate.spec.name):
            if candidate.read is None:
                return request
            key = SIGNING_KEYS[candidate.spec.key](secret)
            if key:
                key += candidate.spec.key_suffix.encode()
                return _signed(candidate, request, rules.json_field, key, now)
    raise Invalid(f"{provider.title} has no way to sign with this secret", ("body", "secrets"))


def sample_request(provider: Provider, sample: Sample) -> Request:
    """A sample of the provider's file as a request to `/in/sample`, signed unless its signature was published."""
    request = Request(
        method=sample.method,
        path="/in/sample",
        query=sample.query.encode(),
        headers=tuple((name.encode(), value.encode()) for name, value in sample.headers.items()),
        body=sample.body.encode(),
    )
    if sample.published:
        return request
    secret = sample.signing_secret or sample.secret
    return sign(provider, request, secret, now=sample_time(sample), options=sample.options, row=sample.row)


def sample_time(sample: Sample) -> int:
    """When a sample was sent (µs UTC)."""
    return int(sample.now.timestamp()) * SECOND + sample.now.microsecond


def _signed(row: Row, request: Request, json_field: str | None, key: bytes, now: int) -> Request:
    spec = row.spec
    stamp = b""
    if row.timestamp is not None and spec.timestamp is not None:
        stamp = row.timestamp.unit.render(now)
        request = _placed(request, spec.timestamp.source, stamp)
    fresh = hashlib.sha256(stamp + request.body).hexdigest()[:32].encode()
    for locator, read in ((spec.message_id, row.message_id), (spec.nonce, row.nonce)):
        if read is not None and read(Facts(request, json_field)) is None:
            request = _placed(request, locator, fresh)
    facts = Facts(request, json_field)
    known = Variables(
        facts,
        ts=stamp,
        id=row.message_id(facts) if row.message_id is not None else None,
        nonce=row.nonce(facts) if row.nonce is not None else None,
        secret=key,
    )
    try:
        signature = ENCODINGS[spec.encoding].encode(row.scheme.make(key, content(row, known)))
    except Refused as refused:
        raise Invalid(refused.detail) from None
    return _placed_at(request, row.place, written(spec.parse, signature, stamp))


def _placed(request: Request, locator: Locator | str | None, value: bytes) -> Request:
    """The request with a value where a locator points at; one inside the signature comes with that."""
    place = named(locator) if isinstance(locator, Locator) else None
    return request if place is None else _placed_at(request, place, value)


def _placed_at(request: Request, place: tuple[str, str], value: bytes) -> Request:
    kind, name = place
    if kind == "header":
        kept = tuple(line for line in request.headers if line[0].lower() != name.lower().encode())
        return msgspec.structs.replace(request, headers=(*kept, (name.encode(), value)))
    if kind == "query":
        mark = quote_from_bytes(name.encode(), safe="").encode() + b"="
        others = [part for part in request.query.split(b"&") if part and not part.startswith(mark)]
        return msgspec.structs.replace(
            request, query=b"&".join([*others, mark + quote_from_bytes(value, safe="").encode()])
        )
    raise Invalid(f"a signature in the {kind} cannot be added to a request that exists already")
