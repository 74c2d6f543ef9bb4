"""What a transformation is given, and what it may give back: the webhook, before and after.

The object is that of Svix's transformations, so code from there runs unchanged; `variables` is its member too.
"""

from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, Protocol

import msgspec
from msgspec import Struct

from tenterhook.errors import Invalid
from tenterhook.headers import check_headers
from tenterhook.model import Transformation
from tenterhook.transformations.jobs import Job, Report

METHODS = ("POST", "PUT")
JSON = "application/json"
MOST_DETAIL = 500
"""How much of what a program says of its failure is kept, in characters."""


class Failed(Exception):
    """The transformation could not be run to its end; `detail` is for those who wrote it."""

    def __init__(self, detail: str) -> None:
        self.detail = detail
        super().__init__(detail)


class Webhook(Struct, frozen=True, kw_only=True):
    """What a transformation is given. `payload` is JSON where the content type says so, else text."""

    url: str
    event_type: str
    payload: bytes
    content_type: str = JSON


class Changed(Struct, frozen=True, kw_only=True):
    """What is to be sent instead: `headers` beside or in place of the endpoint's own, `payload` None for what it was."""

    method: str
    url: str
    headers: tuple[tuple[str, str], ...] = ()
    payload: bytes | None = None
    content_type: str = JSON


class Transform(Protocol):
    """Runs transformations; see `runner.Runner`."""

    def __call__(
        self, owners: Sequence[str], transformation: Transformation, webhook: Webhook, *, deadline: int
    ) -> Awaitable[Changed | None]:
        """What becomes of the webhook within `deadline` µs, None for one that is not to be sent.

        The runs of each of the `owners`, the innermost first, take turns. Raises Failed.
        """


class _Given(Struct, frozen=True, rename="camel"):
    """The object before the payload comes in. A transformation sees no header: the endpoint's own may be credentials."""

    method: str
    url: str
    event_type: str
    variables: Mapping[str, str]
    headers: dict[str, str] = {}
    cancel: bool = False


def job(transformation: Transformation, webhook: Webhook, most: int) -> Job:
    """Raises Failed for a payload that is no text."""
    given = _Given(METHODS[0], webhook.url, webhook.event_type, transformation.variables)
    try:
        payload = webhook.payload.decode()
    except UnicodeDecodeError:
        raise Failed("the payload is not UTF-8, so it cannot be transformed") from None
    code, text = transformation.code or "", msgspec.json.encode(given).decode()
    return Job(code, text, payload, is_json(webhook.content_type), most)


def is_json(content_type: str) -> bool:
    """Whether a payload is JSON by its content type (`application/json`, `application/vnd.acme+json`)."""
    kind = content_type.partition(";")[0].strip().lower()
    return kind.endswith(("/json", "+json"))


def result(report: Report, webhook: Webhook) -> Changed | None:
    """What a run came to, checked like anything from outside; None to cancel. Raises Failed."""
    if report.error is not None:
        raise failure(report)
    if report.cancel:
        return None
    if report.method not in METHODS:
        raise Failed(f"webhook.method must be {' or '.join(METHODS)}")
    if not isinstance(report.url, str):
        raise Failed("webhook.url must be a string")
    # a string in place of a text stays text; everything else is JSON
    as_it_was = report.payload is None or report.text or is_json(webhook.content_type)
    return Changed(
        method=report.method,
        url=report.url,
        headers=_headers(report.headers),
        payload=report.payload,
        content_type=webhook.content_type if as_it_was else JSON,
    )


def failure(report: Report) -> Failed:
    """What is said of an error in the code, on one line."""
    words = " ".join((report.error or "").split())
    if len(words) > MOST_DETAIL:
        words = words[:MOST_DETAIL] + "…"
    return Failed(words if report.line is None else f"{words} (line {report.line})")


def _headers(headers: Any) -> tuple[tuple[str, str], ...]:
    if headers is None:
        return ()
    if not isinstance(headers, dict) or not all(isinstance(value, str) for value in headers.values()):
        raise Failed("webhook.headers must be an object of strings")
    try:
        return check_headers(headers)
    except Invalid as invalid:
        name = "" if len(invalid.loc) < 3 else f" {invalid.loc[2]}"
        raise Failed(f"webhook.headers{name}: {invalid.detail}") from None
