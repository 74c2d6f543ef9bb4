"""Receiving webhooks of any provider: is this request genuine, and what does it mean? Pure rules over a provider file.

`verify` never raises for what a request holds; `check_source` finds what is wrong with a source when it is configured.
"""

from collections.abc import Mapping, Sequence

from tenterhook.errors import Invalid
from tenterhook.model import Request
from tenterhook.receive.facts import Facts, decoded, decoded_within, fields, is_form
from tenterhook.receive.meaning import Challenge, dedup_key, event_type
from tenterhook.receive.proof import Proof, Row, prove
from tenterhook.receive.provider import Option, Provider, Sample
from tenterhook.receive.rules import Rules
from tenterhook.receive.signed import sample_request, sign
from tenterhook.receive.verdict import Outcome, Reason, Refused, Reply, Verdict

__all__ = [
    "Option",
    "Outcome",
    "Provider",
    "Reason",
    "Reply",
    "Request",
    "Sample",
    "Verdict",
    "check_source",
    "json_document",
    "sample_request",
    "sign",
    "verify",
]


def verify(
    provider: Provider, request: Request, secrets: Sequence[str], *, now: int, options: Mapping[str, str] | None = None
) -> Verdict:
    """What a request to a source is at `now` (µs UTC); the source's `secrets` in any order, its `options`.

    Nothing in a request raises. Options that `check_source` would refuse make every request NOT_CONFIGURED.
    """
    try:
        rules = provider.rules(options or {})
    except Invalid as error:
        return _rejected(401, Refused(Reason.NOT_CONFIGURED, error.detail))
    facts = Facts(request, rules.json_field)
    try:
        handshake = _handshake(rules, facts, signed=False)
        if handshake is not None:
            return _answered(rules, facts, handshake, None)
        proof = prove(rules.rows, facts, secrets, now)
        handshake = _handshake(rules, facts, signed=True)
        if handshake is not None:
            return _answered(rules, facts, handshake, proof)
        return _verdict(rules, facts, Outcome.ACCEPTED, proof, None)
    except Refused as refused:
        status = 400 if refused.reason is Reason.MALFORMED_CHALLENGE else rules.bad_signature
        return _rejected(status, refused)


def check_source(provider: Provider, secrets: Sequence[str], options: Mapping[str, str]) -> None:
    """Whether a source can work with these secrets and options. Raises Invalid, which says what is wrong."""
    rows = provider.rules(options).rows
    if any(row.open_timestamp for row in rows):
        raise Invalid("a timestamp that is not signed proves nothing: put {ts} into the content", ("body", "options"))
    if not any(row.scheme.proves for row in rows):
        if secrets:
            raise Invalid(f"{provider.name} verifies nothing, so it takes no secret", ("body", "secrets"))
        return
    if not secrets:
        raise Invalid(f"a source of {provider.title} needs a secret", ("body", "secrets"))
    for place, secret in enumerate(secrets):
        try:
            _check_secret(provider, rows, secret)
        except Invalid as error:
            raise Invalid(error.detail, ("body", "secrets", str(place))) from None


def _check_secret(provider: Provider, rows: Sequence[Row], secret: str) -> None:
    if not secret.strip():
        raise Invalid("the secret is empty")
    if secret != secret.strip("\r\n"):
        raise Invalid("the secret begins or ends with a line break: it was copied with it")
    # every row looks at it, because a malformed key of one kind is no key of another
    keys = [row.key(secret) for row in rows]
    if not any(keys):
        raise Invalid(f"this is no kind of secret that {provider.title} uses")


def json_document(provider: Provider, content_type: str, body: bytes, most: int | None = None) -> object | None:
    """The JSON of a received body: the body itself, or the form field in which this provider puts it; None if none.

    With `most`, of a larger document only the members that fit into so many bytes together.
    """
    field = provider.json_field
    if field and is_form(content_type.encode("utf-8", "surrogatepass")):
        values = fields(body).get(field.encode(), [])
        if len(values) != 1:
            return None
        body = values[0]
    return decoded(body) if most is None else decoded_within(body, most)


def _handshake(rules: Rules, facts: Facts, *, signed: bool) -> Challenge | None:
    for challenge in rules.challenges:
        if challenge.signed is signed and challenge.applies(facts):
            return challenge
    return None


def _answered(rules: Rules, facts: Facts, challenge: Challenge, proof: Proof | None) -> Verdict:
    return _verdict(rules, facts, Outcome(challenge.kind), proof, challenge.reply(facts))


def _verdict(rules: Rules, facts: Facts, outcome: Outcome, proof: Proof | None, reply: Reply | None) -> Verdict:
    return Verdict(
        outcome=outcome,
        event_type=event_type(rules.event(facts), rules.namespace, rules.fallback),
        dedup_key=dedup_key(rules.dedup(facts)),
        row=proof.row if proof is not None else None,
        secret=proof.secret if proof is not None else None,
        reply=reply,
    )


def _rejected(status: int, refused: Refused) -> Verdict:
    return Verdict(outcome=Outcome.REJECTED, reason=refused.reason, detail=refused.detail, reply=Reply(status))
