"""What goes through `Store.commit`: pieces of work of the hot path, and the answer to each."""

from msgspec import Struct

from tenterhook.clock import SECOND
from tenterhook.errors import TenterhookError
from tenterhook.model import Attempt, Delivery, Health, Message, Received

WRITTEN_WITHIN = 5 * SECOND
"""How long after its id was made a message may reach a shared store: bounds how far back readers must keep clear."""


class Remember(Struct, frozen=True):
    """An idempotency key with the answer that a repeated request shall get until `expires_at`.

    It may take the place of one that had expired at `made_at`.
    """

    key: bytes
    body_hash: bytes
    status: int
    answer: bytes
    expires_at: int
    made_at: int = 0


class Remembered(Struct, frozen=True):
    """The answer that was given to an earlier request with the same idempotency key."""

    body_hash: bytes
    status: int
    answer: bytes


class Accept(Struct, frozen=True):
    """A message with the deliveries it owes, or only a received request that became none; committed together.

    `revision` is that of the application as it was when this was planned (see `Loaded`); when it has changed since, the
    answer is OutdatedPlan and nothing is written. None does not ask. `given` is the place in the batch of a settlement that
    this goes with: where that is not kept, nothing is written either. After the instant `deadline` a shared store takes no
    message that has one: the answer is Late.
    """

    message: Message | None
    deliveries: tuple[Delivery, ...] = ()
    received: Received | None = None
    remember: Remember | None = None
    revision: int | None = None
    given: int | None = None
    deadline: int | None = None

    @property
    def app(self) -> str:
        """Of which application it is; that of nothing has no name."""
        subject = self.message or self.received
        return "" if subject is None else subject.app


class Accepted(Struct, frozen=True):
    """What became of an Accept. `message` is the stored message's id, or that of the one it repeats.

    `waiting` are the endpoints where the delivery went behind others of its FIFO line. `remembered` is the earlier
    answer when the idempotency key was known: then nothing was written.
    """

    message: str | None
    duplicate: bool = False
    waiting: tuple[str, ...] = ()
    remembered: Remembered | None = None


class Settlement(Struct, frozen=True):
    """The result of an attempt, or a hand-back without one (`attempt` None).

    It is written only if the delivery still holds `lease`; the attempt is kept in any case. What has been written already,
    by a commit whose answer was lost, is answered alike and has no effect again. `health` is the record that
    the attempt made out of `before`, None leaves the record alone; other nodes may have written meanwhile, so the two
    are merged into what is stored (`engine.breaker.merged`). `disable` is a reason to switch the endpoint off.
    `next_lease` and `next_until` lease the next delivery of a FIFO line whose head has ended.
    """

    delivery: Delivery
    lease: int
    attempt: Attempt | None = None
    health: Health | None = None
    disable: str | None = None
    now: int = 0
    next_lease: int = 0
    next_until: int = 0
    before: Health = Health()


class Claim(Struct, frozen=True):
    """Lease up to `limit` deliveries of one endpoint that are due at `now`, until `until`.

    Under a `rate` (per second), or that of its application, each of them gets an instant before which it must not be sent,
    and no two nodes get the same ones; no more are leased than may be sent until `paced_until`. What was due before `since`
    is not looked for: where many have ended, their traces may still be in the way.
    """

    endpoint: str
    limit: int
    now: int
    lease: int
    until: int
    rate: int | None = None
    paced_until: int = 0
    since: int = 0


class Claimed(Struct, frozen=True):
    """A leased delivery with its message. `expired`: its last lease ended unreported, which must be settled first.

    It must not be sent before `not_before`. `changed_at` is when the endpoint was changed last (`updated_at`): whoever knows
    another state of it must load it before sending. None where nobody else could have changed it.
    """

    delivery: Delivery
    message: Message
    expired: bool = False
    not_before: int = 0
    changed_at: int | None = None


class Settled(Struct, frozen=True):
    """`kept` tells whether the lease still held. `promoted` is the next of the FIFO line, already leased.

    `health` is what is stored now, where the settlement brought a record.
    """

    kept: bool
    promoted: Claimed | None = None
    health: Health | None = None


class Page(Struct, frozen=True):
    """What a Claim found, and when the endpoint's next delivery is due (None: nothing is pending).

    `health` is the endpoint's record, where other nodes may have written it. `oldest` is the earliest due instant of what
    is pending, `next_due` not before the breaker or the rate allows an attempt. `app_rate` is the rate of the application,
    and before `app_free_at` no claim for any of its endpoints will find something: all that it allows has been given out.
    Of an endpoint that is gone, the application is not known: `oldest` is None, and `app_rate` says nothing.
    """

    claimed: tuple[Claimed, ...]
    next_due: int | None
    health: Health | None = None
    oldest: int | None = None
    app_rate: int | None = None
    app_free_at: int = 0


Work = Accept | Settlement | Claim


Done = Accepted | Settled | Page | TenterhookError
