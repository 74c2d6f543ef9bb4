"""One table of settings, three places to give them, one result."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from tenterhook.clock import HOUR, MINUTE, SECOND
from tenterhook.errors import ConfigurationError, Invalid
from tenterhook.model import Policy, Retention
from tenterhook.settings import BY_NAME, SETTINGS, Setting, Settings, config_file, load, suspects

SECRETS = [setting for setting in SETTINGS if setting.secret]
names = pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)


def problems(**environ: str) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        load({}, {f"TENTERHOOK_{name.upper()}": value for name, value in environ.items()}, {})
    return caught.value.detail.splitlines()


def test_nothing_given_gives_the_defaults() -> None:
    settings = load({}, {}, {})
    assert settings == Settings()
    assert (settings.host, settings.port, settings.database) == ("127.0.0.1", 8071, "sqlite:///tenterhook.db")
    assert settings.policy() == Policy()


@names
def test_the_default_is_a_value_that_can_be_given(setting: Setting) -> None:
    if setting.default is not None:
        assert setting.parse(setting.show(setting.default)) == setting.default


@names
def test_every_setting_has_its_names_and_help(setting: Setting) -> None:
    assert setting.env == "TENTERHOOK_" + setting.name.upper()
    assert setting.flag == "--" + setting.name.replace("_", "-")
    assert setting.help.endswith(".")


def test_flags_win_over_environment_over_file() -> None:
    file: dict[str, object] = {"port": 1, "host": "a", "log_level": "debug"}
    environ = {"TENTERHOOK_PORT": "2", "TENTERHOOK_HOST": "b"}
    settings = load(file, environ, {"port": "3", "host": None})
    assert (settings.port, settings.host, settings.log_level) == (3, "b", "debug")


def test_an_empty_variable_is_not_given_and_none_takes_back() -> None:
    file: dict[str, object] = {"retry_schedule": (SECOND,), "public_url": "http://a"}
    kept = load(file, {"TENTERHOOK_RETRY_SCHEDULE": "", "TENTERHOOK_PUBLIC_URL": ""}, {})
    assert (kept.retry_schedule, kept.public_url) == ((SECOND,), "http://a")
    taken = load(file, {"TENTERHOOK_RETRY_SCHEDULE": "none", "TENTERHOOK_PUBLIC_URL": "none"}, {})
    assert (taken.retry_schedule, taken.public_url) == ((), None)


def test_flags_may_be_values() -> None:
    settings = load({}, {}, {"https_only": True, "port": 0, "breaker_failures": 3})
    assert (settings.https_only, settings.port, settings.breaker_failures) == (True, 0, 3)


def test_values() -> None:
    settings = load(
        {},
        {
            "TENTERHOOK_RETRY_SCHEDULE": "5s, 1h30m",
            "TENTERHOOK_MAX_PAYLOAD": "2MiB",
            "TENTERHOOK_HTTPS_ONLY": "yes",
            "TENTERHOOK_ALLOW_NETWORKS": "10.0.0.0/8,::1/128 192.0.2.1",
            "TENTERHOOK_ALLOW_NAMES": "receiver,*.internal",
            "TENTERHOOK_NAT64": "64:ff9b::/96",
            "TENTERHOOK_PUBLIC_URL": "https://hooks.example/base/",
            "TENTERHOOK_DATABASE": "postgres://u:p@h/db",
            "TENTERHOOK_DELIVERY_LIFETIME": "10d",
        },
        {},
    )
    assert settings.retry_schedule == settings.policy().retry_schedule == (5 * SECOND, 90 * MINUTE)
    assert settings.max_payload == 2 << 20
    assert settings.https_only is True
    assert [str(network) for network in settings.allow_networks] == ["10.0.0.0/8", "::1/128", "192.0.2.1/32"]
    assert settings.allow_names == ("receiver", "*.internal")
    assert [str(prefix) for prefix in settings.nat64] == ["64:ff9b::/96"]
    assert settings.public_url == "https://hooks.example/base"
    assert settings.database == "postgresql://u:p@h/db"
    assert settings.policy().lifetime == 240 * HOUR


def test_policy_takes_every_field_from_its_setting() -> None:
    changed = {
        "retry_schedule": (SECOND,),
        "delivery_lifetime": 2 * HOUR,
        "delivery_timeout": 2 * SECOND,
        "lease": 3 * MINUTE,
        "endpoint_concurrency": 2,
        "global_concurrency": 3,
        "retry_after_cap": 4 * SECOND,
        "breaker_failures": 5,
        "breaker_open": 6 * SECOND,
        "breaker_open_cap": 7 * SECOND,
        "disable_after": 8 * MINUTE,
    }
    policy, plain = Settings(**changed).policy(), Policy()
    short = {"delivery_lifetime": "lifetime", "delivery_timeout": "timeout", "endpoint_concurrency": "concurrency"}
    assert {short.get(name, name) for name in changed} == set(Policy.__struct_fields__)
    for name, value in changed.items():
        assert getattr(policy, short.get(name, name)) == value != getattr(plain, short.get(name, name))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", "65536"),
        ("port", "80a"),
        ("port", "-1"),
        ("host", "a\nb"),
        ("admin_token", "two words"),
        ("admin_token", "tökén"),
        ("database", "mysql://x"),
        ("database", "sqlite://relative"),
        ("database", "sqlite:///:memory:"),
        ("public_url", "hooks.example"),
        ("public_url", "https://"),
        ("public_url", "https://u:p@h"),
        ("public_url", "https://[::1"),
        ("public_url", "https://h/?q=1"),
        ("allow_networks", "10.0.0.1/8"),
        ("allow_networks", "10.0.0.0/33"),
        ("allow_networks", "fe80::1%eth0"),
        ("allow_networks", "10.0.0.0/8,"),
        ("deny_networks", "::ffff:10.0.0.0/104"),
        ("allow_names", "a/b"),
        ("nat64", "64:ff9b::/64"),
        ("nat64", "10.0.0.0/8"),
        ("nat64", "fc00::/96"),
        ("nat64", "2001:db8::/40,2001:db8::/41"),
        ("https_only", "maybe"),
        ("retry_schedule", "5s,soon"),
        ("retry_schedule", ",".join(["1s"] * 101)),
        ("delivery_timeout", "61s"),
        ("delivery_timeout", "999ms"),
        ("lease", "15"),
        ("endpoint_concurrency", "0"),
        ("max_payload", "1M"),
        ("max_response", "1023B"),
        ("log_level", "loud"),
    ],
)
def test_a_bad_value_is_refused_by_its_name(name: str, value: str) -> None:
    [problem] = problems(**{name: value})
    assert problem.startswith(f"TENTERHOOK_{name.upper()}: ")


def test_all_problems_at_once() -> None:
    with pytest.raises(ConfigurationError) as caught:
        load({}, {"TENTERHOOK_LEASE": "1", "TENTERHOOK_HOST": "ok"}, {"port": "x"})
    assert [line.partition(":")[0] for line in caught.value.detail.splitlines()] == ["--port", "TENTERHOOK_LEASE"]


def test_a_lease_must_outlast_an_attempt() -> None:
    [problem] = problems(lease="24s")
    assert problem.startswith("TENTERHOOK_LEASE: ")
    assert "at least 25s" in problem
    assert load({}, {"TENTERHOOK_LEASE": "25s"}, {}).longest_timeout() == 15 * SECOND
    [problem] = problems(delivery_timeout="51s")
    assert "at least 1m1s" in problem


def test_the_breaker_opens_no_longer_than_its_cap() -> None:
    [problem] = problems(breaker_open="11m")
    assert "breaker_open_cap (10m)" in problem


def test_a_refused_network_says_what_to_write() -> None:
    assert "write 10.0.0.0/8" in problems(allow_networks="10.1.2.3/8")[0]


@pytest.mark.parametrize("setting", SECRETS, ids=lambda setting: setting.name)
def test_secrets_are_never_shown(setting: Setting) -> None:
    settings = load({}, {setting.env: "hush-hush"}, {})
    console = Console(width=10_000)
    with console.capture() as captured:
        console.print(settings)
    for text in (repr(settings), str(settings), f"{settings!r}", captured.get(), setting.show("hush-hush")):
        assert "hush" not in text
        assert "***" in text
    for bad in ("hush\nhush", ["hush"], {"hush": "hush"}):
        with pytest.raises(Invalid) as caught:
            setting.read(bad)
        assert "hush" not in caught.value.detail


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://user:hush@host/db",
        "postgresql://user:hu@hush@host/db",
        "postgresql://host/db?password=hush&user=x",
        "postgresql://host/db?user=a@b&password=hush",
        "postgresql://user:hush?@host/db",
    ],
)
def test_the_password_of_the_database_is_never_shown(url: str) -> None:
    settings = load({}, {"TENTERHOOK_DATABASE": url}, {})
    assert settings.database == url
    assert "hush" not in repr(settings)
    assert "postgresql://" in repr(settings)
    assert all("hush" not in problem for problem in problems(database="my" + url))


@names
@given(text=st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_is_a_value_or_invalid(setting: Setting, text: str) -> None:
    try:
        value = setting.parse(text)
    except Invalid:
        return
    if not setting.secret and setting.name != "database":
        assert setting.parse(setting.show(value)) == value


@given(
    st.dictionaries(
        st.sampled_from([s.env for s in SETTINGS]), st.text() | st.sampled_from(["1", "60s", "1MiB", "none"])
    )
)
def test_any_environment_gives_settings_or_an_error(environ: dict[str, str]) -> None:
    try:
        settings = load({}, environ, {})
    except ConfigurationError:
        return
    assert settings.longest_timeout() >= settings.delivery_timeout


def test_the_configuration_file() -> None:
    assert config_file({}, {}) == ("tenterhook.toml", False)
    assert config_file({"TENTERHOOK_CONFIG": "a.toml"}, {}) == ("a.toml", True)
    assert config_file({"TENTERHOOK_CONFIG": "a.toml"}, {"config": "b.toml"}) == ("b.toml", True)
    assert not BY_NAME["config"].in_file


def test_misspelt_variables_are_suspected() -> None:
    environ = {"TENTERHOOK_ALLOW_NETWORK": "x", "TENTERHOOK_GITHUB_KEY": "y", "TENTERHOOK_PORT": "1", "PATH": "/"}
    assert suspects(environ) == ["TENTERHOOK_ALLOW_NETWORK is not a setting; did you mean TENTERHOOK_ALLOW_NETWORKS?"]


def test_records_outlive_deliveries() -> None:
    good = {"TENTERHOOK_RECORD_RETENTION": "96h", "TENTERHOOK_DELIVERY_LIFETIME": "95h"}
    assert load({}, good, {}).retention().records == 96 * HOUR
    [problem] = problems(record_retention="96h")
    assert problem == "TENTERHOOK_RECORD_RETENTION: 96h is too short: make it longer than delivery_lifetime (96h)"
    [problem] = problems(delivery_lifetime="90d")
    assert problem.startswith("record_retention: 90d is too short")
    assert Settings(payload_retention=HOUR, record_retention=SECOND).retention() == Retention(
        payloads=HOUR, records=SECOND
    )
