"""The life of a delivery: one table of states × events, and the one function that changes `state`.

The diagram in docs/engine.md is drawn from this table.
"""

from msgspec.structs import replace

from tenterhook.model import Delivery, State

MOVES: dict[State, dict[str, State]] = {
    State.WAITING: {
        "promoted": State.DUE,
        "lapsed": State.FAILED,
        "cancelled": State.CANCELLED,
    },
    State.DUE: {
        "claimed": State.LEASED,
        "requested": State.DUE,
        "lapsed": State.FAILED,
        "cancelled": State.CANCELLED,
    },
    State.LEASED: {
        "delivered": State.DELIVERED,
        "retried": State.DUE,
        "released": State.DUE,
        "recovered": State.DUE,  # by the next start, after a death
        "claimed": State.LEASED,  # once the lease has run out
        "exhausted": State.FAILED,
        "lapsed": State.FAILED,
        "cancelled": State.CANCELLED,
    },
    State.DELIVERED: {"requested": State.DUE, "replayed": State.DUE, "queued": State.WAITING},
    State.FAILED: {"requested": State.DUE, "replayed": State.DUE, "queued": State.WAITING},
    State.CANCELLED: {"requested": State.DUE, "replayed": State.DUE, "queued": State.WAITING},
}

PENDING = (State.WAITING, State.DUE, State.LEASED)


class IllegalMove(Exception):
    """A delivery was asked to do what its state does not allow: a defect of the caller."""


def step(delivery: Delivery, event: str, *, due_at: int | None = None, lease: int = 0) -> Delivery:
    """The delivery after `event`; only DUE and LEASED keep a `due_at`. Raises IllegalMove."""
    state = MOVES[delivery.state].get(event)
    if state is None:
        raise IllegalMove(f"{delivery.state} does not allow {event}")
    return replace(delivery, state=state, due_at=due_at, lease=lease)
