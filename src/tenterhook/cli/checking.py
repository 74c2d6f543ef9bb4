"""`tenterhook check`: is the configuration right, and may an endpoint have this URL?"""

import asyncio
import os
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from tenterhook.cli.output import AsJson, ConfigFile, emit
from tenterhook.errors import ConfigurationError

if TYPE_CHECKING:
    from tenterhook.config import Configuration
    from tenterhook.netguard import Finding, Guard

NOUNS = {
    "application": "applications",
    "event_type": "event types",
    "source": "sources",
    "endpoint": "endpoints",
    "outbox": "outboxes",
}
"""What a configuration has several of, with the plural."""


def check(
    url: Annotated[str | None, typer.Argument(help="The URL of an endpoint, instead of the configuration.")] = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Check the configuration, or whether an endpoint may have a URL.

    Without a URL: file, environment and the URLs of the endpoints; every problem is printed with file, line and key,
    and the exit code is 2 if there is one. With a URL: the verdict on it and on each address of its name, under the
    settings in force; the exit code is 1 if it would be refused. Nothing is sent to it.

    \b
    Examples:
      tenterhook check
      tenterhook check --config staging.toml --json
      tenterhook check https://hooks.example.com/in
    """
    from tenterhook.cli.loading import loaded
    from tenterhook.netguard import Guard
    from tenterhook.serve import address_rules

    found = loaded(os.environ, {"config": config})
    guard = Guard.of_machine(address_rules(found.settings))
    if url is not None:
        _explain(asyncio.run(guard.explain(url)), as_json)
        return
    if found.configuration is None:
        emit({"file": None}, "there is no tenterhook.toml here; the settings of the environment are right", as_json)
        return
    asyncio.run(_check_urls(found.configuration, guard))
    counts = {noun: len(getattr(found.configuration, plural.replace(" ", "_"))) for noun, plural in NOUNS.items()}
    listed = ", ".join(f"{n} {noun.replace('_', ' ') if n == 1 else NOUNS[noun]}" for noun, n in counts.items())
    emit({"file": found.configuration.file, **counts}, f"{found.configuration.file} is right: {listed}", as_json)


async def _check_urls(configuration: "Configuration", guard: "Guard") -> None:
    """Raises ConfigurationError for URLs that would be refused; a name that does not resolve now may do so later."""
    from tenterhook.errors import Invalid
    from tenterhook.netguard import NameFailed

    problems = []
    for endpoint in configuration.endpoints:
        try:
            await guard.addresses(guard.target(endpoint.url))
        except NameFailed as failed:
            typer.echo(f"warning: {configuration.file}:{endpoint.line}: endpoint.url: {failed.diagnosis}", err=True)
        except Invalid as refused:
            problems.append(f"{configuration.file}:{endpoint.line}: endpoint.url: {refused.detail}")
    if problems:
        raise ConfigurationError("\n".join(problems))


def _explain(findings: "list[Finding]", as_json: bool) -> None:
    allowed = all(finding.allowed for finding in findings)
    if as_json:
        emit({"allowed": allowed, "findings": msgspec.to_builtins(findings)}, "", True)
    else:
        for finding in findings:
            verdict = "allowed" if finding.allowed else "refused"
            typer.echo(f"{finding.subject:<8} {finding.value}  {verdict}: {finding.detail or finding.rule.value}")
        typer.echo("an endpoint may have this URL" if allowed else "an endpoint may not have this URL")
    if not allowed:
        raise typer.Exit(1)
