"""The settings of the server: one table, the class `Settings`, feeds file, environment, flags, help and docs.

A setting `name` is `name` in the table `[server]` of `tenterhook.toml`, `TENTERHOOK_NAME` in the environment and `--name`
(with dashes) at `tenterhook serve`. Flags win over the environment, the environment over the file. Spans are µs.
"""

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from ipaddress import IPv6Network
from typing import Annotated, Any, ClassVar, get_type_hints

from msgspec import Struct

from tenterhook.clock import HOUR, MILLISECOND, MINUTE, SECOND
from tenterhook.errors import ConfigurationError, Invalid
from tenterhook.model import Policy, Retention
from tenterhook.setting_kinds import (
    CREDENTIAL,
    DATABASE,
    KEYS,
    NAMES,
    NAT64,
    NETWORKS,
    SCHEDULE,
    SWITCH,
    TEXT,
    URL,
    Kind,
    Network,
    choice,
    duration,
    size,
    whole,
)

PREFIX = "TENTERHOOK_"

LEASE_MARGIN = 10 * SECOND
"""How much longer than an attempt its lease must be: time to commit the result before another worker may claim it."""

_POLICY, _RETENTION = Policy(), Retention()


class Masked(Struct, frozen=True, kw_only=True):
    """A value whose `hidden` fields are never printed, neither by repr nor by rich."""

    hidden: ClassVar[frozenset[str]] = frozenset()

    def shown(self) -> Iterator[tuple[str, object]]:
        """Each field with what may be printed of it."""
        for name in self.__struct_fields__:
            value = getattr(self, name)
            yield name, "***" if value and name in self.hidden else value

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.shown())})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return list(self.shown())


