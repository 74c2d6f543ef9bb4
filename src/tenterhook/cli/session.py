"""A running server as the command line sees it: what it prints, what it applies at start and at SIGHUP."""

import asyncio
import logging
from collections.abc import Mapping

import msgspec
import typer

from tenterhook import logs
from tenterhook.apply import Changes, apply
from tenterhook.cli.loading import Flags, loaded
from tenterhook.cli.output import installed_version
from tenterhook.errors import ConfigurationError, TenterhookError
from tenterhook.serve import Node, first_token, run
from tenterhook.settings import BY_NAME, suspects

log = logging.getLogger("tenterhook")


class Session:
    """One run of `tenterhook serve`. Raises ConfigurationError where the file, the environment or a flag is wrong."""

    def __init__(self, environ: Mapping[str, str], flags: Flags, as_json: bool = False) -> None:
        self._environ, self._flags, self._as_json = environ, flags, as_json
        self._loaded = loaded(environ, flags)
        self._applied: Changes | None = None
        self._token: str | None = None
        self._one_at_a_time = asyncio.Lock()
        self._reloads: set[asyncio.Task[None]] = set()

    def run(self) -> None:
        """Serve until the process is told to end."""
        settings = self._loaded.settings
        logs.configure(settings.log_level, settings.log_format)
        for warning in suspects(self._environ):
            log.warning("%s", warning)
        run(settings, self.started, self.reload, self.configure)

    async def configure(self, node: Node) -> None:
        """Before the first request: the objects of the file, and a token if there is none."""
        configuration = self._loaded.configuration
        if configuration is not None:
            async with self._one_at_a_time:  # a SIGHUP may come already
                self._applied = await apply(configuration, node.registry, node.store, node.clock.now())
                await node.relay(configuration.outboxes)
        self._token = await first_token(node.store, node.settings, node.clock)
        self._sources = await self._new_sources(node)

    async def _new_sources(self, node: Node) -> list[tuple[str, str]]:
        """The sources that were just made, with their tokens: nobody knows their URLs yet."""
        found = []
        for name in () if self._applied is None else self._applied.created:
            noun, _, place = name.partition(" ")
            if noun == "source":
                app, _, uid = place.partition("/")
                source = await node.registry.source((await node.registry.application(app)).id, uid)
                found.append((place, source.token))
        return found

    def started(self, node: Node, url: str) -> None:
        """Say where everything is; scripts get one line of JSON."""
        configuration = self._loaded.configuration
        if self._as_json:
            sources = {place: f"{node.settings.public_url or url}/in/{token}" for place, token in self._sources}
            typer.echo(msgspec.json.encode({"url": url, "admin_token": self._token, "sources": sources}).decode())
            return
        typer.echo(f"Tenterhook {installed_version()} at {url}")
        typer.echo(f"database       {BY_NAME['database'].show(node.settings.database)}")
        if configuration is not None:
            typer.echo(f"configuration  {configuration.file}: {self._applied}")
        for place, token in self._sources:
            typer.echo(f"source         {place}: {node.settings.public_url or url}/in/{token}")
        if self._token is not None:
            typer.echo(f"admin token    {self._token}  (shown this once; more: tenterhook token create)")

    def reload(self, node: Node) -> None:
        """SIGHUP: apply the file again, after any reload that is under way."""
        task = asyncio.get_running_loop().create_task(self._reload(node))
        self._reloads.add(task)
        task.add_done_callback(self._reloads.discard)

    async def _reload(self, node: Node) -> None:
        async with self._one_at_a_time:
            try:
                now = await asyncio.to_thread(loaded, self._environ, self._flags)
                if now.configuration is None:
                    log.warning("reload: there is no configuration file any more; nothing was changed")
                    return
                changes = await apply(now.configuration, node.registry, node.store, node.clock.now())
                await node.relay(now.configuration.outboxes)
            except ConfigurationError as error:
                for line in error.detail.splitlines():
                    log.error("reload refused, nothing was changed: %s", line)
                return
            except TenterhookError as error:
                log.error("the reload stopped midway, send SIGHUP again: %s", error.detail)
                return
            except Exception:
                log.exception("the reload failed")
                return
            log.info("reloaded %s: %s", now.configuration.file, changes)
            differing = [
                s.name for s in BY_NAME.values() if getattr(now.settings, s.name) != getattr(node.settings, s.name)
            ]
            if differing:
                log.warning("changed settings take effect at the next start: %s", ", ".join(differing))
