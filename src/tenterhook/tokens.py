"""API tokens: how they are made and kept, and what each scope may do.

The rules are those that clients of the Svix wire API can observe: 401 for a dead token, 403 on an operation above its
scope, 404 on an application that is not its own, just as for one that does not exist.
"""

from enum import StrEnum
from hashlib import sha256
from random import Random

from tenterhook.errors import Forbidden, NotFound, Unauthenticated
from tenterhook.ids import ALPHABET
from tenterhook.model import Token

PREFIX = "thk_"
LENGTH = 40


class TokenScope(StrEnum):
    """What a token may do."""

    ADMIN = "admin"  # everything
    APPLICATION = "application"  # everything below its one application
    READ_ONLY = "read-only"  # look at everything but secrets, change nothing


class Capability(StrEnum):
    """What a visitor of the portal may do in the application (the wire API's `AppPortalCapability`)."""

    VIEW = "ViewBase"
    VIEW_SECRET = "ViewEndpointSecret"  # noqa: S105 (a word of the wire API)
    MANAGE_SECRET = "ManageEndpointSecret"  # noqa: S105
    MANAGE_TRANSFORMATIONS = "ManageTransformations"
    CREATE_ATTEMPTS = "CreateAttempts"
    MANAGE = "ManageEndpoint"


def new_token(random: Random) -> str:
    """The text of a new token, about 238 bits; `random` is a `random.SystemRandom` outside of tests.

    It has no dot: the official SDKs take what follows a dot for the region of a hosted service.
    """
    return PREFIX + "".join(random.choice(ALPHABET) for _ in range(LENGTH))


_SCOPES = frozenset(scope.value for scope in TokenScope)


def hash_token(text: str) -> bytes:
    """What is stored of a token, 32 bytes. A token is random, so a fast hash without salt cannot be searched."""
    return sha256(text.encode("utf-8", "surrogatepass")).digest()


def allows(token: Token, *, write: bool, app: str | None, now: int, needs: Capability = Capability.VIEW) -> None:
    """Return if the token may do this at `now` (µs UTC), else raise.

    `app` is the application that the operation works on, None for one of the whole organisation. A token with an `app`
    is limited to it whatever its scope. An operation that any token may do is asked for with `app=token.app`. What shows
    a secret is more than looking, so a token that may only read may not do it.

    Raises Unauthenticated (revoked or expired), NotFound (another application) or Forbidden.
    """
    if _is_over(token.revoked_at, now) or _is_over(token.expires_at, now):
        raise Unauthenticated
    if token.scope not in _SCOPES:
        raise Forbidden(f"this token has the unknown scope {token.scope!r}")
    if token.app is not None or token.scope == TokenScope.APPLICATION:
        _within_application(token, app)
    if token.scope == TokenScope.READ_ONLY and (write or needs is Capability.VIEW_SECRET):
        raise Forbidden("this token may only read, and no secrets")
    if token.capabilities is not None and needs not in token.capabilities:
        raise Forbidden(f"this token lacks the capability {needs.value}")


def _is_over(end: int | None, now: int) -> bool:
    return end is not None and end <= now


def _within_application(token: Token, app: str | None) -> None:
    if app is None:
        raise Forbidden("this token is for one application only")
    if app != token.app:
        raise NotFound
