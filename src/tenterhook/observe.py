"""What the engine tells the outside about its work: counters, histograms, one log line per attempt, and a seam for tests.

Counting is adding to plain integers; the Prometheus text is made when it is asked for.
"""

import asyncio
import logging
import sys
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from typing import IO

import msgspec
from msgspec import Struct
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from tenterhook.clock import SECOND, to_rfc3339
from tenterhook.model import Attempt, Delivery, Message, Signal, Task

log = logging.getLogger("tenterhook")

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_BATCH = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0)


class Histogram:
    """Counts of observations up to each bound, as Prometheus wants them."""

    def __init__(self, bounds: Sequence[float] = _SECONDS) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def family(self, name: str, help_text: str) -> HistogramMetricFamily:
        cumulative, buckets = 0, []
        for bound, count in zip([*map(str, self.bounds), "+Inf"], self.counts, strict=True):
            cumulative += count
            buckets.append((bound, cumulative))
        return HistogramMetricFamily(name, help_text, buckets=buckets, sum_value=self.total)


class Instrument:
    """What happens in the engine, as calls; override the ones that matter. Tests await them instead of sleeping."""

    def message_accepted(self, message: Message, deliveries: int) -> None:
        """A message is on the disk."""

    def attempt_settled(self, delivery: Delivery, attempt: Attempt, kept: bool) -> None:
        """An attempt is on the disk; `kept` is False if the lease had been lost."""

    def signalled(self, signal: Signal) -> None:
        """Something that people want to hear of; see docs/operational-webhooks.md."""

    def task_ended(self, task: Task) -> None:
        """A task has finished or failed, and that is on the disk."""

    def committed(self, size: int) -> None:
        """A batch of `size` pieces of work is on the disk."""

    def removed(self, what: str, messages: int, requests: int) -> None:
        """Retention removed `what` (records, or payloads only) of so many messages and received requests."""


class Gauge(Struct, frozen=True):
    """How something stands now; `values` by those of the labels."""

    name: str
    about: str
    values: dict[tuple[str, ...], float]
    labels: tuple[str, ...] = ()


class Stats(Instrument):
    """The figures behind `/metrics`, since this process began."""

    def __init__(self) -> None:
        self.accepted = 0
        self.planned = 0
        self.received: dict[tuple[str, str], int] = {}
        self.attempts: dict[tuple[str, str], int] = {}
        self.delivered = 0
        self.failed = 0
        self.lost_leases = 0
        self.signals: dict[str, int] = {}
        self.tasks: dict[tuple[str, str], int] = {}
        self.relayed: dict[tuple[str, str], int] = {}
        self.invalid: dict[str, int] = {}
        self.gone: dict[tuple[str, str], int] = {}
        self.attempt_seconds = Histogram()
        self.delivery_seconds = Histogram()
        self.batch_sizes = Histogram(_BATCH)

    def message_accepted(self, message: Message, deliveries: int) -> None:
        self.accepted += 1
        self.planned += deliveries

    def request_received(self, provider: str, verdict: str) -> None:
        """A webhook reached a source."""
        self.received[provider, verdict] = self.received.get((provider, verdict), 0) + 1

    def payload_invalid(self, event_type: str) -> None:
        """A message was accepted although its payload does not fit the schema of its event type."""
        self.invalid[event_type] = self.invalid.get(event_type, 0) + 1

    def rows_relayed(self, outbox: str, published: int, refused: int) -> None:
        """Rows of an outbox became messages, or were found to be none."""
        for fate, count in (("published", published), ("refused", refused)):
            self.relayed[outbox, fate] = self.relayed.get((outbox, fate), 0) + count

    def attempt_settled(self, delivery: Delivery, attempt: Attempt, kept: bool) -> None:
        outcome = attempt.outcome
        key = (outcome.result.value, outcome.reason.value)
        self.attempts[key] = self.attempts.get(key, 0) + 1
        self.attempt_seconds.add(outcome.timing.total / SECOND)
        if not kept:
            self.lost_leases += 1
        elif delivery.state == "delivered":
            self.delivered += 1
            ended = attempt.started_at + outcome.timing.total
            self.delivery_seconds.add(max(ended - delivery.created_at, 0) / SECOND)

    def signalled(self, signal: Signal) -> None:
        self.signals[signal.kind] = self.signals.get(signal.kind, 0) + 1
        if signal.kind == "message.attempt.exhausted":
            self.failed += 1  # here, because one whose lifetime ends while it waits fails without an attempt

    def task_ended(self, task: Task) -> None:
        key = (task.kind, task.state.value)
        self.tasks[key] = self.tasks.get(key, 0) + 1

    def committed(self, size: int) -> None:
        self.batch_sizes.add(size)

    def removed(self, what: str, messages: int, requests: int) -> None:
        for kind, count in (("messages", messages), ("requests", requests)):
            if count:
                self.gone[what, kind] = self.gone.get((what, kind), 0) + count


