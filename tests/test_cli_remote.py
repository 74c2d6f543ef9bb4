"""The commands that talk to a running server, as processes: what they print of it, and what they have it do."""

import http.client
import json
import re
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tenterhook.remote import call
from tests.test_cli import ADMIN, TIMEOUT, Done, Serving, clean, process, run, servers

__all__ = ["servers"]  # a fixture
REMOTE = {
    "message list": ["message", "list", "shop"],
    "message show": ["message", "show", "shop", "msg_1"],
    "endpoint list": ["endpoint", "list", "shop"],
    "resend": ["resend", "shop", "msg_1", "main"],
    "replay": ["replay", "shop", "main", "--since", "2h", "--all"],
}
FILE = """\
[[application]]
uid = "shop"

[[endpoint]]
name = "good"
application = "shop"
url = "{url}/good"

[[endpoint]]
name = "bad"
application = "shop"
url = "{url}/bad"
event_types = ["invoice.*"]
retry_schedule = {retries}
"""


class Quiet(BaseHTTPRequestHandler):
    """A handler that logs nothing."""

    protocol_version = "HTTP/1.1"

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


class Receiver(Quiet):
    """Answers 200, but 500 at `/bad`."""

    def do_POST(self) -> None:
        self.body()
        self.answer(500 if self.path == "/bad" else 200, b"")


