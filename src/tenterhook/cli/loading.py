"""What a command starts from: the configuration file and the settings in force."""

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TypeVar

from msgspec import Struct

from tenterhook.config import Configuration, check_settings, parse
from tenterhook.databases import open_store
from tenterhook.errors import ConfigurationError
from tenterhook.outbox import databases
from tenterhook.senders import KINDS
from tenterhook.settings import Settings, config_file, load
from tenterhook.store.base import Store

T = TypeVar("T")

Flags = Mapping[str, str | bool | int | None]
"""Values of the command line by the names of the settings; None is not given."""


class Loaded(Struct, frozen=True):
    """`configuration` is None where no file was named and none is there."""

    settings: Settings
    configuration: Configuration | None


def loaded(environ: Mapping[str, str], flags: Flags) -> Loaded:
    """Raises ConfigurationError with a line for each problem."""
    path, named = config_file(environ, flags)
    configuration = _configuration(path, named, environ)
    settings = load({} if configuration is None else configuration.server, environ, flags)
    if configuration is not None:
        check_settings(configuration, settings)
        databases.check(configuration)
    return Loaded(settings, configuration)


async def with_store(settings: Settings, work: Callable[[Store], Awaitable[T]]) -> T:
    """Do something with the database that the settings name; a server may be using it."""
    store = await open_store(settings, exclusive=False)
    try:
        return await work(store)
    finally:
        await store.close()


def _configuration(path: str, named: bool, environ: Mapping[str, str]) -> Configuration | None:
    try:
        text = Path(path).read_text("utf-8")
    except FileNotFoundError:
        if named:
            raise ConfigurationError(f"{path}: there is no such file") from None
        return None
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path}: is not UTF-8 text") from None
    return parse(text, path, environ, kinds=tuple(KINDS))
