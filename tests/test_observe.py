"""Counters, histograms, the log line of an attempt."""

import asyncio
import inspect
import io
import json
import logging
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from prometheus_client.parser import text_string_to_metric_families

from tenterhook.clock import MILLISECOND, SECOND
from tenterhook.model import (
    Attempt,
    Delivery,
    Message,
    Outcome,
    Reason,
    Result,
    Signal,
    State,
    Task,
    TaskState,
    Timing,
    Trigger,
)
from tenterhook.observe import AttemptLog, Gauge, Histogram, Instrument, Instruments, Stats, prometheus

NOW = 1_700_000_000 * SECOND
MESSAGE = Message(id="msg_1", app="app_1", event_type="e", payload=b"{}", created_at=NOW)
OK = Outcome(result=Result.OK, status=204, timing=Timing(30 * MILLISECOND))
TASK = Task(id="qtask_1", kind="a.kind", state=TaskState.FAILED, error="no", created_at=NOW, updated_at=NOW)
SIGNAL = Signal("endpoint.disabled", "app_1", "ep_1", None, "gone")


def delivery(state: State, **changes: object) -> Delivery:
    found = Delivery(
        message="msg_1", endpoint="ep_1", app="app_1", state=state, due_at=None, attempts=1, created_at=NOW,
        expires_at=NOW + 9,
    )  # fmt: skip
    return replace(found, **changes)


def attempt(outcome: Outcome = OK) -> Attempt:
    return Attempt(
        id="atmpt_1", app="app_1", message="msg_1", endpoint="ep_1", number=1, trigger=Trigger.SCHEDULED,
        started_at=NOW + SECOND, outcome=outcome,
    )  # fmt: skip


def samples(stats: Stats, gauges: Sequence[Gauge] = ()) -> dict[tuple[str, ...], float]:
    """The page behind /metrics, read by somebody else's parser."""
    text = prometheus(stats, gauges).decode()
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@given(st.lists(st.floats(0, 100), max_size=50))
def test_a_histogram_counts_each_value_once_and_cumulates(values: list[float]) -> None:
    histogram = Histogram((1.0, 5.0, 25.0))
    for value in values:
        histogram.add(value)
    found = {s.labels["le"]: s.value for s in histogram.family("x", "x").samples if s.name == "x_bucket"}
    assert found == {
        **{str(bound): sum(v <= bound for v in values) for bound in histogram.bounds},
        "+Inf": len(values),
    }
    assert histogram.total == pytest.approx(sum(values))


def test_stats_tell_what_happened() -> None:
    stats = Stats()
    stats.message_accepted(MESSAGE, 3)
    stats.request_received("github", "accepted")
    stats.request_received("github", "accepted")
    stats.attempt_settled(delivery(State.DELIVERED), attempt(), True)
    stats.attempt_settled(delivery(State.FAILED), attempt(Outcome(result=Result.RETRY, reason=Reason.TLS)), True)
    stats.attempt_settled(delivery(State.DUE), attempt(Outcome(result=Result.RETRY, reason=Reason.TLS)), True)
    stats.attempt_settled(delivery(State.DELIVERED), attempt(), False)
    stats.signalled(SIGNAL)
    stats.signalled(Signal("message.attempt.exhausted", "app_1", "ep_1", "msg_1", "tls"))
    stats.signalled(Signal("message.attempt.exhausted", "app_1", "ep_1", "msg_2", "lapsed"))  # without an attempt
    stats.task_ended(TASK)
    stats.committed(40)
    stats.rows_relayed("shop", 5, 0)
    stats.rows_relayed("shop", 2, 1)
    found = samples(
        stats,
        [
            Gauge("tenterhook_pending", "Pending.", {(): 7}),
            Gauge("tenterhook_old", "Old.", {("shop",): 1.5}, ("outbox",)),
        ],
    )
    expected = {
        ("tenterhook_messages_accepted_total",): 1,
        ("tenterhook_tasks_total", "a.kind", "failed"): 1,
        ("tenterhook_deliveries_planned_total",): 3,
        ("tenterhook_deliveries_delivered_total",): 1,
        ("tenterhook_deliveries_failed_total",): 2,
        ("tenterhook_leases_lost_total",): 1,
        ("tenterhook_attempts_total", "ok", "status"): 2,
        ("tenterhook_attempts_total", "retry", "tls"): 2,
        ("tenterhook_requests_received_total", "accepted", "github"): 2,
        ("tenterhook_signals_total", "endpoint.disabled"): 1,
        ("tenterhook_attempt_seconds_count",): 4,
        ("tenterhook_attempt_seconds_bucket", "0.025"): 2,
        ("tenterhook_attempt_seconds_bucket", "0.05"): 4,
        ("tenterhook_delivery_seconds_count",): 1,
        ("tenterhook_delivery_seconds_sum",): 1.03,
        ("tenterhook_commit_batch_size_bucket", "32.0"): 0,
        ("tenterhook_commit_batch_size_bucket", "64.0"): 1,
        ("tenterhook_outbox_rows_total", "published", "shop"): 7,
        ("tenterhook_outbox_rows_total", "refused", "shop"): 1,
        ("tenterhook_pending",): 7,
        ("tenterhook_old", "shop"): 1.5,
    }
    assert {key: found[key] for key in expected} == pytest.approx(expected)