@contextmanager
def listening(handler: type[Quiet]) -> Iterator[str]:
    """The URL of a server with this handler."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def below_a_prefix(target: str) -> type[Quiet]:
    """A proxy that has the server at `target` below `/hooks`."""

    class Proxy(Quiet):
        def do_GET(self) -> None:
            if not self.path.startswith("/hooks/api/"):
                self.answer(404, b"<html>nothing here</html>")
                return
            behind = http.client.HTTPConnection(urlsplit(target).netloc, timeout=TIMEOUT)
            asked = {name: self.headers[name] for name in ("Authorization", "Content-Type") if name in self.headers}
            behind.request(self.command, self.path.removeprefix("/hooks"), self.body(), asked)
            response = behind.getresponse()
            self.answer(response.status, response.read())
            behind.close()

        do_POST = do_GET

    return Proxy


class Shop:
    """A server with the application `shop`, whose endpoint `good` accepts everything and `bad` nothing."""

    def __init__(self, folder: Path, server: Serving) -> None:
        self.folder, self.server, self.url = folder, server, server.url()
        self.attempts: Counter[str] = Counter()

    def run(self, *words: str, code: int = 0) -> Done:
        done = process(self.folder, *words, TENTERHOOK_URL=self.url, TENTERHOOK_TOKEN=ADMIN)
        assert (done.code, done.err) == (code, "") or code, done.err
        return done

    def json(self, *words: str) -> Any:
        return json.loads(self.run(*words, "--json").out)

    def sent(self, *words: str, attempts: int) -> str:
        """A message that was sent, after so many attempts at it are on the disk."""
        message = self.run("send", "shop", *words).out.strip()
        for _ in range(attempts):
            self.tried(message)
        return message

    def tried(self, message: str) -> None:
        """Waits for one more attempt at the message; those of different messages may come in any order."""
        while not self.attempts[message]:
            self.attempts[self.server.logged(r'"event":"attempt".*"message":"(msg_\w+)"')[1]] += 1
        self.attempts[message] -= 1


@pytest.fixture
def shop(tmp_path: Path, servers: list[Serving], request: pytest.FixtureRequest) -> Iterator[Shop]:
    """Deliveries to `bad` fail for good at once, or are tried again after an hour."""
    with listening(Receiver) as url:
        (tmp_path / "tenterhook.toml").write_text(FILE.format(url=url, retries=getattr(request, "param", [])))
        servers.append(Serving(tmp_path, "--allow-networks", "127.0.0.0/8", "--admin-token", ADMIN))
        yield Shop(tmp_path, servers[0])


# looking


def test_messages_are_listed(shop: Shop) -> None:
    old = shop.sent("invoice.paid", "--tag", "x", "--tag", "y", attempts=2)
    new = shop.sent("other.thing", attempts=1)
    lines = shop.run("message", "list", "shop").out.splitlines()
    assert lines[0].split() == ["id", "time", "event", "type", "tags"]
    assert [line.split()[0] for line in lines[1:]] == [new, old]
    assert lines[2].split()[2:] == ["invoice.paid", "x", "y"]
    listed = shop.json("message", "list", "shop", "--limit", "1")
    assert [(m["id"], m["eventType"]) for m in listed] == [(new, "other.thing")]

    def ids(*words: str) -> list[str]:
        return [message["id"] for message in shop.json("message", "list", "shop", *words)]

    assert ids("--event-type", "invoice.paid") == [old]
    assert ids("--event-type", "invoice.paid", "--event-type", "other.thing", "--after", "1h") == [new, old]
    assert ids("--after", "1h", "--limit", "1") == [new]
    assert ids("--before", "1h") == []
    assert ids("--before", "2100-01-01") == [new, old]


@pytest.mark.parametrize("shop", ['["1h"]'], indirect=True)
def test_a_message_is_shown_through_a_prefix(shop: Shop) -> None:
    message = shop.sent("invoice.paid", '{"id": 7,  "note": "\x9b31m"}', "--event-id", "inv-7", attempts=2)
    with listening(below_a_prefix(shop.url)) as url:
        shop.url = url + "/hooks/"
        out = shop.run("message", "show", "shop", "inv-7").out
        head, owed, attempts = out.split("\n\n")
        assert re.search(rf"^id +{message}$", head, re.MULTILINE)
        assert re.search(r"^event id +inv-7$", head, re.MULTILINE)
        assert re.search(r'^payload +\{"id": 7,  "note": "\\x9b31m"\}$', head, re.MULTILINE)
        assert re.search(r"^good +success +1 +http://\S+/good *$", owed, re.MULTILINE)
        assert re.search(r"^bad +sending +1 +20\S+Z +http://\S+/bad *$", owed, re.MULTILINE)
        assert re.search(r"^20\S+Z +good +success +200 +\d+ ms *$", attempts, re.MULTILINE)
        assert re.search(r"^20\S+Z +bad +fail +500 +\d+ ms +status *$", attempts, re.MULTILINE)
        shown = shop.json("message", "show", "shop", message, "--limit", "1")
        assert shown["message"]["payload"] == {"id": 7, "note": "\x9b31m"}
        assert sorted(to["statusText"] for to in shown["destinations"]) == ["sending", "success"]
        assert len(shown["attempts"]) == 1
        shop.url = url
        assert "404: <html>nothing here</html>" in shop.run("message", "list", "shop", code=1).err


def test_endpoints_are_listed(shop: Shop) -> None:
    shop.sent("invoice.paid", attempts=2)
    lines = shop.run("endpoint", "list", "shop").out.splitlines()
    assert [line.split()[1:4] for line in lines[1:]] == [["bad", "invoice.*", "enabled"], ["good", "all", "enabled"]]
    bad, good = (line.split() for line in shop.run("endpoint", "list", "shop", "--health").out.splitlines()[1:])
    assert (bad[3:5], bad[-3:], good[-3:]) == (["failing", "since"], ["0", "0", "1"], ["1", "0", "0"])
    listed = shop.json("endpoint", "list", "shop", "--health")
    assert [(one["uid"], one["stats"]["fail"]) for one in listed] == [("bad", 1), ("good", 0)]
    assert [one["uid"] for one in shop.json("endpoint", "list", "shop")] == ["bad", "good"]


# doing


def test_a_message_is_sent_again(shop: Shop) -> None:
    message = shop.sent("other.thing", attempts=1)
    assert shop.run("resend", "shop", message, "good").out == f"{message} is on its way to good\n"
    shop.tried(message)
    assert len(shop.json("message", "show", "shop", message)["attempts"]) == 2
    assert shop.json("resend", "shop", message, "good") == {}
    shop.tried(message)


def test_what_was_missed_is_sent_again(shop: Shop) -> None:
    failed = shop.sent("invoice.paid", attempts=2)
    fine = shop.sent("other.thing", attempts=1)
    assert shop.run("replay", "shop", "bad", "--since", "2h", "--failed").out == "1 message on the way to bad\n"
    shop.tried(failed)
    ended = shop.json("replay", "shop", "good", "--since", "2026-01-01", "--all")
    assert (ended["status"], ended["data"]) == ("finished", {"messagesSent": 2})
    shop.tried(failed)
    shop.tried(fine)
    headers = {"Authorization": f"Bearer {ADMIN}"}
    place = shop.json("endpoint", "list", "shop")[1]["url"]
    fresh = json.dumps({"url": place, "uid": "fresh"}).encode()
    assert call(shop.url, "POST", "/api/v1/app/shop/endpoint", headers=headers, body=fresh).ok
    assert shop.run("replay", "shop", "fresh", "--since", "2h", "--until", "1h", "--missing").out.startswith(
        "0 messages"
    )
    assert shop.run("replay", "shop", "fresh", "--since", "2h", "--missing").out == "2 messages on the way to fresh\n"
    task = shop.run("replay", "shop", "fresh", "--since", "2h", "--missing", "--no-wait").out
    assert re.fullmatch(r"qtask_\w+\n", task)
    begun = shop.json("replay", "shop", "fresh", "--since", "2h", "--missing", "--no-wait")
    assert begun["task"] == "endpoint.replay"


def test_a_task_that_may_not_be_followed_goes_on(shop: Shop) -> None:
    token = run(shop.folder, "token", "create", "--app", "shop").out.strip()
    done = shop.run("replay", "shop", "good", "--since", "2h", "--all", "--token", token, code=1)
    assert (done.code, done.out) == (1, "")
    assert re.fullmatch(
        r"error: 403 .*\(take a token that may.*\)\nthe task goes on at the server: GET \S+/qtask_\w+ tells how\n",
        done.err,
    )


class Scripted(Quiet):
    """Answers requests with what the script has for their path: one after the other, the last again and again."""

    script: dict[str, list[tuple[int, object]]]
    asked: list[str]
    looked: threading.Event

    def do_GET(self) -> None:
        self.body()
        self.asked.append(self.path)
        answers = self.script[urlsplit(self.path).path.rpartition("/")[2]]
        status, body = answers.pop(0) if len(answers) > 1 else answers[0]
        if len(self.asked) > 3:
            self.looked.set()
        self.answer(status, json.dumps(body).encode())

    do_POST = do_GET


def scripted(**script: list[tuple[int, object]]) -> type[Scripted]:
    fresh = {"script": {name.replace("_", "-"): answers for name, answers in script.items()}, "asked": []}
    return type("Fresh", (Scripted,), {**fresh, "looked": threading.Event()})


LEFT = "the task goes on at the server: GET /api/v1/background-task/t tells how"
RUNNING = {"id": "t", "status": "running", "data": {"messagesSent": 500}}


def test_a_task_that_fails_is_code_1(tmp_path: Path) -> None:
    failed = {"id": "t", "status": "failed", "data": {"messagesSent": 1500}, "error": "the endpoint was deleted"}
    handler = scripted(recover=[(202, RUNNING)], t=[(200, RUNNING), (200, failed)])
    with listening(handler) as url:
        words = ["replay", "shop", "main", "--since", "2h", "--failed", "--server", url, "--token", "t"]
        done = run(tmp_path, *words)
        expected = "error: the task t failed after 1,500 messages: the endpoint was deleted\n"
        assert (done.code, done.out, done.err) == (1, "", expected)
        done = run(tmp_path, *words, "--json")
        assert (done.code, json.loads(done.out), done.err) == (1, failed, expected)


def test_an_interrupted_command_leaves_the_task(tmp_path: Path) -> None:
    handler = scripted(recover=[(202, RUNNING)], t=[(200, RUNNING)])
    with listening(handler) as url:
        command = [sys.executable, "-m", "tenterhook", "replay", "shop", "main", "--since", "2h", "--failed"]
        environ = clean(TENTERHOOK_URL=url, TENTERHOOK_TOKEN="t")
        waiting = subprocess.Popen(command, cwd=tmp_path, env=environ, stderr=subprocess.PIPE, text=True)
        assert handler.looked.wait(TIMEOUT)
        waiting.send_signal(signal.SIGINT)
        _, err = waiting.communicate(timeout=TIMEOUT)
    assert (waiting.returncode, err) == (1, f"error: interrupted\n{LEFT}\n")


def test_a_list_is_walked_to_its_limit(tmp_path: Path) -> None:
    def page(*names: str, behind: str | None, done: bool = False) -> tuple[int, object]:
        items = [{"id": name, "eventType": "a.b", "timestamp": "-", "payload": {}} for name in names]
        return 200, {"data": items, "iterator": behind, "done": done}

    handler = scripted(msg=[page("4", "3", behind="3"), page(behind="2"), page("1", behind="1", done=True)])
    with listening(handler) as url:
        done = run(tmp_path, "message", "list", "shop", "--limit", "300", "--json", "--server", url, "--token", "t")
    assert [one["id"] for one in json.loads(done.out)] == ["4", "3", "1"]
    asked = [parse_qs(urlsplit(path).query) for path in handler.asked]
    assert [query.get("iterator") for query in asked] == [None, ["3"], ["2"]]
    assert [query["limit"] for query in asked] == [["250"], ["250"], ["250"]]


# mistakes


@pytest.mark.parametrize("words", REMOTE.values(), ids=REMOTE)
def test_all_say_what_is_wrong(words: list[str], tmp_path: Path) -> None:
    done = run(tmp_path, *words)
    assert (done.code, done.out) == (2, "")
    assert "a token is needed" in done.err
    done = run(tmp_path, *words, "--token", "t", "--server", "http://127.0.0.1:1")
    assert (done.code, done.out) == (1, "")
    assert "error: no answer from http://127.0.0.1:1: " in done.err


@pytest.mark.parametrize("words", REMOTE.values(), ids=REMOTE)
def test_all_say_what_the_server_said(words: list[str], tmp_path: Path) -> None:
    answers: dict[tuple[int, object], tuple[int, str]] = {
        (404, '{"code": "not_found", "detail": "none"}'): (1, "404 not_found: none (look at the names"),
        (422, '{"detail": [{"loc": ["query", "limit"], "msg": "m", "type": "t"}]}'): (2, "422 invalid: limit: m"),
        (503, "<html>down</html>"): (1, "503: <html>down</html>"),
        (200, "[1]"): (1, "200: [1]"),
    }
    for (status, body), (code, error) in answers.items():

        class Answering(Quiet):
            told = status, str(body).encode()

            def do_GET(self) -> None:
                self.body()
                self.answer(*self.told)

            do_POST = do_GET

        with listening(Answering) as url:
            done = run(tmp_path, *words, "--server", url, "--token", "t")
        assert (done.code, done.out) == (code, "")
        assert done.err.startswith(f"error: {error}")


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["replay", "shop", "main", "--since", "2h"], "one of --missing, --failed and --all"),
        (["replay", "shop", "main", "--since", "2h", "--all", "--failed"], "one of --missing, --failed and --all"),
        (["replay", "shop", "main", "--since", "yesterday", "--all"], "'yesterday' is not an instant"),
        (["replay", "shop", "main", "--all"], "Missing option '--since'"),
        (["message", "list", "shop", "--after", "9999-12-31T23:59:59-10:00"], "is not an instant"),
        (["message", "list", "shop", "--limit", "0"], "Invalid value for '--limit'"),
        (["message", "list", "\udcff"], "the arguments must be UTF-8 text"),
        (["message", "list", "shop", "--event-type", "\udcff"], "the arguments must be UTF-8 text"),
    ],
)
def test_wrong_input_is_code_2(words: list[str], error: str, tmp_path: Path) -> None:
    done = run(tmp_path, *words, "--token", "t")
    assert (done.code, done.out) == (2, "")
    assert error in done.err
