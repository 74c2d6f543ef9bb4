"""What must hold after every run. Each check yields one clear sentence for each thing that is wrong."""

from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise

from tenterhook.clock import SECOND, to_rfc3339
from tenterhook.engine.lane import LEASE_MARGIN
from tenterhook.model import OPERATIONAL, Attempt, Endpoint, Reason, Result, State, TaskState
from tests.simulation.loop import START
from tests.simulation.receivers import Send
from tests.simulation.world import ENDED, World

_PACE_TOLERANCE = 5_000
_WRITTEN_WITHIN = 10 * SECOND


def broken(world: World) -> list[str]:
    """Everything that does not hold, as sentences."""
    return [f"{check.__name__.removeprefix('_')}: {wrong}" for check in CHECKS for wrong in check(world)]


def _nothing_raises(world: World) -> Iterator[str]:
    """No task ended with an exception that nobody expected."""
    yield from world.defects


def _durable(world: World) -> Iterator[str]:
    """Accepted means stored, with all deliveries."""
    for message in world.accepted - world.stored:
        yield f"{message} was accepted and is not stored"
    for message in world.stored:
        for endpoint in world.planned[message]:
            if (message, endpoint) not in world.deliveries:
                yield f"{message} is stored without its delivery to {endpoint}"


def _refused_is_never_sent(world: World) -> Iterator[str]:
    for send in world.ledger.sends:
        if send.message not in world.stored:
            yield f"{send.message} was sent to {send.endpoint} but never stored"
    for message in world.written.refused & (world.stored | world.accepted):
        yield f"{message} was refused and is there"
    for message, endpoint in world.deliveries:
        if message not in world.stored:
            yield f"a delivery to {endpoint} without its message {message}"


def _every_delivery_ends(world: World) -> Iterator[str]:
    """By the end of its lifetime; where nobody may send any more, a lease that faults left behind may stay."""
    left = 0
    may_stay = world.ever_disabled | world.deleted if world.scenario.faults.any or not world.scenario.recovers else ()
    for line, delivery in world.deliveries.items():
        if delivery.state in ENDED:
            continue
        if delivery.state is State.LEASED and line[1] in may_stay:
            left += 1
            continue
        yield f"{line} is still {delivery.state} at {to_rfc3339(world.clock.now())}, due {delivery.due_at}"
    if world.idle_at is None and not left:
        yield "the engine did not come to rest within the lifetime"


def _every_task_ends(world: World) -> Iterator[str]:
    """It is finished, or its endpoint was deleted meanwhile."""
    for task in world.tasks:
        gone = task.parameters["endpoint"] in world.deleted
        if task.state is TaskState.RUNNING or (task.state is TaskState.FAILED and not gone):
            yield f"{task} has not come to its end"


def _what_happened_is_told(world: World) -> Iterator[str]:
    """Operational webhooks say what became of deliveries, no more and no less, whatever dies in between."""
    if not world.scenario.told:
        if world.told:
            yield f"{len(world.told)} notices, and nobody listens"
        return
    for signal in world.signals:
        if (
            signal.app != OPERATIONAL
            and signal.endpoint not in world.deleted
            and (signal.kind, signal.endpoint, signal.message) not in world.told
        ):
            yield f"{signal} was never told"
    for (message, endpoint), delivery in world.deliveries.items():
        count = world.told.get(("message.attempt.exhausted", endpoint, message), 0)
        if count > 1 + world.replayed.get((message, endpoint), 0) + world.manual.get((message, endpoint), 0):
            yield f"the end of {message} for {endpoint} was told {count} times"
        if endpoint not in world.deleted and delivery.state is State.FAILED and not count:
            yield f"{message} has failed for {endpoint}, which was never told"
        if delivery.state is not State.FAILED and count and not world.touched.get((message, endpoint)):
            yield f"it was told that {message} has failed for {endpoint}, but it is {delivery.state}"
    ended = sum(task.state is not TaskState.RUNNING for task in world.tasks)
    if world.told.get(("background_task.finished", None, None), 0) != ended:
        yield f"{ended} tasks have ended, and {world.told} was told"


def _state_agrees_with_receivers(world: World) -> Iterator[str]:
    """Delivered: the receiver said so at least once. Failed: it did not, as far as we could know."""
    accepted = {(s.message, s.endpoint) for s in world.ledger.sends if s.result is Result.OK}
    kept = {(a.message, a.endpoint) for a in world.attempts if a.outcome.result is Result.OK}
    for line, delivery in world.deliveries.items():
        if delivery.state is State.DELIVERED and line not in accepted:
            yield f"{line} is delivered, but its receiver never accepted it"
        if delivery.state is State.DELIVERED and line not in kept:
            yield f"{line} is delivered without a recorded attempt that says so"


