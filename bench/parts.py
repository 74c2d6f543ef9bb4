"""The parts of the pipeline, each alone in a process of its own, for the limit that the throughput is held against.

    python -m bench.parts accept              the publishing path but for the database and the delivery; serves until killed
    python -m bench.parts commits SECONDS     the two batched commits of a message
    python -m bench.parts post SECONDS PORT   a signed POST, 64 at once, to the receiver at PORT

`bench.throughput` starts them and reads the JSON lines that they print.
"""

import asyncio
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Coroutine, Iterator

import uvloop
from msgspec.structs import replace

from bench.load import PAYLOAD
from tenterhook import databases, serve
from tenterhook.api.app import Api
from tenterhook.clock import SECOND, SystemClock
from tenterhook.engine.committer import Committer
from tenterhook.engine.lifecycle import step
from tenterhook.http_server import http_server, listen
from tenterhook.hub import Hub, Limits
from tenterhook.ids import PREFIXES, IdMaker
from tenterhook.model import (
    Attempt,
    Delivery,
    Endpoint,
    Message,
    Outcome,
    Result,
    Secret,
    State,
    Timing,
    Trigger,
)
from tenterhook.netguard import Guard
from tenterhook.observe import Stats
from tenterhook.senders.http import HttpClient
from tenterhook.senders.webhook import WebhookSender
from tenterhook.settings import Settings, load
from tenterhook.store.work import Accept, Accepted, Settlement, Work
from tenterhook.transformations.runner import Runner

BATCH = 100
WARM_UP = 0.5
URL = "http://127.0.0.1:8000/hook"
_SWITCH_INTERVAL = 0.0005
REQUEST_HEAD = b"POST /hook HTTP/1.1\r\n" + b"x" * 400
RESPONSE_HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-type: text/plain\r\n\r\n"


def say(**values: object) -> None:
    print(json.dumps(values), flush=True)


def settings() -> Settings:
    return load({}, os.environ, {})


def cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


# accept


class AnswersAtOnce(Committer):
    """Says of every message that it repeats one: then nothing is written, and nothing delivered."""

    async def accept(self, work: Accept) -> Accepted:
        return Accepted(None if work.message is None else work.message.id, duplicate=True)


async def accept() -> None:
    """The server's own parts, with a committer that writes nothing."""
    given = settings()
    sys.setswitchinterval(_SWITCH_INTERVAL)
    async with serve.running(given) as node:
        stats = Stats()
        hub = Hub(
            node.store, AnswersAtOnce(node.store, stats), node.worker, node.catalog, node.clock, IdMaker(), stats,
            stats, given.policy(), Limits(),
        )  # fmt: skip
        api = Api(
            hub, node.registry, node.tasks, node.store, node.clock, given.admin_token, lambda: True, node.metrics,
            given.max_payload,
        )  # fmt: skip
        app = await node.registry.create_application(name="bench")
        await node.registry.create_endpoint(app.id, kind="webhook", url=URL)
        sock = listen("127.0.0.1", 0)
        say(port=sock.getsockname()[1], app=app.id)
        await http_server(api).serve([sock])


# commits


def batches(now: int, request_head: bytes) -> Iterator[tuple[list[Work], list[Work]]]:
    """Batches of messages with a delivery each, and the settlements of the same."""
    ids, policy = IdMaker(), settings().policy()
    while True:
        accepts: list[Work] = []
        settlements: list[Work] = []
        for _ in range(BATCH):
            message = Message(
                id=ids.new("msg_", now), app="app_bench", event_type="invoice.paid", payload=PAYLOAD, created_at=now
            )
            delivery = Delivery(
                message=message.id, endpoint="ep_bench", app="app_bench", state=State.LEASED, due_at=now + policy.lease,
                lease=1, created_at=now, expires_at=now + policy.lifetime,
            )  # fmt: skip
            accepts.append(Accept(message, (delivery,)))
            settlements.append(settlement(ids, delivery, now, request_head))
        yield accepts, settlements


def settlement(ids: IdMaker, delivery: Delivery, now: int, request_head: bytes) -> Settlement:
    """The delivery succeeded at the first attempt."""
    outcome = Outcome(
        result=Result.OK, status=200, url=URL, request_head=request_head, response_head=RESPONSE_HEAD,
        response_body=b"ok", timing=Timing(total=900, first_byte=800),
    )  # fmt: skip
    attempt = Attempt(
        id=ids.new(PREFIXES["attempt"], now), app=delivery.app, message=delivery.message, endpoint=delivery.endpoint,
        number=1, trigger=Trigger.SCHEDULED, started_at=now, outcome=outcome,
    )  # fmt: skip
    ended = replace(step(delivery, "delivered"), attempts=1)
    return Settlement(delivery=ended, lease=delivery.lease, attempt=attempt, now=now)


async def commits(seconds: float) -> None:
    """The wall time of both commits, per message."""
    store = await databases.open_store(settings(), exclusive=True)
    source = batches(SystemClock().now(), REQUEST_HEAD)
    warm = time.perf_counter() + WARM_UP
    spent = cpu = 0.0
    count = 0
    while spent < seconds:
        accepts, settlements = next(source)
        begun, used = time.perf_counter(), cpu_seconds()
        await store.commit(accepts)
        await store.commit(settlements)
        if begun >= warm:
            spent += time.perf_counter() - begun
            cpu += cpu_seconds() - used
            count += BATCH
    await store.close()
    say(per_second=count / spent, cpu_us=cpu / count * 1e6)


# post


async def post(seconds: float, port: int) -> None:
    """Signed POSTs through the sender of webhooks and the guarded client."""
    client = HttpClient(Guard.of_machine(serve.address_rules(settings())))
    sender, clock = WebhookSender(client, Runner(1 << 20)), SystemClock()
    endpoint = Endpoint(
        id="ep_bench", app="app_bench", url=f"http://127.0.0.1:{port}/hook", created_at=0, updated_at=0,
        secrets=(Secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),),
    )  # fmt: skip
    message = Message(
        id=IdMaker().new("msg_", clock.now()), app="app_bench", event_type="invoice.paid", payload=PAYLOAD, created_at=0
    )

    async def loop(end: float) -> int:
        count = 0
        while time.perf_counter() < end:
            outcome = await sender.send(message, endpoint, deadline=15 * SECOND, now=clock.now())
            if outcome.result is not Result.OK:
                raise RuntimeError(f"a POST failed: {outcome}")
            count += 1
        return count

    await asyncio.gather(*(loop(time.perf_counter() + WARM_UP) for _ in range(64)))
    begun, used = time.perf_counter(), cpu_seconds()
    count = sum(await asyncio.gather(*(loop(begun + seconds) for _ in range(64))))
    wall, cpu = time.perf_counter() - begun, cpu_seconds() - used
    await client.close()
    say(per_second=count / wall, cpu_us=cpu / count * 1e6)


PARTS: dict[str, Callable[..., Coroutine[None, None, None]]] = {
    "accept": accept,
    "commits": lambda seconds: commits(float(seconds)),
    "post": lambda seconds, port: post(float(seconds), int(port)),
}


if __name__ == "__main__":
    uvloop.run(PARTS[sys.argv[1]](*sys.argv[2:]))
