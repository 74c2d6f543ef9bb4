"""What a worker knows of endpoints: their configuration and health, as they come to know, change and go."""

import logging
from collections.abc import Callable, Iterable

from msgspec.structs import replace

from tenterhook.clock import SECOND, Clock
from tenterhook.engine.lane import Lane
from tenterhook.engine.pending import Pending
from tenterhook.engine.settling import Settling
from tenterhook.engine.throttle import Throttle
from tenterhook.errors import StoreUnavailable, TenterhookError
from tenterhook.model import Endpoint, Health, Policy
from tenterhook.store.base import Store
from tenterhook.store.work import Claimed

log = logging.getLogger(__name__)

_UNREADABLE = 30 * SECOND


class Endpoints:
    """Keeps the lanes of `pending`. `disabled` is called with an endpoint that a verdict has switched off."""

    def __init__(
        self,
        store: Store,
        pending: Pending,
        settling: Settling,
        clock: Clock,
        policy: Policy,
        disabled: Callable[[Endpoint], None],
    ) -> None:
        self._store, self._pending, self._settling = store, pending, settling
        self._clock, self._policy, self._disabled = clock, policy, disabled

    def adopt(self, endpoint: Endpoint, health: Health) -> None:
        """Know an endpoint, or that it has changed; its health is taken only for one not known yet."""
        if not self._pending.active:
            return
        lane = self._pending.lanes.get(endpoint.id)
        if lane is None:
            self._pending.add(Lane(endpoint, health, self._policy, self._store.shared))
            return
        was_disabled = lane.endpoint.disabled
        lane.configure(endpoint)
        if was_disabled and not endpoint.disabled:
            lane.health = Health()
        if endpoint.disabled:
            self._settling.release_queue(lane)
        self._pending.schedule(endpoint.id)

    def dismiss(self, endpoint: str) -> None:
        """Forget a deleted endpoint."""
        lane = self._pending.remove(endpoint)
        if lane is not None:
            lane.configure(replace(lane.endpoint, disabled=True))
            self._settling.release_queue(lane)
            self._join(lane, None)

    def throttle(self, app: str, rate: int | None) -> None:
        """Know the most attempts per second of an application, None for any number."""
        throttles = self._pending.throttles
        known = throttles.get(app)
        if not self._pending.active or rate == (None if known is None else known.rate):
            return
        self._pending.rate_changes += 1
        if rate is None:
            throttles.pop(app, None)
        elif known is None:
            throttles[app] = Throttle(rate)
        else:
            known.change(rate)
        for endpoint in self._pending.apps.get(app, ()):
            lane = self._pending.lanes[endpoint]
            if lane.shared:
                self._settling.release_queue(lane)  # it waits for instants of the other rate, or has none
            self._join(lane, throttles.get(app))
            self._pending.agenda.push(self._clock.now(), endpoint)

    def _join(self, lane: Lane, throttle: Throttle | None) -> None:
        before = lane.throttle
        if before is not throttle:
            lane.join(throttle)
        if before is not None:
            self._pending.move_on(before)

    async def update_rate(self, app: str) -> None:
        """The application may have another one, and some of its endpoints may be known here. Raises StoreUnavailable."""
        if app in self._pending.apps or app in self._pending.throttles:
            await self._load_rate(app)

    async def _load_rate(self, app: str) -> None:
        seen = None
        while seen != self._pending.rate_changes:  # what was read before a change may be older than that
            seen = self._pending.rate_changes
            found = await self._store.get_application(app)
        self.throttle(app, None if found is None else found.rate_limit)

    async def load(self, endpoint: str) -> Lane | None:
        """Know it as it is stored, so that there is a lane; None if that cannot be, or not now."""
        try:
            found = await self._store.load_endpoint(endpoint)
            if found is None:
                # planned by a node that did not know yet: nobody will ever want these
                self.dismiss(endpoint)
                await self._store.abandon(endpoint)
                return None
            if found[0].app not in self._pending.apps:
                await self._load_rate(found[0].app)
        except StoreUnavailable:
            self._pending.agenda.push(self._clock.now() + SECOND, endpoint)
            return None
        except TenterhookError as error:
            log.error("endpoint %s cannot be read, its deliveries wait: %s", endpoint, error)
            self._pending.agenda.push(self._clock.now() + _UNREADABLE, endpoint)
            return None
        self.adopt(*found)
        return self._pending.lanes[endpoint]

    async def update(self, endpoint: str) -> Lane | None:
        """Another node has changed one that is known here, or what is known of its health. Raises StoreUnavailable."""
        lane = self._pending.lanes.get(endpoint)
        if lane is None:
            return None
        known = lane.health
        found = await self._store.load_endpoint(endpoint)
        if found is None:
            self.dismiss(endpoint)
            return None
        self.adopt(*found)
        if lane.health is known:
            lane.health = found[1]
        return lane

    def switch_off(self, lane: Lane, reason: str) -> None:
        """A verdict says that it gets nothing more. Messages still come, until that is on the disk: it may be too late."""
        lane.configure(replace(lane.endpoint, disabled=True, disabled_reason=reason))
        self._settling.release_queue(lane)

    def switched_off(self, lane: Lane, reason: str) -> None:
        """It is on the disk; whoever has read the endpoint in between knows it as it was before."""
        self.switch_off(lane, reason)
        self._disabled(lane.endpoint)


def is_outdated(lane: Lane, claimed: Iterable[Claimed]) -> bool:
    """Whether another node has changed the endpoint since it was loaded."""
    return any(one.changed_at not in (None, lane.endpoint.updated_at) for one in claimed)
