"""Every error that a caller may see: one base class, a code, an HTTP status; the docstring is the message."""

from collections.abc import Sequence
from typing import ClassVar


class TenterhookError(Exception):
    """Something went wrong inside Tenterhook; the log has the details."""

    code: ClassVar[str] = "server_error"
    status: ClassVar[int] = 500

    def __init__(self, detail: str | None = None) -> None:
        self.detail = detail or (type(self).__doc__ or "").strip()
        super().__init__(self.detail)


class Invalid(TenterhookError):
    """A value is not acceptable."""

    code = "value_error"
    status = 422

    def __init__(self, detail: str, loc: tuple[str, ...] = ("body",), kind: str = "value_error") -> None:
        super().__init__(detail)
        self.loc = loc
        self.kind = kind

    def places(self) -> "list[tuple[tuple[str, ...], str, str]]":
        """What is wrong where: (loc, words, kind)."""
        return [(self.loc, self.detail, self.kind)]


class InvalidPayload(Invalid):
    """The payload does not fit the JSON Schema of its event type."""

    def __init__(self, problems: "Sequence[tuple[tuple[str, ...], str]]") -> None:
        super().__init__("; ".join(words for _, words in problems), ("body", "payload"))
        self._problems = problems

    def places(self) -> "list[tuple[tuple[str, ...], str, str]]":
        return [(("body", "payload", *place), words, self.kind) for place, words in self._problems]


class BadRequest(TenterhookError):
    """The request cannot be understood."""

    code = "generic_error"
    status = 400


class Unauthenticated(TenterhookError):
    """Send `Authorization: Bearer <token>` with a token that is valid and not revoked."""

    code = "authentication_failed"
    status = 401


class Forbidden(TenterhookError):
    """This token may not do that."""

    code = "insufficient access"
    status = 403


class MissingPayload(BadRequest):
    """The payload of this message was removed when its retention was over: it cannot be sent again."""

    code = "missing_payload"


class NotFound(TenterhookError):
    """Entity not found."""

    code = "not_found"
    status = 404


class MethodNotAllowed(TenterhookError):
    """This path exists, but not with this method."""

    code = "method_not_allowed"
    status = 405


class Conflict(TenterhookError):
    """An object with this uid exists already."""

    code = "conflict"
    status = 409


class EventTypeExists(Conflict):
    """An event type with this name exists already."""

    code = "event_type_exists"


class EndpointDisabled(Conflict):
    """The endpoint is disabled: enable it, then send again."""

    code = "endpoint_disabled"


class DeliveryInFlight(Conflict):
    """This delivery is being attempted right now: look again in a moment."""

    code = "delivery_in_flight"


class ChangedMeanwhile(Conflict):
    """Others have changed this at the same time, again and again: read it anew, then change it."""

    code = "changed_meanwhile"


class Managed(Conflict):
    """This object comes from the configuration file: change it there, then reload."""

    code = "managed_by_configuration"


class TooLarge(TenterhookError):
    """The request body is larger than the limit."""

    code = "payload_too_large"
    status = 413


class IdempotencyInProgress(TenterhookError):
    """A request with the same idempotency key is being processed: try again in a moment."""

    code = "idempotency_in_progress"
    status = 423


class IdempotencyMismatch(TenterhookError):
    """This idempotency key was used before with another body."""

    code = "idempotency_mismatch"
    status = 409


class OutdatedPlan(TenterhookError):
    """The application was changed while this was planned: plan again."""

    code = "outdated_plan"
    status = 503


class TooManyRequests(TenterhookError):
    """This token has made too many requests: wait as long as `Retry-After` says."""

    code = "rate_limited"
    status = 429

    def __init__(self, rate: int = 0, wait: int = 0) -> None:
        """`rate` is the limit per second, `wait` how long to hold back (µs)."""
        super().__init__(f"at most {rate} requests per second with this token" if rate else None)
        self.rate, self.wait = rate, wait


class Late(OutdatedPlan):
    """The database took too long to take this: send it again."""


class SignatureRefused(TenterhookError):
    """The webhook's signature does not verify."""

    code = "signature_refused"
    status = 401


class StoreUnavailable(TenterhookError):
    """The database cannot be written right now: nothing was accepted, try again."""

    code = "store_unavailable"
    status = 503


class OutcomeUnknown(StoreUnavailable):
    """The database did not answer: this may have been accepted, or not."""


class SchemaMismatch(TenterhookError):
    """The database was made by another version of Tenterhook."""

    code = "schema_mismatch"


class ConfigurationError(TenterhookError):
    """The configuration is wrong; the message names file, line and key."""

    code = "configuration_error"
