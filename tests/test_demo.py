"""The demonstration as a user runs it: a process of its own, its output, its exit code."""

import hashlib
import hmac
import json
import os
import re
import subprocess
import sys
import urllib.request
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenterhook.demo import DemoFailed, Watch, _delivered, github_delivery
from tenterhook.demo.receivers import SignedReceiver, slack_problem, slack_text
from tenterhook.demo.trail import span
from tenterhook.model import Attempt, Delivery, Outcome, Reason, Result, State, Trigger
from tenterhook.signing import Webhook
from tests.test_cli import TIMEOUT

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
COMMAND = [sys.executable, "-u", "-m", "tenterhook", "demo"]


def environment(folder: Path, **more: str) -> dict[str, str]:
    return {**os.environ, "TMPDIR": str(folder), "NO_COLOR": "1", "COLUMNS": "100", **more}


def test_every_step_is_shown_and_nothing_is_left(tmp_path: Path) -> None:
    done = subprocess.run(
        COMMAND, env=environment(tmp_path, DEMO_EXIT="1"), capture_output=True, text=True, timeout=TIMEOUT, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    steps = re.findall(r"^(server|received|verified|message|deliveries|attempt|webhook) ", done.stdout, re.MULTILINE)
    assert steps == ["server", "received", "verified", "message", "deliveries", "attempt", "attempt", "webhook"]
    assert "event type github.issues.opened" in done.stdout
    assert "│ #1 Spelling error in the README file" in done.stdout
    for name in ("webhook-id: msg_", "webhook-timestamp: ", "webhook-signature: v1,"):
        assert name in done.stdout
    assert re.search(r"team-chat \(slack\): 200, .*total [\d.]+ (µs|ms)", done.stdout)
    assert list(tmp_path.iterdir()) == []


def test_the_server_stays_and_its_commands_work(tmp_path: Path) -> None:
    with (
        subprocess.Popen(COMMAND, env=environment(tmp_path), stdout=subprocess.PIPE, text=True) as process,
        ExitStack() as ending,
    ):
        ending.callback(process.kill)
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if line.startswith("The server is running"):
                break
        text = "".join(lines)
        url, token = re.findall(r"export TENTERHOOK_URL=(\S+) TENTERHOOK_TOKEN=(\S+)", text)[0]
        sent = subprocess.run(
            [sys.executable, "-m", "tenterhook", "send", "default", "order.paid", '{"order": 7}'],
            env={**os.environ, "TENTERHOOK_URL": url, "TENTERHOOK_TOKEN": token},
            capture_output=True, text=True, timeout=TIMEOUT, check=False,
        )  # fmt: skip
        assert sent.returncode == 0, sent.stderr
        message = sent.stdout.strip()
        assert f"{message} → archive: 200 delivered" in next(iter(process.stdout))
        for path in re.findall(r"\$TENTERHOOK_URL(/api\S+)", text):
            request = urllib.request.Request(url + path, headers={"Authorization": f"Bearer {token}"})
            with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
                assert json.load(answer)["data"], path
        process.terminate()
        assert process.wait(TIMEOUT) == 0
    assert list(tmp_path.iterdir()) == []


async def test_a_failed_attempt_fails_the_demonstration() -> None:
    watch = Watch()
    delivery = Delivery(message="m", endpoint="e", app="a", state=State.DUE, due_at=1, created_at=0, expires_at=9)
    outcome = Outcome(result=Result.RETRY, reason=Reason.CONNECT, detail="refused", url="http://x")
    attempt = Attempt(
        id="t", app="a", message="m", endpoint="e", number=1, trigger=Trigger.SCHEDULED, started_at=0, outcome=outcome
    )
    watch.attempt_settled(delivery, attempt, True)
    with pytest.raises(DemoFailed, match="refused"):
        await _delivered(watch, 1)


def test_the_delivery_is_signed_as_github_signs() -> None:
    request = github_delivery("/in/token", "s3cret", 0)
    expected = "sha256=" + hmac.new(b"s3cret", request.body, hashlib.sha256).hexdigest()
    assert request.header("x-hub-signature-256") == [expected.encode()]
    assert json.loads(request.body)["action"] == "opened"


@pytest.mark.parametrize(
    ("content_type", "body", "problem"),
    [
        ("application/json", b'{"text": "hello"}', None),
        ("application/json; charset=utf-8", b'{"attachments": [{"text": "x"}]}', None),
        ("application/json", b'{"blocks": [{}]}', None),
        ("text/plain", b'{"text": "hello"}', "invalid_payload"),
        ("application/json", b"hello", "invalid_payload"),
        ("application/json", b'["hello"]', "invalid_payload"),
        ("application/json", b"{}", "no_text"),
        ("application/json", b'{"text": "", "attachments": []}', "no_text"),
        ("application/json", json.dumps({"attachments": [{}] * 101}).encode(), "too_many_attachments"),
        ("application/json", json.dumps({"blocks": [{}] * 51}).encode(), "invalid_blocks"),
        ("application/json", json.dumps({"text": "x" * 40_001}).encode(), "msg_too_long"),
    ],
)
def test_slack_stand_in_refuses_what_slack_refuses(content_type: str, body: bytes, problem: str | None) -> None:
    assert slack_problem(content_type, body) == problem


@given(st.binary(max_size=200))
def test_slack_stand_in_takes_any_bytes(body: bytes) -> None:
    assert slack_problem("application/json", body) in (None, "invalid_payload", "no_text")


def test_slack_text_reads_as_in_a_channel() -> None:
    document = {
        "text": "<https://a.example/b|a label> &amp; more",
        "attachments": [{"title": "T", "text": "&lt;b&gt;", "fields": [{"title": "Labels", "value": "bug"}]}],
    }
    assert slack_text(document) == "a label & more\nT\n<b>\nLabels: bug"


def test_receiver_refuses_another_body() -> None:
    receiver = SignedReceiver(SECRET)
    headers = Webhook(SECRET).headers("msg_1", b"{}")
    assert receiver.answer(headers, b"{ }")[0] == 401
    assert receiver.received == []
    assert receiver.answer(headers, b"{}")[0] == 200
    assert receiver.received == [(headers, b"{}")]


@pytest.mark.parametrize(
    ("microseconds", "text"),
    [(0, "0 µs"), (999, "999 µs"), (1_000, "1.0 ms"), (54_321, "54.3 ms"), (2_500_000, "2.5 s")],
)
def test_spans_are_readable(microseconds: int, text: str) -> None:
    assert span(microseconds) == text
