"""The command line as processes: what it prints, where, and its exit codes, against real servers on this machine."""

import contextlib
import io
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import IO
from unittest import mock

import pytest
from msgspec import Struct

from tenterhook import __version__
from tenterhook.cli import main
from tenterhook.settings import SETTINGS, Setting

TIMEOUT = 180
"""How long a server lives at most, and a command may take (s): only against hanging."""
COMMANDS = [
    "",
    "serve",
    "send",
    "resend",
    "replay",
    "message",
    "message list",
    "message show",
    "endpoint",
    "endpoint list",
    "check",
    "backup",
    "copy",
    "prune",
    "demo",
    "version",
    "outbox",
    "outbox create",
    "token",
    "token create",
    "token list",
    "token revoke",
]
GROUPS = ("", "message", "endpoint", "outbox", "token")
ADMIN = "an-admin-token-of-the-tests"
FILE = """\
[[application]]
uid = "shop"

[[source]]
name = "anyone"
provider = "none"

[[endpoint]]
name = "audit"
application = "shop"
url = "https://192.0.2.1/hooks"
"""


class Done(Struct):
    """How a command ended."""

    code: int
    out: str
    err: str


def clean(**more: str) -> dict[str, str]:
    """The environment without settings of whoever runs the tests."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TENTERHOOK_")}
    return {**kept, "COLUMNS": "100", "NO_COLOR": "1", **more}


def run(folder: Path, *words: str, stdin: str = "", **environ: str) -> Done:
    """The command in this process, as its entry point runs it: no exception may leave it."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    with (
        contextlib.chdir(folder),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        mock.patch.dict(os.environ, clean(**environ), clear=True),
        mock.patch.object(sys, "argv", ["tenterhook", *words]),
        mock.patch.object(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode()))),
        pytest.raises(SystemExit) as ended,
    ):
        main()
    printed = [stream.buffer.getvalue().decode() for stream in (out, err)]  # type: ignore[attr-defined]  # a BytesIO
    return Done(int(ended.value.code or 0), *printed)


def process(folder: Path, *words: str, **environ: str) -> Done:
    """The command as a process of its own."""
    command = [sys.executable, "-m", "tenterhook", *words]
    done = subprocess.run(
        command, cwd=folder, env=clean(**environ), capture_output=True, text=True, timeout=TIMEOUT, check=False
    )
    assert "Traceback" not in done.stderr, done.stderr
    return Done(done.returncode, done.stdout, done.stderr)


class Serving:
    """A running `tenterhook serve`: what it printed until it was ready, and its log."""

    def __init__(self, folder: Path, *words: str, **environ: str) -> None:
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-u", "-m", "tenterhook", "serve", "--port", "0", *words],
            cwd=folder, env=clean(**environ), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.watchdog = threading.Timer(TIMEOUT, self.process.kill)
        self.watchdog.start()

    def printed(self, pattern: str, stream: "IO[str] | None" = None) -> "re.Match[str]":
        """The next line of standard output that has the pattern."""
        for line in stream or self.process.stdout or ():
            if found := re.search(pattern, line):
                return found
        raise AssertionError(f"it ended without {pattern!r}: {self.process.stderr and self.process.stderr.read()}")

    def logged(self, pattern: str) -> "re.Match[str]":
        """The next line of the log that has the pattern."""
        return self.printed(pattern, self.process.stderr)

    def url(self) -> str:
        return self.printed(r" at (http://\S+)")[1]

    def end(self) -> int:
        self.process.terminate()
        return self.process.wait()


@pytest.fixture
def servers() -> Iterator[list[Serving]]:
    """Servers that a test starts, ended when it ends."""
    started: list[Serving] = []
    yield started
    for server in started:
        server.process.kill()
        server.process.communicate()
        server.watchdog.cancel()


# help, version, completion


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, tmp_path: Path) -> None:
    done = run(tmp_path, *command.split(), "--help")
    assert done.code == 0
    assert done.out.startswith(f"Usage: tenterhook {command}".rstrip())
    assert command in GROUPS or f"Examples:\n    tenterhook {command}" in done.out