class Settings(Masked, frozen=True, kw_only=True):
    """How the server runs. Each field is a row of the table: its kind, its help, its default."""

    hidden: ClassVar[frozenset[str]] = frozenset({"admin_token", "secret"})

    config: Annotated[
        str,
        TEXT,
        "The configuration file. Without this setting it is read if it is there; a file named here must exist.",
    ] = "tenterhook.toml"
    database: Annotated[
        str,
        DATABASE,
        "Where everything is kept: `sqlite:///` and the path of a file (an absolute path has four slashes), or"
        " `postgresql://user:password@host/database` for any number of nodes.",
    ] = "sqlite:///tenterhook.db"
    role: Annotated[
        str,
        choice("all", "api", "worker"),
        "What this node does: answer the API and sources, deliver, or both. On SQLite the one server does it all.",
    ] = "all"
    host: Annotated[str, TEXT, "The address to listen on; `0.0.0.0` or `::` for every interface."] = "127.0.0.1"
    port: Annotated[int, whole(0, 65_535), "The port to listen on; 0 takes a free one."] = 8071
    admin_token: Annotated[
        str | None, CREDENTIAL, "A bearer token with every right on the API. Take a long random one."
    ] = None
    secret: Annotated[
        str | None,
        KEYS,
        "The master key that encrypts secrets in the database, at least 32 random characters. To change it, put the new"
        " key before the old one, separated by a comma. By default one is made at the first start, in a file beside the"
        " database that has its name and `.key`.",
    ] = None
    public_url: Annotated[
        str | None, URL, "The URL under which others reach this server, shown in links and source URLs."
    ] = None
    allow_networks: Annotated[
        tuple[Network, ...],
        NETWORKS,
        "Networks that deliveries may reach besides the public internet, such as `10.0.0.0/8,::1/128`.",
    ] = ()
    deny_networks: Annotated[
        tuple[Network, ...], NETWORKS, "Networks that deliveries may never reach; stronger than `allow_networks`."
    ] = ()
    allow_names: Annotated[
        tuple[str, ...],
        NAMES,
        "Host names that deliveries may use although they have no dot or an internal ending, such as `receiver` or"
        " `*.internal`; their addresses are judged as always.",
    ] = ()
    nat64: Annotated[
        tuple[IPv6Network, ...],
        NAT64,
        "NAT64 prefixes of this network, such as `64:ff9b::/96`: their addresses are judged by the IPv4 address inside.",
    ] = ()
    https_only: Annotated[bool, SWITCH, "Refuse endpoints whose URL is not `https://`."] = False
    retry_schedule: Annotated[
        tuple[int, ...], SCHEDULE, "The waits before each retry of a delivery; `none` for no retries."
    ] = _POLICY.retry_schedule
    delivery_lifetime: Annotated[
        int, duration(SECOND), "How long a delivery may wait and be retried before it fails for good."
    ] = _POLICY.lifetime
    delivery_timeout: Annotated[
        int,
        duration(SECOND, 60 * SECOND),
        "The time an attempt has, from the look-up of the name to the end of the answer.",
    ] = _POLICY.timeout
    lease: Annotated[
        int,
        duration(SECOND, HOUR),
        "How long an attempt belongs to one worker; after a crash it is tried again when this has passed. At least 10s"
        " longer than `delivery_timeout`.",
    ] = _POLICY.lease
    endpoint_concurrency: Annotated[int, whole(1, 10_000), "The most attempts at one endpoint at the same time."] = (
        _POLICY.concurrency
    )
    global_concurrency: Annotated[int, whole(1, 100_000), "The most attempts at the same time in this process."] = (
        _POLICY.global_concurrency
    )
    retry_after_cap: Annotated[
        int, duration(SECOND), "The longest wait that a receiver may ask for with `Retry-After`."
    ] = _POLICY.retry_after_cap
    breaker_failures: Annotated[
        int, whole(1, 1_000_000), "After so many failures in a row an endpoint's circuit breaker opens."
    ] = _POLICY.breaker_failures
    breaker_open: Annotated[
        int,
        duration(MILLISECOND),
        "How long the breaker stays open the first time; the wait doubles each time it opens again.",
    ] = _POLICY.breaker_open
    breaker_open_cap: Annotated[int, duration(MILLISECOND), "The longest time that the breaker stays open."] = (
        _POLICY.breaker_open_cap
    )
    disable_after: Annotated[int, duration(MINUTE), "An endpoint that has only failed for so long is disabled."] = (
        _POLICY.disable_after
    )
    max_payload: Annotated[int, size(1, 1 << 30), "The largest message that the API accepts."] = 1 << 20
    validate_payloads: Annotated[
        str,
        choice("off", "warn", "reject"),
        "What happens to a message whose payload does not fit the JSON Schema of its event type: nothing, a line in the"
        " log, or a refusal.",
    ] = "off"
    operator_rate: Annotated[
        int,
        whole(0, 1_000_000),
        "The most API requests per second with one token that is not limited to an application; 0 for no limit.",
    ] = 0
    application_rate: Annotated[
        int,
        whole(0, 1_000_000),
        "The most API requests per second with one token of an application, at each node; 0 for no limit.",
    ] = 100
    max_received: Annotated[int, size(1, 1 << 30), "The largest request that a source accepts."] = 25 << 20
    # at least what the words of a chat service need: they say whether it took the message
    max_response: Annotated[int, size(1 << 10, 64 << 20), "How much of an answer is kept with its attempt."] = 16 << 10
    rejections_kept: Annotated[int, whole(0, 1_000_000), "How many rejected requests are kept for each source."] = 1_000
    rejection_body: Annotated[int, size(0, 64 << 20), "How much of the body of a rejected request is kept."] = 64 << 10
    payload_retention: Annotated[
        int,
        duration(HOUR),
        "How long payloads are kept: those of messages, the bodies of received requests, and what attempts sent and got"
        " back.",
    ] = _RETENTION.payloads
    record_retention: Annotated[
        int,
        duration(HOUR),
        "How long messages with their deliveries and attempts, and received requests, are kept. Longer than"
        " `delivery_lifetime`.",
    ] = _RETENTION.records
    memory_deliveries: Annotated[
        int, whole(0, 10_000_000), "How many fresh deliveries are held in memory, so that they need not be read back."
    ] = 10_000
    memory_bytes: Annotated[int, size(0), "How many bytes of payload those deliveries may hold in memory."] = 64 << 20
    log_level: Annotated[
        str, choice("debug", "info", "warning", "error"), "The least important log lines to write."
    ] = "info"
    log_format: Annotated[str, choice("text", "json"), "Log lines for people, or one JSON object per line."] = "text"
    shutdown_timeout: Annotated[
        int, duration(0, HOUR), "How long attempts under way may take to finish when the server stops."
    ] = 30 * SECOND

    def shown(self) -> Iterator[tuple[str, object]]:
        for name, value in super().shown():
            yield name, BY_NAME[name].show(value) if name == "database" else value

    def policy(self) -> Policy:
        """The engine's rules where an endpoint names none of its own."""
        return Policy(
            retry_schedule=self.retry_schedule,
            lifetime=self.delivery_lifetime,
            timeout=self.delivery_timeout,
            lease=self.lease,
            concurrency=self.endpoint_concurrency,
            global_concurrency=self.global_concurrency,
            retry_after_cap=self.retry_after_cap,
            breaker_failures=self.breaker_failures,
            breaker_open=self.breaker_open,
            breaker_open_cap=self.breaker_open_cap,
            disable_after=self.disable_after,
        )

    def retention(self) -> Retention:
        """How long things are kept where an application has no retention of its own."""
        return Retention(payloads=self.payload_retention, records=self.record_retention)

    def longest_timeout(self) -> int:
        """The longest `timeout` (µs) that an endpoint may have of its own with this lease."""
        return self.lease - LEASE_MARGIN


