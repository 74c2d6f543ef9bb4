"""The life of a delivery: every state × every event, and the diagram of it in the docs."""

from itertools import product
from pathlib import Path

import pytest

from tenterhook.engine.lifecycle import MOVES, PENDING, IllegalMove, step
from tenterhook.model import Delivery, State

EVENTS = sorted({event for moves in MOVES.values() for event in moves})
ENDED = set(State) - set(PENDING)


def delivery(state: State) -> Delivery:
    return Delivery(message="m", endpoint="e", app="a", state=state, due_at=7, lease=3, created_at=1, expires_at=9)


def diagram() -> str:
    """The table as a mermaid state diagram: `[*]` is acceptance, and the end."""
    lines = ["stateDiagram-v2", "    [*] --> due: accepted", "    [*] --> leased: accepted, room in memory"]
    lines += ["    [*] --> waiting: accepted behind others of its line"]
    for state, moves in MOVES.items():
        targets: dict[State, list[str]] = {}
        for event, after in moves.items():
            targets.setdefault(after, []).append(event)
        lines += [f"    {state} --> {after}: {', '.join(events)}" for after, events in targets.items()]
    lines += [f"    {state} --> [*]" for state in State if state in ENDED]
    return "\n".join(lines)


@pytest.mark.parametrize(("state", "event"), list(product(State, EVENTS)))
def test_the_table_decides_every_move(state: State, event: str) -> None:
    before = delivery(state)
    if event not in MOVES[state]:
        with pytest.raises(IllegalMove, match=f"{state} does not allow {event}"):
            step(before, event)
        return
    after = step(before, event)
    assert after.state is MOVES[state][event]
    assert (after.due_at, after.lease) == (None, 0)
    assert step(before, event, due_at=5, lease=8) == Delivery(
        message="m", endpoint="e", app="a", state=after.state, due_at=5, lease=8, created_at=1, expires_at=9
    )


def test_every_state_is_in_the_table() -> None:
    assert set(MOVES) == set(State)


@pytest.mark.parametrize("state", PENDING)
def test_what_is_pending_can_always_be_cancelled_and_lapse(state: State) -> None:
    assert MOVES[state]["cancelled"] is State.CANCELLED
    assert MOVES[state]["lapsed"] is State.FAILED


@pytest.mark.parametrize("state", PENDING)
def test_what_is_pending_can_end(state: State) -> None:
    reached, fresh = set(), {state}
    while fresh:
        reached |= fresh
        fresh = {after for each in fresh for after in MOVES[each].values()} - reached
    assert reached >= ENDED


@pytest.mark.parametrize("state", sorted(ENDED))
def test_what_has_ended_moves_only_by_hand(state: State) -> None:
    assert set(MOVES[state]) == {"requested", "replayed", "queued"}


def test_the_docs_show_this_table() -> None:
    page = (Path(__file__).parent.parent / "docs" / "engine.md").read_text()
    shown = page.partition("```mermaid\n")[2].partition("\n```")[0]
    assert shown == diagram(), f"docs/engine.md should have this block:\n{diagram()}"
