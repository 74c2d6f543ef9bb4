"""Runs a program that ends, children and all, when the process that started it ends, by `kill -9` too.

python -P bench/supervise.py OWNER READY LITTER PROGRAM [ARGUMENT …]

OWNER is `uid:gid` to run the program as, or `-`. The program logs to its standard error, which is passed on; once a line
of it holds READY, its process id is printed. Standard input is the leash: when it ends, the program is killed. If that was
because the process that started it has ended, the folders of LITTER (JSON) are removed.
"""

import ctypes
import json
import os
import shutil
import subprocess
import sys
import threading
from contextlib import suppress
from typing import Any

import psutil

_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


def identity(owner: str) -> dict[str, Any]:
    """The arguments of `subprocess` that run a program as the owner."""
    if owner == "-":
        return {}
    user, _, group = owner.partition(":")
    return {"user": int(user), "group": int(group), "extra_groups": []}


def cut(program: psutil.Process) -> None:
    """Kill it and its children as a power cut would: none gets to act on the death of another.

    The program is stopped first, so that it starts no more children, and dies last.
    """
    with suppress(psutil.NoSuchProcess, ChildProcessError):
        program.suspend()
        os.waitid(os.P_PID, program.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        for child in program.children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                child.kill()
        program.kill()


def leash(program: psutil.Process) -> None:
    """Wait for the end of standard input."""
    os.read(0, 1)  # nobody writes; through sys.stdin, Python could not end while this waits
    cut(program)


def main(owner: str, ready: str, litter: str, *command: str) -> None:
    """Run the program until it and its children are gone."""
    parent = os.getppid()
    if sys.platform == "linux":
        # Orphans become ours, so that we see them end; not every process 1 takes care of them
        ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1)
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, **identity(owner))
    threading.Thread(target=leash, args=[psutil.Process(process.pid)], daemon=True).start()
    assert process.stderr is not None
    for line in process.stderr:
        sys.stderr.buffer.write(line)
        sys.stderr.buffer.flush()
        if ready and ready.encode() in line:
            print(process.pid, flush=True)
            ready = ""
    process.wait()
    with suppress(ChildProcessError):
        while True:
            os.wait()
    if os.getppid() != parent:
        for folder in json.loads(litter):
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
