"""The verbs that both databases share: what is asked of the store, as calls of the verbs in the modules beside."""

from collections.abc import Callable, Mapping, Sequence
from typing import ParamSpec, TypeVar

from tenterhook import ids
from tenterhook.model import (
    Application,
    Attempt,
    Delivery,
    Endpoint,
    EventType,
    Health,
    Integration,
    Message,
    Received,
    Source,
    Task,
    TaskState,
    Token,
)
from tenterhook.store import consumers, erasure, history, integrations, objects, retention, search, statistics, tasks
from tenterhook.store.base import NOTHING_KNOWN, Advanced, Cutoff, Lapsing, Loaded, NextDue, Swept
from tenterhook.store.queries import (
    ApplicationFilter,
    AttemptFilter,
    Cursor,
    DeliveryCounts,
    DeliveryFilter,
    Found,
    MessageFilter,
)
from tenterhook.store.sql import Verb
from tenterhook.store.work import Accept, Remember, Remembered
from tenterhook.vault import Vault

P = ParamSpec("P")
T = TypeVar("T")


class SharedVerbs:
    """A store inherits these and says how a verb is run."""

    _vault: Vault

    async def _read(self, verb: Callable[P, Verb[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a verb that only reads. Raises StoreUnavailable."""
        raise NotImplementedError

    async def _write(self, verb: Callable[P, Verb[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a verb in one transaction, kept when it returns and undone when it raises. Raises StoreUnavailable."""
        raise NotImplementedError

    async def next_dues(self, after: str | None, limit: int) -> list[NextDue]:
        return await self._read(history.next_dues, after, limit)

    async def list_lapsing(self, now: int, limit: int) -> list[Lapsing]:
        return await self._read(history.list_lapsing, now, limit)

    async def lapse(self, now: int, over: Sequence[tuple[Delivery, Sequence[Accept]]]) -> list[Delivery]:
        return await self._write(history.lapse, now, over)

    async def load_endpoint(self, endpoint: str) -> tuple[Endpoint, Health] | None:
        return await self._read(objects.load_endpoint, self._vault, endpoint)

    async def abandon(self, endpoint: str) -> int:
        return await self._write(objects.abandon, endpoint)

    async def prune(self, now: int, rejections_kept: int, limit: int) -> int:
        return await self._write(retention.prune, now, rejections_kept, limit)

    async def overdue(self, cutoffs: Sequence[Cutoff]) -> list[Cutoff]:
        return await self._read(retention.overdue, cutoffs)

    async def list_retired(self, limit: int) -> list[str]:
        return await self._read(retention.list_retired, limit)

    async def forget(self, cutoff: Cutoff, after: str, limit: int, dry: bool = False) -> Swept:
        return await (self._read if dry else self._write)(retention.forget, cutoff, after, limit, dry)

    async def expire(self, cutoff: Cutoff, after: str, limit: int, dry: bool = False) -> Swept:
        return await (self._read if dry else self._write)(retention.expire, cutoff, after, limit, dry)

    async def expire_due(self, now: int, limit: int) -> Swept:
        return await self._write(retention.expire_due, now, limit)

    async def create_application(self, app: Application, remember: Remember | None = None) -> None:
        await self._write(objects.create_application, app, remember)

    async def save_application(self, app: Application, seen: int | None = None) -> None:
        await self._write(objects.save_application, app, seen)

    async def delete_application(self, app: str, notices: Sequence[Accept] = ()) -> None:
        await self._write(objects.delete_application, app, notices)

    async def get_application(self, app: str) -> Application | None:
        return await self._read(objects.get_application, app)

    async def load_application(self, app: str, known: Mapping[str, int] = NOTHING_KNOWN) -> Loaded | None:
        return await self._read(objects.load_application, self._vault, app, known)

    async def list_applications(self, cursor: Cursor) -> list[Application]:
        return await self._read(objects.list_applications, cursor)

    async def search_applications(self, cursor: Cursor, wanted: ApplicationFilter) -> Found[Application]:
        return await self._read(search.search_applications, self._vault, cursor, wanted)

    async def create_event_type(self, event_type: EventType, remember: Remember | None = None) -> None:
        await self._write(objects.create_event_type, event_type, remember)

    async def save_event_type(self, event_type: EventType) -> None:
        await self._write(objects.save_event_type, event_type)

    async def save_event_types(self, event_types: Sequence[EventType], remember: Remember | None = None) -> None:
        await self._write(objects.save_event_types, event_types, remember)

    async def delete_event_type(self, name: str) -> None:
        await self._write(objects.delete_event_type, name)

    async def get_event_type(self, name: str) -> EventType | None:
        return await self._read(objects.get_event_type, name)

    async def list_event_types(self, cursor: Cursor, archived: bool) -> list[EventType]:
        return await self._read(objects.list_event_types, cursor, archived)

    async def create_endpoint(
        self, app: str, endpoint: Endpoint, remember: Remember | None = None, notices: Sequence[Accept] = ()
    ) -> None:
        assert endpoint.app == app
        await self._write(objects.create_endpoint, self._vault, endpoint, remember, notices)

    async def save_endpoint(
        self,
        app: str,
        endpoint: Endpoint,
        clean: bool = False,
        notices: Sequence[Accept] = (),
        seen: int | None = None,
    ) -> None:
        await self._write(objects.save_endpoint, self._vault, app, endpoint, clean, notices, seen)

    async def delete_endpoint(self, app: str, endpoint: str, notices: Sequence[Accept] = ()) -> None:
        await self._write(objects.delete_endpoint, app, endpoint, notices)

    async def get_endpoint(self, app: str, endpoint: str) -> Endpoint | None:
        return await self._read(objects.get_endpoint, self._vault, app, endpoint)

    async def list_endpoints(self, app: str, cursor: Cursor) -> list[Endpoint]:
        return await self._read(objects.list_endpoints, self._vault, app, cursor)

    async def load_endpoints(self, app: str) -> list[tuple[Endpoint, Health]]:
        return await self._read(objects.load_endpoints, self._vault, app)

    async def get_message(self, app: str, message: str) -> Message | None:
        return await self._read(history.get_message, app, message)

    async def get_messages(self, app: str, messages: Sequence[str]) -> list[Message]:
        return await self._read(history.get_messages, app, messages)

    async def list_messages(self, app: str, cursor: Cursor) -> list[Message]:
        return await self._read(history.list_messages, app, cursor)

    async def search_messages(self, app: str, cursor: Cursor, wanted: MessageFilter) -> Found[Message]:
        return await self._read(search.search_messages, app, cursor, wanted)

    async def get_delivery(self, app: str, message: str, endpoint: str) -> Delivery | None:
        return await self._read(history.get_delivery, app, message, endpoint)

    async def list_deliveries(self, app: str, message: str) -> list[Delivery]:
        return await self._read(history.list_deliveries, app, message)

    async def search_deliveries(
        self, app: str, endpoint: str, cursor: Cursor, wanted: DeliveryFilter
    ) -> Found[tuple[Message, Delivery]]:
        return await self._read(search.search_deliveries, app, endpoint, cursor, wanted)

    async def request_attempt(
        self, app: str, message: str, endpoint: str, now: int, lifetime: int, ordered: bool
    ) -> Delivery:
        return await self._write(history.request_attempt, app, message, endpoint, now, lifetime, ordered)

    async def cancel_delivery(self, app: str, message: str, endpoint: str, now: int) -> bool:
        return await self._write(history.cancel_delivery, app, message, endpoint, now)

    async def get_attempt(self, app: str, message: str, attempt: str) -> Attempt | None:
        return await self._read(history.get_attempt, app, message, attempt)

    async def list_attempts(
        self, app: str, cursor: Cursor, *, message: str | None = None, endpoint: str | None = None
    ) -> list[Attempt]:
        return await self._read(history.list_attempts, app, cursor, message, endpoint)

    async def search_attempts(
        self,
        app: str,
        cursor: Cursor,
        wanted: AttemptFilter,
        *,
        message: str | None = None,
        endpoint: str | None = None,
    ) -> Found[Attempt]:
        return await self._read(search.search_attempts, app, cursor, wanted, message, endpoint)

    async def count_deliveries(self, app: str, endpoint: str, since: int, until: int) -> DeliveryCounts:
        counts, after = DeliveryCounts(), ids.ceiling("msg_", since)
        while True:  # each step is a read of its own, so that a long history leaves room for others
            found, reached = await self._read(
                statistics.count_deliveries, app, endpoint, after, ids.ceiling("msg_", until)
            )
            counts = counts.plus(found)
            if reached is None:
                return counts
            after = reached

    async def count_attempts(self, app: str, endpoint: str, since: int, until: int) -> tuple[int, int, int]:
        return await self._read(statistics.count_attempts, app, endpoint, since, until)

    async def expunge_messages(self, app: str, refs: Sequence[str]) -> list[str]:
        return await self._write(erasure.expunge_messages, app, refs)

    async def expunge_attempt(self, app: str, message: str, attempt: str) -> None:
        await self._write(erasure.expunge_attempt, app, message, attempt)

    async def create_source(self, app: str, source: Source, remember: Remember | None = None) -> None:
        assert source.app == app
        await self._write(objects.create_source, self._vault, source, remember)

    async def save_source(self, app: str, source: Source, seen: int | None = None) -> None:
        await self._write(objects.save_source, self._vault, app, source, seen)

    async def delete_source(self, app: str, source: str) -> None:
        await self._write(objects.delete_source, app, source)

    async def get_source(self, app: str, source: str) -> Source | None:
        return await self._read(objects.get_source, self._vault, app, source)

    async def list_sources(self, app: str, cursor: Cursor) -> list[Source]:
        return await self._read(objects.list_sources, self._vault, app, cursor)

    async def find_source(self, token: str) -> Source | None:
        return await self._read(objects.find_source, self._vault, token)

    async def list_received(self, app: str, source: str, cursor: Cursor, verdict: str | None = None) -> list[Received]:
        return await self._read(history.list_received, app, source, cursor, verdict)

    async def get_received(self, app: str, source: str, request: str) -> Received | None:
        return await self._read(history.get_received, app, source, request)

    async def create_task(self, task: Task, remember: Remember | None = None) -> None:
        await self._write(tasks.create_task, task, remember)

    async def get_task(self, task: str) -> Task | None:
        return await self._read(tasks.get_task, task)

    async def list_tasks(self, cursor: Cursor, kind: str | None = None, state: TaskState | None = None) -> list[Task]:
        return await self._read(tasks.list_tasks, cursor, kind, state)

    async def claim_task(self, now: int, lease: int, until: int) -> Task | None:
        return await self._write(tasks.claim_task, now, lease, until)

    async def advance_task(self, task: str, lease: int, now: int, until: int) -> Advanced | None:
        return await self._write(tasks.advance_task, task, lease, now, until)

    async def end_task(
        self, task: str, lease: int, now: int, error: str | None = None, notices: Sequence[Accept] = ()
    ) -> Task | None:
        return await self._write(tasks.end_task, task, lease, now, error, notices)

    async def create_token(self, token: Token, token_hash: bytes) -> None:
        await self._write(objects.create_token, token, token_hash)

    async def find_token(self, token_hash: bytes) -> Token | None:
        return await self._read(objects.find_token, token_hash)

    async def list_tokens(self) -> list[Token]:
        return await self._read(objects.list_tokens)

    async def revoke_token(self, token: str, now: int) -> None:
        await self._write(objects.revoke_token, token, now)

    async def expire_tokens(self, app: str, sessions: Sequence[str] | None, end: int) -> int:
        return await self._write(objects.expire_tokens, app, sessions, end)

    async def recall(self, key: bytes, now: int) -> Remembered | None:
        return await self._read(objects.recall, key, now)

    async def save_position(self, app: str, endpoint: str, consumer: str, position: str) -> None:
        await self._write(consumers.save_position, app, endpoint, consumer, position)

    async def get_position(self, app: str, endpoint: str, consumer: str) -> str | None:
        return await self._read(consumers.get_position, app, endpoint, consumer)

    async def create_integration(self, app: str, integration: Integration, remember: Remember | None = None) -> None:
        assert integration.app == app
        await self._write(integrations.create_integration, integration, remember)

    async def save_integration(self, app: str, integration: Integration) -> None:
        await self._write(integrations.save_integration, app, integration)

    async def delete_integration(self, app: str, integration: str) -> None:
        await self._write(integrations.delete_integration, app, integration)

    async def get_integration(self, app: str, integration: str) -> Integration | None:
        return await self._read(integrations.get_integration, app, integration)

    async def list_integrations(self, app: str, cursor: Cursor) -> list[Integration]:
        return await self._read(integrations.list_integrations, app, cursor)

    async def rotate_key(self, app: str, integration: str, key: Token, token_hash: bytes) -> None:
        await self._write(integrations.rotate_key, app, integration, key, token_hash)
