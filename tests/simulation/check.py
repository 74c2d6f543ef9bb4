"""What a seed comes to: its broken invariants, its trace twice, and what dead neighbours do to the living."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from tenterhook.clock import SECOND
from tenterhook.model import Result
from tests.simulation.invariants import broken
from tests.simulation.loop import START, Spinning, Stuck
from tests.simulation.scenario import beside_dead_ones, scenario
from tests.simulation.world import World, run

HUNG_AFTER = 30
DEAD = 50


class Hung(KeyboardInterrupt):
    """The run did not come back; a subclass of what asyncio lets through."""


def check(seed: int) -> list[str]:
    """What does not hold in the run of a seed, as sentences."""
    try:
        with alarm():
            return broken(run(scenario(seed)))
    except (Hung, Spinning, Stuck) as error:
        return [f"comes_to_rest: {type(error).__name__}: {(type(error).__doc__ or '').strip()}"]


def check_repeats(seed: int) -> list[str]:
    """The same seed must leave the same trace."""
    with alarm():
        first, second = (run(scenario(seed)).ledger.trace for _ in range(2))
    for number, (a, b) in enumerate(zip(first, second, strict=False)):
        if a != b:
            return [f"repeats: line {number} of the trace is {a}, then {b}"]
    return [] if len(first) == len(second) else [f"repeats: {len(first)} lines, then {len(second)}"]


def check_isolation(seed: int) -> list[str]:
    """Median and 95th percentile of a healthy endpoint's delays do not depend on the dead ones beside it."""
    with alarm():
        alone, crowded = (delays(run(beside_dead_ones(seed, dead))) for dead in (0, DEAD))
    if len(alone) != len(crowded):
        return [f"isolation: {len(alone)} deliveries alone, {len(crowded)} beside {DEAD} dead endpoints"]
    wrong = []
    for percent in (50, 95):
        a, b = (values[len(values) * percent // 100] for values in (alone, crowded))
        if b > a:
            wrong.append(f"isolation: the {percent}th percentile goes from {a} to {b} µs beside {DEAD} dead endpoints")
    return wrong


def delays(world: World) -> list[int]:
    """From acceptance to success at the healthy endpoints (µs), sorted."""
    healthy = {key for key, receiver in world.scenario.receivers.items() if receiver.behaviour == "healthy"}
    return sorted(
        (send.ended or 0) - world.messages[send.message].created_at
        for send in world.ledger.sends
        if send.endpoint in healthy and send.result is Result.OK
    )


def show(seed: int) -> str:
    """The scenario and the trace of a seed, for people: times in seconds since the run began."""
    s = scenario(seed)
    world = run(s)
    lines = [repr(s.policy), repr(s.faults), f"recovers={s.recovers} memory_deliveries={s.memory_deliveries}"]
    lines += [f"{s.receivers[e.id].behaviour:10} {e}" for e in s.endpoints]
    lines += [repr(step) for step in s.script]
    lines += [f"{(int(str(at)) - START) / SECOND:12.6f} {' '.join(map(str, what))}" for at, *what in world.ledger.trace]
    lines += [f"{d.message} {d.endpoint} {d.state} attempts={d.attempts}" for d in world.deliveries.values()]
    return "\n".join(lines)


@contextmanager
def alarm() -> Iterator[None]:
    """Turn a run that never returns into Hung; only the main thread of a process can do that."""

    def ring(*_: object) -> None:
        raise Hung

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(HUNG_AFTER)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
