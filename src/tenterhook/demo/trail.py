"""What the demonstration prints."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.text import Text

from tenterhook.clock import MILLISECOND, SECOND, to_rfc3339
from tenterhook.model import Attempt, Delivery, Endpoint, Message, Received, Request
from tenterhook.remote import Answer
from tenterhook.settings import Settings

SIGNED_HEADERS = ("webhook-id", "webhook-timestamp", "webhook-signature")


def span(microseconds: float) -> str:
    """840 → `840 µs`, 4_100 → `4.1 ms`, 2_500_000 → `2.5 s`."""
    if microseconds < MILLISECOND:
        return f"{microseconds:.0f} µs"
    return f"{microseconds / MILLISECOND:.1f} ms" if microseconds < SECOND else f"{microseconds / SECOND:.1f} s"


def from_here(path: Path) -> str:
    """A path as one writes it in the current folder."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def command_name() -> str:
    """How this installation's command is called from the current folder."""
    program = Path(sys.executable).with_name("tenterhook")
    return from_here(program) if program.exists() else f"{sys.executable} -m tenterhook"


class Trail:
    """Writes to standard output, step by step."""

    def __init__(self) -> None:
        self._console = Console(highlight=False)
        self._names: dict[str, str] = {}

    def _step(self, name: str, text: str) -> None:
        self._console.print(f"[bold cyan]{name:<11}[/] {text}", soft_wrap=True)

    def _more(self, text: str) -> None:
        self._console.print(" " * 12 + text, soft_wrap=True)

    def begin(self, url: str, settings: Settings, configuration: str) -> None:
        """The server, and all of its configuration."""
        self._console.print("\n[bold]A GitHub issue becomes a Slack message and a signed webhook[/]\n")
        for line in configuration.splitlines():
            self._console.print(f"    [dim]{escape(line)}[/]", soft_wrap=True)
        self._console.print()
        self._step("server", f"{url}, database {settings.database.removeprefix('sqlite:///')}")

    def sent(self, request: Request, answer: Answer, seconds: float) -> None:
        """The delivery, and what the source said to it."""
        event = request.header("X-GitHub-Event")[0].decode()
        self._step("received", f"POST {request.path}: GitHub event [bold]{event}[/], {len(request.body):,} bytes")
        self._more(f"answered {answer.status} after {span(seconds * SECOND)}: {escape(answer.body.decode())}")

    def accepted(self, received: Received, message: Message, deliveries: Sequence[Delivery]) -> None:
        """What the request was found to be, and what it became."""
        signature = received.request.header("X-Hub-Signature-256")[0].decode()
        self._step(
            "verified", f"[green]yes[/], X-Hub-Signature-256: {signature[:23]}…, the body is stored byte for byte"
        )
        self._more(f"event type [bold]{message.event_type}[/], duplicate key {received.dedup_key}")
        self._step("message", f"{message.id} in the application default")
        self._step("deliveries", f"{len(deliveries)}, on the disk before the answer was sent")

    def attempts(self, attempts: Sequence[Attempt], endpoints: Mapping[str, Endpoint], message: Message) -> None:
        """Each attempt with its timing."""
        self._names = {endpoint.id: endpoint.uid or endpoint.id for endpoint in endpoints.values()}
        for attempt in attempts:
            outcome, timing = attempt.outcome, attempt.outcome.timing
            endpoint = endpoints[attempt.endpoint]
            phases = [("connect", timing.connect), ("answer", timing.first_byte), ("total", timing.total)]
            took = ", ".join(f"{name} {span(value)}" for name, value in phases if value is not None)
            arrived = span(attempt.started_at + timing.total - message.created_at)
            self._step("attempt", f"{self._names[endpoint.id]} ({endpoint.kind}): [green]{outcome.status}[/], {took}")
            self._more(f"delivered {arrived} after the message was made")

    def arrived(self, slack: str, headers: Mapping[str, str], body: bytes) -> None:
        """What the two receivers got."""
        self._console.print()
        self._console.print(Panel(Text(slack), title="in Slack", title_align="left", expand=False))
        self._step("webhook", f"[green]verified[/] by the receiver, the same {len(body):,} bytes")
        for name in SIGNED_HEADERS:
            self._more(f"{name}: {headers[name]}")

    def next_steps(self, url: str, token: str, request: Request, message: Message) -> None:
        """Commands that work while the server runs."""
        program, api = command_name(), "$TENTERHOOK_URL/api/v1/app/default"
        bearer = '-H "Authorization: Bearer $TENTERHOOK_TOKEN"'
        sent = " ".join(f"-H '{name.decode()}: {value.decode()}'" for name, value in request.headers[2:])
        payload = from_here(Path(__file__).parents[1] / "data" / "github" / "issues.opened.payload.json")
        for title, line in (
            ("In another terminal", f"export TENTERHOOK_URL={url} TENTERHOOK_TOKEN={token}"),
            ("Send an event of your own", f"{program} send default order.paid '{{\"order\": 7}}'"),
            ("Every attempt of this message", f"curl -s {bearer} {api}/attempt/msg/{message.id}"),
            ("What reached the source", f"curl -s {bearer} {api}/source/github/request"),
            ("The same delivery again: a duplicate", f"curl -s {sent} --data-binary @{payload} {url}{request.path}"),
            ("Changed on its way: refused", f"curl -s {sent} --data '{{}}' {url}{request.path}"),
        ):
            self._console.print(f"\n[dim]# {title}[/]", soft_wrap=True)
            self._console.print(escape(line), soft_wrap=True)

    def stays(self) -> None:
        """The server goes on."""
        self._console.print("\nThe server is running; Ctrl-C ends it and removes its database.", soft_wrap=True)

    def later(self, delivery: Delivery, attempt: Attempt) -> None:
        """An attempt at something that was sent to the running server."""
        outcome = attempt.outcome
        name = self._names.get(attempt.endpoint, attempt.endpoint)
        text = f"{to_rfc3339(attempt.started_at)} {attempt.message} → {name}: {outcome.status} {delivery.state}"
        self._console.print(f"{text}, {span(outcome.timing.total)} {escape(outcome.detail)}".rstrip(), soft_wrap=True)

    def failed(self, detail: str) -> None:
        """A step did not happen."""
        Console(stderr=True, highlight=False).print(f"[bold red]the demonstration failed:[/] {escape(detail)}")