def test_commands_are_those_listed(tmp_path: Path) -> None:
    listed = set()
    for group in GROUPS:
        text = run(tmp_path, *group.split(), "--help").out.partition("Commands:\n")[2]
        listed |= {f"{group} {name}".strip() for name in re.findall(r"^  (\S+)  ", text, re.MULTILINE)}
    assert listed == set(COMMANDS) - {""}


@pytest.mark.parametrize("words", [["--version"], ["version"]])
def test_version(words: list[str], tmp_path: Path) -> None:
    assert process(tmp_path, *words).out == f"tenterhook {__version__}\n"


def test_version_for_scripts(tmp_path: Path) -> None:
    assert json.loads(run(tmp_path, "version", "--json").out) == {"version": __version__}


def test_light_commands_load_no_server(tmp_path: Path) -> None:
    code = "import sys; from tenterhook.cli.commands import app; print([m for m in sys.modules if m in sys.argv[1:]])"
    heavy = ["uvicorn", "uvloop", "sqlite3", "cryptography", "rich.table", "tenterhook.serve"]
    done = subprocess.run([sys.executable, "-c", code, *heavy], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_names_the_commands(shell: str, tmp_path: Path) -> None:
    environ = {
        "bash": {"COMP_WORDS": "tenterhook ", "COMP_CWORD": "1"},
        "zsh": {"_TYPER_COMPLETE_ARGS": "tenterhook "},
        "fish": {"_TYPER_COMPLETE_ARGS": "tenterhook ", "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
    }[shell]
    done = process(tmp_path, _TENTERHOOK_COMPLETE=f"complete_{shell}", **environ)
    assert all(command in done.out for command in ("serve", "send", "token", "check"))


def test_completion_installs(tmp_path: Path) -> None:
    # the shell is named here, because the one that runs the tests may be one without completion
    named = {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1", "HOME": str(tmp_path)}
    done = process(tmp_path, "--install-completion", "bash", **named)
    assert done.code == 0, done.out + done.err
    assert any("tenterhook" in path.read_text() for path in tmp_path.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    "words", [["serv"], ["serve", "--prot", "1"], ["send"], ["token", "create", "--scope", "all"], ["token", "revoke"]]
)
def test_wrong_usage_is_code_2(words: list[str], tmp_path: Path) -> None:
    done = run(tmp_path, *words)
    assert (done.code, done.out) == (2, "")
    assert "Usage: tenterhook" in done.err


# serve


def test_every_setting_is_a_flag(tmp_path: Path) -> None:
    text = run(tmp_path, "serve", "--help", COLUMNS="200").out

    def shown(setting: Setting) -> bool:
        default = setting.show(setting.default)
        return f"  {setting.flag} " in text and (default == "none" or f"({default})" in re.sub(r"\n +", "", text))

    assert [setting.name for setting in SETTINGS if not shown(setting)] == []


def test_first_start_prints_a_token_once(tmp_path: Path, servers: list[Serving]) -> None:
    servers.append(Serving(tmp_path))
    url = servers[0].url()
    servers[0].printed(r"^database +sqlite:///tenterhook\.db$")
    token = servers[0].printed(r"^admin token +(thk_\w+) ")[1]
    done = run(tmp_path, "send", "shop", "a.b", TENTERHOOK_URL=url, TENTERHOOK_TOKEN=token)
    assert (done.code, done.err) == (
        1,
        "error: 404 not_found: Entity not found. (look at the names in the command)\n",
    )
    assert servers[0].end() == 0
    servers.append(Serving(tmp_path))
    servers[1].url()
    assert servers[1].end() == 0
    assert servers[1].process.stdout is not None
    assert "token" not in servers[1].process.stdout.read()
    assert [path.stat().st_mode & 0o777 for path in sorted(tmp_path.iterdir())] == [0o600] * 3


def test_flag_wins_over_environment_over_file(tmp_path: Path, servers: list[Serving]) -> None:
    (tmp_path / "t.toml").write_text('[server]\ndatabase = "sqlite:///file.db"\nadmin_token = "from-the-file"\n')
    environ = {"TENTERHOOK_DATABASE": "sqlite:///environment.db", "TENTERHOOK_CONFIG": "t.toml"}
    servers.append(Serving(tmp_path, "--database", "sqlite:///flag.db", **environ))
    url = servers[0].url()
    assert run(tmp_path, "send", "x", "a.b", "--server", url, "--token", "from-the-file").err.startswith("error: 404")
    assert sorted(path.name for path in tmp_path.glob("*.db")) == ["flag.db"]


def test_objects_of_the_file_are_there_and_reloaded(tmp_path: Path, servers: list[Serving]) -> None:
    file = tmp_path / "tenterhook.toml"
    file.write_text(FILE)
    # documentation addresses are not public: allowed, so that the endpoint may be saved
    server = Serving(tmp_path, "--allow-networks", "192.0.2.0/24", "--admin-token", ADMIN, TENTERHOOK_PROT="1")
    servers.append(server)
    server.logged(r"warning .*TENTERHOOK_PROT is not a setting; did you mean TENTERHOOK_PORT\?")
    url = server.url()
    server.printed(r"^configuration +tenterhook\.toml: 4 created$")
    source = server.printed(r"^source +default/anyone: (http://\S+/in/\S+)$")[1]
    assert source.startswith(url)
    assert run(tmp_path, "send", "shop", "a.b", "--server", url, "--token", ADMIN).code == 0

    file.write_text(FILE.replace('"audit"', '"ledger"') + "rate_limit = 7\n")
    server.process.send_signal(signal.SIGHUP)
    server.logged(r"info .*reloaded tenterhook\.toml: 1 created, 1 removed, 3 unchanged")

    file.write_text(FILE.replace("192.0.2.1", "127.0.0.1"))
    server.process.send_signal(signal.SIGHUP)
    server.logged(r"error .*reload refused, nothing was changed: tenterhook\.toml:8: endpoint\.url: ")

    file.write_text('[[endpoint]]\nname = 7\nkind = "webhoock"\n')
    server.process.send_signal(signal.SIGHUP)
    server.logged(r"nothing was changed: tenterhook\.toml:2: endpoint\.name: ")
    server.logged(r"nothing was changed: tenterhook\.toml:3: endpoint\.kind: ")

    file.unlink()
    server.process.send_signal(signal.SIGHUP)
    server.logged(r"there is no configuration file any more; nothing was changed")

    file.write_text("[server]\nmax_payload = '2MiB'\n" + FILE.replace('"audit"', '"ledger"') + "rate_limit = 7\n")
    server.process.send_signal(signal.SIGHUP)
    server.logged(r"reloaded tenterhook\.toml: 4 unchanged")
    server.logged(r"warning .*changed settings take effect at the next start: max_payload")
    assert server.end() == 0


def test_what_is_under_way_ends_before_the_server_does(tmp_path: Path, servers: list[Serving]) -> None:
    arrived, may_answer = threading.Event(), threading.Event()

    class Slow(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            arrived.set()
            may_answer.wait(TIMEOUT)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

    with HTTPServer(("127.0.0.1", 0), Slow) as receiver:
        thread = threading.Thread(target=receiver.handle_request)
        thread.start()
        file = FILE.replace("https://192.0.2.1", f"http://127.0.0.1:{receiver.server_port}")
        (tmp_path / "tenterhook.toml").write_text(file)
        server = Serving(tmp_path, "--allow-networks", "127.0.0.0/8", "--admin-token", ADMIN)
        servers.append(server)
        sent = run(tmp_path, "send", "shop", "a.b", "--server", server.url(), "--token", ADMIN)
        assert arrived.wait(TIMEOUT)
        server.process.terminate()
        may_answer.set()
        assert server.process.wait() == 0
        thread.join()
    with sqlite3.connect(tmp_path / "tenterhook.db") as db:
        found = db.execute("SELECT state, attempts FROM delivery WHERE message = ?", (sent.out.strip(),)).fetchall()
    db.close()
    assert found == [("delivered", 1)]


def test_log_as_json(tmp_path: Path, servers: list[Serving]) -> None:
    servers.append(Serving(tmp_path, "--log-format", "json"))
    line = json.loads(servers[0].logged(r"^\{.*master key.*")[0])
    assert (line["level"], line["logger"]) == ("info", "tenterhook")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", line["time"])


def test_started_for_scripts(tmp_path: Path, servers: list[Serving]) -> None:
    (tmp_path / "tenterhook.toml").write_text('[[source]]\nname = "plain"\nprovider = "none"\n')
    server = Serving(tmp_path, "--json")
    servers.append(server)
    found = json.loads(server.printed(r"(\{.*\})")[1])
    assert found["url"].startswith("http://127.0.0.1:")
    assert found["admin_token"].startswith("thk_")
    assert found["sources"]["default/plain"].startswith(found["url"] + "/in/")


def test_two_servers_on_one_database(tmp_path: Path, servers: list[Serving]) -> None:
    servers.append(Serving(tmp_path))
    servers[0].url()
    done = process(tmp_path, "serve", "--port", "0")
    assert (done.code, done.out) == (1, "")
    assert "error: another Tenterhook server is using tenterhook.db" in done.err


def test_port_in_use(tmp_path: Path, servers: list[Serving]) -> None:
    servers.append(Serving(tmp_path))
    port = servers[0].url().rpartition(":")[2]
    done = process(tmp_path, "serve", "--port", port, "--database", "sqlite:///other.db")
    assert done.code == 2
    assert f"error: cannot listen on 127.0.0.1:{port}" in done.err


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["--port", "x"], "error: --port: 'x' is not a whole number"),
        (["--lease", "5s"], "error: --lease: 5s is too short"),
        (["--config", "nowhere.toml"], "error: nowhere.toml: there is no such file"),
        (["--config", "."], "error: .: cannot be read"),
        (["--secret", "short"], "error: TENTERHOOK_SECRET: key 1 has 5 characters"),
    ],
)
def test_wrong_settings_are_code_2(words: list[str], error: str, tmp_path: Path) -> None:
    done = process(tmp_path, "serve", *words)
    assert done.code == 2
    assert error in done.err


# send


class Recorder(BaseHTTPRequestHandler):
    """Answers as it is told, and keeps what it was sent."""

    received: list[tuple[str, dict[str, str], bytes]]
    answer: tuple[int, bytes]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.received.append((self.path, dict(self.headers), body))
        status, answer = self.answer
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@pytest.fixture
def recorder() -> Iterator[tuple[str, type[Recorder]]]:
    """A server that answers 202; its URL, and the class that keeps what comes."""
    handler = type("Fresh", (Recorder,), {"received": [], "answer": (202, b'{"id":"msg_1"}')})
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", handler
        server.shutdown()
        thread.join()


def test_send_sends_all_it_is_given(tmp_path: Path, recorder: tuple[str, type[Recorder]]) -> None:
    url, handler = recorder
    done = run(
        tmp_path, "send", "shop/1", "a.b", '{"z": 1,  "a": 2.50}', "--server", url + "/hooks/", "--token", "thk_x",
        "--event-id", "e1", "--channel", "x", "--channel", "y", "--tag", "t", "--ordering-key", "k", "--idempotency-key", "i",
    )  # fmt: skip
    assert (done.code, done.out, done.err) == (0, "msg_1\n", "")
    path, headers, body = handler.received[0]
    assert path == "/hooks/api/v1/app/shop%2F1/msg?with_content=false"
    assert (headers["Authorization"], headers["Idempotency-Key"]) == ("Bearer thk_x", "i")
    assert b'"payload":{"z": 1,  "a": 2.50}' in body
    expected = {"eventType": "a.b", "eventId": "e1", "channels": ["x", "y"], "tags": ["t"], "orderingKey": "k"}
    assert {name: value for name, value in json.loads(body).items() if name != "payload"} == expected


def test_send_reads_files_and_standard_input(tmp_path: Path, recorder: tuple[str, type[Recorder]]) -> None:
    url, handler = recorder
    (tmp_path / "p.json").write_text('{"from": "file"}\n')
    environ = {"TENTERHOOK_URL": url, "TENTERHOOK_TOKEN": "t"}
    assert run(tmp_path, "send", "shop", "a.b", "@p.json", **environ).code == 0
    assert run(tmp_path, "send", "shop", "a.b", "-", stdin='{"from": "stdin"}', **environ).code == 0
    assert run(tmp_path, "send", "shop", "a.b", **environ).code == 0
    payloads = [json.loads(body)["payload"] for _, _, body in handler.received]
    assert payloads == [{"from": "file"}, {"from": "stdin"}, {}]


def test_send_for_scripts(tmp_path: Path, recorder: tuple[str, type[Recorder]]) -> None:
    done = run(tmp_path, "send", "shop", "a.b", "--json", "--server", recorder[0], "--token", "t")
    assert json.loads(done.out) == {"id": "msg_1"}


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["--token", ""], "a token is needed"),
        (["not json", "--token", "t"], "the payload is not JSON"),
        (["[1]", "--token", "t"], "the payload must be a JSON object"),
        (["@nowhere.json", "--token", "t"], "nowhere.json: cannot be read"),
        (["{}", "--token", "t\nx"], "Authorization must consist of visible ASCII"),
        (["\udcff", "--token", "t"], "the payload is not JSON"),
        (["[" * 100_000, "--token", "t"], "the payload is not JSON"),
        (["{}", "--token", "t", "--tag", "\udcff"], "the arguments must be UTF-8 text"),
        (["{}", "--token", "t", "--server", "http://a..b"], "is not the URL of a server"),
        (["{}", "--token", "t", "--server", "127.0.0.1:8071"], "is not the URL of a server"),
        (["{}", "--token", "t", "--server", "http://127.0.0.1:99999"], "is not the URL of a server"),
    ],
)
def test_send_with_wrong_input_is_code_2(words: list[str], error: str, tmp_path: Path) -> None:
    done = run(tmp_path, "send", "shop", "a.b", *words)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: ")
    assert error in done.err


