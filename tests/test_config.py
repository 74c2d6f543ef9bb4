"""`tenterhook.toml`: what it says, and that each mistake in it is named with its line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from tenterhook.clock import DAY, HOUR, SECOND
from tenterhook.config import Configuration, check_settings, parse
from tenterhook.config_keys import TABLES
from tenterhook.errors import ConfigurationError
from tenterhook.model import Secret
from tenterhook.settings import BY_NAME, Settings

KEY = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ENVIRON = {"GITHUB": "hush-github", "CHAT": "https://hooks.example/hush-chat", "KEY": KEY, "EMPTY": ""}

FULL = """\
[server]
port = 9000
https_only = true
retry_schedule = ["5s", "5m"]
admin_token = "env:GITHUB"

[[application]]
uid = "shop"
name = "The shop"

[[event_type]]
name = "invoice.paid"
description = "An invoice was paid."
group = "billing"
deprecated = true
[event_type.schemas.1]
type = "object"

[[source]]
name = "github"
provider = "github"
secret = "env:GITHUB"

[[source]]
name = "generic"
application = "shop"
provider = "hmac"
secrets = ["new", "old"]
token = "in-generic"
options = { header = "X-Sign", tolerance = 60 }

[[endpoint]]
name = "chat"
kind = "slack"
url = "env:CHAT"
event_types = ["github.issues.*"]

