"""What the process of a transformation gives up: should the JavaScript engine have a hole, there is little behind it.

On Linux on x86-64 and ARM64 the kernel refuses every call but those that compute, allocate memory and talk over what is
open: there are no files, sockets and processes any more, whatever runs here. Elsewhere limits of the process remain.
"""

import os
import resource
import struct
import sys
from contextlib import suppress

from msgspec import Struct

_ADDRESS_SPACE = 1 << 30

_NO_NEW_PRIVILEGES, _SET_FILTER, _FILTER = 38, 22, 2  # linux/prctl.h, linux/seccomp.h
_LOAD, _IF_EQUAL, _RETURN = 0x20, 0x15, 0x06  # linux/bpf_common.h
_ALLOW, _REFUSE, _KILL = 0x7FFF_0000, 0x0005_0001, 0x8000_0000  # linux/seccomp.h; refused is EPERM
_NUMBER, _ARCHITECTURE = 0, 4  # offsets in struct seccomp_data

_STEP = struct.Struct("=HBBI")  # struct sock_filter

_CALLS = {
    # name: its numbers on x86_64 and aarch64
    "read": (0, 63), "write": (1, 64), "close": (3, 57), "mmap": (9, 222), "mprotect": (10, 226), "munmap": (11, 215),
    "brk": (12, 214), "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139),
    "mremap": (25, 216), "madvise": (28, 233), "setitimer": (38, 103), "getpid": (39, 172), "sendto": (44, 206),
    "recvfrom": (45, 207), "exit": (60, 93), "gettimeofday": (96, 169), "getrusage": (98, 165), "times": (100, 153),
    "sigaltstack": (131, 132), "gettid": (186, 178), "futex": (202, 98), "clock_gettime": (228, 113),
    "exit_group": (231, 94), "getrandom": (318, 278),
}  # fmt: skip
"""What a process without anything open needs, to compute and to end."""


class _Machine(Struct, frozen=True):
    architecture: int  # linux/audit.h
    column: int


_MACHINES = {"x86_64": _Machine(0xC000_003E, 0), "aarch64": _Machine(0xC000_00B7, 1)}


def confine() -> bool:
    """Give up what no job needs, for good; whether the kernel guards the calls too."""
    for what, most in (
        (resource.RLIMIT_AS, _ADDRESS_SPACE),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        _limit(what, most)
    machine = _MACHINES.get(os.uname().machine) if sys.platform == "linux" else None
    return machine is not None and _install(_program(machine))


def _limit(what: int, most: int) -> None:
    hard = resource.getrlimit(what)[1]
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    with suppress(OSError, ValueError):  # a service manager may forbid to change limits, whichever way
        resource.setrlimit(what, (most, most))


def _program(machine: _Machine) -> bytes:
    """The filter: instructions of classic BPF, which the kernel runs before each call."""
    numbers = [numbers[machine.column] for numbers in _CALLS.values()]
    steps = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_IF_EQUAL, 1, 0, machine.architecture),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER),
        *((_IF_EQUAL, left, 0, number) for left, number in zip(range(len(numbers), 0, -1), numbers)),
        (_RETURN, 0, 0, _REFUSE),
        (_RETURN, 0, 0, _ALLOW),
    ]
    return b"".join(_STEP.pack(*step) for step in steps)


def _install(program: bytes) -> bool:
    try:
        import ctypes

        prctl = ctypes.CDLL(None, use_errno=True).prctl
    except (ImportError, OSError, MemoryError):  # where memory may not be made executable, some builds cannot load it
        return False
    prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]
    steps = ctypes.create_string_buffer(program)
    header = ctypes.create_string_buffer(struct.pack("@HP", len(program) // _STEP.size, ctypes.addressof(steps)))
    asked = ((_NO_NEW_PRIVILEGES, 1, 0), (_SET_FILTER, _FILTER, ctypes.addressof(header)))
    return all(prctl(*one, 0, 0) == 0 for one in asked)
