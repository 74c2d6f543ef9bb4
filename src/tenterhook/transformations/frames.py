"""Frames over a stream socket: each behind its length in four bytes."""

import socket
import struct
import time

_LENGTH = struct.Struct("!I")


class Frames:
    """One side of a conversation, which may take so many seconds in all."""

    def __init__(self, sock: socket.socket, within: float | None = None) -> None:
        self._sock = sock
        self._ends = None if within is None else time.monotonic() + within

    def write(self, data: bytes) -> None:
        """Raises OSError, TimeoutError."""
        self._limit()
        self._sock.sendall(_LENGTH.pack(len(data)) + data)

    def read(self, most: int = (1 << 32) - 1) -> bytes:
        """Raises EOFError when the other side is gone, ValueError for more than `most` bytes, OSError, TimeoutError."""
        (length,) = _LENGTH.unpack(self._exactly(_LENGTH.size))
        if length > most:
            raise ValueError(f"a frame of {length} bytes")
        return self._exactly(length)

    def _exactly(self, length: int) -> bytes:
        parts, missing = [], length
        while missing:
            self._limit()
            part = self._sock.recv(min(missing, 1 << 20))
            if not part:
                raise EOFError
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)

    def _limit(self) -> None:
        if self._ends is None:
            return
        left = self._ends - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._sock.settimeout(left)