def _sends_are_recorded(world: World) -> Iterator[str]:
    """Each send is an attempt, once, unless its process died."""
    recorded: dict[str, Attempt] = {}
    for attempt in world.attempts:
        if attempt.outcome.result is Result.UNKNOWN or attempt.outcome.reason is Reason.INTERNAL:
            continue
        if attempt.outcome.detail in recorded:
            yield f"send {attempt.outcome.detail} is recorded twice"
        recorded[attempt.outcome.detail] = attempt
    broken_ones = {(a.message, a.endpoint, a.started_at) for a in world.attempts if a.outcome.reason is Reason.INTERNAL}
    for send in world.ledger.sends:
        found = recorded.pop(str(send.number), None)
        if found is not None:
            if (found.message, found.endpoint, found.started_at) != (send.message, send.endpoint, send.started):
                yield f"send {send.number} is recorded as another one: {found}"
        elif (send.message, send.endpoint, send.started) not in broken_ones and not _excused(world, send):
            yield f"{send} is not recorded as an attempt"
    for detail in recorded:
        yield f"an attempt is recorded for send {detail}, which no receiver saw"


def _excused(world: World, send: Send) -> bool:
    """Whether the attempt may be missing: its process died before it could write it."""
    died = world.died_at.get(send.process)
    if died is None or send.ended is None:
        return died is not None
    patience = send.ended + _WRITTEN_WITHIN
    for begin, end in sorted(world.scenario.faults.outages):
        if begin <= patience:
            patience = max(patience, end + _WRITTEN_WITHIN)
    return died <= patience


def _unknown_has_a_cause(world: World) -> Iterator[str]:
    """A lease runs out only where something went wrong, or a receiver outlasted it."""
    if world.scenario.faults.any or world.died_at:
        return
    for attempt in world.attempts:
        outlasted = world.scenario.receivers[attempt.endpoint].behaviour == "outlasting"
        if attempt.outcome.result is Result.UNKNOWN and not outlasted:
            yield f"the lease of {attempt.message} for {attempt.endpoint} ran out for no reason"


def _schedule_is_kept(world: World) -> Iterator[str]:
    """No more sends than the schedule allows, plus one per manual try and a schedule per replay."""
    sends = _by_line(world)
    endpoints = {e.id: e for e in world.scenario.endpoints}
    for line, delivery in world.deliveries.items():
        schedule = _schedule(world, endpoints[line[1]])
        most = (len(schedule) + 1) * (1 + world.replayed.get(line, 0)) + world.manual.get(line, 0)
        for name, count in (("sends", len(sends[line])), ("attempts", delivery.attempts)):
            if count > most:
                yield f"{line} has {count} {name}, its schedule allows {most}"


def _no_early_retry(world: World) -> Iterator[str]:
    """Between two sends of a delivery lies its lease or its wait, unless somebody asked by hand."""
    endpoints = {e.id: e for e in world.scenario.endpoints}
    for line, sends in _by_line(world).items():
        endpoint = endpoints[line[1]]
        wait = min(_schedule(world, endpoint), default=0)
        touched, since = world.touched.get(line, ()), 0
        for first, second in pairwise(sends):
            # a manual try leaves the planned one where it was, so what was asked before `first` counts too
            asked = any(since <= end and begin <= second.started for begin, end in touched)
            since = first.started
            if asked:
                continue
            over = _over(world, first, endpoint)
            if second.started < over:
                yield f"{line} is sent twice at once: {first} and {second}"
            elif second.started < over + wait:
                yield f"{line} is sent again {second.started - over} µs after {over}, its schedule says {wait}"


def _over(world: World, send: Send, endpoint: Endpoint) -> int:
    """The earliest instant at which anybody may take a send for over."""
    policy = world.scenario.policy
    deadline = min(endpoint.timeout or policy.timeout, policy.lease - 2 * LEASE_MARGIN)
    lease_end = send.started + deadline + LEASE_MARGIN
    ends = [lease_end, send.ended if send.ended is not None else lease_end]
    if send.process in world.died_at:
        ends.append(max(send.started, world.died_at[send.process]))
    return min(ends)


