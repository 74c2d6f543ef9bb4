"""Frames over a stream socket: each behind its length in four bytes."""

import socket
import struct

_LENGTH = struct.Struct("!I")


class Frames:
    """One side of a conversation. A socket with a timeout raises TimeoutError."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def write(self, data: bytes) -> None:
        """Raises OSError."""
        self._sock.sendall(_LENGTH.pack(len(data)) + data)

    def read(self, most: int = (1 << 32) - 1) -> bytes:
        """Raises EOFError when the other side is gone, ValueError for more than `most` bytes, OSError."""
        (length,) = _LENGTH.unpack(self._exactly(_LENGTH.size))
        if length > most:
            raise ValueError(f"a frame of {length} bytes")
        return self._exactly(length)

    def _exactly(self, length: int) -> bytes:
        parts, missing = [], length
        while missing:
            part = self._sock.recv(min(missing, 1 << 20))
            if not part:
                raise EOFError
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)
