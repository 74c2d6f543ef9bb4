"""The tables of the interpreter: schemes, encodings, kinds of key, units of time. A new one is a new line.

Each scheme has a `check` for receivers and a `make` for those who sign as the provider would.
"""

import hashlib
from base64 import b64decode, b64encode
from binascii import unhexlify
from collections.abc import Callable, Mapping
from hmac import compare_digest
from hmac import digest as hmac_digest
from typing import TypeVar

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from msgspec import Struct

from tenterhook.clock import MILLISECOND, SECOND, from_rfc3339, to_rfc3339
from tenterhook.errors import Invalid
from tenterhook.signing import Kind, parse_secret

Check = Callable[[bytes, bytes, list[bytes]], bool]
"""Key, content, decoded signatures → whether any of them is genuine."""

Make = Callable[[bytes, bytes], bytes]
"""Key, content → signature."""

Decode = Callable[[bytes], bytes | None]
Encode = Callable[[bytes], bytes]
KeyOf = Callable[[str], bytes | None]
"""A secret's text → key bytes; None for a secret of another kind of key. Raises Invalid for a malformed one."""

T = TypeVar("T")


class Scheme(Struct, frozen=True):
    """How a signature is checked and made; `proves` is False where anything passes."""

    check: Check
    make: Make
    proves: bool = True


class Encoding(Struct, frozen=True):
    """How signature bytes are written; `decode` gives None for text that is not exactly of this form."""

    decode: Decode
    encode: Encode


class Unit(Struct, frozen=True):
    """How an instant (µs UTC) is written; `parse` gives None for anything else."""

    parse: Callable[[bytes], int | None]
    render: Callable[[int], bytes]


def entry(table: Mapping[str, T], field: str, name: str) -> T:
    """The entry of a table. Raises Invalid, naming the field."""
    if name not in table:
        raise Invalid(f"{field} = {name!r} is unknown; there are {', '.join(table)}")
    return table[name]


def _by_making(make: Make) -> Scheme:
    """A scheme whose signature the receiver makes as well, once for all candidates, and compares."""

    def check(key: bytes, content: bytes, candidates: list[bytes]) -> bool:
        wanted = make(key, content)
        return any(compare_digest(wanted, candidate) for candidate in candidates)

    return Scheme(check, make)


def _hmac(algorithm: str) -> Scheme:
    return _by_making(lambda key, content: hmac_digest(key, content, algorithm))


def _token_check(key: bytes, _content: bytes, candidates: list[bytes]) -> bool:
    # compare_digest takes longer for longer input; digests have one length
    wanted = hashlib.sha256(key).digest()
    return any(compare_digest(wanted, hashlib.sha256(candidate).digest()) for candidate in candidates)


def _ed25519_check(key: bytes, content: bytes, candidates: list[bytes]) -> bool:
    try:
        public = Ed25519PublicKey.from_public_bytes(key)
    except ValueError:
        return False
    return any(_ed25519_fits(public, content, candidate) for candidate in candidates)


def _ed25519_fits(public: Ed25519PublicKey, content: bytes, candidate: bytes) -> bool:
    try:
        public.verify(candidate, content)
    except InvalidSignature:
        return False
    return True


def _ed25519_make(key: bytes, content: bytes) -> bytes:
    return Ed25519PrivateKey.from_private_bytes(key[:32]).sign(content)


SCHEMES: dict[str, Scheme] = {
    "hmac-sha256": _hmac("sha256"),
    "hmac-sha1": _hmac("sha1"),
    "hmac-sha512": _hmac("sha512"),
    "hash-sha256": _by_making(lambda _key, content: hashlib.sha256(content).digest()),
    "ed25519": Scheme(_ed25519_check, _ed25519_make),
    "token": Scheme(_token_check, lambda key, _content: key),
    "basic": Scheme(_token_check, lambda key, _content: key),
    "none": Scheme(lambda _key, _content, _candidates: True, lambda _key, _content: b"", proves=False),
}


def _from_hex(text: bytes) -> bytes | None:
    try:
        return unhexlify(text)
    except ValueError:
        return None


def _from_base64(text: bytes, altchars: bytes | None = None) -> bytes | None:
    """The bytes, if this is how they are written: Python alone would pass over unused bits at the end."""
    try:
        value = b64decode(text, altchars, validate=True)
    except ValueError:
        return None
    return value if b64encode(value, altchars) == text else None


def _from_base64url(text: bytes) -> bytes | None:
    bare = text.rstrip(b"=")
    padded = bare + b"=" * (-len(bare) % 4)
    return _from_base64(padded, b"-_") if text in (bare, padded) else None


ENCODINGS: dict[str, Encoding] = {
    "text": Encoding(lambda text: text, lambda value: value),
    "hex": Encoding(_from_hex, lambda value: value.hex().encode()),
    "base64": Encoding(_from_base64, b64encode),
    "base64url": Encoding(_from_base64url, lambda value: b64encode(value, b"-_").rstrip(b"=")),
}


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise Invalid("the secret is no Unicode text", ("body", "secrets")) from None


def _encoded(name: str, decode: Decode) -> KeyOf:
    def key(text: str) -> bytes:
        value = decode(_utf8(text))
        if not value:
            raise Invalid(f"the secret is not {name}", ("body", "secrets"))
        return value

    return key


def _user_and_password(text: str) -> bytes:
    if ":" not in text:
        raise Invalid("the secret must be user and password with a colon between them", ("body", "secrets"))
    return _utf8(text)


def _standard(wanted: Kind, *, bare: bool, signs: bool = False) -> KeyOf:
    """A key of Standard Webhooks; with `bare`, base64 without a prefix too. Only who signs may hold a private key."""

    def key(text: str) -> bytes | None:
        if not bare and not text.startswith(tuple(Kind)):
            return None
        parsed = parse_secret(text, bare=bare)
        if parsed.kind is Kind.PRIVATE and not signs:
            raise Invalid("a receiver must not hold a private key (whsk_): give the whpk_ one", ("body", "secrets"))
        return parsed.material if parsed.kind is wanted else None

    return key


KEYS: dict[str, KeyOf] = {
    "utf8": _utf8,
    "base64": _encoded("base64", _from_base64),
    "hex": _encoded("hexadecimal", _from_hex),
    "user:password": _user_and_password,
    "whsec": _standard(Kind.SHARED, bare=True),
    "whsec-prefixed": _standard(Kind.SHARED, bare=False),
    "whpk": _standard(Kind.PUBLIC, bare=False),
}

SIGNING_KEYS: dict[str, KeyOf] = {
    **KEYS,
    "whsec": _standard(Kind.SHARED, bare=True, signs=True),
    "whsec-prefixed": _standard(Kind.SHARED, bare=False, signs=True),
    "whpk": _standard(Kind.PRIVATE, bare=False, signs=True),
}
"""The same for those who sign: with a key pair, that takes the private half."""


def _digits(longest: int, factor: int) -> Callable[[bytes], int | None]:
    def parse(text: bytes) -> int | None:
        return int(text) * factor if text.isdigit() and len(text) <= longest else None

    return parse


def _iso8601(text: bytes) -> int | None:
    try:
        return from_rfc3339(text.decode("ascii")) if b"T" in text and len(text) <= 40 else None
    except (ValueError, OverflowError):
        return None


UNITS: dict[str, Unit] = {
    "s": Unit(_digits(12, SECOND), lambda now: b"%d" % (now // SECOND)),
    "ms": Unit(_digits(15, MILLISECOND), lambda now: b"%d" % (now // MILLISECOND)),
    "iso8601": Unit(_iso8601, lambda now: to_rfc3339(now).encode()),
}