@pytest.mark.parametrize(
    ("answer", "code", "error"),
    [
        ((401, b'{"code":"authentication_failed","detail":"no"}'), 1, "401 authentication_failed: no (give another "),
        ((503, b"<html>down</html>"), 1, "503: <html>down</html>"),
        ((422, b'{"detail":[{"loc":["body","eventType"],"msg":"bad","type":"t"}]}'), 2, "422 invalid: eventType: bad"),
        ((200, b"<html>It works!</html>"), 1, "200: <html>It works!</html>"),
        ((202, b'["msg_1"]'), 1, '202: ["msg_1"]'),
    ],
)
def test_send_says_what_the_server_said(
    answer: tuple[int, bytes], code: int, error: str, tmp_path: Path, recorder: tuple[str, type[Recorder]]
) -> None:
    recorder[1].answer = answer
    done = run(tmp_path, "send", "shop", "a.b", "--server", recorder[0], "--token", "t")
    assert (done.code, done.out, done.err) == (code, "", done.err)
    assert done.err.startswith(f"error: {error}") and done.err.count("\n") == 1


def test_send_without_a_server_is_code_1(tmp_path: Path) -> None:
    done = run(tmp_path, "send", "shop", "a.b", "--token", "t", "--server", "http://127.0.0.1:1")
    assert done.code == 1
    assert "error: no answer from http://127.0.0.1:1: " in done.err


