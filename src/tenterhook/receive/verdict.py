"""What became of a received request: the values that `verify` gives back, and the one exception inside of it."""

from enum import StrEnum

from msgspec import Struct


class Outcome(StrEnum):
    """What to do with a request."""

    ACCEPTED = "accepted"  # store it as a message
    PING = "ping"  # genuine, but no event: answer, show, do not route
    CHALLENGE = "challenge"  # a handshake of the provider: send `Verdict.reply`, store nothing
    REJECTED = "rejected"


class Reason(StrEnum):
    """Why a request was rejected. Later members came closer to being accepted: of several, the last one is reported."""

    NOT_CONFIGURED = "not_configured"  # the source has no secret that any way of proof can use
    MISSING_SIGNATURE = "missing_signature"
    REPEATED_HEADER = "repeated_header"
    REPEATED_PARAMETER = "repeated_parameter"  # of the query or a form
    REPEATED_MEMBER = "repeated_member"  # of a JSON body whose members are part of the proof
    MALFORMED_SIGNATURE = "malformed_signature"
    MISSING_PART = "missing_part"  # something besides the body is signed, such as an id, and is not there
    TIMESTAMP_MISSING = "timestamp_missing"
    TIMESTAMP_MALFORMED = "timestamp_malformed"
    SIGNATURE_MISMATCH = "signature_mismatch"
    TIMESTAMP_TOO_OLD = "timestamp_too_old"
    TIMESTAMP_TOO_NEW = "timestamp_too_new"
    MALFORMED_CHALLENGE = "malformed_challenge"


RANK = {reason: place for place, reason in enumerate(Reason)}


class Reply(Struct, frozen=True):
    """The HTTP response that the provider expects."""

    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


class Verdict(Struct, frozen=True, kw_only=True):
    """What a request is, and how that is known.

    `reason` and `detail` (for people) are set when it is rejected. `event_type` is set unless it is rejected;
    `dedup_key` names the event, the same in each redelivery, and is None where the request has no such name. `row` and
    `secret` (an index) say which way of proof and which of the secrets verified. `reply` is None for what is accepted:
    answer that once it is stored.
    """

    outcome: Outcome
    reason: Reason | None = None
    detail: str = ""
    event_type: str | None = None
    dedup_key: str | None = None
    row: str | None = None
    secret: int | None = None
    reply: Reply | None = None


class Refused(Exception):
    """A part of the request cannot be used. It never leaves this package: `verify` makes a verdict of it."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail
