"""What the process of a transformation gives up: should the JavaScript engine have a hole, there is little behind it."""

import os
import resource

_ADDRESS_SPACE = 1 << 30


def confine() -> None:
    """No more memory than a job needs, no new files, no core."""
    for what, most in (
        (resource.RLIMIT_AS, _ADDRESS_SPACE),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        _limit(what, most)
    os.chdir("/")


def _limit(what: int, most: int) -> None:
    hard = resource.getrlimit(what)[1]
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(what, (most, most))
