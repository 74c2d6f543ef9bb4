"""Which endpoints of an application want a message: event types (exact, or globs such as `invoice.*`) and channels."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

from tenterhook.model import Endpoint

_REMEMBERED = 1_000


def wants(endpoint: Endpoint, event_type: str, channels: Sequence[str]) -> bool:
    """Whether an endpoint's filters let the message pass; disabled or not is another question."""
    if endpoint.event_types is not None and not any(_matches(event_type, pattern) for pattern in endpoint.event_types):
        return False
    return endpoint.channels is None or any(channel in endpoint.channels for channel in channels)


def _matches(event_type: str, pattern: str) -> bool:
    return event_type == pattern or ("*" in pattern and fnmatchcase(event_type, pattern))


class Router:
    """The endpoints of one application, with the answers for recent (event type, channels) remembered.

    A router is thrown away when an endpoint changes, so an answer never goes stale.
    """

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        self._enabled = [endpoint for endpoint in endpoints if not endpoint.disabled]
        self._by_name: dict[str, list[int]] = {}
        self._others: list[int] = []  # want all event types, or have a pattern
        for number, endpoint in enumerate(self._enabled):
            if endpoint.event_types is None or any("*" in name for name in endpoint.event_types):
                self._others.append(number)
            else:
                for name in endpoint.event_types:
                    self._by_name.setdefault(name, []).append(number)
        self._known: dict[tuple[str, tuple[str, ...]], tuple[Endpoint, ...]] = {}

    def match(self, event_type: str, channels: tuple[str, ...]) -> tuple[Endpoint, ...]:
        """The enabled endpoints that want such a message."""
        key = (event_type, channels)
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            candidates = sorted({*self._by_name.get(event_type, ()), *self._others})
            found = tuple(one for one in map(self._enabled.__getitem__, candidates) if wants(one, event_type, channels))
            self._known[key] = found
        return found
