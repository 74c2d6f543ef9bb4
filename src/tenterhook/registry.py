"""What people configure: applications, endpoints, sources. Checked, stored, then made known to the catalog and worker.

The store comes first: what memory knows is never more than what is on the disk.
"""

import secrets
from collections.abc import Awaitable, Callable, Sequence
from random import SystemRandom
from typing import Any

from msgspec.structs import replace

from tenterhook import providers, receive, signing, tokens
from tenterhook.catalog import Catalog
from tenterhook.clock import Clock
from tenterhook.engine.worker import Worker
from tenterhook.errors import BadRequest, Forbidden, Invalid, NotFound
from tenterhook.event_type_changes import Change
from tenterhook.headers import check_headers
from tenterhook.ids import PREFIXES, IdMaker
from tenterhook.model import (
    OPERATIONAL,
    Application,
    Endpoint,
    EventType,
    Integration,
    Secret,
    Source,
    Token,
    Transformation,
)
from tenterhook.operational import NO_NOTICES, Notifier
from tenterhook.store.base import Store
from tenterhook.store.queries import Cursor
from tenterhook.store.work import Remember
from tenterhook.tokens import TokenScope
from tenterhook.transformations.contract import Failed
from tenterhook.units import format_duration

MOST_SECRETS = 10
SOURCE_TOKEN_BYTES = 24
_PAGE = 250
_RETENTION = "recordRetentionHours"

RememberFor = Callable[[Any], Remember] | None
"""Makes the remembered answer of an idempotent request from the object that was created."""


