"""What the server asks a child process, and what that answers."""

from typing import Any

from msgspec import Struct

BESIDE_PAYLOAD = 1 << 20
"""How many bytes a report may have in all beside the payload: the largest headers fit in a quarter of it."""


GUARDED, UNGUARDED = b"guarded", b"unguarded"
"""What a child says first: whether the kernel refuses it what no job needs."""


class Job(Struct, frozen=True, array_like=True):
    """What a child is asked: to run `code` on a webhook, or only to look at it if there is none. `most` bytes may come back."""

    code: str
    webhook: str | None = None
    payload: str = ""
    is_json: bool = False
    most: int = 0


class Report(Struct, frozen=True):
    """What a child answers: what the code made of the webhook, or what went wrong, at a line of the code where that is known.

    Nothing of it is more than a claim: whoever takes over the child can send anything. `payload` None is the one that was;
    `text` says that it is no JSON.
    """

    error: str | None = None
    line: int | None = None
    cancel: bool = False
    method: Any = None
    url: Any = None
    headers: Any = None
    payload: bytes | None = None
    text: bool = False
