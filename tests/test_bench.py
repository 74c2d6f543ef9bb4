"""The benchmarks run: figures come out, and a failure is told."""

import asyncio
import json
import os
import select
import subprocess
import sys
from pathlib import Path

import pytest
from bench import __main__ as bench
from bench import scaling
from bench.databases import Bench
from bench.harness import Failed, disk, filesystem
from bench.kill import Ledger
from bench.report import at_least, at_most

from tests.test_cli import TIMEOUT

ROOT = Path(__file__).parent.parent
COMMAND = [sys.executable, "-m", "bench"]


def test_a_quick_run_measures(tmp_path: Path) -> None:
    results = tmp_path / "results.json"
    done = subprocess.run(
        [*COMMAND, "--quick", "throughput", "latency", "api", "wide", "--json", results],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(results.read_text())
    assert found["quick"] is True
    assert found["machine"]["cores"] > 0
    throughput, latency, api, wide = found["scenarios"]
    assert all(value > 0 for value in throughput["figures"].values()), throughput
    assert all(value > 0 for value in latency["figures"].values()), latency
    assert all(value > 0 for value in (api["figures"] | wide["figures"]).values()), (api, wide)
    assert wide["figures"]["p50_ms"] <= wide["figures"]["p99_ms"]
    assert throughput["figures"]["limit_per_second"] < throughput["figures"]["post_per_second"]
    assert latency["figures"]["p50_ms"] <= latency["figures"]["p99_ms"]
    assert "published → received, p99" in done.stdout
    assert "engine: the rest of the whole" in done.stdout


def test_a_quick_run_on_postgresql_measures_the_database_too_and_finds_no_message_attempted_twice(
    tmp_path: Path,
) -> None:
    results = tmp_path / "results.json"
    done = subprocess.run(
        [*COMMAND, "--database", "postgres", "--quick", "growth", "nodes", "--json", results],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(results.read_text())
    assert found["machine"]["database"].startswith("PostgreSQL ")
    growth, nodes = found["scenarios"]
    assert growth["figures"]["full_database_cpu_us"] > 0
    assert min(nodes["figures"]["alike_messages"], nodes["figures"]["apart_messages"]) > 0
    assert [check["ok"] for check in nodes["checks"] if check["bar"] == "0"] == [True] * 4


def test_an_error_is_a_row_and_does_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def broken(given: Bench) -> bench.report.Found:
        raise Failed("the server is gone")

    async def fine(given: Bench) -> bench.report.Found:
        return bench.report.Found((at_most("waits", 12, 5, "ms"),), {"waits_ms": 12})

    monkeypatch.setattr(bench, "SCENARIOS", {"broken": bench.Scenario(broken), "fine": bench.Scenario(fine)})
    results = tmp_path / "results.json"
    assert asyncio.run(bench.run(["broken", "fine"], Bench(quick=True), results)) == 1
    shown = capsys.readouterr()
    assert "the server is gone" in shown.err
    assert "error" in shown.out
    assert "short" in shown.out
    first, second = json.loads(results.read_text())["scenarios"]
    assert first["error"] == "Failed: the server is gone"
    assert second["checks"] == [{"name": "waits", "bar": "≤ 5 ms", "measured": "12 ms", "ok": False}]


def test_falling_short_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def slow(given: Bench) -> bench.report.Found:
        return bench.report.Found((at_least("rate", 1, 2, "/s"),), {"rate": 1})

    monkeypatch.setattr(bench, "SCENARIOS", {"slow": bench.Scenario(slow)})
    assert asyncio.run(bench.run(["slow"], Bench(quick=True), tmp_path / "results.json")) == 0


@pytest.mark.parametrize("name", ["troughput", "nodes"])
def test_an_unknown_name_lists_those_that_the_database_has(name: str) -> None:
    done = subprocess.run([*COMMAND, name], cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT)
    assert done.returncode == 2
    assert "throughput" in done.stderr


def test_a_benchmark_that_is_killed_leaves_no_server(tmp_path: Path) -> None:
    environ = os.environ | {"BENCH_DIR": str(tmp_path)}
    command = [*COMMAND, "latency", "--json", tmp_path / "results.json"]
    process = subprocess.Popen(command, cwd=ROOT, env=environ, stderr=subprocess.DEVNULL)
    try:
        server = os.pidfd_open(_child_at_work(process, tmp_path))
    finally:
        process.kill()
        process.wait()
    ended, _, _ = select.select([server], [], [], TIMEOUT)
    os.close(server)
    assert ended


def _child_at_work(parent: subprocess.Popen[bytes], folder: Path) -> int:
    """The server of a benchmark, as soon as it delivers."""
    while not any(b'"event":"attempt"' in log.read_bytes() for log in folder.glob("*/server.log")):
        assert parent.poll() is None, "the benchmark has ended"
    return int(Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()[0])


def test_what_other_rates_need_is_in_the_docs_as_it_is_computed() -> None:
    page = (ROOT / "docs" / "scaling.md").read_text()
    assert all(f"    {line}" in page for line in scaling.table(scaling.Costs()))


def test_what_other_rates_need_comes_from_what_was_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = tmp_path / "results.json"
    figures = {"cpu_us": 120.0, "database_cpu_us": 60.0, "wal_bytes": 2_000.0, "stored_bytes": 1_000.0}
    results.write_text(json.dumps({"scenarios": [{"scenario": "throughput", "figures": figures}]}))
    scaling.main(["--results", str(results), "--stored", "500"])
    assert "120 µs of a node, 60 µs of the database, 2,000 bytes of log, 500 bytes stay" in capsys.readouterr().out
    many = scaling.need(1_000_000, scaling.measured(results))
    assert (many.nodes, many.cores, many.databases, many.connections) == (200, 100, 5, 400)
    results.write_text(json.dumps({"scenarios": [{"scenario": "throughput", "figures": {"cpu_us": 1}}]}))
    with pytest.raises(SystemExit, match="no throughput on PostgreSQL"):
        scaling.main(["--results", str(results)])


def test_a_duplicate_must_have_been_in_flight_at_a_kill_in_between() -> None:
    ledger = Ledger()
    ledger.accepted = {"a", "b", "c", "d"}
    ledger.arrived = {"a": [0], "b": [0, 1], "c": [1, 2]}
    ledger.in_flight = [{"b", "c"}, {"b"}]
    assert ledger.lost == 1
    assert ledger.duplicates() == (2, 1)


def test_a_folder_in_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = next(
        Path(line.split()[1]) for line in Path("/proc/mounts").read_text().splitlines() if line.split()[2] == "tmpfs"
    )
    assert filesystem(memory) == "tmpfs"
    monkeypatch.setenv("BENCH_DIR", str(memory))
    with pytest.raises(Failed, match="in memory"):
        disk()