[[endpoint]]
name = "books"
application = "shop"
url = "https://books.example/hook"
description = "Accounting"
event_types = ["invoice.paid"]
channels = ["eu"]
ordered = true
rate_limit = 10
concurrency = 2
retry_schedule = "1s,2s"
timeout = "20s"
lifetime = "1h"
headers = { X-Team = "a", Authorization = "env:GITHUB" }
secrets = ["env:KEY"]
disabled = true
"""


def problems(text: str, **environ: str) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        parse(text, "t.toml", environ)
    return caught.value.detail.splitlines()


def endpoint(*lines: str) -> str:
    """An endpoint whose further keys begin in line 4."""
    return "\n".join(["[[endpoint]]", 'name = "e"', 'url = "https://e.example"', *lines])


def source(*lines: str) -> str:
    """A source whose further keys begin in line 3."""
    return "\n".join(["[[source]]", 'name = "s"', *lines])


def test_everything() -> None:
    found = parse(FULL, "t.toml", ENVIRON)
    assert found.server == {
        "port": 9000,
        "https_only": True,
        "retry_schedule": (5 * SECOND, 300 * SECOND),
        "admin_token": "hush-github",
    }
    assert [(app.uid, app.name, app.line) for app in found.applications] == [
        ("shop", "The shop", 7),
        ("default", "default", 0),
    ]
    [paid] = found.event_types
    assert (paid.name, paid.group_name, paid.deprecated) == ("invoice.paid", "billing", True)
    assert paid.schemas == {"1": {"type": "object"}}
    github, generic = found.sources
    assert (github.uid, github.name, github.application, github.secrets) == (
        "github",
        "github",
        "default",
        ("hush-github",),
    )
    assert (generic.secrets, generic.token, generic.application) == (("new", "old"), "in-generic", "shop")
    assert generic.options == {"header": "X-Sign", "tolerance": "60"}
    chat, books = found.endpoints
    assert (chat.uid, chat.kind, chat.url, chat.event_types) == (
        "chat",
        "slack",
        "https://hooks.example/hush-chat",
        ("github.issues.*",),
    )
    assert (chat.retry_schedule, chat.secrets, chat.headers, chat.disabled) == (None, (), (), False)
    assert (books.retry_schedule, books.timeout, books.lifetime) == ((SECOND, 2 * SECOND), 20 * SECOND, HOUR)
    assert (books.rate_limit, books.concurrency, books.ordered, books.disabled) == (10, 2, True, True)
    assert books.headers == (("X-Team", "a"), ("Authorization", "hush-github"))
    assert books.secrets == (Secret(KEY),)
    assert (books.kind, books.line) == ("webhook", 38)


def test_nothing() -> None:
    assert parse("", "t.toml", {}) == Configuration(file="t.toml")


def test_secrets_are_never_shown() -> None:
    found = parse(FULL, "t.toml", ENVIRON)
    console = Console(width=10_000)
    with console.capture() as captured:
        console.print(found)
    for text in (repr(found), captured.get()):
        assert "hush" not in text
        assert KEY not in text
        assert "books" in text


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[sever]", "t.toml:1: sever: is not a table of this file; did you mean 'server'?"),
        ("x = 1", "t.toml:1: x: is not a table of this file"),
        ("\n[source]\nname = 's'", "t.toml:2: source: must be an array of tables: write [[source]]"),
        ("[[server]]", "t.toml:1: server: must be a table: write [server]"),
        ("[server]\nhots = 'x'", "t.toml:2: server.hots: is not a setting; did you mean 'host'?"),
        ("[server]\nconfig = 'x'", "t.toml:2: server.config: is not a setting"),
        ("[server]\nport = '1'", "t.toml:2: server.port: must be an integer, not a string (0 to 65535)"),
        ("[server]\nlease = 60", "t.toml:2: server.lease: must be a string, not an integer"),
        ("[server]\nhttps_only = 1", "t.toml:2: server.https_only: must be true or false, not an integer"),
        ("[server]\nretry_schedule = [5]", "t.toml:2: server.retry_schedule: must be an array of strings"),
        ("server.admin_token = 'env:NOPE'", "t.toml:1: server.admin_token: the environment variable NOPE is not set"),
        ("server.admin_token = 'env:EMPTY'", "t.toml:1: server.admin_token: the environment variable EMPTY is empty"),
        ("server.host = 'env:a-b'", "t.toml:1: server.host: after env: comes the name of an environment variable"),
        (endpoint("urll = 'x'"), "t.toml:4: endpoint.urll: is not a key of [[endpoint]]; did you mean 'url'?"),
        (endpoint("uid = 'x'"), "t.toml:4: endpoint.uid: is not a key of [[endpoint]]; the key `name` is its uid"),
        (
            endpoint("kind = 'slak'"),
            "t.toml:4: endpoint.kind: 'slak' is no kind of endpoint: take one of webhook, slack",
        ),
        (endpoint("event_types = [", "'a',", "'b c']"), "t.toml:6: endpoint.event_types[1]: must be an event type"),
        (endpoint("event_types = 'a'"), "t.toml:4: endpoint.event_types: must be an array, not a string"),
        (endpoint("channels = ['a/b']"), "t.toml:4: endpoint.channels[0]: must be letters"),
        (endpoint("ordered = 'yes'"), "t.toml:4: endpoint.ordered: must be true or false, not a string"),
        (endpoint("rate_limit = 0"), "t.toml:4: endpoint.rate_limit: 0 is out of range: take 1 to 65535"),
        (endpoint("rate_limit = 1.5"), "t.toml:4: endpoint.rate_limit: must be an integer, not a number"),
        (endpoint("timeout = 1979-05-27"), "t.toml:4: endpoint.timeout: must be a string, not a date or time"),
        (endpoint("timeout = '0s'"), "t.toml:4: endpoint.timeout: 0s is out of range"),
        (endpoint("retry_schedule = '5'"), "t.toml:4: endpoint.retry_schedule: '5' is not a duration"),
        (endpoint("[endpoint.headers]", "X-A = 1"), "t.toml:5: endpoint.headers.X-A: must be a string"),
        (endpoint("[endpoint.headers]", '"X A" = "1"'), "t.toml:5: endpoint.headers.'X A': not a valid"),
        (endpoint("[endpoint.headers]", 'XA = "1\\n"'), "t.toml:5: endpoint.headers.XA: a value has no"),
        (endpoint("[endpoint.headers]", "X-A = '1'", "Host = 'x'"), "t.toml:6: endpoint.headers.Host: not allowed"),
        (endpoint("[endpoint.headers]", "X-A = '1'", "x-a = '1'"), "t.toml:6: endpoint.headers.x-a: this name is"),
        (endpoint("secret = 'whsec_x'"), "t.toml:4: endpoint.secret: "),
        (endpoint("secrets = [", "'whsec_x']"), "t.toml:5: endpoint.secrets[0]: "),
        (endpoint(f"secret = '{KEY}'", f"secrets = ['{KEY}']"), "t.toml:4: endpoint.secret: give either"),
        (
            endpoint("application = 'shpo'", "[[application]]", "uid = 'shop'"),
            "t.toml:4: endpoint.application: there is",
        ),
        ("[[endpoint]]\nname = 'e'\nurl = 'ftp://x'", "t.toml:3: endpoint.url: "),
        ("[[endpoint]]\nname = 'e'", "t.toml:1: endpoint: `url` is missing: add it"),
        ("[[endpoint]]\nname = 'e/'\nurl = 'https://e.example'", "t.toml:2: endpoint.name: must be letters"),
        (endpoint(endpoint()), "t.toml:5: endpoint.name: 'e' is used already in line 2: take another"),
        (source("secret = 'x'"), "t.toml:1: source: `provider` is missing: add it"),
        (
            source("provider = 'gihtub'"),
            "t.toml:3: source.provider: there is no provider 'gihtub'; did you mean 'github'?",
        ),
        (source("provider = 'github'"), "t.toml:1: source.secret: a source of GitHub needs a secret"),
        (source("provider = 'github'", "secrets = [", "'a',", "'env:NOPE']"), "t.toml:6: source.secrets[1]: the env"),
        (source("provider = 'svix'", "secrets = [", f"'{KEY}',", "'whsec_x']"), "t.toml:6: source.secrets[1]: "),
        (source("provider = 'none'", "secret = 'a'"), "t.toml:4: source.secret: "),
        (source("provider = 'none'", "token = 'a/b'"), "t.toml:4: source.token: must be at least 8 letters"),
        (
            source("provider = 'hmac'", "secret = 'a'", "[source.options]", "x = '1'"),
            "t.toml:6: source.options.x: hmac has",
        ),
        (source("provider = 'none'", "options.x = []"), "t.toml:4: source.options.x: must be a string, a number"),
        ("[[event_type]]\nname = 'a'\nschemas.1 = 'x'", "t.toml:3: event_type.schemas.1: must be a table"),
        (
            "[[event_type]]\nname = 'a'\n[event_type.schemas.1]\nx = [\n nan]",
            "t.toml:5: event_type.schemas.1.x[0]: has no",
        ),
        (
            "[[application]]\nuid = 'a'\n[[application]]\nuid = 'a'",
            "t.toml:4: application.uid: 'a' is used already in line 2",
        ),
        ("a = 1\nb = \n", "t.toml:2: TOML: Invalid value (column 5)"),
        ("a = 1\na = 2\n", "t.toml:2: TOML: "),
        ("a = 1\nb = [\n", "t.toml:2: TOML: "),
        ("a = " + "[" * 5_000, "t.toml:1: TOML: "),
        ("a = " + "9" * 5_000, "t.toml:1: TOML: "),
    ],
)
def test_a_mistake_is_named_with_its_line(text: str, problem: str) -> None:
    [found] = problems(text, EMPTY="")
    assert found.startswith(problem)


def test_tokens_are_taken_once_and_not_shown() -> None:
    one = source("provider = 'none'", "token = 'in-first-x'\n")
    [problem] = problems(one + one.replace('"s"', '"t"'))
    assert problem == "t.toml:8: source.token: this token is used already in line 4: take another"


def test_a_name_may_be_used_in_two_applications() -> None:
    text = "[[application]]\nuid = 'a'\n" + endpoint("application = 'a'\n") + endpoint()
    assert [(e.application, e.uid) for e in parse(text, "t.toml", {}).endpoints] == [("a", "e"), ("default", "e")]


def test_all_problems_at_once_in_the_order_of_the_file() -> None:
    text = "[server]\nport = 'x'\n[[endpoint]]\nname = 'e'\nurl = 'env:A'\nlist = 1\n[[source]]\nname = 's'\n[other]\n"
    assert [problem.split(": ")[:2] for problem in problems(text)] == [
        ["t.toml:2", "server.port"],
        ["t.toml:5", "endpoint.url"],
        ["t.toml:6", "endpoint.list"],
        ["t.toml:7", "source"],
        ["t.toml:9", "other"],
    ]


@pytest.mark.parametrize(
    "text",
    [
        endpoint("secret = 'env:HUSH'"),
        endpoint("headers.X = 'env:HUSH'"),
        "[[endpoint]]\nname = 'e'\nurl = 'env:HUSH'",
        source("provider = 'svix'", "secret = 'env:HUSH'"),
        source("provider = 'none'", "token = 'env:HUSH'"),
        "[server]\nsecret = 'env:HUSH'",
        "[server]\nadmin_token = ['env:HUSH']",
        "[server]\ndatabase = 'env:HUSH'",
    ],
)
def test_problems_do_not_repeat_secrets(text: str) -> None:
    assert all("hush" not in problem for problem in problems(text, HUSH="hush \n hush é"))


def test_other_kinds_may_exist() -> None:
    assert parse(endpoint("kind = 'queue'"), "t.toml", {}, kinds=["webhook", "queue"]).endpoints[0].kind == "queue"


def test_settings_bound_the_endpoints() -> None:
    found = parse(endpoint("timeout = '50s'"), "t.toml", {})
    check_settings(found, Settings(https_only=True))
    with pytest.raises(ConfigurationError, match=r"t.toml:1: endpoint.timeout: at most 20s") as caught:
        check_settings(found, Settings(lease=30 * SECOND))
    assert len(caught.value.detail.splitlines()) == 1
    plain = parse("[[endpoint]]\nname = 'e'\nurl = 'http://e.example'", "t.toml", {})
    with pytest.raises(ConfigurationError, match=r"t.toml:1: endpoint.url: must begin with https"):
        check_settings(plain, Settings(https_only=True))


def test_settings_bound_the_retention_of_applications() -> None:
    text = "[[application]]\nuid = 'a'\nrecord_retention = '10d'\npayload_retention = '1h'"
    found = parse(text, "t.toml", {})
    assert (found.applications[0].record_retention, found.applications[0].payload_retention) == (10 * DAY, HOUR)
    check_settings(found, Settings())
    with pytest.raises(
        ConfigurationError, match=r"t.toml:1: application.record_retention: must be longer than .* \(10d\)"
    ):
        check_settings(found, Settings(delivery_lifetime=10 * DAY))


@given(st.text())
def test_any_text_is_a_configuration_or_an_error(text: str) -> None:
    try:
        assert isinstance(parse(text, "t.toml", {}), Configuration)
    except ConfigurationError as error:
        assert all(line.startswith("t.toml:") for line in error.detail.splitlines())


VALUES = ["1", "-1", "1.5", "nan", "true", "''", "'5s'", "'env:A'", "'env:B'", "'https://e.example'", "'github'", "[]"]
VALUES += [
    "['a']",
    "[1, 'x']",
    "{}",
    "{ a = 'b' }",
    "{ a = { b = 1 } }",
    "1979-05-27",
    "['env:B']",
    "{ X = 'env:B' }",
    "'default'",
]


@st.composite
def plausible(draw: st.DrawFn) -> str:
    """A file with the right tables and keys, and any values."""
    text = ""
    for noun in draw(st.lists(st.sampled_from([*TABLES, "server"]), max_size=5)):
        keys = list(BY_NAME) if noun == "server" else [*TABLES[noun], "other"]
        text += "[server]\n" if noun == "server" else f"[[{noun}]]\n"
        for key in draw(st.lists(st.sampled_from(keys), unique=True)):
            text += f"{key} = {draw(st.sampled_from(VALUES))}\n"
    return text


@given(plausible())
def test_any_values_are_a_configuration_or_errors_with_good_lines(text: str) -> None:
    try:
        assert isinstance(parse(text, "t.toml", {"A": "a-value"}), Configuration)
    except ConfigurationError as error:
        rows = text.splitlines()
        for problem in error.detail.splitlines():
            place, path, _ = problem.split(": ", 2)
            line = rows[int(place.split(":")[1]) - 1]
            noun, _, key = path.partition(".")
            if noun != "TOML":
                # the line is that of the key, or of the table that lacks it
                assert line.startswith(f"{key.split('.')[0].split('[')[0]} = ") if "=" in line else noun in line
