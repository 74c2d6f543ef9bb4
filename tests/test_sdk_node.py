"""Every operation of the official JavaScript SDK, run by Node.js, against a real server process on a loopback port."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.api import ADMIN
from tests.sdk import node
from tests.sdk.operations import ELSEWHERE, NOT_YET, OPERATIONS
from tests.test_sdk_coverage import REFUSALS

NOT_OFFERED = {"endpoint.get_attempt_stats"}
"""Operations that this version of the JavaScript SDK lacks."""

SETTINGS = {
    "TENTERHOOK_ADMIN_TOKEN": ADMIN,
    "TENTERHOOK_ALLOW_NETWORKS": "127.0.0.0/8",
    "TENTERHOOK_RETRY_SCHEDULE": "none",
    "TENTERHOOK_LOG_LEVEL": "error",
}


def camel(name: str) -> str:
    """The JavaScript name of an operation or scenario; words behind the operation stay."""
    operation, space, rest = name.partition(" ")
    return re.sub("_([a-z]?)", lambda found: found[1].upper(), operation) + space + rest


TABLE = {camel(name): request for name, request in OPERATIONS.items() if name not in NOT_OFFERED}
MISSING = {camel(name) for name in NOT_YET}
OTHERS = tuple(camel(name) for name in ELSEWHERE)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server process."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("TENTERHOOK_")} | SETTINGS
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "tenterhook", "serve", "--port", "0", "--json"],
        cwd=tmp_path_factory.mktemp("server"), env=environ, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with process:
        try:
            assert process.stdout is not None
            yield json.loads(process.stdout.readline())["url"]
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def played(server: str) -> tuple[set[str], dict[str, Any]]:
    """What the SDK offers, and what came of each scenario."""
    lines = node.run("svix.mjs", json.dumps({"url": server, "token": ADMIN})).splitlines()
    offered, *results = map(json.loads, lines)
    return set(offered["offered"]), {result["scenario"]: result for result in results}


def test_the_packages_are_locked_with_hashes_and_no_host() -> None:
    text = (node.HERE / "package-lock.json").read_text()
    packages = json.loads(text)["packages"]
    wanted = json.loads((node.HERE / "package.json").read_text())["dependencies"]
    assert packages.pop("")["dependencies"] == wanted
    assert {f"node_modules/{name}" for name in wanted} <= packages.keys()
    assert all(package["integrity"].startswith("sha512-") for package in packages.values())
    assert "://" not in text and "resolved" not in text


def test_the_table_has_all_that_the_sdk_has(played: tuple[set[str], dict[str, Any]]) -> None:
    assert {name for name in played[0] if not name.startswith(OTHERS)} == TABLE.keys()


def test_every_operation_is_exercised(played: tuple[set[str], dict[str, Any]]) -> None:
    assert {scenario.partition(" ")[0] for scenario in played[1]} == TABLE.keys()


@pytest.mark.parametrize("operation", TABLE)
def test_operation(played: tuple[set[str], dict[str, Any]], operation: str) -> None:
    results = [result for scenario, result in played[1].items() if scenario.partition(" ")[0] == operation]
    assert results
    for result in results:
        if result["scenario"] in MISSING:
            refused(result)
        else:
            worked(result, operation)


def worked(result: dict[str, Any], operation: str) -> None:
    assert result["error"] is None, result["error"]["message"]
    method, _, path = TABLE[operation].partition(" ")
    shape = re.compile(re.sub(r"\{\w+\}", "[^/]+", path))
    sent = [request for request in result["requests"] if request["operation"] == operation]
    assert sent, "the scenario does not call what it is there for"
    assert all(request["method"] == method and shape.fullmatch(request["path"]) for request in sent)


def refused(result: dict[str, Any]) -> None:
    """By this operation, or by another that it needs and that is not there either; a wrong answer is no refusal."""
    scenario, error = result["scenario"], result["error"]
    assert error is not None, f"{scenario} works: delete it from NOT_YET"
    assert error["refused"], error["message"]
    last = result["requests"][-1]
    missing = {scenario.partition(" ")[0], *MISSING}
    assert last["operation"] in missing or last["operation"].startswith(OTHERS), last
    assert last["status"] in REFUSALS, last
