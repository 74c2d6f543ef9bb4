"""The demonstration: a real GitHub delivery becomes a Slack message and a signed webhook, every step checked and shown."""

import asyncio
import secrets
import signal
import time
from contextlib import AsyncExitStack
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory

import uvloop
from msgspec import Struct

from tenterhook import logs, providers, receive, signing
from tenterhook.apply import apply
from tenterhook.clock import SECOND, until
from tenterhook.config import DEFAULT_APPLICATION, parse
from tenterhook.demo.receivers import SignedReceiver, SlackStandIn, listening
from tenterhook.demo.trail import Trail
from tenterhook.errors import ConfigurationError, TenterhookError
from tenterhook.model import Attempt, Delivery, Message, Received, Request, Source
from tenterhook.observe import Instrument
from tenterhook.remote import Answer, call
from tenterhook.serve import Node, running
from tenterhook.settings import Settings, load
from tenterhook.store.queries import Cursor

PORT = 8071
PATIENCE = 15 * SECOND
"""How long the deliveries may take before the demonstration has failed."""

GITHUB_EVENT = "issues"
GITHUB_DELIVERY = "72d3162e-cc78-11e3-81ab-4c9367dc0958"
SLACK_PATH = "/services/T00000000/B00000000/XXXXXXXXXXXXXXXXXXXXXXXX"

CONFIGURATION = """\
[[source]]
name = "github"
provider = "github"
secret = "env:GITHUB_SECRET"

[[endpoint]]
name = "team-chat"
kind = "slack"
url = "{slack}"
event_types = ["github.issues.*"]

[[endpoint]]
name = "archive"
url = "{archive}"
secret = "env:ARCHIVE_SECRET"
"""


class DemoFailed(Exception):
    """A step of the demonstration did not happen; the text says which."""


class Watch(Instrument):
    """Wakes who waits for attempts, and tells the trail of later ones."""

    def __init__(self) -> None:
        self.attempts: list[tuple[Delivery, Attempt]] = []
        self.changed = asyncio.Event()
        self.trail: Trail | None = None

    def attempt_settled(self, delivery: Delivery, attempt: Attempt, kept: bool) -> None:
        self.attempts.append((delivery, attempt))
        self.changed.set()
        if self.trail is not None:
            self.trail.later(delivery, attempt)


class Stage(Struct, frozen=True):
    """What the demonstration works with."""

    node: Node
    url: str
    watch: Watch
    slack: SlackStandIn
    archive: SignedReceiver
    github_secret: str
    trail: Trail


def run(keep: bool) -> int:
    """The demonstration; `keep` leaves the server running until Ctrl-C. The exit code."""
    logs.configure("warning", "text")
    trail = Trail()
    try:
        uvloop.run(_demo(keep, trail))
    except (DemoFailed, TenterhookError) as error:
        trail.failed(str(error))
        return 1
    return 0


async def _demo(keep: bool, trail: Trail) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="tenterhook-demo-")))
        stage = await _stage(stack, folder, trail)
        await _show(stage)
        if keep:
            stage.watch.trail = trail
            trail.stays()
            await stop.wait()


async def _stage(stack: AsyncExitStack, folder: Path, trail: Trail) -> Stage:
    """Start the receivers and the server, and configure it."""
    github_secret = secrets.token_urlsafe(24)
    archive_secret = signing.generate_secret(secrets.token_bytes)
    slack, archive, watch = SlackStandIn(), SignedReceiver(archive_secret), Watch()
    slack_url = await stack.enter_async_context(listening(slack))
    archive_url = await stack.enter_async_context(listening(archive))
    settings = _settings(folder)
    node = await stack.enter_async_context(running(settings, watch=watch))
    url = await _listening_somewhere(stack, node)
    text = CONFIGURATION.format(slack=slack_url + SLACK_PATH, archive=archive_url + "/hooks")
    environ = {"GITHUB_SECRET": github_secret, "ARCHIVE_SECRET": archive_secret}
    changes = await apply(parse(text, "tenterhook.toml", environ), node.registry, node.store, node.clock.now())
    if len(changes.created) != 4:
        raise DemoFailed(f"the configuration was applied otherwise than expected: {changes}")
    trail.begin(url, settings, text)
    return Stage(node, url, watch, slack, archive, github_secret, trail)


def _settings(folder: Path) -> Settings:
    return load(
        {},
        {},
        {
            "database": f"sqlite:///{folder / 'demo.db'}",
            "allow_networks": "127.0.0.0/8",
            "admin_token": "demo_" + secrets.token_urlsafe(12),
            "log_level": "warning",
        },
    )