class StatsCollector(Collector):
    """Turns Stats, and the gauges that are given at the time of asking, into Prometheus metrics."""

    def __init__(self, stats: Stats, gauges: Sequence[Gauge]) -> None:
        self._stats, self._gauges = stats, gauges

    def collect(self) -> Iterable[Metric]:
        s = self._stats
        yield CounterMetricFamily("tenterhook_messages_accepted", "Messages on the disk.", s.accepted)
        yield CounterMetricFamily("tenterhook_deliveries_planned", "Deliveries owed by accepted messages.", s.planned)
        yield CounterMetricFamily("tenterhook_deliveries_delivered", "Deliveries accepted by receivers.", s.delivered)
        yield CounterMetricFamily("tenterhook_deliveries_failed", "Deliveries that failed for good.", s.failed)
        yield CounterMetricFamily(
            "tenterhook_leases_lost",
            "Attempts that ended after their lease; the delivery went on without them.",
            s.lost_leases,
        )
        yield _labelled("tenterhook_attempts", "Attempts by result and reason.", ("result", "reason"), s.attempts)
        yield _labelled(
            "tenterhook_requests_received", "Requests at sources by verdict.", ("provider", "verdict"), s.received
        )
        invalid = {(name,): count for name, count in s.invalid.items()}
        yield _labelled("tenterhook_payloads_invalid", "Accepted payloads that do not fit.", ("event_type",), invalid)
        yield _labelled(
            "tenterhook_outbox_rows", "Rows of outboxes by what became of them.", ("outbox", "fate"), s.relayed
        )
        signals = {(kind,): count for kind, count in s.signals.items()}
        yield _labelled("tenterhook_signals", "Signals by kind.", ("kind",), signals)
        yield _labelled("tenterhook_tasks", "Tasks that have ended, by kind and state.", ("kind", "state"), s.tasks)
        yield _labelled(
            "tenterhook_removed", "Messages and received requests that retention removed.", ("what", "of"), s.gone
        )
        yield s.attempt_seconds.family("tenterhook_attempt_seconds", "How long attempts took.")
        yield s.delivery_seconds.family("tenterhook_delivery_seconds", "From accepted to delivered, retries included.")
        yield s.batch_sizes.family("tenterhook_commit_batch_size", "Pieces of work per commit.")
        for gauge in self._gauges:
            family = GaugeMetricFamily(gauge.name, gauge.about, labels=gauge.labels)
            for values, value in gauge.values.items():
                family.add_metric(values, value)
            yield family


def _labelled(
    name: str, help_text: str, labels: Sequence[str], counts: Mapping[tuple[str, str], int] | Mapping[tuple[str], int]
) -> CounterMetricFamily:
    family = CounterMetricFamily(name, help_text, labels=labels)
    for values, count in counts.items():
        family.add_metric(values, count)
    return family


def prometheus(stats: Stats, gauges: Sequence[Gauge]) -> bytes:
    """The page behind `/metrics`."""
    registry = CollectorRegistry()
    registry.register(StatsCollector(stats, gauges))
    return generate_latest(registry)


class AttemptLog(Instrument):
    """One canonical line of JSON per attempt, written once per commit; signals go to the ordinary log."""

    def __init__(self, stream: IO[bytes] | None = None) -> None:
        self._stream = sys.stderr.buffer if stream is None else stream
        self._lines: list[bytes] = []
        self._encode = msgspec.json.Encoder().encode

    def attempt_settled(self, delivery: Delivery, attempt: Attempt, kept: bool) -> None:
        o = attempt.outcome
        line = {
            "time": to_rfc3339(attempt.started_at),
            "event": "attempt",
            "result": o.result,
            "reason": o.reason,
            "status": o.status,
            "state": delivery.state,
            "number": attempt.number,
            "attempt": attempt.id,
            "message": attempt.message,
            "endpoint": attempt.endpoint,
            "app": attempt.app,
            "ms": o.timing.total / 1000,
        }
        if delivery.due_at is not None:
            line["next"] = to_rfc3339(delivery.due_at)
        if not kept:
            line["lease"] = "lost"
        if o.detail:
            line["detail"] = o.detail
        if not self._lines:
            # those that the same commit has settled come in the same turn of the loop: one write for all of them
            asyncio.get_running_loop().call_soon(self.flush)
        self._lines.append(self._encode(line))

    def flush(self) -> None:
        """Write what has gathered."""
        if self._lines:
            lines, self._lines = self._lines, []
            self._stream.write(b"\n".join(lines) + b"\n")
            self._stream.flush()

    def signalled(self, signal: Signal) -> None:
        log.warning("%s app=%s endpoint=%s %s", signal.kind, signal.app, signal.endpoint, signal.detail)

    def task_ended(self, task: Task) -> None:
        level = logging.INFO if task.error is None else logging.WARNING
        log.log(level, "task %s %s task=%s app=%s %s", task.kind, task.state.value, task.id, task.app, task.error or "")


class Instruments(Instrument):
    """Several instruments as one."""

    def __init__(self, *instruments: Instrument) -> None:
        self._all = instruments

    def message_accepted(self, message: Message, deliveries: int) -> None:
        for instrument in self._all:
            instrument.message_accepted(message, deliveries)

    def attempt_settled(self, delivery: Delivery, attempt: Attempt, kept: bool) -> None:
        for instrument in self._all:
            instrument.attempt_settled(delivery, attempt, kept)

    def signalled(self, signal: Signal) -> None:
        for instrument in self._all:
            instrument.signalled(signal)

    def task_ended(self, task: Task) -> None:
        for instrument in self._all:
            instrument.task_ended(task)

    def committed(self, size: int) -> None:
        for instrument in self._all:
            instrument.committed(size)

    def removed(self, what: str, messages: int, requests: int) -> None:
        for instrument in self._all:
            instrument.removed(what, messages, requests)