class Setting(Struct, frozen=True):
    """One row of the table."""

    name: str
    kind: Kind
    default: Any
    help: str

    @property
    def env(self) -> str:
        return PREFIX + self.name.upper()

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    @property
    def secret(self) -> bool:
        return self.name in Settings.hidden

    @property
    def in_file(self) -> bool:
        """Whether `[server]` may hold it: all but the name of that file."""
        return self.name != "config"

    def show(self, value: object) -> str:
        """A value as one writes it (`5m`, `64KiB`, `none`); *** for a secret."""
        return "none" if value is None else "***" if self.secret else self.kind.show(value)

    def parse(self, text: str) -> Any:
        """The value of a text from the environment or a flag. Raises Invalid, which never shows a secret."""
        return self.kind.parse(text.strip())

    def read(self, value: object) -> Any:
        """The value of what TOML made of the file. Raises Invalid, which never shows a secret."""
        return self.parse(self.kind.text(value))


def _table() -> tuple[Setting, ...]:
    """The rows, in the order of the fields."""
    hints = get_type_hints(Settings, include_extras=True)
    rows = ((name, hints[name].__metadata__) for name in Settings.__struct_fields__)
    defaults = Settings()
    return tuple(Setting(name, kind, getattr(defaults, name), help) for name, (kind, help) in rows)


SETTINGS = _table()
BY_NAME = {setting.name: setting for setting in SETTINGS}


def load(
    file: Mapping[str, object], environ: Mapping[str, str], flags: Mapping[str, str | bool | int | None]
) -> Settings:
    """The settings in force.

    `file` are the values of `[server]` as `config.parse` returns them, `environ` the process environment, `flags` the
    command line by the names of the settings; None, and an empty environment variable, count as not given. Raises
    ConfigurationError with one line for each problem.
    """
    values: dict[str, Any] = dict(file)
    origins: dict[str, str] = {}
    problems: list[str] = []
    for setting in SETTINGS:
        flag = flags.get(setting.name)
        given: str | bool | int | None = flag if flag is not None else environ.get(setting.env) or None
        if given is None:
            continue
        origins[setting.name] = setting.flag if flag is not None else setting.env
        try:
            values[setting.name] = setting.parse(str(given).lower() if isinstance(given, bool) else str(given))
        except Invalid as wrong:
            problems.append(f"{origins[setting.name]}: {wrong.detail}")
    settings = Settings(**{name: value for name, value in values.items() if name in BY_NAME})
    # a rejected value falls back to the file's or the default, so the pair is judged only when all could be read
    problems = problems or [f"{origins.get(name, name)}: {text}" for name, text in disagreements(settings)]
    if problems:
        raise ConfigurationError("\n".join(problems))
    return settings


def disagreements(settings: Settings) -> Iterator[tuple[str, str]]:
    """Settings that are right by themselves and wrong together: (name, what to do)."""
    show = BY_NAME["lease"].show
    if settings.lease < settings.delivery_timeout + LEASE_MARGIN:
        least = show(settings.delivery_timeout + LEASE_MARGIN)
        yield (
            "lease",
            (
                f"{show(settings.lease)} is too short: an attempt may take delivery_timeout"
                f" ({show(settings.delivery_timeout)}), so make it at least {least}"
            ),
        )
    if settings.role != "all" and settings.database.startswith("sqlite:"):
        yield "role", f"{settings.role} needs a PostgreSQL database: on SQLite one server does it all"
    if settings.breaker_open > settings.breaker_open_cap:
        yield (
            "breaker_open",
            (f"{show(settings.breaker_open)} is longer than breaker_open_cap ({show(settings.breaker_open_cap)})"),
        )
    if settings.record_retention <= settings.delivery_lifetime:
        yield (
            "record_retention",
            f"{show(settings.record_retention)} is too short: make it longer than delivery_lifetime"
            f" ({show(settings.delivery_lifetime)})",
        )


def config_file(environ: Mapping[str, str], flags: Mapping[str, str | bool | int | None]) -> tuple[str, bool]:
    """The path of the configuration file, and whether it was named (then it must exist)."""
    setting = BY_NAME["config"]
    named = flags.get(setting.name) or environ.get(setting.env)
    return (str(named), True) if named else (setting.default, False)


def suspects(environ: Mapping[str, str]) -> list[str]:
    """Warnings for environment variables that look like a misspelt setting.

    Others that begin with TENTERHOOK_ are left alone: the file may refer to them with `env:`.
    """
    known = [setting.env for setting in SETTINGS]
    unknown = sorted(name for name in environ if name.startswith(PREFIX) and name not in known)
    near = ((name, get_close_matches(name, known, 1, 0.9)) for name in unknown)
    return [f"{name} is not a setting; did you mean {close[0]}?" for name, close in near if close]
