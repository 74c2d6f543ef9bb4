"""What a scenario found: figures, and the checks of those that have a bar."""

import os
import platform
import tempfile
import time
from pathlib import Path
from statistics import median

import msgspec
from msgspec import Struct
from rich.console import Console
from rich.table import Table


class Check(Struct, frozen=True):
    """One figure against its bar; `ok` None: there is no bar."""

    name: str
    bar: str
    measured: str
    ok: bool | None


class Found(Struct, frozen=True):
    """What a scenario hands back. `figures` go into the results file, `tables` are printed below the checks."""

    checks: tuple[Check, ...]
    figures: dict[str, float]
    tables: tuple[Table, ...] = ()


class Outcome(Struct, frozen=True, omit_defaults=True):
    """One scenario's run, as the results file holds it."""

    scenario: str
    seconds: float
    checks: tuple[Check, ...] = ()
    figures: dict[str, float] = {}
    error: str = ""


def at_most(name: str, measured: float, bar: float | None, unit: str) -> Check:
    """Without a bar it is a fact."""
    if bar is None:
        return fact(name, measured, unit)
    return Check(name, f"≤ {bar:g} {unit}", f"{shown(measured)} {unit}", measured <= bar)


def at_least(name: str, measured: float, bar: float | None, unit: str) -> Check:
    """Without a bar it is a fact."""
    if bar is None:
        return fact(name, measured, unit)
    return Check(name, f"≥ {bar:g} {unit}", f"{shown(measured)} {unit}", measured >= bar)


def fact(name: str, measured: float, unit: str) -> Check:
    """A figure without a bar."""
    return Check(name, "", f"{shown(measured)} {unit}".rstrip(), None)


def shown(value: float) -> str:
    """Three significant digits, or the whole number."""
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"


def fsync_ms(where: Path) -> float:
    """How long a commit waits for the disk: the median of a hundred small synced writes (ms)."""
    took = []
    with tempfile.TemporaryFile(dir=where) as file:
        for _ in range(100):
            begun = time.perf_counter()
            os.pwrite(file.fileno(), bytes(8192), 0)
            os.fdatasync(file.fileno())
            took.append((time.perf_counter() - begun) * 1e3)
    return round(median(took), 3)


def machine(where: Path, filesystem: str, database: str) -> dict[str, str | float]:
    """What the figures depend on; `load` is what others ran on the machine when it began."""
    model = next(
        (line.partition(": ")[2] for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), ""
    )
    return {
        "cores": len(os.sched_getaffinity(0)),
        "processor": model or platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "database": database,
        "filesystem": filesystem,
        "fsync_ms": fsync_ms(where),
        "load": round(os.getloadavg()[0], 2),
    }


def write(path: Path, about: dict[str, str | float], quick: bool, outcomes: list[Outcome]) -> None:
    """The results file."""
    content = {"machine": about, "quick": quick, "scenarios": outcomes}
    path.write_bytes(msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n")


def show(console: Console, outcomes: list[Outcome]) -> None:
    """The table: a row for each check."""
    table = Table()
    for column in ("scenario", "figure", "bar", "measured", ""):
        table.add_column(column, justify="right" if column in ("bar", "measured") else "left")
    for outcome in outcomes:
        name = outcome.scenario
        for check in outcome.checks:
            verdict = "" if check.ok is None else "ok" if check.ok else "[bold red]short[/]"
            table.add_row(name, check.name, check.bar, check.measured, verdict)
            name = ""
        if outcome.error:
            table.add_row(outcome.scenario, outcome.error.partition("\n")[0], "", "", "[bold red]error[/]")
        table.add_section()
    console.print(table)