async def _listening_somewhere(stack: AsyncExitStack, node: Node) -> str:
    """On the usual port, or on a free one if that is in use."""
    try:
        return await stack.enter_async_context(listening(node.api, PORT))
    except ConfigurationError:
        return await stack.enter_async_context(listening(node.api))


def github_delivery(path: str, secret: str, now: int) -> Request:
    """The request that GitHub sends when an issue is opened, signed as GitHub signs."""
    body = (files("tenterhook") / "data" / "github" / "issues.opened.payload.json").read_bytes()
    headers = {
        "Accept": "*/*",
        "User-Agent": "GitHub-Hookshot/044aadd",
        "X-GitHub-Delivery": GITHUB_DELIVERY,
        "X-GitHub-Event": GITHUB_EVENT,
        "Content-Type": "application/json",
    }
    lines = tuple((name.encode(), value.encode()) for name, value in headers.items())
    request = Request(method="POST", path=path, query=b"", headers=lines, body=body)
    return receive.sign(providers.load("github"), request, secret, now=now)


async def _show(stage: Stage) -> None:
    """Deliver, and check and print each step. Raises DemoFailed."""
    node, trail = stage.node, stage.trail
    app = (await node.registry.application(DEFAULT_APPLICATION)).id
    source = await node.registry.source(app, "github")
    delivery = github_delivery(f"/in/{source.token}", stage.github_secret, node.clock.now())
    answer, seconds = await asyncio.to_thread(_post, stage.url, delivery)
    trail.sent(delivery, answer, seconds)
    received, message = await _accepted(node, source, delivery, answer)
    trail.accepted(received, message, await node.store.list_deliveries(app, message.id))
    await _delivered(stage.watch, 2)
    names = {endpoint.id: endpoint for endpoint, _ in await node.store.load_endpoints(app)}
    attempts = await node.store.list_attempts(app, Cursor(limit=10), message=message.id)
    trail.attempts(attempts, names, message)
    _arrived(stage, delivery, message)
    trail.arrived(stage.slack.text(), *stage.archive.received[-1])
    trail.next_steps(stage.url, str(node.settings.admin_token), delivery, message)


def _post(url: str, request: Request) -> tuple[Answer, float]:
    """The answer, and how long it took (s), by the sender's own watch: the loop of this process is busy delivering."""
    headers = {name.decode(): value.decode() for name, value in request.headers}
    started = time.perf_counter()
    answer = call(url, request.method, request.path, headers=headers, body=request.body)
    return answer, time.perf_counter() - started


async def _accepted(node: Node, source: Source, sent: Request, answer: Answer) -> tuple[Received, Message]:
    """What the server stored of the delivery: the request byte for byte, and the message that it became."""
    if answer.status != 200:
        raise DemoFailed(f"the source refused the delivery: {answer.problem()}")
    page = await node.store.list_received(source.app, source.id, Cursor(limit=1, descending=True))
    if not page or page[0].verdict != "accepted" or page[0].message is None:
        raise DemoFailed("the source has not recorded the delivery as accepted")
    received = await node.store.get_received(source.app, source.id, page[0].id)
    message = await node.store.get_message(source.app, page[0].message)
    if received is None or message is None or received.request.body != sent.body or message.payload != sent.body:
        raise DemoFailed("what is stored is not what was sent")
    if message.event_type != "github.issues.opened":
        raise DemoFailed(f"the event type is {message.event_type}")
    return received, message


async def _delivered(watch: Watch, count: int) -> None:
    """Wait until so many deliveries have ended well. Raises DemoFailed for an attempt that failed, and for silence."""
    while len(watch.attempts) < count:
        watch.changed.clear()
        if not await until(watch.changed, PATIENCE):
            raise DemoFailed(f"only {len(watch.attempts)} of {count} deliveries were attempted")
    for delivery, attempt in watch.attempts:
        if delivery.state != "delivered":
            outcome = attempt.outcome
            said = outcome.detail or outcome.response_body[:200].decode("utf-8", "replace")
            raise DemoFailed(f"the attempt at {outcome.url} failed: {outcome.status} {outcome.reason} {said}")


def _arrived(stage: Stage, sent: Request, message: Message) -> None:
    """That both receivers have what they should. Raises DemoFailed."""
    if len(stage.slack.received) != 1 or "Spelling error in the README file" not in stage.slack.text():
        raise DemoFailed("the stand-in for Slack has no message with the title of the issue")
    if len(stage.archive.received) != 1:
        raise DemoFailed("the receiver has verified no webhook")
    headers, body = stage.archive.received[0]
    if body != sent.body or headers.get("webhook-id") != message.id:
        raise DemoFailed("the webhook has another body or id than the message")
