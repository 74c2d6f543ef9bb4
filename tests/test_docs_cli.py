"""The pages on the command line, signals, metrics and the architecture are complete and true."""

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.main import get_command

from tenterhook.cli.commands import app
from tenterhook.engine.notices import EVENTS
from tenterhook.model import Attempt, Delivery, Outcome, Reason, Result, Signal, State, Trigger
from tenterhook.observe import AttemptLog
from tests import api

ROOT = Path(__file__).parent.parent
TEXT = {path.name: path.read_text("utf-8") for path in (ROOT / "docs").glob("*.md")}


def commands(command: Any, name: str = "tenterhook") -> Iterator[tuple[str, Any]]:
    """Every command that does something, with its name."""
    inner = getattr(command, "commands", {})
    if not inner:
        yield name, command
    for word, child in inner.items():
        yield from commands(child, f"{name} {word}")


COMMANDS = dict(commands(get_command(app)))


def table(page: str, columns: int) -> list[list[str]]:
    """The rows of the tables of a page that have so many columns, without headings."""
    lines = [line for line in TEXT[page].splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in cells if len(row) == columns and set(row[0]) != {"-"}]


def section(name: str) -> str:
    """The part of docs/cli.md about a command."""
    found = re.search(rf"^## `{name}(?: [^`a-z]*)?`\n(.*?)(?=^## |\Z)", TEXT["cli.md"], re.MULTILINE | re.DOTALL)
    assert found, f"docs/cli.md has no section for `{name}`"
    return found[1]


@pytest.mark.parametrize("name", COMMANDS)
def test_command_is_described_with_its_options(name: str) -> None:
    if name == "tenterhook serve":
        assert "[setting](settings.md)" in section(name)  # its options are the settings, tested with that page
        return
    documented = set(re.findall(r"`(--[a-z-]+)", "".join(re.findall(r"^\|([^|]*)\|", section(name), re.MULTILINE))))
    options = {text for param in COMMANDS[name].params if param.param_type_name == "option" for text in param.opts}
    assert documented == options - {"--help", "-h"}
    for param in COMMANDS[name].params:
        if param.param_type_name == "argument":
            assert f"| `{param.name.upper()}` |" in section(name)


def test_no_other_command_is_described() -> None:
    described = re.findall(r"^## `(tenterhook(?: [a-z]+)+)", TEXT["cli.md"], re.MULTILINE)
    assert sorted(described) == sorted(COMMANDS)


def test_options_of_the_command_itself_are_described() -> None:
    for param in get_command(app).params:
        assert f"| `{param.opts[0]}` |" in TEXT["cli.md"]


def test_operational_events_are_described() -> None:
    described = {(row[0].strip("`"), row[1]) for row in table("operational-webhooks.md", 2)}
    assert EVENTS.items() <= described


def test_signals_are_described() -> None:
    fields = {row[0] for row in table("operational-webhooks.md", 2)}
    assert {f"`{name}`" for name in Signal.__struct_fields__} <= fields


async def test_metrics_are_described(tmp_path: Path) -> None:
    async with api.running(tmp_path) as server:
        page = (await server.get("//metrics", token=None)).body.decode()
    there = dict(re.findall(r"^# TYPE (\S+) (\S+)$", page, re.MULTILINE))
    helps = dict(re.findall(r"^# HELP (\S+) (.+)$", page, re.MULTILINE))
    described = {row[0].strip("`"): (row[1], row[3]) for row in table("metrics.md", 4) if row[0].startswith("`ten")}
    assert described == {name: (kind, helps[name]) for name, kind in there.items()}


async def test_labels_are_described(tmp_path: Path) -> None:
    async with api.running(tmp_path) as server:
        shop = await server.app()
        await server.endpoint(shop)
        await server.message(shop)
        await server.watch.settled(1)
        source = await server.source(shop)
        await server.post(f"//in/{source['token']}" if "token" in source else "//in/x", b"{}", token=None)
        server.node.stats.signalled(Signal("endpoint.disabled", "a", "e"))
        server.node.stats.request_received("none", "rejected")
        page = (await server.get("//metrics", token=None)).body.decode()
    documented = {row[0].strip("`"): set(re.findall(r"`(\w+)`", row[2])) for row in table("metrics.md", 4)}
    seen = 0
    for name, labels in re.findall(r"^(tenterhook_\w+_total)\{(.*)\}", page, re.MULTILINE):
        assert set(re.findall(r"(\w+)=", labels)) == documented[name]
        seen += 1
    assert seen >= 3
    values = {row[0]: set(re.findall(r"`(\w+)`", row[1])) for row in table("metrics.md", 2)}
    assert values["`result`"] == {result.value for result in Result}
    assert values["`reason`"] == {reason.value for reason in Reason}


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
async def test_probes_are_described_and_need_no_token(path: str, tmp_path: Path) -> None:
    assert f"| `GET {path}` |" in TEXT["metrics.md"]
    async with api.running(tmp_path) as server:
        assert (await server.get("/" + path, token=None)).status == 200


async def test_fields_of_the_attempt_log_are_described() -> None:
    outcome = Outcome(result=Result.RETRY, reason=Reason.CONNECT, detail="refused")
    attempt = Attempt(
        id="t", app="a", message="m", endpoint="e", number=1, trigger=Trigger.SCHEDULED, started_at=0, outcome=outcome
    )
    delivery = Delivery(message="m", endpoint="e", app="a", state=State.DUE, due_at=1, created_at=0, expires_at=9)
    stream = io.BytesIO()
    log = AttemptLog(stream)
    log.attempt_settled(delivery, attempt, False)
    log.flush()
    described = set(re.findall(r"`(\w+)`", "".join(row[0] for row in table("metrics.md", 2))))
    assert set(msgspec.json.decode(stream.getvalue())) <= described


def test_every_page_is_in_the_index() -> None:
    listed = re.findall(r"^\| \[[^\]]+\]\(([a-z-]+\.md)\)", TEXT["index.md"], re.MULTILINE)
    assert sorted([*listed, "index.md"]) == sorted(TEXT)


def test_every_dependency_has_its_reason() -> None:
    import tomllib

    lines = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    names = {re.split(r"[><=]", line)[0] for line in lines}
    described = {row[0].strip("`") for row in table("architecture.md", 2) if row[0].startswith("`")}
    assert names <= described


def test_every_layer_is_drawn() -> None:
    from tests.test_layers import LAYERS

    drawn = re.search(r"^```text\n(cli.*?)^```", TEXT["architecture.md"], re.MULTILINE | re.DOTALL)
    assert drawn is not None
    for name in (name for names in LAYERS for name in names):
        assert re.search(rf"(?<![\w.]){re.escape(name)}(?![\w])", drawn[1]), name
