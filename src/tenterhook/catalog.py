"""What the hot path must know without asking the database: applications with their endpoints, sources, event types.

A bounded cache, filled on demand; whoever changes an object says so (`forget_*`), and the next use loads it anew. A source
belongs to its application: when that is found to be as it was, so is the source.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from msgspec.structs import replace

from tenterhook.errors import NotFound
from tenterhook.model import Application, Endpoint, EventType, Health, Source
from tenterhook.routing import Router, wants
from tenterhook.store.base import Store

_ALL = "*"
_APPLICATIONS = 10_000
_SOURCES = 10_000
_EVENT_TYPES = 10_000


class Entry:
    """An application with its endpoints as of one `revision`, ready for routing; `sources` by token were read after it.

    One that is `outdated` only spares reading again what has not changed.
    """

    __slots__ = ("application", "endpoints", "outdated", "revision", "router", "sources")

    def __init__(self, application: Application, revision: int, endpoints: dict[str, Endpoint]) -> None:
        self.application = application
        self.revision = revision
        self.endpoints = endpoints
        self.outdated = False
        self.router = Router(list(endpoints.values()))
        self.sources: dict[str, Source] = {}

    def listens(self, event_type: str) -> bool:
        """Whether any endpoint may want such a message, whatever its channels."""
        return any(not e.disabled and wants(e, event_type, e.channels or ()) for e in self.endpoints.values())

    def replace(self, endpoint: Endpoint) -> None:
        self.endpoints[endpoint.id] = endpoint
        self.router = Router(list(self.endpoints.values()))


class Catalog:
    """`adopt` is told every endpoint that is new or has changed, with its health; `throttle` the rate of each application."""

    def __init__(
        self,
        store: Store,
        adopt: Callable[[Endpoint, Health], None],
        throttle: Callable[[str, int | None], None],
    ) -> None:
        self._store, self._adopt, self._throttle = store, adopt, throttle
        self._entries: OrderedDict[str, Entry] = OrderedDict()
        self._ids: dict[str, str] = {}  # uid → id
        self._owners: OrderedDict[str, str] = OrderedDict()  # token of a source → application
        self._event_types: OrderedDict[str, EventType | None] = OrderedDict()
        self._loading: dict[str, asyncio.Future[Entry]] = {}  # by the name that was asked for
        self._watched: dict[int, set[str]] = {}
        self._generation = 0  # of the event types

    def known(self, ref: str) -> Entry | None:
        """The application by id or uid, if it is in memory."""
        entry = self._there(ref)
        return None if entry is None or entry.outdated else entry

    def _there(self, ref: str) -> Entry | None:
        return self._entries.get(ref) or self._entries.get(self._ids.get(ref, ""))

    async def application(self, ref: str) -> Entry:
        """The application by id or uid. Raises NotFound."""
        return self.known(ref) or await self._load_once(ref)

    async def _load_once(self, ref: str) -> Entry:
        """Those who ask while it is being loaded get the same: a change that they know of is seen by that load too."""
        load = self._loading.get(ref)
        if load is None:
            load = self._loading[ref] = asyncio.ensure_future(self._loaded(ref))
            return await asyncio.shield(load)
        with suppress(NotFound):  # it may have been created since the load began
            return await asyncio.shield(load)
        return await self._load(ref)

    async def _loaded(self, ref: str) -> Entry:
        try:
            return await self._load(ref)
        finally:
            del self._loading[ref]

    async def _load(self, ref: str) -> Entry:
        while True:
            before = self._there(ref)
            known = {} if before is None else before.endpoints
            with self._watching() as changed:
                loaded = await self._store.load_application(ref, {one.id: one.updated_at for one in known.values()})
            if loaded is None:
                if before is not None:
                    self._drop(before.application.id)
                raise NotFound
            if changed.isdisjoint((loaded.application.id, _ALL)):
                break  # it was not changed while we were reading
        application = loaded.application
        self._throttle(application.id, application.rate_limit)
        for endpoint, health in loaded.endpoints:
            self._adopt(endpoint, health)
        endpoints = {one: known[one] for one in loaded.unchanged} | {one.id: one for one, _ in loaded.endpoints}
        entry = Entry(application, loaded.revision, endpoints)
        self._drop(application.id)
        self._entries[application.id] = entry
        if application.uid is not None:
            self._ids[application.uid] = application.id
        while len(self._entries) > _APPLICATIONS:
            self._drop(next(iter(self._entries)))
        return entry

    @contextmanager
    def _watching(self) -> Iterator[set[str]]:
        """The applications that are changed meanwhile."""
        changed: set[str] = set()
        self._watched[id(changed)] = changed
        try:
            yield changed
        finally:
            del self._watched[id(changed)]

    def _note(self, app: str) -> None:
        for changed in self._watched.values():
            changed.add(app)

    def forget_application(self, app: str) -> None:
        """It changed, or one of its endpoints came or went."""
        self._note(app)
        entry = self._entries.get(app)
        if entry is not None:
            entry.outdated = True
            self._forget_sources(entry)

    def _drop(self, app: str) -> None:
        entry = self._entries.pop(app, None)
        if entry is None:
            return
        if self._ids.get(entry.application.uid or "") == app:
            del self._ids[entry.application.uid or ""]
        self._forget_sources(entry)

    def _forget_sources(self, entry: Entry) -> None:
        for token in entry.sources:
            self._owners.pop(token, None)

    def endpoint_changed(self, endpoint: Endpoint) -> None:
        """The worker has switched it off: messages that come from now on do not go to it."""
        self._note(endpoint.app)
        entry = self._entries.get(endpoint.app)
        if entry is not None and endpoint.id in entry.endpoints:
            there = entry.endpoints[endpoint.id]
            entry.replace(replace(there, disabled=endpoint.disabled, disabled_reason=endpoint.disabled_reason))

    async def source(self, token: str) -> tuple[Entry, Source]:
        """The source behind a token, and its application as it was before the source was read. Raises NotFound."""
        while True:
            owner = self._owners.get(token) or (await self._find_source(token)).app
            entry = await self.application(owner)
            source = entry.sources.get(token) or await self._find_source(token)
            if source.app == owner:
                break
            self._owners.pop(token, None)  # the token has come to another application
        entry.sources[token], self._owners[token] = source, owner
        while len(self._owners) > _SOURCES:
            self._drop(self._owners.popitem(last=False)[1])
        return entry, source

    async def _find_source(self, token: str) -> Source:
        found = await self._store.find_source(token)
        if found is None:
            raise NotFound
        return found

    async def event_type(self, name: str) -> EventType | None:
        """The event type of this name; messages may have types that nobody described."""
        if name in self._event_types:
            return self._event_types[name]
        generation = self._generation
        found = await self._store.get_event_type(name)
        if generation == self._generation:
            self._event_types[name] = found
            while len(self._event_types) > _EVENT_TYPES:
                self._event_types.popitem(last=False)
        return found

    def forget_event_type(self, name: str) -> None:
        """It changed; without a name, any may have."""
        self._generation += 1
        self._event_types.pop(name, None) if name else self._event_types.clear()

    def forget_all(self) -> None:
        """Whatever may have changed."""
        self._note(_ALL)
        self._generation += 1
        self._entries.clear()
        self._ids.clear()
        self._owners.clear()
        self._event_types.clear()