# token


def test_token_life(tmp_path: Path, servers: list[Serving]) -> None:
    (tmp_path / "tenterhook.toml").write_text('[[application]]\nuid = "shop"\n')
    servers.append(Serving(tmp_path, "--admin-token", ADMIN))
    url = servers[0].url()
    token = run(tmp_path, "token", "create", "--name", "ci", "--expires", "90d").out.strip()
    assert re.fullmatch(r"thk_[0-9A-Za-z]{40}", token)
    assert run(tmp_path, "send", "shop", "a.b", "--server", url, "--token", token).code == 0
    listed = json.loads(run(tmp_path, "token", "list", "--json").out)
    assert [(row["name"], row["scope"], row["state"]) for row in listed] == [("ci", "admin", "valid")]
    assert token not in json.dumps(listed)
    assert run(tmp_path, "token", "revoke", listed[0]["id"]).code == 0
    assert "revoked" in run(tmp_path, "token", "list").out


def test_tokens_are_listed_whatever_their_names(tmp_path: Path) -> None:
    assert run(tmp_path, "token", "create", "--name", "[/] of [bold]ci").code == 0
    listed = run(tmp_path, "token", "list")
    assert listed.code == 0 and "[/] of [bold]ci" in listed.out


def test_token_of_an_application(tmp_path: Path, servers: list[Serving]) -> None:
    (tmp_path / "tenterhook.toml").write_text('[[application]]\nuid = "shop"\n')
    servers.append(Serving(tmp_path))
    url = servers[0].url()
    made = json.loads(run(tmp_path, "token", "create", "--app", "shop", "--json").out)
    assert (made["scope"], made["name"]) == ("application", "command line")
    done = run(tmp_path, "send", "shop", "a.b", "--server", url, "--token", made["token"])
    assert (done.code, done.err[:11]) == (1, "error: 403 ")
    listed = json.loads(run(tmp_path, "token", "list", "--json").out)
    assert [row["app"] is not None for row in listed] == [False, True]


