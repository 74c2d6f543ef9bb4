"""Runs a module as a process that dies with the one that started it: a benchmark that is killed leaves no server behind.

python -P bench/child.py PARENT MODULE [ARGUMENT …]        PARENT is the process id of who starts it
"""

import ctypes
import os
import runpy
import signal
import sys

_SET_PARENT_DEATH_SIGNAL = 1  # linux/prctl.h

if sys.platform == "linux":
    ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != int(sys.argv[1]):
        sys.exit("the parent has ended")

del sys.argv[:2]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
