"""Who is calling: bearer tokens, stored as hashes, remembered for a few seconds."""

from hmac import compare_digest

from tenterhook import tokens
from tenterhook.api.routes import Access, Route
from tenterhook.clock import SECOND, Clock
from tenterhook.errors import Unauthenticated
from tenterhook.model import Token
from tenterhook.store.base import Store

REMEMBERED = 5 * SECOND
"""A token that another process revokes (the command line does) is refused after this time at the latest."""
_MOST = 10_000


class Authenticator:
    """`admin_token` comes from the settings and is accepted beside those in the database."""

    def __init__(self, store: Store, clock: Clock, admin_token: str | None) -> None:
        self._store, self._clock = store, clock
        self._admin_hash = None if admin_token is None else tokens.hash_token(admin_token)
        self._admin = Token(id="tok_admin", name="TENTERHOOK_ADMIN_TOKEN", scope="admin", created_at=0)
        self._known: dict[bytes, tuple[Token, int]] = {}

    async def token(self, header: bytes | None) -> Token:
        """The token of an Authorization header. Raises Unauthenticated."""
        if header is None or header[:7].lower() != b"bearer ":
            raise Unauthenticated
        hashed = tokens.hash_token(header[7:].strip().decode("latin-1"))
        if self._admin_hash is not None and compare_digest(hashed, self._admin_hash):
            return self._admin
        now = self._clock.now()
        known = self._known.get(hashed)
        if known is not None and now < known[1]:
            return known[0]
        found = await self._store.find_token(hashed)
        if found is None:
            raise Unauthenticated
        if len(self._known) >= _MOST:
            self._known.clear()
        self._known[hashed] = (found, now + REMEMBERED)
        return found

    def forget(self) -> None:
        """Some token was revoked elsewhere."""
        self._known.clear()

    def check(self, token: Token, route: Route, app: str | None) -> None:
        """Raises Unauthenticated, Forbidden, NotFound; `app` is the id of the application in the path, if there is one."""
        scope = token.app if route.access is Access.ANY else app
        tokens.allows(token, write=route.write, app=scope, now=self._clock.now(), needs=route.needs)
