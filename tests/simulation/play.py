"""Small scenes for single tests: endpoints that answer by a list, a script in seconds, and the world that came of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

from tenterhook.clock import MILLISECOND, SECOND
from tenterhook.model import Endpoint, Message, Outcome, Policy, Reason, Result
from tests.simulation.faults import Faults
from tests.simulation.loop import START
from tests.simulation.receivers import Receiver, Send
from tests.simulation.scenario import APP, Scenario, Step
from tests.simulation.world import World, run

OK = Outcome(result=Result.OK, status=200)
FAILED = Outcome(result=Result.RETRY, status=500)
GONE = Outcome(result=Result.GONE, status=410)
TIMEOUT = Outcome(result=Result.RETRY, reason=Reason.TIMEOUT)

Answer = tuple[int, Outcome]


@dataclass
class Scripted(Receiver):
    """Answers with the list, one after the other (span in µs, outcome), and with its last one from then on."""

    answers: list[Answer] = field(default_factory=lambda: [(10 * MILLISECOND, OK)])

    def answer(self, now: int, deadline: int) -> Answer:
        self.seen += 1
        return self.answers[min(self.seen, len(self.answers)) - 1]


def endpoint(number: int = 0, **changes: object) -> Endpoint:
    fields = {
        "id": f"ep_{number}",
        "app": APP,
        "url": f"https://{number}.example/",
        "created_at": START,
        "updated_at": START,
    }
    return Endpoint(**fields | changes)


def play(
    endpoints: Sequence[Endpoint],
    answers: Sequence[list[Answer]],
    script: Sequence[tuple[float, str] | tuple[float, str, str]],
    *,
    faults: Faults | None = None,
    recovers: bool = True,
    memory_deliveries: int = 10_000,
    upkeep: int = 3_600 * SECOND,
    throttle: int | None = None,
    **policy: object,
) -> World:
    """Run a scene: the script says (second, what) or (second, what, endpoint, FIFO key or rate); upkeep is far away."""
    rules = Policy(**policy)
    return run(
        Scenario(
            seed=1,
            policy=rules,
            endpoints=list(endpoints),
            receivers={
                e.id: Scripted("scripted", Random(1), rules, answers=given)
                for e, given in zip(endpoints, answers, strict=True)
            },
            faults=faults or Faults(),
            script=[_step(*line) for line in script],
            recovers=recovers,
            memory_deliveries=memory_deliveries,
            upkeep=upkeep,
            throttle=throttle,
        )
    )


def _step(second: float, what: str, target: str = "") -> Step:
    at = START + round(second * SECOND)
    return Step(at, what, key=target or None) if what == "publish" else Step(at, what, target)


def seconds(instant: int) -> float:
    """An instant as seconds since the scene began."""
    return (instant - START) / SECOND


def sends(world: World, endpoint: str = "ep_0", message: Message | None = None) -> list[Send]:
    """What one receiver saw."""
    return [s for s in world.ledger.sends if s.endpoint == endpoint and (message is None or s.message == message.id)]


def all_starts(world: World) -> list[float]:
    """When the requests of all receivers began, in order."""
    return sorted(seconds(send.started) for send in world.ledger.sends)


def starts(world: World, endpoint: str = "ep_0") -> list[float]:
    """When its requests began, in seconds since the scene began."""
    return [seconds(send.started) for send in sends(world, endpoint)]
