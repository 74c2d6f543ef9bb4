"""What is shipped for deployment names only what exists, and fits together; the page on it, too."""

import json
import re
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import pytest
import yaml

from tenterhook import config, http_server
from tenterhook.senders import KINDS
from tenterhook.settings import BY_NAME, SETTINGS, load
from tenterhook.units import parse_duration, parse_size
from tests.test_cli import Serving, clean, servers
from tests.test_docs_cli import COMMANDS

__all__ = ["servers"]

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
TEXT = {path.name: path.read_text("utf-8") for path in DEPLOY.iterdir()}
PAGE = (ROOT / "docs" / "deploy.md").read_text("utf-8")
DEFAULTS = load({}, {}, {})
ENV = {setting.env for setting in SETTINGS}
SECOND = 1_000_000
PATIENCE = DEFAULTS.shutdown_timeout // SECOND + http_server._DRAIN_SECONDS
"""The seconds that an orderly end may take."""


def options(command: str) -> set[str]:
    """What a command may be given."""
    return {text for param in COMMANDS[command].params for text in (*param.opts, *param.secondary_opts)}


def assert_exists(line: str) -> None:
    """A command line of ours has a command and options that exist."""
    words = re.sub(r'"[^"]*"', "x", line.split("  #")[0]).split()
    name = next((" ".join(words[:size]) for size in (3, 2) if " ".join(words[:size]) in COMMANDS), None)
    assert name is not None, line
    assert {word.partition("=")[0] for word in words if word.startswith("--")} <= options(name), line


# the unit


@pytest.fixture
def unit() -> ConfigParser:
    parser = ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # names as they are written
    parser.read_string(TEXT["tenterhook.service"])
    return parser


def test_the_unit_starts_what_exists(unit: ConfigParser) -> None:
    service = unit["Service"]
    path, _, rest = service["ExecStart"].partition(" ")
    assert_exists(f"{Path(path).name} {rest}")
    assert f"python3 -m venv {Path(path).parent.parent}\n" in PAGE
    assert service["EnvironmentFile"] in PAGE
    assert f"useradd --system --home-dir {service['WorkingDirectory']} " in PAGE
    assert service["ExecReload"] == "/bin/kill -HUP $MAINPID"


def test_the_unit_waits_for_the_end_and_tries_no_wrong_configuration_again(unit: ConfigParser) -> None:
    assert int(unit["Service"]["TimeoutStopSec"]) > PATIENCE
    assert unit["Service"]["RestartPreventExitStatus"] == "2"
    assert unit["Service"]["Restart"] == "always"


def test_the_unit_locks_the_service_in(unit: ConfigParser) -> None:
    service = unit["Service"]
    for name in (
        "NoNewPrivileges",
        "ProtectHome",
        "PrivateTmp",
        "PrivateDevices",
        "RestrictNamespaces",
        "LockPersonality",
    ):
        assert service[name] == "yes"
    assert service["ProtectSystem"] == "strict"
    assert service["CapabilityBoundingSet"] == ""
    # what is left: the folder of the database, and the way out; /proc/net tells which addresses are this machine's
    assert service["WorkingDirectory"] == f"/var/lib/{service['StateDirectory']}"
    assert {"AF_INET", "AF_INET6"} <= set(service["RestrictAddressFamilies"].split())
    assert "ProcSubset" not in service


# the configuration of one server


def environment() -> dict[str, str]:
    """What the example of the environment names, with values."""
    names = re.findall(r"^(\w+)=", TEXT["environment.example"], re.MULTILINE)
    return {name: f"https://{name.lower()}.example/abcdefghijklmnopqrstuvwxyz0123456789" for name in names}


