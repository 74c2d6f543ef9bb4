"""Calls to the REST API of the operator's own server. It is named by the operator, so nothing is refused here."""

import http.client
import ssl
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from tenterhook.errors import Invalid, TenterhookError

TIMEOUT_SECONDS = 30
ADVICE = "is it running there? Name another with --server or TENTERHOOK_URL"


class ServerUnreachable(TenterhookError):
    """The server does not answer."""

    code = "server_unreachable"
    status = 503


class Refused(TenterhookError):
    """The server refuses the request."""

    code = "refused"
    status = 502


class Answer(Struct, frozen=True):
    """What a server answered."""

    status: int
    body: bytes

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    def problem(self) -> str:
        """What an error answer says, for people."""
        try:
            document = msgspec.json.decode(self.body)
            detail = document["detail"]
            if isinstance(detail, list):
                detail = "; ".join(f"{'.'.join(map(str, item['loc'][1:]))}: {item['msg']}" for item in detail)
            return f"{self.status} {document.get('code', 'invalid')}: {detail}"
        except (msgspec.DecodeError, KeyError, TypeError, AttributeError):
            return f"{self.status}: {self.body[:200].decode('utf-8', 'replace')}"


def call(
    server: str, method: str, path: str, *, headers: dict[str, str] | None = None, body: bytes | None = None
) -> Answer:
    """One request to `server` (`http://host:port`, perhaps with a path). Raises Invalid, ServerUnreachable."""
    connection, prefix = _connection(server)
    try:
        connection.request(method, prefix + path, body, headers or {})
        response = connection.getresponse()
        return Answer(response.status, response.read())
    except UnicodeError:
        raise Invalid(f"{server!a} is not the URL of a server: its host is no name") from None
    except (OSError, http.client.HTTPException) as error:
        reason = str(error) or type(error).__name__
        raise ServerUnreachable(f"no answer from {server}: {reason}; {ADVICE}") from None
    finally:
        connection.close()


def _connection(server: str) -> tuple[http.client.HTTPConnection, str]:
    try:
        url = urlsplit(server)
        host, port = url.hostname, url.port
    except ValueError:
        host, port = None, None
    if not host or url.scheme not in ("http", "https") or url.query or url.fragment:
        raise Invalid(f"{server!r} is not the URL of a server: write http://host:port")
    if url.scheme == "https":
        context = ssl.create_default_context()
        return http.client.HTTPSConnection(host, port, timeout=TIMEOUT_SECONDS, context=context), url.path.rstrip("/")
    return http.client.HTTPConnection(host, port, timeout=TIMEOUT_SECONDS), url.path.rstrip("/")
