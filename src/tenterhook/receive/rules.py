"""The rules of a provider: the tables of its file as typed values, and compiled into functions of a request."""

from typing import Any

import msgspec
from msgspec import Struct

from tenterhook.errors import Invalid
from tenterhook.receive.locate import Extract, Extractor, extractor
from tenterhook.receive.meaning import Challenge, ChallengeSpec, challenge, cleaned
from tenterhook.receive.proof import Row, RowSpec, rows


class Answer(Struct, frozen=True, forbid_unknown_fields=True):
    """What the provider makes of our answers."""

    bad_signature: int = 401


class Spec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The part of a provider file that is rules.

    `namespace` begins the event type, the provider's name if absent; with an empty one the type stays as it is.
    `fallback` is the event type of a request that does not name one.
    """

    proof: tuple[RowSpec, ...]
    event: Extractor | tuple[Extractor, ...] = ()
    dedup: Extractor | tuple[Extractor, ...] = ()
    challenge: tuple[ChallengeSpec, ...] = ()
    json_field: str | None = None
    namespace: str | None = None
    fallback: str | None = None
    answer: Answer = Answer()


class Rules(Struct, frozen=True, kw_only=True):
    """What `verify` runs."""

    rows: tuple[Row, ...]
    event: Extract
    dedup: Extract
    challenges: tuple[Challenge, ...]
    json_field: str | None
    namespace: str
    fallback: str
    bad_signature: int


def compiled(name: str, tables: dict[str, Any]) -> Rules:
    """The rules of provider `name` from the tables of its file. Raises Invalid, naming the key."""
    try:
        # not strict, because the value of an option is text where the file wants a number
        spec = msgspec.convert(tables, Spec, strict=False)
    except msgspec.ValidationError as error:
        raise Invalid(str(error)) from None
    namespace = name if spec.namespace is None else spec.namespace
    fallback = spec.fallback or f"{name}.event"
    for text in (namespace, fallback):
        if cleaned(text) != text:
            raise Invalid(f"{text!r} is no event type: it may have letters, digits, full stop, hyphen and underscore")
    return Rules(
        rows=rows(spec.proof),
        event=extractor(spec.event),
        dedup=extractor(spec.dedup),
        challenges=tuple(challenge(one) for one in spec.challenge),
        json_field=spec.json_field,
        namespace=namespace,
        fallback=fallback,
        bad_signature=spec.answer.bad_signature,
    )