@pytest.mark.parametrize(
    ("words", "code", "error"),
    [
        (["create", "--scope", "application"], 2, "needs --app"),
        (["create", "--scope", "admin", "--app", "shop"], 2, "not limited to an application"),
        (["create", "--app", "nobody"], 2, "there is no application 'nobody'"),
        (["create", "--expires", "soon"], 2, "'soon' is not a duration"),
        (["create", "--expires", "0s"], 2, "longer than 0s"),
        (["create", "--database", "mysql://x"], 2, "--database: must be sqlite:///"),
        (["revoke", "tok_nothing"], 1, "there is no token 'tok_nothing'"),
        (["revoke", "thk_text"], 2, "give its id"),
    ],
)
def test_token_mistakes(words: list[str], code: int, error: str, tmp_path: Path) -> None:
    done = run(tmp_path, "token", *words)
    assert (done.code, done.out) == (code, "")
    assert error in done.err


# check


def test_check_of_a_right_file(tmp_path: Path) -> None:
    (tmp_path / "tenterhook.toml").write_text('[server]\nallow_networks = ["192.0.2.0/24"]\n' + FILE)
    done = run(tmp_path, "check")
    assert (done.code, done.err) == (0, "")
    assert done.out == "tenterhook.toml is right: 2 applications, 0 event types, 1 source, 1 endpoint, 0 outboxes\n"
    assert json.loads(run(tmp_path, "check", "--json").out)["endpoint"] == 1