def test_metrics_of_a_fresh_process_are_all_there() -> None:
    found = samples(Stats())
    assert found["tenterhook_messages_accepted_total",] == 0
    assert found["tenterhook_attempt_seconds_count",] == 0


async def test_an_attempt_is_one_line_of_json() -> None:
    stream = io.BytesIO()
    log = AttemptLog(stream)
    failed = Outcome(result=Result.RETRY, status=503, detail='a "quoted"\nline', timing=Timing(1_500))
    log.attempt_settled(delivery(State.DELIVERED), attempt(), True)
    log.attempt_settled(delivery(State.DUE, due_at=NOW + 5 * SECOND), attempt(failed), False)
    log.flush()
    first, second = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert first == {
        "time": "2023-11-14T22:13:21.000000Z", "event": "attempt", "result": "ok", "reason": "status", "status": 204,
        "state": "delivered", "number": 1, "attempt": "atmpt_1", "message": "msg_1", "endpoint": "ep_1", "app": "app_1",
        "ms": 30.0,
    }  # fmt: skip
    assert (second["ms"], second["lease"], second["detail"]) == (1.5, "lost", 'a "quoted"\nline')
    assert second["next"] == "2023-11-14T22:13:25.000000Z"


async def test_lines_are_written_by_themselves_and_together() -> None:
    class Counting(io.BytesIO):
        writes = 0

        def write(self, text: bytes) -> int:
            self.writes += 1
            return super().write(text)

    stream = Counting()
    log = AttemptLog(stream)
    for _ in range(5):
        log.attempt_settled(delivery(State.DELIVERED), attempt(), True)
    assert stream.getvalue() == b""
    for _ in range(3):
        await asyncio.sleep(0)
    assert stream.writes == 1
    assert len(stream.getvalue().splitlines()) == 5
    assert stream.getvalue().endswith(b"}\n")


def test_signals_go_to_the_ordinary_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "tenterhook"):
        AttemptLog(io.BytesIO()).signalled(SIGNAL)
    assert "endpoint.disabled app=app_1 endpoint=ep_1 gone" in caplog.text


def test_several_instruments_hear_of_everything() -> None:
    calls = {
        "message_accepted": (MESSAGE, 1),
        "attempt_settled": (delivery(State.DELIVERED), attempt(), True),
        "signalled": (SIGNAL,),
        "task_ended": (TASK,),
        "committed": (9,),
        "removed": ("records", 3, 0),
    }
    assert set(calls) == {name for name, _ in inspect.getmembers(Instrument, inspect.isfunction)}
    heard: list[tuple[str, tuple[object, ...]]] = []

    class Listening(Instrument):
        def __getattribute__(self, name: str) -> object:
            return lambda *what: heard.append((name, what))

    both = Instruments(Listening(), Instrument(), Listening())
    for name, what in calls.items():
        getattr(both, name)(*what)
    assert heard == [call for call in calls.items() for _ in range(2)]