def test_the_configuration_is_right_with_its_environment(unit: ConfigParser) -> None:
    environ = environment()
    found = config.parse(TEXT["tenterhook.toml"], "tenterhook.toml", environ, kinds=tuple(KINDS))
    assert {name for name in environ if name.startswith("TENTERHOOK_")} <= ENV
    assert {name for name in environ if not name.startswith("TENTERHOOK_")} == set(
        re.findall(r'"env:(\w+)"', TEXT["tenterhook.toml"])
    )
    settings = load(found.server, {"TENTERHOOK_SECRET": environ["TENTERHOOK_SECRET"]}, {})
    assert settings.database.startswith(f"sqlite:///{unit['Service']['WorkingDirectory']}/")
    assert settings.public_url is not None
    named = re.search(r"^TENTERHOOK_CONFIG=(.+)$", TEXT["environment.example"], re.MULTILINE)
    assert named is not None
    assert f"deploy/tenterhook.toml {named[1]}\n" in PAGE


# the image


def instructions() -> list[tuple[str, str]]:
    text = re.sub(r"\\\n\s*", "", TEXT["Containerfile"])
    lines = [line.partition(" ") for line in text.splitlines() if line and not line.startswith("#")]
    return [(word, rest) for word, _, rest in lines]


def test_the_image_is_made_of_what_is_here() -> None:
    for word, rest in instructions():
        if word == "COPY" and not rest.startswith("--from"):
            assert all((ROOT / name).exists() for name in rest.split()[:-1]), rest
    found = dict(instructions())
    assert found["USER"] == "tenterhook"
    assert_exists(" ".join(json.loads(found["ENTRYPOINT"]) + json.loads(found["CMD"])))
    named = dict(re.findall(r"(TENTERHOOK_\w+)=(\S+)", found["ENV"]))
    assert set(named) <= ENV
    settings = load({}, named, {})
    assert settings.host == "0.0.0.0"
    assert settings.port == int(found["EXPOSE"])
    assert settings.database.startswith(f"sqlite:///{found['VOLUME']}/")
    python = next(rest.partition("=")[2] for word, rest in instructions() if word == "ARG")
    assert f"Python :: {python}" in (ROOT / "pyproject.toml").read_text()


def test_the_health_check_of_the_image_tells_ready_from_not(tmp_path: Path, servers: list[Serving]) -> None:
    text = dict(instructions())["HEALTHCHECK"]
    words = json.loads(text[text.index("[") :])
    servers.append(Serving(tmp_path))
    environ = clean(TENTERHOOK_PORT=servers[0].url().rpartition(":")[2])

    def healthy() -> bool:
        return (
            subprocess.run([sys.executable, *words[1:]], env=environ, capture_output=True, check=False).returncode == 0
        )

    assert healthy()
    servers[0].end()
    assert not healthy()


# the containers


@pytest.fixture
def compose() -> dict[str, Any]:
    """With a value for each variable that it asks for."""
    given = {"SITE": "hooks.example.com", "TENTERHOOK_SECRET": "0123456789abcdef" * 4}
    text = re.sub(r"\$\{(\w+):\?\}", lambda found: given.get(found[1], "a" * 32), TEXT["compose.yaml"])
    assert "${" not in text
    found: dict[str, Any] = yaml.safe_load(text)
    return found


def test_the_nodes_are_the_same_and_their_settings_are_right(compose: dict[str, Any]) -> None:
    services = compose["services"]
    nodes = {name: service for name, service in services.items() if name.startswith("node-")}
    assert len(nodes) == 2
    for node in nodes.values():
        assert set(node["environment"]) <= ENV
        settings = load({}, node["environment"], {})
        assert settings.database.startswith("postgresql://")
        assert settings.database.partition("@")[2].partition("/")[0] in services
        assert (DEPLOY / node["build"]["context"] / node["build"]["dockerfile"]).exists()
        assert parse_duration(node["stop_grace_period"]) > PATIENCE * SECOND
        assert set(node["depends_on"]) <= set(services)
    port = dict(instructions())["EXPOSE"]
    assert services["proxy"]["environment"]["NODES"].split() == [f"{name}:{port}" for name in nodes]


