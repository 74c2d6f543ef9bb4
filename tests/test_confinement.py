"""What a process that runs transformations can still do: compute, and nothing else."""

import os
import subprocess
import sys

import pytest

from tests.test_cli import TIMEOUT

CONFINED = "import ctypes, os, signal, socket, sys; from tenterhook.transformations.confinement import confine; done = confine();"

guarded = pytest.mark.parametrize(
    "attempt",
    [
        "open('/etc/passwd')",
        "open('/tmp/tenterhook-was-here', 'w')",
        "os.listdir('/')",
        "socket.socket()",
        "os.fork()",
        "os.execv(sys.executable, [sys.executable])",
        "os.kill(os.getppid(), 0)",
        "os.readlink('/proc/self/exe')",
        "os.kill(os.getpid(), 0)",
    ],
)


def confined(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-I", "-c", CONFINED + code],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
        env={},
    )
    return done.stdout.strip() + done.stderr


def is_guarded() -> bool:
    return sys.platform == "linux" and os.uname().machine in ("x86_64", "aarch64")


@guarded
def test_the_kernel_refuses_what_no_job_needs(attempt: str) -> None:
    said = confined(f"""
if not {is_guarded()}:
    os.write(1, b"refused")
try:
    {attempt}
except PermissionError:
    os.write(1, b"refused")
""")
    assert said == "refused"


def test_it_is_known_whether_the_kernel_guards() -> None:
    assert confined("os.write(1, str(done).encode())") == str(is_guarded())


def test_memory_has_an_end() -> None:
    assert "MemoryError" in confined("bytearray(2 << 30)")


def test_it_can_still_compute() -> None:
    assert confined("os.write(1, str(sum(range(10**6))).encode())") == "499999500000"
