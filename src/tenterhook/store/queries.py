"""What lists, searches and counts are asked for, and what they find."""

from typing import Generic, TypeVar

from msgspec import Struct
from msgspec.structs import astuple

from tenterhook.model import State

T = TypeVar("T")


class Cursor(Struct, frozen=True, kw_only=True):
    """A page of a list: `limit` items after `after` in list order, or before it where `backward`.

    `since` and `until` are bounds on creation (µs UTC; since included, until not).
    """

    limit: int
    after: str | None = None
    backward: bool = False
    descending: bool = False
    since: int | None = None
    until: int | None = None


class ApplicationFilter(Struct, frozen=True, kw_only=True):
    """Which applications to find: those with an endpoint, with one that is enabled if they have any, with one whose URL does
    not begin with `only_at` if they have any."""

    some: bool = False
    enabled: bool = False
    only_at: str | None = None


ANY_APPLICATION = ApplicationFilter()


class MessageFilter(Struct, frozen=True, kw_only=True):
    """Which messages to find: of one of the event types (none: of any), with this channel and this tag."""

    event_types: tuple[str, ...] = ()
    channel: str | None = None
    tag: str | None = None


ANY_MESSAGE = MessageFilter()


class AttemptFilter(Struct, frozen=True, kw_only=True):
    """Which attempts to find: those that succeeded or not, were cancelled or not, were answered with a status in a range, of such
    messages.

    `statuses` is the lowest and the first beyond.
    """

    ok: bool | None = None
    cancelled: bool | None = None
    statuses: tuple[int, int] | None = None
    of: MessageFilter = ANY_MESSAGE


ANY_ATTEMPT = AttemptFilter()


class DeliveryFilter(Struct, frozen=True, kw_only=True):
    """Which messages at an endpoint to find: those whose delivery stands in one of the states (none: in any).

    `tried` tells those that were attempted from those that were not, None takes both.
    """

    states: tuple[State, ...] = ()
    tried: bool | None = None
    of: MessageFilter = ANY_MESSAGE


class Found(Struct, Generic[T], frozen=True):
    """What a search found. It looks at so many items at most; `behind` is where it stopped for that, to be gone on from."""

    items: list[T]
    behind: str | None = None


class DeliveryCounts(Struct, frozen=True):
    """Deliveries by how they stand: of the pending ones, those that were not tried yet and those that were."""

    delivered: int = 0
    failed: int = 0
    cancelled: int = 0
    untried: int = 0
    retrying: int = 0

    def plus(self, other: "DeliveryCounts") -> "DeliveryCounts":
        return DeliveryCounts(*(a + b for a, b in zip(astuple(self), astuple(other))))


class Counts(Struct, frozen=True):
    """How much is stored, by state of the delivery; `oldest_due` is the earliest due instant of a pending one."""

    pending: int
    oldest_due: int | None
