"""Whatever is sent to the API, the answer is as documented: requests that schemathesis makes from the document, half of
them right and half of them wrong, over a real socket to a server that has one of everything."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from schemathesis.checks import not_a_server_error
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tenterhook.api.app import ROUTES
from tenterhook.serve import http_server, listen
from tests.api import ADMIN, GRACE, running
from tests.document import DOCUMENT
from tests.test_api_routes import BODIES, PREFIX, one_of_everything

REQUESTS = 800
"""About how many are sent in all, so that the time stays the same with more operations."""
CHECKS = [
    not_a_server_error, status_code_conformance, content_type_conformance, response_headers_conformance,
    response_schema_conformance,
]  # fmt: skip
CONFIG = SchemathesisConfig.from_dict({
    "seed": 1,
    "suppress-health-check": ["all"],
    "generation": {
        "deterministic": True, "database": "none", "with-security-parameters": False,
        "max-examples": max(5, REQUESTS // len(ROUTES)),
    },
    # what is sent follows from the document alone, not from earlier answers
    "phases": {
        "coverage": {"enabled": False},
        "fuzzing": {"extra-data-sources": {"responses": False}, "error-feedback": {"enabled": False}},
    },
})  # fmt: skip
NEVER_DONE = {"v1.message-attempt.cancel", "v1.authentication.logout"}
"""Operations that cannot succeed here: the delivery has ended, the token is no visitor's."""

schema = schemathesis.openapi.from_dict(DOCUMENT, config=CONFIG)


class Site:
    """A server on a thread of its own, and a client for it that keeps book of what succeeded."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._up = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()))
        self._session = requests.Session()
        self._session.headers["authorization"] = f"Bearer {ADMIN}"
        self.tried: set[str] = set()
        self.done: set[str] = set()

    def __enter__(self) -> "Site":
        self._thread.start()
        assert self._up.wait(GRACE)
        return self

    def __exit__(self, *_: object) -> None:
        self._session.close()
        self._http.should_exit = True
        self._thread.join()

    async def _main(self) -> None:
        async with running(self._path) as server:
            self._things = await one_of_everything(server)
            sock = listen("127.0.0.1", 0)
            self._url = f"http://127.0.0.1:{sock.getsockname()[1]}"
            self._http = http_server(server.api)
            self._up.set()
            await self._http.serve([sock])

    def send(self, case: schemathesis.Case) -> Any:
        """The answer to a request, which is made to be about what is there."""
        case.path_parameters.update(self._things)
        if "/operational-webhook/" in case.path:
            case.path_parameters["endpoint_id"] = self._things["own_endpoint_id"]
        if case.method in ("PUT", "PATCH", "DELETE"):
            self._renew(case)
        response = case.call(base_url=self._url, session=self._session)
        operation = case.operation.definition.raw["operationId"]
        self.tried.add(operation)
        if response.status_code < 300:
            self.done.add(operation)
        return response

    def _renew(self, case: schemathesis.Case) -> None:
        """Something of its own to change, where such a thing can be created: the others stay as they are."""
        parent, _, variable = case.path.rpartition("/")
        body = BODIES.get(("POST", parent.removeprefix(PREFIX)))
        if body is not None:
            created = self._session.post(self._url + parent.format(**self._things), json=body).json()
            case.path_parameters[variable[1:-1]] = created.get("id", body.get("name"))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Site(tmp_path_factory.mktemp("site")) as site:
        yield site
    assert site.tried - site.done <= NEVER_DONE, "no request of these succeeded: give their models examples"


@schema.parametrize()
def test_requests_from_the_document(case: schemathesis.Case, site: Site) -> None:
    case.validate_response(site.send(case), checks=CHECKS)
