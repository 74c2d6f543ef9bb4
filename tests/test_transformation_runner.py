"""The processes of transformations: nothing that runs in them can hold them up, fill them or leave them."""

import asyncio
import contextlib
import gc
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from tenterhook.clock import SECOND
from tenterhook.model import Transformation
from tenterhook.transformations import runner as module
from tenterhook.transformations.contract import Changed, Failed
from tenterhook.transformations.runner import Runner
from tests.api import GRACE
from tests.test_confinement import is_guarded
from tests.test_transformations import AS_IT_WAS, MOST, URL, WEBHOOK, handler

DEADLINE = 120 * SECOND
HUNG = "'a'.repeat(8e6).indexOf('a'.repeat(4e6) + 'b')"
"""A loop inside of the engine, which it does not leave when it is told to."""

GREETING = b"\0\0\0\7guarded"


@pytest.fixture
async def runner(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Runner]:
    # what is measured is processor time, of which a child may get little
    monkeypatch.setattr(module, "PATIENCE", DEADLINE)
    made = Runner(MOST, children=2)
    yield made
    await made.close()


async def outcome(runner: Runner, transformation: Transformation, *owners: str) -> Changed | str | None:
    try:
        return await runner(owners, transformation, WEBHOOK, deadline=DEADLINE)
    except Failed as failed:
        return failed.detail


def children() -> list[int]:
    """The processes of runners; other tests have others."""
    return [child.pid for child in psutil.Process().children() if _is_of_a_runner(child)]


def _is_of_a_runner(child: psutil.Process) -> bool:
    try:
        return child.cmdline()[:2] == [sys.executable, "-I"]
    except psutil.NoSuchProcess:  # ZombieProcess too
        return False


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("while (true);", "it took more than 0.5 seconds of computing (line "),
        ("try { while (true); } finally { return webhook }", "it took more than 0.5 seconds of computing"),
        ("Object.defineProperty(webhook, 'payload', { get() { while (true); } })", "it took more than 0.5 seconds"),
        ("throw { toString() { while (true); } }", "it took more than 0.5 seconds"),
        ("/^(a|a?)+$/.test('a'.repeat(40) + '!')", "it took more than 0.5 seconds of computing"),
        ("const a = []; while (true) a.push('x'.repeat(999) + a.length);", "took more than 64 MiB of memory"),
        ("new Uint8Array(1e9)", "took more than 64 MiB of memory"),
        ("webhook.payload = Array.from({ length: 4e9 })", "took more than 64 MiB of memory"),
        ("handler(webhook)", "RangeError: Maximum call stack size exceeded"),
        ("let a = []; for (let i = 0; i < 1e5; i++) a = [a]; webhook.payload = a", "RangeError: Maximum call stack"),
        ("webhook.payload = eval('('.repeat(1e6))", "RangeError: Maximum call stack"),
        ("Atomics.wait(new Int32Array(new SharedArrayBuffer(8)), 0, 0)", "TypeError: cannot block"),
        ("Function.prototype.toString.call(new Proxy(handler, {})).x.y", "TypeError"),
    ],
)  # fmt: skip
async def test_the_engine_stops_what_goes_too_far_and_the_next_run_is_as_ever(
    runner: Runner, body: str, said: str
) -> None:
    stopped = await outcome(runner, handler(body))
    assert isinstance(stopped, str) and said in stopped, stopped
    assert await outcome(runner, handler("")) == AS_IT_WAS
    assert len(children()) == 1


@pytest.mark.parametrize("body", [
    HUNG,
    "Error.prototype.toString = () => { while (true); }; while (true);",
    "new Array(4294967295).join('x')",
])  # fmt: skip
async def test_the_kernel_stops_what_the_engine_cannot(runner: Runner, body: str) -> None:
    assert await outcome(runner, handler(body)) == "it took too long, and had to be stopped from outside"
    assert await outcome(runner, handler("")) == AS_IT_WAS


