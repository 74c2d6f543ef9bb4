"""The providers that Tenterhook knows: one TOML file each in this folder, read and compiled once."""

from functools import cache
from importlib.resources import files

from tenterhook.errors import ConfigurationError
from tenterhook.receive.provider import Provider, parse


def names() -> list[str]:
    """The names of all providers, sorted."""
    return list(_names())


@cache
def _names() -> tuple[str, ...]:
    entries = (entry.name for entry in files(__name__).iterdir())
    return tuple(sorted(name.removesuffix(".toml") for name in entries if name.endswith(".toml")))


@cache
def load(name: str) -> Provider:
    """The provider of that name. Raises ConfigurationError for an unknown name, and for a file that is wrong."""
    return parse(name, read(name), read)


def read(name: str) -> str:
    """The text of a provider's file. Raises ConfigurationError for an unknown name."""
    if name not in _names():
        raise ConfigurationError(f"there is no provider {name!r}; there are {', '.join(_names())}")
    return (files(__name__) / f"{name}.toml").read_text("utf-8")


def size_limit(name: str) -> int | None:
    """The largest request that a provider sends (bytes); None where the server's own limit should hold."""
    return load(name).max_body
