"""Every operation of the official Python SDK, blocking and not, against a real server on a loopback port."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from svix.api import Svix, SvixAsync
from svix.exceptions import HttpError, HTTPValidationError

from tests.sdk import scenarios
from tests.sdk.client import Sdk, connected, operations_of
from tests.sdk.operations import ELSEWHERE, NOT_YET, OPERATIONS, SCENARIOS

REFUSALS = {404, 405, 422}


@pytest.fixture(params=["sync", "async"])
async def sdk(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Sdk]:
    async with connected(tmp_path, request.param) as sdk:
        yield sdk


@pytest.mark.parametrize("client", [Svix("token"), SvixAsync("token")], ids=["sync", "async"])
def test_the_table_has_all_that_the_sdk_has(client: Svix | SvixAsync) -> None:
    offered = {name for name in operations_of(client) if not name.startswith(ELSEWHERE)}
    assert offered == OPERATIONS.keys()


def test_every_operation_is_exercised() -> None:
    assert scenarios.__all__
    assert {name.partition(" ")[0] for name in SCENARIOS} == OPERATIONS.keys()
    assert SCENARIOS.keys() >= NOT_YET


@pytest.mark.parametrize("scenario", SCENARIOS)
async def test_operation(sdk: Sdk, scenario: str) -> None:
    if scenario in NOT_YET:
        await refused(sdk, scenario)
        return
    await SCENARIOS[scenario](sdk)
    operation = scenario.partition(" ")[0]
    method, _, path = OPERATIONS[operation].partition(" ")
    shape = re.compile(re.sub(r"\{\w+\}", "[^/]+", path))
    sent = [request for request in sdk.requests if request.operation == operation]
    assert sent, "the scenario does not call what it is there for"
    assert all(request.method == method and shape.fullmatch(request.path) for request in sent)


async def test_errors_are_those_of_the_sdk(sdk: Sdk) -> None:
    await sdk.app(uid="acme")
    with pytest.raises(HttpError) as taken:
        await sdk.app(uid="acme")
    assert (taken.value.status_code, taken.value.code) == (409, "conflict")
    with pytest.raises(HTTPValidationError) as invalid:
        await sdk.app(name="")
    assert invalid.value.detail[0].loc == ["body", "name"]
    with pytest.raises(HttpError) as stranger:
        await sdk.login("wrong").application.list()
    assert (stranger.value.status_code, stranger.value.code) == (401, "authentication_failed")


async def refused(sdk: Sdk, scenario: str) -> None:
    """By this operation, or by another that it needs and that is not there either; a wrong answer is no refusal."""
    try:
        await SCENARIOS[scenario](sdk)
    except (HttpError, HTTPValidationError):
        last = sdk.requests[-1]
        missing = {scenario.partition(" ")[0], *NOT_YET}
        assert last.operation in missing or last.operation.startswith(ELSEWHERE), last
        assert last.status in REFUSALS, last
    else:
        pytest.fail(f"{scenario} works: delete it from NOT_YET")