async def test_a_child_has_nothing_of_the_server(runner: Runner) -> None:
    await outcome(runner, handler(""))
    process = psutil.Process(children()[0])
    assert process.environ() == {}
    assert process.open_files() == [] and process.net_connections("inet") == []
    if sys.platform == "linux":
        assert "\nSeccomp:\t2\n" in Path(f"/proc/{process.pid}/status").read_text()


@pytest.mark.parametrize("refused", [True, False])
async def test_it_is_told_once_where_the_kernel_does_not_guard(
    runner: Runner, refused: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    program = "from tenterhook.transformations import child, confinement\n"
    if refused:
        program += "confinement._MACHINES.clear()\n"  # as on one that is not known
    monkeypatch.setattr(module, "_COMMAND", (sys.executable, "-I", "-c", program + "child.main()"))
    monkeypatch.setattr(module, "MOST_JOBS", 1)
    for _ in range(2):
        assert await outcome(runner, handler("")) == AS_IT_WAS
    told = [record.message for record in caplog.records if "seccomp" in record.message]
    assert len(told) == (1 if refused or not is_guarded() else 0)


async def test_a_child_that_dies_is_replaced(runner: Runner) -> None:
    assert await outcome(runner, handler("")) == AS_IT_WAS
    [pid] = children()
    os.kill(pid, signal.SIGKILL)
    assert await outcome(runner, handler("")) == "the process that ran it ended unexpectedly"
    assert await outcome(runner, handler("")) == AS_IT_WAS


async def test_a_child_that_stands_still_is_ended(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    await outcome(runner, handler(""))
    [pid] = children()
    monkeypatch.setattr(module, "PATIENCE", SECOND // 5)
    os.kill(pid, signal.SIGSTOP)
    assert await outcome(runner, handler("")) == "the process that ran it did not answer in time"
    assert pid not in children()


@pytest.mark.parametrize("sent", [b"\xff\xff\xff\xff", b"\0\0\0\1\xc1", b"\0\0\0\1\x01", b""])
async def test_what_is_no_report_ends_the_child(runner: Runner, sent: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """As from somebody who has taken it over."""
    program = f"import socket; s = socket.socket(fileno=0); s.recv(9); s.sendall({GREETING + sent!r}); s.recv(99999); s.close()"
    monkeypatch.setattr(module, "_COMMAND", (sys.executable, "-I", "-c", program))
    assert await outcome(runner, handler("")) == "the process that ran it ended unexpectedly"
    assert children() == []
    monkeypatch.undo()
    assert await outcome(runner, handler("")) == AS_IT_WAS


async def test_a_child_that_drips_is_ended(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    program = (
        f"import socket, time; s = socket.socket(fileno=0); s.sendall({GREETING})\n"
        "while 1: s.sendall(bytes([0, 1, 0, 0])); time.sleep(0.01)"
    )
    monkeypatch.setattr(module, "_COMMAND", (sys.executable, "-I", "-c", program))
    monkeypatch.setattr(module, "PATIENCE", SECOND)
    assert await outcome(runner, handler("")) == "the process that ran it did not answer in time"
    assert children() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_child_outlives_the_signals_that_ask_the_server_to_stop(runner: Runner, number: int) -> None:
    await outcome(runner, handler(""))
    [pid] = children()
    os.kill(pid, number)
    assert await outcome(runner, handler("")) == AS_IT_WAS
    assert children() == [pid]


def test_children_end_with_a_server_that_is_killed() -> None:
    program = """
import asyncio, os, psutil
from tenterhook.transformations.runner import Runner
async def main():
    await Runner(9).check("function handler() {}")
    print(psutil.Process().children()[0].pid, flush=True)
    os.kill(os.getpid(), 9)
asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=GRACE, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(int(done.stdout)).wait(timeout=GRACE)


async def test_a_child_is_replaced_now_and_then(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_JOBS", 3)
    seen = set[int]()
    for _ in range(7):
        assert await outcome(runner, handler("")) == AS_IT_WAS
        seen.update(children())
    assert len(seen) == 3
    assert len(children()) == 1


async def test_what_surrounds_a_payload_has_a_bound(runner: Runner) -> None:
    body = "for (let i = 0; i < 50; i++) webhook.headers['a' + i] = 'x'.repeat(5e4);"
    assert await outcome(runner, handler(body)) == "webhook.url and webhook.headers are too long"
    assert len(children()) == 1


async def test_runs_share_nothing(runner: Runner) -> None:
    left = "globalThis.left = 1; Object.prototype.left = 1; webhook.payload = {};"
    assert await outcome(runner, handler(left)) == Changed(method="POST", url=URL, payload=b"{}")
    seen = await outcome(runner, handler("webhook.payload = [typeof left, typeof {}.left]"))
    assert seen == Changed(method="POST", url=URL, payload=b'["undefined","undefined"]')


@pytest.mark.parametrize("endpoints", [["ep_hog"] * 4, [f"ep_hog_{n}" for n in range(4)]])
async def test_no_application_can_hold_all_children(runner: Runner, endpoints: list[str]) -> None:
    hogs = [asyncio.create_task(outcome(runner, handler(HUNG), endpoint, "app_hog")) for endpoint in endpoints]
    await asyncio.gather(*[outcome(runner, handler(""), f"ep_{n}", f"app_{n}") for n in range(8)])
    assert sum(hog.done() for hog in hogs) < 3  # each of two children would have had one, and begun another
    assert all(isinstance(said, str) for said in await asyncio.gather(*hogs))


async def test_no_endpoint_can_hold_up_the_others_of_its_application(runner: Runner) -> None:
    hogs = [asyncio.create_task(outcome(runner, handler(HUNG), "ep_hog", "app_1")) for _ in range(4)]
    await asyncio.wait(hogs, timeout=0)
    assert await outcome(runner, handler(""), "ep_other", "app_1") == AS_IT_WAS
    assert sum(hog.done() for hog in hogs) < 3
    await asyncio.gather(*hogs)


async def test_waiting_for_a_turn_has_an_end(runner: Runner) -> None:
    hog = asyncio.create_task(outcome(runner, handler(HUNG), "ep_hog"))
    await asyncio.wait([hog], timeout=0)
    with pytest.raises(Failed, match="no time left"):
        await runner(("ep_hog",), handler(""), WEBHOOK, deadline=SECOND // 10)
    await hog


async def test_a_run_that_nobody_waits_for_keeps_its_turn(runner: Runner) -> None:
    for _ in range(3):
        with pytest.raises(Failed, match="no time left"):
            await runner(("ep_hog", "app_hog"), handler(HUNG), WEBHOOK, deadline=SECOND // 20)
    assert len(children()) == 1


async def test_turns_are_forgotten(runner: Runner) -> None:
    await asyncio.gather(*[outcome(runner, handler(""), f"ep_{n}") for n in range(3)])
    gc.collect()
    assert not runner._turns


async def test_closing_ends_the_children() -> None:
    runner = Runner(MOST)
    before = set(children())
    await outcome(runner, handler(""))
    assert len(set(children()) - before) == 1
    await runner.close()
    assert set(children()) <= before


def test_nothing_runs_until_it_is_needed() -> None:
    before = set(children())
    Runner(MOST)
    assert set(children()) <= before


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("function handler(w) { return w; }", None),
        ("let handler = w => w // no line end", None),
        ("function handler(w) {\n  return w.;\n}", "SyntaxError: expecting field name (line 2)"),
        ("function handlr(w) { return w; }", "there is no function named handler"),
        ("const handler = 5; /* and no more", "SyntaxError: unexpected end of comment (line 1)"),
        ("var a;\nb.c = 1;\nfunction handler(w) { return w; }", "ReferenceError: b is not defined (line 2)"),
        ("while (true);", "it took more than 0.5 seconds of computing (line 1)"),
    ],
)
async def test_code_is_looked_at_before_it_is_kept(runner: Runner, code: str, said: str | None) -> None:
    if said is None:
        await runner.check(code)
    else:
        with pytest.raises(Failed) as failed:
            await runner.check(code)
        assert failed.value.detail == said
