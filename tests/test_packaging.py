"""What is shipped: the dependencies, the wheel, the version, and that nothing calls out past the guard."""

import ast
import importlib.metadata
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

import tenterhook
from tests.test_cli import TIMEOUT

ROOT = Path(__file__).parent.parent
PACKAGE = Path(tenterhook.__file__).parent
IMPORTED_AS = {"pyyaml": "yaml", "quickjs-ng": "quickjs"}
"""Distributions whose module has another name."""
BUILD_TOOLS = {"editables", "hatchling"}

CLIENTS = {
    "http", "urllib.request", "urllib3", "requests", "httpx", "aiohttp", "pyreqwest", "websockets", "ftplib", "smtplib",
    "telnetlib", "xmlrpc", "socket", "ssl", "httptools", "asyncpg",
}  # fmt: skip
"""Modules that can open a connection, or read what comes over one."""

HARMLESS = {"http", "http.HTTPStatus"}
"""The names of statuses, and what they are imported from."""

CALLS = {"create_connection", "open_connection", "sock_connect", "connect_ex", "create_datagram_endpoint", "urlopen"}

MAY_CONNECT = {
    "netguard.py": "asks for addresses",
    "senders/dial.py": "connects to the addresses that the guard gave out",
    "senders/connection.py": "speaks HTTP over what was dialled",
    "senders/http.py": "the client of all outbound requests",
    "remote.py": "the command line calls the operator's own server",
    "http_server.py": "listens",
    "store/postgres.py": "the operator's own database",
    "store/copying/postgres_end.py": "the operator's own database, when it is copied",
    "store/postgres_run.py": "statements on its connections",
    "store/postgres_nodes.py": "the name of this machine, and locks on its connections",
    "transformations/child.py": "its end of the pair of sockets that it was started with",
    "transformations/frames.py": "messages over that pair",
    "transformations/runner.py": "the server's end of it",
    "outbox/postgres.py": "the databases that the operator names",
}


def project() -> dict[str, object]:
    found: dict[str, object] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return found


def listed(name: str) -> set[str]:
    lines = (ROOT / "requirements" / name).read_text().splitlines()
    return {line.strip() for line in lines if line.strip() and not line.startswith("#")}


def dependencies() -> list[str]:
    found = project()["dependencies"]
    assert isinstance(found, list)
    return found


def extras() -> dict[str, list[str]]:
    """What `pip install tenterhook[name]` brings besides."""
    found = project()["optional-dependencies"]
    assert isinstance(found, dict)
    return found


def modules(requirements: Iterable[str]) -> set[str]:
    """The packages that the requirements bring, as they are imported."""
    names = (re.split(r"[><=\s]", line)[0] for line in requirements)
    return {IMPORTED_AS.get(name, name.replace("-", "_")) for name in names}


def test_requirements_are_the_dependencies_with_all_extras() -> None:
    assert listed("run.in") - BUILD_TOOLS == set(dependencies()).union(*extras().values())


@pytest.mark.parametrize("path", sorted((ROOT / "requirements").glob("*.txt")), ids=lambda path: path.name)
def test_locked_files_have_hashes_and_name_no_host(path: Path) -> None:
    text = path.read_text()
    assert "://" not in text
    assert "--index-url" not in text
    locked = re.findall(r"^([a-z0-9._-]+)==.*?(?=^[a-z]|\Z)", text, re.MULTILINE | re.DOTALL)
    assert len(locked) > 10
    for block in re.split(r"^(?=[a-z])", text, flags=re.MULTILINE)[1:]:
        assert "--hash=sha256:" in block, block


@pytest.mark.parametrize("name", ["run", "dev", "bench"])
def test_every_requirement_is_locked(name: str) -> None:
    locked = {
        re.split(r"[=\s]", line)[0]
        for line in (ROOT / "requirements" / f"{name}.txt").read_text().splitlines()
        if "==" in line
    }
    wanted = {re.split(r"[><=\[\s]", line)[0] for line in listed(f"{name}.in") if not line.startswith("-r")}
    assert wanted - locked == set()


def test_every_dependency_is_used() -> None:
    used = {name.partition(".")[0] for path in PACKAGE.rglob("*.py") for name, _ in imported(path)}
    assert modules(dependencies()) - used == set()


def test_no_other_distribution_is_imported() -> None:
    names = modules(dependencies()).union(*map(modules, extras().values()))
    used = {name.partition(".")[0] for path in PACKAGE.rglob("*.py") for name, _ in imported(path)}
    assert used - names - set(sys.stdlib_module_names) == {"tenterhook"}


def test_the_command_starts_without_the_extras() -> None:
    absent = modules(line for lines in extras().values() for line in lines)
    program = f"""
import sys
sys.modules.update(dict.fromkeys({sorted(absent)}))
import tenterhook.cli, tenterhook.serve
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=TIMEOUT)


def test_version_is_that_of_the_changelog() -> None:
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert newest is not None
    assert newest[1] == tenterhook.__version__ == importlib.metadata.version("tenterhook")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel as `pip` would build it."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=TIMEOUT)
    return next(folder.glob("*.whl"))


def test_wheel_holds_every_file_of_the_package(wheel: Path) -> None:
    here = {f"tenterhook/{path.relative_to(PACKAGE)}" for path in PACKAGE.rglob("*") if path.is_file()}
    here = {name for name in here if "__pycache__" not in name}
    with zipfile.ZipFile(wheel) as archive:
        there = {name for name in archive.namelist() if name.startswith("tenterhook/")}
    assert there == here
    for needed in (
        "py.typed",
        "providers/github.toml",
        "senders/chats/slack.toml",
        "senders/templates/github.toml",
        "data/github/issues.opened.payload.json",
        "data/github/LICENSE",
    ):
        assert f"tenterhook/{needed}" in there


def test_wheel_has_the_command_and_the_licence(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name.partition(".dist-info/")[2]: name for name in archive.namelist() if ".dist-info/" in name}
        assert "tenterhook = tenterhook.cli:main" in archive.read(names["entry_points.txt"]).decode()
        assert f"Version: {tenterhook.__version__}\n" in archive.read(names["METADATA"]).decode()
        assert "licenses/LICENSE" in names


def imported(path: Path) -> Iterator[tuple[str, int]]:
    """The modules that a file imports, with their lines."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield str(node.module), node.lineno
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


def connecting(path: Path) -> list[str]:
    """The lines of a file that can lead to a connection."""
    names = list(imported(path))
    harmless = not {name for name, _ in names if name.startswith("http")} - HARMLESS
    found = [
        f"{line}: imports {name}"
        for name, line in names
        if not (harmless and name in HARMLESS)
        and any(name == client or name.startswith(client + ".") for client in CLIENTS)
    ]
    calls = (node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Attribute))
    return found + [f"{node.lineno}: calls {node.attr}" for node in calls if node.attr in CALLS]


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_the_guarded_client_connects(path: Path) -> None:
    if str(path.relative_to(PACKAGE)) not in MAY_CONNECT:
        assert connecting(path) == []


def test_exceptions_are_needed() -> None:
    assert [name for name in MAY_CONNECT if not connecting(PACKAGE / name)] == []


@pytest.mark.parametrize(
    "source",
    [
        "import http.client",
        "from urllib import request",
        "from urllib.request import urlopen as u",
        "def f():\n    import socket",
        "import asyncio\nasyncio.open_connection('h', 1)",
        "async def f(loop):\n    await loop.create_connection(None)",
    ],
)
def test_a_planted_client_is_found(source: str, tmp_path: Path) -> None:
    (tmp_path / "planted.py").write_text(source)
    assert connecting(tmp_path / "planted.py")