def _lines_keep_their_order(world: World) -> Iterator[str]:
    """FIFO: the first send of a message follows the end of the one before it in its line."""
    lines: dict[tuple[str, str], list[tuple[str, list[Send]]]] = defaultdict(list)
    endpoints = {e.id: e for e in world.scenario.endpoints}
    for (message, endpoint), sends in _by_line(world).items():
        if endpoints[endpoint].ordered:
            lines[endpoint, world.messages[message].order_key or ""].append((message, sends))
    for (endpoint, key), members in lines.items():
        members.sort()
        for (a, before), (b, after) in pairwise(members):
            if world.touched.get((a, endpoint)) or world.touched.get((b, endpoint)):
                continue
            if before[-1].started > after[0].started:
                yield f"line {key!r} of {endpoint}: {a} is sent after {b} has begun"
            elif after[0].started < _over(world, before[-1], endpoints[endpoint]):
                yield f"line {key!r} of {endpoint}: {b} begins before {a} has ended"


def _concurrency_is_kept(world: World) -> Iterator[str]:
    policy = world.scenario.policy
    caps = {e.id: e.concurrency or policy.concurrency for e in world.scenario.endpoints}
    changes = []
    for send in world.ledger.sends:
        end = send.ended if send.ended is not None else world.died_at.get(send.process, world.clock.now())
        changes += [(send.started, 1, send), (end, -1, send)]
    running: dict[object, int] = defaultdict(int)
    # what ends at an instant makes room for what starts in it; an instantaneous send counts for nothing
    for instant, change, send in sorted(changes, key=lambda c: (c[0], c[1])):
        for key, cap in (
            ((send.process, send.endpoint), caps[send.endpoint]),
            (send.process, policy.global_concurrency),
        ):
            running[key] += change
            if running[key] > cap:
                yield f"{running[key]} sends at once for {key} at {to_rfc3339(instant)}, its cap is {cap}"


def _rates_are_kept(world: World) -> Iterator[str]:
    """At most rate + 1 starts in any second, per process: the pace is even, with 5 ms of tolerance."""
    for endpoint in world.scenario.endpoints:
        rate = endpoint.rate_limit
        if rate is None:
            continue
        starts: dict[int, list[int]] = defaultdict(list)
        for send in world.ledger.sends:
            if send.endpoint == endpoint.id:
                starts[send.process].append(send.started)
        for process, times in starts.items():
            for first, last in zip(times, times[rate:]):
                if last - first < rate * (SECOND // rate) - _PACE_TOLERANCE:
                    yield f"{endpoint.id}: {rate + 1} starts within {last - first} µs by process {process}"


def _throttles_are_kept(world: World) -> Iterator[str]:
    """The same for all endpoints of an application together, between the changes of its rate."""
    starts: dict[int, list[int]] = defaultdict(list)
    for send in world.ledger.sends:
        starts[send.process].append(send.started)
    ends = [begin for begin, _ in world.rates[1:]] + [world.clock.now() + 1]
    for (begin, rate), end in zip(world.rates, ends, strict=True):
        for process, times in starts.items() if rate is not None else ():
            inside = [at for at in times if begin <= at < end]
            for first, last in zip(inside, inside[rate:]):
                if last - first < rate * (SECOND // rate) - _PACE_TOLERANCE:
                    yield f"the application: {rate + 1} starts within {last - first} µs by process {process}"


def _rest_is_quiet(world: World) -> Iterator[str]:
    """The worker wakes up for reasons: its rounds are bounded by what happened."""
    happened = len(world.ledger.trace) + world.written.commits + world.written.failures
    passed = max(1, (world.clock.now() - START) // world.scenario.upkeep + 1)
    for name, count, most in (
        ("rounds", sum(node.worker.rests for node in world.nodes), 20 + 3 * happened),
        ("empty claims", world.written.empty_claims, 20 + happened // 2 + passed * len(world.scenario.endpoints)),
    ):
        if count > most:
            yield f"{count} {name} for {happened} things that happened"


def _schedule(world: World, endpoint: Endpoint) -> tuple[int, ...]:
    policy = world.scenario.policy
    return policy.retry_schedule if endpoint.retry_schedule is None else endpoint.retry_schedule


def _by_line(world: World) -> dict[tuple[str, str], list[Send]]:
    lines: dict[tuple[str, str], list[Send]] = defaultdict(list)
    for send in world.ledger.sends:
        lines[send.message, send.endpoint].append(send)
    return lines


CHECKS = (
    _nothing_raises,
    _durable,
    _refused_is_never_sent,
    _every_delivery_ends,
    _every_task_ends,
    _what_happened_is_told,
    _state_agrees_with_receivers,
    _sends_are_recorded,
    _unknown_has_a_cause,
    _schedule_is_kept,
    _no_early_retry,
    _lines_keep_their_order,
    _concurrency_is_kept,
    _rates_are_kept,
    _throttles_are_kept,
    _rest_is_quiet,
)
