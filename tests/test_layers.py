"""The architecture, as a list: a module may import its own layer or a lower one. docs/architecture.md says why."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import tenterhook

ROOT = Path(tenterhook.__file__).parent

# Lowest first. A name stands for its module or package with all that is in it; the longest name that fits decides.
LAYERS: list[list[str]] = [
    # words: values, and reading them from text
    ["model", "ids", "errors", "clock", "units", "setting_kinds", "settings"],
    # rules: pure
    [
        "addresses", "config", "config_keys", "engine", "environment", "event_type_changes", "headers", "markup",
        "openapi_import", "outbox", "providers", "receive", "routing", "schemas", "signing", "templates", "tokens",
        "toml_lines", "urls", "vault", "yaml_text", "senders.retry_after", "transformations.contract",
        "transformations.jobs",
    ],
    # seams: protocols, and what talks to the machine and knows none of our objects
    ["store.base", "store.queries", "store.work", "senders.base", "outbox.base", "observe", "netguard", "logs", "remote",
     "http_server", "transformations"],
    [
        "engine.agenda", "engine.background", "engine.claiming", "engine.committer", "engine.endpoints", "engine.lane",
        "engine.pending", "engine.retention", "engine.sending", "engine.settling", "engine.tasks", "engine.upkeep",
        "engine.worker", "catalog", "operational",
    ],
    ["hub", "registry", "apply"],
    ["api", "outbox.batch", "outbox.publishing", "outbox.relay"],
    # implementations: above those who use them through the seam only
    ["store", "senders", "outbox.databases", "outbox.postgres", "outbox.sqlite", "outbox.statements"],
    ["serve", "databases", "backup", "moving"],
    ["cli", "demo", "library"],
]  # fmt: skip

IO = {
    "asyncio",
    "socket",
    "sqlite3",
    "ssl",
    "http",
    "urllib.request",
    "subprocess",
    "threading",
    "concurrent",
    "select",
}


@cache
def modules() -> dict[str, Path]:
    """Every module below the package root, by its dotted name without `tenterhook.`."""
    found = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in ROOT.rglob("*.py")
    }
    return {name: path for name, path in found.items() if name not in ("__init__", "__main__")}


def layer(module: str) -> int:
    found = [
        (len(name), number)
        for number, names in enumerate(LAYERS)
        for name in names
        if module == name or module.startswith(name + ".")
    ]
    assert found, f"{module or 'the package root'} is in no layer: list it, or import from the module that defines it"
    return max(found)[1]


def allowed(me: str, other: str) -> bool:
    """Down or level; an implementation sees its own package, its seam, and what is below the seam."""
    family = me.partition(".")[0]
    sees_all = family not in ("store", "senders") or other.partition(".")[0] == family
    ceiling = layer(me) if sees_all else layer(f"{family}.base")
    return layer(other) <= ceiling


def imported(source: str, known: set[str]) -> Iterator[str]:
    """What a source imports of ours, in functions and for the type checker too."""
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            base = str(node.module)
            # `from tenterhook.store import sqlite` names a module, `from tenterhook.model import Message` does not
            deeper = (f"{base}.{alias.name}" for alias in node.names)
            names = [name if name.removeprefix("tenterhook.") in known else base for name in deeper]
        yield from (name.partition(".")[2] for name in names if name.partition(".")[0] == "tenterhook")


@cache
def imports_of(module: str) -> frozenset[str]:
    return frozenset(imported(modules()[module].read_text("utf-8"), set(modules())))


def test_every_module_has_a_layer() -> None:
    for module in modules():
        layer(module)


def test_every_name_of_the_list_is_there() -> None:
    assert [name for names in LAYERS for name in names if name not in modules()] == []


def test_imports_point_down() -> None:
    wrong = [
        f"{me} imports {other}"
        for me in modules()
        for other in imports_of(me)
        if other != me and not allowed(me, other)
    ]
    assert not wrong, "\n".join(wrong)


def test_no_cycles() -> None:
    """Names that only the type checker sees do not count here: the handlers of the API name the type `Api`."""
    graph = {me: set(_at_runtime(path)) - {me} for me, path in modules().items()}
    TopologicalSorter(graph).prepare()


def _at_runtime(path: Path) -> Iterator[str]:
    tree = ast.parse(path.read_text("utf-8"))
    kept = [node for node in tree.body if not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test))]
    yield from imported(ast.unparse(ast.Module(kept, [])), set(modules()))


def test_only_serve_and_above_name_implementations() -> None:
    """`serve` wires them; tables of kinds such as `senders.KINDS` are no implementation."""
    named = {
        (me, other)
        for me in modules()
        for other in imports_of(me)
        if layer(other) == layer("store.sqlite") and me.partition(".")[0] not in ("store", "senders", "outbox")
    }
    allowed_names = {"serve", "databases", "backup", "moving", "cli.loading", "cli.outbox", "library.asynchronous"}
    assert {me for me, _ in named} <= allowed_names, named


@pytest.mark.parametrize("module", [name for name in modules() if layer(name) == 1])
def test_rules_do_no_input_or_output(module: str) -> None:
    found = set()
    for node in ast.walk(ast.parse(modules()[module].read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(str(node.module))
    assert not {name for name in found if name in IO or name.partition(".")[0] in IO}


@pytest.mark.parametrize(
    ("me", "source"),
    [
        ("model", "from tenterhook.settings import Settings\nfrom tenterhook.store import sqlite"),
        ("hub", "import tenterhook.store.sqlite"),
        ("engine.settle", "def f():\n    from tenterhook.engine.worker import Worker"),
        ("engine.worker", "from tenterhook.senders.http import HttpClient"),
        ("store.sqlite", "from tenterhook.hub import Hub"),
        ("senders.http", "from tenterhook.store.sqlite import SqliteStore"),
        ("api.app", "from tenterhook.serve import Node"),
        ("serve", "from tenterhook.cli import main"),
    ],
)
def test_a_planted_fault_is_found(me: str, source: str) -> None:
    assert any(not allowed(me, other) for other in imported(source, set(modules())))


@pytest.mark.parametrize("source", ["from tenterhook import __version__", "import tenterhook"])
def test_the_root_is_no_module_of_ours(source: str) -> None:
    with pytest.raises(AssertionError, match="in no layer"):
        [layer(other) for other in imported(source, set(modules()))]


def test_a_relative_import_is_found() -> None:
    with pytest.raises(AssertionError, match="absolute"):
        list(imported("from . import model", set()))


@pytest.mark.parametrize("used", ["from tenterhook import Webhook", "from tenterhook.outbox import write"])
def test_the_library_is_light(used: str) -> None:
    """Whoever only signs and verifies, or writes an event, loads no server, no database, no event loop."""
    code = f"import sys; {used}; print([m for m in sys.modules if m in sys.argv[1:]])"
    heavy = ["sqlite3", "uvicorn", "uvloop", "httptools", "typer", "rich", "minijinja", "prometheus_client"]
    heavy += ["asyncpg", "psycopg", "sqlalchemy", "django", "tenterhook.hub", "tenterhook.outbox.relay"]
    heavy += ["tenterhook.serve", "tenterhook.store.sqlite", "tenterhook.engine.worker"]
    done = subprocess.run([sys.executable, "-c", code, *heavy], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