def test_volumes_and_variables_are_declared(compose: dict[str, Any]) -> None:
    mounts = [volume.split(":")[0] for service in compose["services"].values() for volume in service.get("volumes", ())]
    for mount in mounts:
        assert (DEPLOY / mount).exists() if mount.startswith("./") else mount in compose["volumes"]
    asked = set(re.findall(r"\$\{(\w+):\?\}", TEXT["compose.yaml"]))
    assert asked == set(re.findall(r"(\w+)=", TEXT["compose.yaml"].partition("\nx-node")[0]))
    assert set(compose["services"]["proxy"]["environment"]) == set(re.findall(r"\{\$(\w+)\}", TEXT["Caddyfile"]))


# the proxies


@pytest.mark.parametrize("name", ["nginx.conf", "Caddyfile"])
def test_blocks_are_closed(name: str) -> None:
    text = re.sub(r"#.*", "", TEXT[name])
    assert text.count("{") == text.count("}") > 2
    if name == "nginx.conf":
        assert not [line for line in text.splitlines() if line.strip() and line.rstrip()[-1] not in "{};"]


def test_proxies_let_through_what_the_server_takes() -> None:
    largest = max(DEFAULTS.max_received, DEFAULTS.max_payload)
    caddy, nginx = (
        re.search(p, t) for p, t in ((r"max_size (\S+)", TEXT["Caddyfile"]), (r"body_size (\d+)m;", TEXT["nginx.conf"]))
    )
    assert caddy is not None and nginx is not None
    assert parse_size(caddy[1]) == int(nginx[1]) << 20 == largest
    heads = re.search(r"large_client_header_buffers (\d+) (\d+)k", TEXT["nginx.conf"])
    assert heads is not None
    assert int(heads[1]) * int(heads[2]) << 10 >= http_server.MOST_HEAD_BYTES


def test_proxies_drop_idle_connections_before_the_server_does() -> None:
    for pattern, text in ((r"keepalive (\d+)s", TEXT["Caddyfile"]), (r"keepalive_timeout (\d+)s", TEXT["nginx.conf"])):
        found = re.search(pattern, text)
        assert found is not None
        assert int(found[1]) < http_server._IDLE_SECONDS
        assert f"less than {http_server._IDLE_SECONDS} s" in PAGE


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
def test_what_is_not_for_everybody_is_kept_back(path: str) -> None:
    assert f"location = {path} {{ return 404; }}" in TEXT["nginx.conf"]
    private = re.search(r"@private path (.*)", TEXT["Caddyfile"])
    assert private is not None
    assert path in private[1].split()
    assert (
        f"`{path}`" in (ROOT / "docs" / "metrics.md").read_text()
        or f"`GET {path}`" in (ROOT / "docs" / "metrics.md").read_text()
    )


def test_nginx_hands_paths_on_as_they_came() -> None:
    assert re.findall(r"proxy_pass (\S+);", TEXT["nginx.conf"]) == [
        "http://tenterhook"
    ]  # no path: nothing is rewritten
    assert "non_idempotent" not in TEXT["nginx.conf"]


# the page


def commands() -> list[str]:
    """The command lines of ours on the page."""
    code = re.findall(r"^    (.*)$", PAGE, re.MULTILINE) + re.findall(r"`([^`\n]+)`", PAGE)
    found = (re.match(r"(?:docker exec \S+ )?(?:tenterhook|hooks) (.*)", line) for line in code)
    return [f"tenterhook {line[1]}" for line in found if line]


def test_there_are_commands_on_the_page() -> None:
    assert len(commands()) >= 8


@pytest.mark.parametrize("line", commands())
def test_commands_of_the_page_exist(line: str) -> None:
    assert_exists(line)


def test_settings_of_the_page_exist() -> None:
    rows = PAGE.partition("## Settings that matter")[2].partition("\n## ")[0]
    names = [name for row in re.findall(r"^\| ([^|]*) \|", rows, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)]
    assert len(names) > 10
    assert set(names) <= set(BY_NAME)
    assert set(re.findall(r"TENTERHOOK_\w+", PAGE)) <= ENV


def test_every_file_is_on_the_page() -> None:
    assert set(re.findall(r"\(\.\./deploy/([\w.]+)\)", PAGE)) == set(TEXT)
