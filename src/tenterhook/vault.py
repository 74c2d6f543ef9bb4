"""Secrets at rest: AES-256-GCM under the master key, each value bound to the object that it belongs to.

A sealed value is the version (1 byte), the id of the key (8), the nonce (12), then ciphertext and tag. Everything
before the ciphertext, and the context, are authenticated with it.
"""

import os
from collections.abc import Callable, Sequence
from hmac import digest

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from tenterhook.errors import ConfigurationError, TenterhookError

MIN_TEXT = 32
"""The fewest characters of a master key."""

MIN_DISTINCT = 8
"""The fewest different characters of a master key: refuses `aaaa…` and its like, which no random source makes."""

KEY_BYTES = 32
_VERSION = b"\x01"
_ID_END = 9
_NONCE_BYTES = 12
_HEAD = _ID_END + _NONCE_BYTES
_TAG_BYTES = 16
_ADVICE = "make one with: openssl rand -base64 32"


class KeyMissing(TenterhookError):
    """A stored secret was sealed with a master key that TENTERHOOK_SECRET no longer lists: add that key at its end."""

    code = "key_missing"


class SealBroken(TenterhookError):
    """A stored secret was changed, cut, or moved from another object: set it anew, or restore the database."""

    code = "seal_broken"


def _key_id(key: bytes) -> bytes:
    return digest(key, b"tenterhook vault key id", "sha256")[: _ID_END - len(_VERSION)]


def _derived(text: str, number: int) -> bytes:
    """32 key bytes from the text of a master key. Raises ConfigurationError, and never shows the text."""
    if len(text) < MIN_TEXT:
        raise ConfigurationError(
            f"TENTERHOOK_SECRET: key {number} has {len(text)} characters, at least {MIN_TEXT} are needed; {_ADVICE}"
        )
    if len(set(text)) < MIN_DISTINCT:
        raise ConfigurationError(f"TENTERHOOK_SECRET: key {number} is not random; {_ADVICE}")
    return HKDF(SHA256(), KEY_BYTES, salt=None, info=b"tenterhook vault 1").derive(text.encode())


class Vault:
    """Seals with the first of its keys, opens with any of them."""

    __slots__ = ("_ciphers", "_first", "_random_bytes")

    def __init__(self, keys: Sequence[bytes], random_bytes: Callable[[int], bytes] = os.urandom) -> None:
        """`keys` are 32 bytes each. Raises ConfigurationError for none, and for another length."""
        if not keys:
            raise ConfigurationError(f"TENTERHOOK_SECRET is empty; {_ADVICE}")
        if any(len(key) != KEY_BYTES for key in keys):
            raise ConfigurationError(f"a key of the vault has {KEY_BYTES} bytes")
        self._ciphers = {_VERSION + _key_id(key): AESGCM(key) for key in keys}
        self._first = _VERSION + _key_id(keys[0])
        self._random_bytes = random_bytes

    @classmethod
    def from_text(cls, text: str) -> "Vault":
        """The vault of the setting TENTERHOOK_SECRET: master keys separated by commas, the newest first.

        Raises ConfigurationError for a key that is too short or not random.
        """
        parts = [part.strip() for part in text.split(",")] if text.strip() else []
        return cls([_derived(part, number) for number, part in enumerate(parts, 1)])

    def seal(self, plain: bytes, context: str) -> bytes:
        """The sealed form of a value; `context` is the id of the object that it belongs to."""
        head = self._first + self._random_bytes(_NONCE_BYTES)
        return head + self._ciphers[self._first].encrypt(head[_ID_END:], plain, head + context.encode())

    def open(self, sealed: bytes, context: str) -> bytes:
        """The value again. Raises KeyMissing if no key fits, SealBroken if the value or its context was changed."""
        if len(sealed) < _HEAD + _TAG_BYTES or not sealed.startswith(_VERSION):
            raise SealBroken
        cipher = self._ciphers.get(sealed[:_ID_END])
        if cipher is None:
            raise KeyMissing
        head = sealed[:_HEAD]
        try:
            return cipher.decrypt(head[_ID_END:], sealed[_HEAD:], head + context.encode())
        except InvalidTag:
            raise SealBroken from None

    def needs_reseal(self, sealed: bytes) -> bool:
        """Whether the value is sealed with another key than the first: open it and seal it again."""
        return not sealed.startswith(self._first)