class Registry:
    """`kinds` are the senders there are.

    `check_url` raises Invalid for a URL that will never be called, `check_code` Failed for a transformation that cannot run.

    `longest_timeout` bounds that of endpoints; records must be kept for longer than `lifetime`, that of a delivery (µs).
    """

    def __init__(
        self,
        store: Store,
        catalog: Catalog,
        worker: Worker,
        clock: Clock,
        ids: IdMaker,
        kinds: Sequence[str],
        check_url: Callable[[str], Awaitable[None]],
        check_code: Callable[[str], Awaitable[None]],
        longest_timeout: int,
        lifetime: int,
        notices: Notifier = NO_NOTICES,
    ) -> None:
        self._store, self._catalog, self._worker, self._clock, self._ids = store, catalog, worker, clock, ids
        self._kinds, self._check_url, self._check_code = kinds, check_url, check_code
        self._longest_timeout = longest_timeout
        self._notices = notices
        self._lifetime = lifetime

    # applications

    async def create_application(self, remember: RememberFor = None, **fields: Any) -> Application:
        """Raises Invalid, Conflict for a taken uid."""
        now = self._clock.now()
        app = Application(id=self._ids.new(PREFIXES["application"], now), created_at=now, updated_at=now, **fields)
        self._check_retention(app)
        await self._store.create_application(app, None if remember is None else remember(app))
        return app

    async def save_application(self, app: Application, **changes: Any) -> Application:
        """Raises Invalid, NotFound, Conflict, Forbidden, ChangedMeanwhile when it is not as `app` any more."""
        _must_be_yours(app)
        changed = replace(app, updated_at=self._clock.now(), **changes)
        self._check_retention(changed)
        try:
            await self._store.save_application(changed, app.updated_at)
        finally:
            # also when it has changed: this node may know it as it was
            self._catalog.forget_application(app.id)
        await self._worker.hear_of_application(app.id)
        return changed

    def _check_retention(self, app: Application) -> None:
        if app.record_retention is not None and app.record_retention <= self._lifetime:
            least = format_duration(self._lifetime)
            raise Invalid(f"records must be kept for longer than a delivery may live ({least})", ("body", _RETENTION))

    async def delete_application(self, app: Application) -> None:
        """With its endpoints and sources; what is pending is cancelled. Raises NotFound, Forbidden."""
        _must_be_yours(app)
        endpoints = await self._store.load_endpoints(app.id)
        told = [await self._notices.endpoint("endpoint.deleted", endpoint) for endpoint, _ in endpoints]
        notices = tuple(one for planned in told for one in planned)
        await self._store.delete_application(app.id, notices)
        self._notices.written(notices)
        self._catalog.forget_application(app.id)
        for endpoint, _ in endpoints:
            self._worker.dismiss(endpoint.id)
        self._worker.throttle(app.id, None)

    # event types

    async def create_event_type(self, event_type: EventType, remember: RememberFor = None) -> EventType:
        """Raises EventTypeExists unless the one there is archived."""
        await self._store.create_event_type(event_type, None if remember is None else remember(event_type))
        self._catalog.forget_event_type(event_type.name)
        return event_type

    async def save_event_type(self, event_type: EventType) -> EventType:
        """Create or replace it."""
        await self._store.save_event_type(event_type)
        self._catalog.forget_event_type(event_type.name)
        return event_type

    async def change_event_types(self, changes: Sequence[Change], remember: Remember | None = None) -> None:
        """All of the changes or none."""
        await self._store.save_event_types([change.event_type for change in changes], remember)
        self._catalog.forget_event_type("")

    async def delete_event_type(self, name: str) -> None:
        """Remove it for good. Raises NotFound."""
        await self._store.delete_event_type(name)
        self._catalog.forget_event_type(name)

    # endpoints

    async def create_endpoint(self, app: str, remember: RememberFor = None, **fields: Any) -> Endpoint:
        """A webhook endpoint without a secret gets one. Raises Invalid, Conflict."""
        now = self._clock.now()
        endpoint = Endpoint(
            id=self._ids.new(PREFIXES["endpoint"], now), app=app, created_at=now, updated_at=now, **fields
        )
        if endpoint.kind == "webhook" and not endpoint.secrets:
            endpoint = replace(endpoint, secrets=(Secret(self.new_secret()),))
        await self.check_endpoint(endpoint)
        notices = await self._notices.endpoint("endpoint.created", endpoint)
        await self._store.create_endpoint(app, endpoint, None if remember is None else remember(endpoint), notices)
        self._notices.written(notices)
        self._catalog.forget_application(app)
        return endpoint

    async def save_endpoint(self, endpoint: Endpoint, **changes: Any) -> Endpoint:
        """Applies to the very next attempt; enabling begins a clean health record.

        Raises Invalid, NotFound, Conflict, ChangedMeanwhile when it is not as `endpoint` any more: its receiver may have had it
        switched off.
        """
        changed = replace(endpoint, updated_at=self._clock.now(), **changes)
        await self.check_endpoint(changed, url_changed=changed.url != endpoint.url)
        kinds = ["endpoint.updated"]
        if changed.disabled != endpoint.disabled:
            kinds.append("endpoint.disabled" if changed.disabled else "endpoint.enabled")
            changed = replace(changed, disabled_reason="manual" if changed.disabled else None)
        notices = tuple([one for kind in kinds for one in await self._notices.endpoint(kind, changed)])
        enabled = "endpoint.enabled" in kinds
        await self._store.save_endpoint(endpoint.app, changed, enabled, notices, endpoint.updated_at)
        self._notices.written(notices)
        self._catalog.forget_application(endpoint.app)
        stored = await self._store.load_endpoint(endpoint.id)
        if stored is not None:
            # with its health: the worker may hear of this endpoint for the first time
            self._worker.adopt(*stored)
        return changed

    async def delete_endpoint(self, endpoint: Endpoint) -> None:
        """Cancels what is pending. Raises NotFound."""
        notices = await self._notices.endpoint("endpoint.deleted", endpoint)
        await self._store.delete_endpoint(endpoint.app, endpoint.id, notices)
        self._notices.written(notices)
        self._catalog.forget_application(endpoint.app)
        self._worker.dismiss(endpoint.id)

    async def transform(self, endpoint: Endpoint, **changes: Any) -> Endpoint:
        """Change the transformation of an endpoint; without code it goes altogether. Raises Invalid and what saving does."""
        if endpoint.kind != "webhook":
            raise Invalid(f"an endpoint of kind {endpoint.kind} has no transformation: only webhooks do")
        if changes.get("code", "") is None:
            return await self.save_endpoint(endpoint, transformation=None)
        now = self._clock.now()
        before = endpoint.transformation or Transformation(updated_at=now)
        after = replace(before, updated_at=now, **changes)
        if after.enabled and after.code is None:
            raise Invalid("there is no code to enable", ("body", "enabled"))
        if after.code is not None and after.code != before.code:
            try:
                await self._check_code(after.code)
            except Failed as failed:
                raise Invalid(failed.detail, ("body", "code")) from None
        return await self.save_endpoint(endpoint, transformation=after)

    async def rotate_secret(self, endpoint: Endpoint, key: str | None, grace: int) -> Endpoint:
        """A new secret signs from now on; the old ones go on signing for `grace` µs at most. Raises BadRequest."""
        now = self._clock.now()
        living = [s for s in endpoint.secrets if s.expires_at is None or s.expires_at > now]
        if len(living) > MOST_SECRETS:
            raise BadRequest(f"more than {MOST_SECRETS} old secrets are still valid: wait until some have expired")
        end = now + grace
        old = [Secret(s.key, end if s.expires_at is None else min(s.expires_at, end)) for s in living]
        rotated = (Secret(key or self.new_secret()), *(s for s in old if s.expires_at is None or s.expires_at > now))
        return await self.save_endpoint(endpoint, secrets=rotated)

    def new_secret(self) -> str:
        """A fresh `whsec_…`."""
        return signing.generate_secret(secrets.token_bytes)

    async def check_endpoint(self, endpoint: Endpoint, url_changed: bool = True) -> None:
        """Whether it may be stored. Raises Invalid."""
        if endpoint.kind not in self._kinds:
            raise Invalid(
                f"there is no kind {endpoint.kind!r}: choose one of {', '.join(self._kinds)}", ("body", "kind")
            )
        check_headers(dict(endpoint.headers))
        for secret in endpoint.secrets:
            signing.signing_key(secret.key)
        if endpoint.timeout is not None and not 0 < endpoint.timeout <= self._longest_timeout:
            raise Invalid(f"at most {self._longest_timeout} µs, so that it ends before its lease", ("body", "timeout"))
        if url_changed:
            await self._check_url(endpoint.url)

    # sources

    async def create_source(self, app: str, remember: RememberFor = None, **fields: Any) -> Source:
        """Without a token it gets one that cannot be guessed. Raises Invalid, Conflict."""
        now = self._clock.now()
        fields.setdefault("token", None)
        fields["token"] = fields["token"] or secrets.token_urlsafe(SOURCE_TOKEN_BYTES)
        source = Source(id=self._ids.new(PREFIXES["source"], now), app=app, created_at=now, updated_at=now, **fields)
        _check_source(source)
        await self._store.create_source(app, source, None if remember is None else remember(source))
        return source

    async def save_source(self, source: Source, **changes: Any) -> Source:
        """Raises Invalid, NotFound, Conflict, ChangedMeanwhile when it is not as `source` any more."""
        changed = replace(source, updated_at=self._clock.now(), **changes)
        _check_source(changed)
        await self._store.save_source(source.app, changed, source.updated_at)
        self._catalog.forget_application(source.app)
        return changed

    async def delete_source(self, source: Source) -> None:
        """What it received stays. Raises NotFound."""
        await self._store.delete_source(source.app, source.id)
        self._catalog.forget_application(source.app)

    # integrations

    async def create_integration(self, app: str, remember: RememberFor = None, **fields: Any) -> Integration:
        """It gets its first key when that is rotated."""
        now = self._clock.now()
        made = self._ids.new(PREFIXES["integration"], now)
        integration = Integration(id=made, app=app, created_at=now, updated_at=now, **fields)
        await self._store.create_integration(app, integration, None if remember is None else remember(integration))
        return integration

    async def save_integration(self, integration: Integration, **changes: Any) -> Integration:
        """Its key goes by the changes at once. Raises NotFound."""
        changed = replace(integration, updated_at=self._clock.now(), **changes)
        await self._store.save_integration(integration.app, changed)
        return changed

    async def rotate_key(self, integration: Integration) -> str:
        """The text of a new key, which is shown once; the one before is no more. Raises NotFound."""
        fields = {"name": integration.name, "scope": TokenScope.APPLICATION.value, "app": integration.app}
        key, text = _made_token(self._clock, **fields)
        await self._store.rotate_key(integration.app, integration.id, key, tokens.hash_token(text))
        return text

    # lookups that faces need

    async def application(self, app: str) -> Application:
        """By id or uid. Raises NotFound."""
        known = self._catalog.known(app)
        found = known.application if known is not None else await self._store.get_application(app)
        if found is None:
            raise NotFound
        return found

    async def endpoint(self, app: str, endpoint: str) -> Endpoint:
        """By id or uid. Raises NotFound."""
        found = await self._store.get_endpoint(app, endpoint)
        if found is None:
            raise NotFound
        return found

    async def integration(self, app: str, integration: str) -> Integration:
        """By id. Raises NotFound."""
        found = await self._store.get_integration(app, integration)
        if found is None:
            raise NotFound
        return found

    async def event_types(self) -> list[EventType]:
        """All event types by name, archived ones too."""
        found: list[EventType] = []
        while True:
            after = found[-1].name if found else None
            page = await self._store.list_event_types(Cursor(limit=_PAGE, after=after), archived=True)
            found += page
            if len(page) < _PAGE:
                return found

    async def sources(self, app: str) -> list[Source]:
        """All sources of the application."""
        found: list[Source] = []
        while True:
            page = await self._store.list_sources(app, Cursor(limit=_PAGE, after=found[-1].id if found else None))
            found += page
            if len(page) < _PAGE:
                return found

    async def source(self, app: str, source: str) -> Source:
        """By id or uid. Raises NotFound."""
        found = await self._store.get_source(app, source)
        if found is None:
            raise NotFound
        return found


def _must_be_yours(app: Application) -> None:
    if app.id == OPERATIONAL:
        raise Forbidden("this application is the server's own: only its endpoints can be changed")


async def create_token(store: Store, clock: Clock, **fields: Any) -> tuple[Token, str]:
    """Make a token from these fields of it; its text is returned once and stored nowhere."""
    token, text = _made_token(clock, **fields)
    await store.create_token(token, tokens.hash_token(text))
    return token, text


def _made_token(clock: Clock, **fields: Any) -> tuple[Token, str]:
    now = clock.now()
    return Token(id=IdMaker().new(PREFIXES["token"], now), created_at=now, **fields), tokens.new_token(SystemRandom())


def _check_source(source: Source) -> None:
    if source.provider not in providers.names():
        raise Invalid(
            f"there is no provider {source.provider!r}: choose one of {', '.join(providers.names())}",
            ("body", "provider"),
        )
    receive.check_source(providers.load(source.provider), source.secrets, source.options)