def test_check_finds_refused_urls_and_all_mistakes(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(FILE)
    done = run(tmp_path, "check", "--config", "a.toml")
    assert (done.code, done.err) == (2, "error: a.toml:8: endpoint.url: The target is not a public address.\n")
    (tmp_path / "b.toml").write_text('[server]\nprot = 1\n[[source]]\nname = "x"\nprovider = "gihub"\n')
    done = run(tmp_path, "check", "--config", "b.toml")
    assert done.code == 2
    assert [line.split(":")[1:4] for line in done.err.splitlines()] == [
        [" b.toml", "2", " server.prot"],
        [" b.toml", "5", " source.provider"],
    ]


def test_check_without_a_file(tmp_path: Path) -> None:
    assert run(tmp_path, "check").code == 0
    done = run(tmp_path, "check", TENTERHOOK_PORT="many")
    assert (done.code, done.err) == (2, "error: TENTERHOOK_PORT: 'many' is not a whole number\n")


@pytest.mark.parametrize(
    ("url", "code", "words"),
    [
        ("https://93.184.215.14/x", 0, "an endpoint may have this URL"),
        ("https://10.0.0.1/x", 1, "10.0.0.1  refused: "),
        ("https://[::ffff:127.0.0.1]/x", 1, "refused: "),
        ("ftp://example.com/x", 1, "refused: "),
        ("https://printer/x", 1, "refused: "),
    ],
)
def test_check_of_a_url(url: str, code: int, words: str, tmp_path: Path) -> None:
    done = run(tmp_path, "check", url)
    assert (done.code, done.err) == (code, "")
    assert words in done.out


def test_check_of_a_url_follows_the_settings(tmp_path: Path) -> None:
    done = run(tmp_path, "check", "http://10.0.0.1/x", "--json", TENTERHOOK_ALLOW_NETWORKS="10.0.0.0/8")
    assert (done.code, json.loads(done.out)["allowed"]) == (0, True)
    assert run(tmp_path, "check", "http://10.0.0.1/x", TENTERHOOK_HTTPS_ONLY="yes").code == 1
