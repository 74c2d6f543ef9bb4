"""What a seed means: a policy, endpoints with their receivers, and a script of what happens when. Pure."""

from dataclasses import dataclass
from random import Random

from tenterhook.clock import MINUTE, SECOND
from tenterhook.model import Endpoint, Policy
from tests.simulation.faults import Faults
from tests.simulation.loop import START
from tests.simulation.receivers import BEHAVIOURS, Receiver

_COMMON = ("healthy", "healthy", "healthy", "instant", *BEHAVIOURS)
APP = "app_1"


@dataclass
class Step:
    """One thing that happens at `at` (µs UTC); `what` names an action of the world."""

    at: int
    what: str
    target: str = ""
    key: str | None = None


@dataclass
class Scenario:
    """Everything that a run depends on. `told` says whether an operational webhook hears of everything; `throttle` is the
    rate of the application."""

    seed: int
    policy: Policy
    endpoints: list[Endpoint]
    receivers: dict[str, Receiver]
    faults: Faults
    script: list[Step]
    recovers: bool = True
    memory_deliveries: int = 10_000
    upkeep: int = MINUTE
    told: bool = False
    throttle: int | None = None


def _policy(rng: Random) -> Policy:
    timeout = rng.choice([2, 5, 15]) * SECOND
    waits = sorted(rng.choice([1, 2, 5, 10, 30, 60, 120]) for _ in range(rng.randint(1, 4)))
    return Policy(
        retry_schedule=tuple(wait * SECOND for wait in waits),
        lifetime=rng.choice([3, 10, 15]) * MINUTE,
        timeout=timeout,
        lease=timeout + rng.choice([4, 10, 45]) * SECOND,
        concurrency=rng.choice([1, 2, 4, 16, 64]),
        global_concurrency=rng.choice([2, 4, 8, 64, 1_000]),
        retry_after_cap=rng.choice([10 * SECOND, 2 * MINUTE]),
        breaker_failures=rng.choice([2, 4, 8]),
        breaker_open=rng.choice([2, 5]) * SECOND,
        breaker_open_cap=rng.choice([30, 120]) * SECOND,
        disable_after=rng.choice([5 * MINUTE, 10 * MINUTE, 120 * MINUTE]),
    )


def _endpoint(number: int, rng: Random) -> Endpoint:
    plain = rng.random() < 0.5
    return Endpoint(
        id=f"ep_{number:03}",
        app=APP,
        url=f"https://{number}.example/",
        ordered=rng.random() < 0.35,
        rate_limit=None if plain else rng.choice([None, 1, 2, 10, 500]),
        concurrency=None if plain else rng.choice([None, 1, 2, 5]),
        retry_schedule=None if plain else rng.choice([None, (), (SECOND, SECOND), (30 * SECOND,)]),
        lifetime=None if plain else rng.choice([None, 20 * SECOND, 5 * MINUTE]),
        timeout=None if plain else rng.choice([None, SECOND, 3 * SECOND, 3_600 * SECOND]),
        created_at=START,
        updated_at=START,
    )


def _receiver(rng: Random, policy: Policy, seed: int, number: int) -> Receiver:
    heals = rng.choice([None, START + rng.randint(10, 300) * SECOND])
    return Receiver(
        rng.choice(_COMMON), Random(f"{seed}/{number}"), policy, period=rng.choice([3, 30, 90]) * SECOND, heals_at=heals
    )


def _faults(rng: Random, end: int) -> Faults:
    if rng.random() < 0.4:
        return Faults(slow=rng.random() < 0.5)
    outages = []
    for _ in range(rng.choice([0, 0, 1, 2])):
        begin = START + rng.randint(0, end)
        outages.append((begin, begin + rng.choice([SECOND // 10, SECOND, 20 * SECOND, 150 * SECOND])))
    return Faults(rng.choice([0.0, 0.02, 0.15]), rng.choice([0.0, 0.0, 0.02, 0.1]), rng.random() < 0.6, outages)


def _publishing(rng: Random, end: int, count: int, keys: list[str | None]) -> list[Step]:
    """Messages one by one, or in bursts."""
    steps = []
    while len(steps) < count:
        at = START + rng.randint(0, end)
        burst = rng.choice([1, 1, 1, 2, 5, 20])
        gap = rng.choice([0, 0, 1_000, 100_000])
        steps += [Step(at + n * gap, "publish", key=rng.choice(keys)) for n in range(burst)]
    return steps[:count]


def _interference(rng: Random, end: int, endpoints: list[Endpoint]) -> list[Step]:
    """What people do in the middle."""
    steps = []
    for _ in range(rng.choice([0, 0, 1, 3, 6])):
        what = rng.choice(["retry", "retry", "replay", "disable", "enable", "delete", "reconfigure", "cancel"])
        steps.append(Step(START + rng.randint(0, end), what, rng.choice(endpoints).id))
        if what == "disable" and rng.random() < 0.8:
            steps.append(Step(steps[-1].at + rng.randint(1, 60) * SECOND, "enable", steps[-1].target))
    return steps


def _deaths(rng: Random, end: int) -> list[Step]:
    return [
        Step(START + rng.randint(0, end), rng.choice(["die", "die", "die", "restart"]))
        for _ in range(rng.choice([0, 0, 0, 1, 1, 2, 4]))
    ]


def _throttling(rng: Random, end: int) -> tuple[int | None, list[Step]]:
    """The rate of the application, and who changes it in the middle."""
    if rng.random() < 0.6:
        return None, []
    rates = [None, 1, 2, 5, 20, 300]
    changes = [
        Step(START + rng.randint(0, end), "throttle", str(rng.choice(rates) or ""))
        for _ in range(rng.choice([0, 0, 1, 3]))
    ]
    return rng.choice(rates), changes


def scenario(seed: int) -> Scenario:
    """The scenario of a seed; most are small, one in twenty is not."""
    rng = Random(seed)
    large = rng.random() < 0.05
    policy = _policy(rng)
    end = rng.choice([2, 30, 120]) * SECOND
    endpoints = [_endpoint(n, rng) for n in range(rng.randint(5, 12) if large else rng.randint(1, 3))]
    keys: list[str | None] = rng.choice([[None], ["a", "b", "c"], [None, "a"]])
    script = _publishing(rng, end, rng.randint(30, 150) if large else rng.randint(1, 12), keys)
    faults = _faults(rng, end)
    script += _interference(rng, end, endpoints) + _deaths(rng, end)
    throttle, changes = _throttling(Random(f"{seed}/throttle"), end)
    script += changes
    return Scenario(
        seed=seed,
        policy=policy,
        endpoints=endpoints,
        receivers={e.id: _receiver(rng, policy, seed, n) for n, e in enumerate(endpoints)},
        faults=faults,
        script=sorted(script, key=lambda step: step.at),
        recovers=rng.random() < 0.6,
        memory_deliveries=rng.choice([10_000, 10_000, 10_000, 5, 2, 0]),
        told=rng.random() < 0.5,
        throttle=throttle,
    )


def beside_dead_ones(seed: int, dead: int) -> Scenario:
    """Two healthy endpoints, and `dead` others of which every second one hangs; the script is the same for any number."""
    rng = Random(seed)
    policy = Policy(retry_schedule=(5 * SECOND, 30 * SECOND), lifetime=2 * MINUTE)
    script = _publishing(rng, 30 * SECOND, 60, [None])
    behaviours = ["healthy", "healthy"] + [("dead", "hanging")[n % 2] for n in range(dead)]
    endpoints = [
        Endpoint(id=f"ep_{n:03}", app=APP, url=f"https://{n}.example/", created_at=START, updated_at=START)
        for n in range(len(behaviours))
    ]
    return Scenario(
        seed=seed,
        policy=policy,
        endpoints=endpoints,
        receivers={
            e.id: Receiver(b, Random(f"{seed}/{e.id}"), policy) for e, b in zip(endpoints, behaviours, strict=True)
        },
        faults=Faults(),
        script=sorted(script, key=lambda step: step.at),
    )
