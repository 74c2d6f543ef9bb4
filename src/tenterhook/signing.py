"""Standard Webhooks 1.0.0: signing what is sent, verifying what was received.

Signed are the message id, a dot, the timestamp (whole seconds since 1970, of this attempt), a dot, and the body as it
is on the wire. `v1` is HMAC-SHA256 with a shared secret (`whsec_`), `v1a` is ed25519 (`whsk_` signs, `whpk_` verifies).
"""

import hashlib
import json
import re
from binascii import Error as NotBase64
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from hmac import compare_digest
from typing import TYPE_CHECKING, Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from msgspec import Struct

from tenterhook.errors import Invalid

if TYPE_CHECKING:
    from tenterhook.model import Secret

TOLERANCE = 300
"""How many seconds a timestamp may be away from the receiver's clock, either way."""

SECRET_BYTES = range(24, 76)
MAX_SIGNATURES = 100
_LAST_TIMESTAMP = 10**12 - 1
_TIMESTAMP = re.compile(r"[0-9]{1,12}")
_MESSAGE_ID = re.compile(r"[!-\-/-~]+")  # visible ASCII without the dot, which separates the signed parts
_PREFIX_WITHOUT_LINE = re.compile(r"wh(sec|sk|pk)")

_FAMILIES = tuple(
    tuple(f"{family}-{part}" for part in ("id", "timestamp", "signature")) for family in ("webhook", "svix")
)
_HEADER_NAMES = frozenset(name for family in _FAMILIES for name in family)

Headers = Mapping[str, str] | Mapping[bytes, bytes] | Iterable[tuple[str, str]] | Iterable[tuple[bytes, bytes]]


class Kind(StrEnum):
    """What a key is; the value is the prefix of its text."""

    SHARED = "whsec_"
    PRIVATE = "whsk_"
    PUBLIC = "whpk_"


class Key(Struct, frozen=True):
    """A decoded key: the shared secret, the 64 bytes of a private key (seed, public half), or 32 of a public one."""

    kind: Kind
    material: bytes

    def __repr__(self) -> str:
        return f"Key({self.kind.value}…)"


def _refused(detail: str) -> Invalid:
    return Invalid(detail, loc=("body", "secret"))


def _kind_of(text: object, bare: bool) -> tuple[Kind, str]:
    """The kind that a text says it is, and what follows the prefix."""
    if not isinstance(text, str) or not text:
        raise _refused("the secret is missing: expected text that begins with whsec_")
    for kind in Kind:
        if text.startswith(kind):
            return kind, text.removeprefix(kind)
    if bare and "_" not in text and not _PREFIX_WITHOUT_LINE.match(text):
        return Kind.SHARED, text
    raise _refused("the secret must begin with whsec_ (shared), whsk_ (private key) or whpk_ (public key)")


def _decoded(text: str) -> bytes:
    digits = text.rstrip("=")
    padded = digits + "=" * (-len(digits) % 4)
    try:
        if text in (digits, padded):
            return a2b_base64(padded.encode("ascii"), strict_mode=True)
    except (NotBase64, UnicodeEncodeError):
        pass
    raise _refused("the part of the secret after its prefix is not base64")


def _public_half(seed: bytes) -> bytes:
    return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()


def shared_key(material: bytes) -> Key:
    """A key for `v1` from raw bytes; Invalid outside of 24 to 75 bytes."""
    if len(material) not in SECRET_BYTES:
        raise _refused(f"a shared secret has 24 to 75 bytes, this one has {len(material)}")
    return Key(Kind.SHARED, material)


def parse_secret(text: str, *, bare: bool = False) -> Key:
    """The key that a text in its shown form stands for; padding of the base64 may be left out.

    With `bare`, base64 without a prefix is a shared secret. Raises Invalid, and never shows the text in the message.
    """
    kind, rest = _kind_of(text, bare)
    material = _decoded(rest)
    match kind:
        case Kind.SHARED:
            return shared_key(material)
        case Kind.PRIVATE if len(material) != 64:
            raise _refused(f"whsk_ holds 64 bytes, seed and public key; this one has {len(material)}")
        case Kind.PRIVATE if _public_half(material[:32]) != material[32:]:
            raise _refused("the two halves of this whsk_ key do not belong together")
        case Kind.PUBLIC if len(material) != 32:
            raise _refused(f"whpk_ holds 32 bytes; this one has {len(material)}")
    return Key(kind, material)


def signing_key(text: str) -> Key:
    """A key that can sign: `whsec_` or `whsk_`. Raises Invalid, for a public key too."""
    key = parse_secret(text)
    if key.kind is Kind.PUBLIC:
        raise _refused("a public key (whpk_) cannot sign: give the private key, which begins with whsk_")
    return key


def verifying_key(text: str) -> Key:
    """A key for a receiver: `whsec_`, its base64 alone, or `whpk_`. Raises Invalid, for a private key too."""
    key = parse_secret(text, bare=True)
    if key.kind is Kind.PRIVATE:
        raise _refused("a receiver must not hold a private key (whsk_): give the public key, which begins with whpk_")
    return key


def _shown(kind: Kind, material: bytes) -> str:
    return kind + b2a_base64(material, newline=False).decode()


def generate_secret(random_bytes: Callable[[int], bytes]) -> str:
    """A new shared secret, `whsec_` and 24 bytes; `random_bytes` is `os.urandom` outside of tests."""
    return _shown(Kind.SHARED, random_bytes(24))


def generate_key_pair(random_bytes: Callable[[int], bytes]) -> tuple[str, str]:
    """A new ed25519 pair for `v1a`: the private key (`whsk_`) and the public key (`whpk_`)."""
    seed = random_bytes(32)
    public = _public_half(seed)
    return _shown(Kind.PRIVATE, seed + public), _shown(Kind.PUBLIC, public)


def public_form(secret: str) -> str:
    """What an API may show of a secret: `whpk_` for a key pair, a shared secret in full. Raises Invalid."""
    key = parse_secret(secret)
    if key.kind is Kind.PRIVATE:
        return _shown(Kind.PUBLIC, key.material[32:])
    return _shown(key.kind, key.material)


def _hmac(material: bytes) -> Callable[[bytes, bytes], bytes]:
    """HMAC-SHA256 with both pads hashed beforehand (RFC 2104, section 4): a third of the time of hmac.digest."""
    block = material if len(material) <= 64 else hashlib.sha256(material).digest()
    block = block.ljust(64, b"\0")
    inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in block))
    outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in block))

    def signature(head: bytes, body: bytes) -> bytes:
        inside = inner.copy()
        inside.update(head)
        inside.update(body)
        outside = outer.copy()
        outside.update(inside.digest())
        return b"v1," + b2a_base64(outside.digest(), newline=False)

    return signature


def _ed25519(material: bytes) -> Callable[[bytes, bytes], bytes]:
    private = Ed25519PrivateKey.from_private_bytes(material[:32])

    def signature(head: bytes, body: bytes) -> bytes:
        return b"v1a," + b2a_base64(private.sign(head + body), newline=False)

    return signature


def _head(message_id: str, timestamp_seconds: int) -> bytes:
    """What is signed before the body. Raises Invalid for what would let one signature fit two messages."""
    if not _MESSAGE_ID.fullmatch(message_id):
        raise Invalid("a message id consists of visible ASCII characters other than the dot", loc=("webhook-id",))
    if not 0 <= timestamp_seconds <= _LAST_TIMESTAMP:
        raise Invalid("the timestamp is not in seconds since 1970", loc=("webhook-timestamp",))
    return b"%b.%d." % (message_id.encode("ascii"), timestamp_seconds)


class Signer:
    """The decoded keys of one endpoint, made once and used for each attempt.

    `expires_at` (µs UTC) is when the first of its keys stops to sign: make a new Signer then; None is never.
    """

    __slots__ = ("_signatures", "expires_at")

    def __init__(self, secrets: Sequence[str], expires_at: int | None = None) -> None:
        """`secrets` newest first. Raises Invalid for one that cannot sign, and for none at all."""
        keys = [signing_key(secret) for secret in secrets]
        if not keys:
            raise _refused("at least one secret is needed to sign")
        self._signatures = tuple((_hmac if key.kind is Kind.SHARED else _ed25519)(key.material) for key in keys)
        self.expires_at = expires_at

    @classmethod
    def of(cls, secrets: "Iterable[Secret]", now: int) -> "Signer":
        """A Signer of those secrets of an endpoint that still sign at `now` (µs UTC). Raises Invalid if none does."""
        alive = [secret for secret in secrets if secret.expires_at is None or secret.expires_at > now]
        ends = [secret.expires_at for secret in alive if secret.expires_at is not None]
        return cls([secret.key for secret in alive], min(ends, default=None))

    def _signed(self, head: bytes, body: bytes) -> bytes:
        if len(self._signatures) == 1:
            return self._signatures[0](head, body)
        return b" ".join([signature(head, body) for signature in self._signatures])

    def sign(self, message_id: str, timestamp_seconds: int, body: bytes) -> str:
        """The value of `webhook-signature`. Raises Invalid for an id or a timestamp that cannot be signed."""
        return self._signed(_head(message_id, timestamp_seconds), body).decode()

    def headers(self, message_id: str, timestamp_seconds: int, body: bytes) -> bytes:
        """The three header lines for the wire, each ended by CR LF. Raises Invalid as `sign` does."""
        head = _head(message_id, timestamp_seconds)
        return b"webhook-id: %b\r\nwebhook-timestamp: %d\r\nwebhook-signature: %b\r\n" % (
            message_id.encode("ascii"),
            timestamp_seconds,
            self._signed(head, body),
        )


def sign(secrets: Sequence[str], message_id: str, timestamp_seconds: int, body: bytes) -> str:
    """The value of `webhook-signature`, one signature per secret, newest first. Raises Invalid."""
    return Signer(secrets).sign(message_id, timestamp_seconds, body)


class Failure(StrEnum):
    """Why a webhook was not verified."""

    MISSING_HEADER = "missing_header"
    BAD_HEADER = "bad_header"  # repeated, not text, or not of its form
    TOO_OLD = "too_old"
    TOO_NEW = "too_new"
    NO_MATCH = "no_match"  # no signature fits any of the keys
    BAD_BODY = "bad_body"  # not bytes or text, or not the JSON that was asked for


class WebhookVerificationError(ValueError):
    """A webhook that must not be trusted: answer 400 or 401. `reason` is a `Failure`, the text is for people."""

    def __init__(self, reason: Failure, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return self.detail


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, str):
        return value
    raise WebhookVerificationError(Failure.BAD_HEADER, f"a header is of type {type(value).__name__}, expected text")


def _known_headers(headers: Any) -> dict[str, str]:
    """The headers that verification reads, their names in lower case; a repeated one is refused."""
    try:
        pairs = [(name, value) for name, value in (headers.items() if hasattr(headers, "items") else headers)]
    except Exception:
        raise WebhookVerificationError(Failure.BAD_HEADER, "the headers are no mapping of names to values") from None
    found: dict[str, str] = {}
    for name, value in pairs:
        known = _text(name).lower()
        if known in found:
            raise WebhookVerificationError(Failure.BAD_HEADER, f"the header {known} is repeated")
        if known in _HEADER_NAMES:
            found[known] = _text(value)
    return found


def _signed_headers(headers: Any) -> tuple[str, str, list[str]]:
    """Message id, timestamp (its digits) and signatures: `webhook-*`, or `svix-*` where only those are complete."""
    found = _known_headers(headers)
    names = next((family for family in _FAMILIES if all(name in found for name in family)), None)
    if names is None:
        missing = next(name for name in _FAMILIES[0] if name not in found)
        raise WebhookVerificationError(Failure.MISSING_HEADER, f"the header {missing} is missing")
    message_id, timestamp, signatures = (found[name] for name in names)
    if not _MESSAGE_ID.fullmatch(message_id):
        raise WebhookVerificationError(
            Failure.BAD_HEADER, "the message id is empty, has a dot, or is not visible ASCII"
        )
    if not _TIMESTAMP.fullmatch(timestamp):
        raise WebhookVerificationError(Failure.BAD_HEADER, "the timestamp is not a whole number of seconds")
    items = signatures.split(" ")
    if len(items) > MAX_SIGNATURES:
        raise WebhookVerificationError(Failure.BAD_HEADER, f"there are more than {MAX_SIGNATURES} signatures")
    return message_id, timestamp, items


def _body_bytes(body: object) -> bytes:
    if isinstance(body, str):
        try:
            return body.encode()
        except UnicodeEncodeError:
            raise WebhookVerificationError(
                Failure.BAD_BODY, "the body holds characters that no bytes stand for"
            ) from None
    if isinstance(body, bytes | bytearray | memoryview):
        return bytes(body)
    raise WebhookVerificationError(Failure.BAD_BODY, "give the body as it was received (bytes), before it is parsed")


def _hmac_check(material: bytes) -> Callable[[bytes, bytes, list[bytes]], bool]:
    signature = _hmac(material)

    def check(head: bytes, body: bytes, items: list[bytes]) -> bool:
        expected = signature(head, body)
        return any(compare_digest(expected, item) for item in items)

    return check


def _ed25519_check(material: bytes) -> Callable[[bytes, bytes, list[bytes]], bool]:
    public = Ed25519PublicKey.from_public_bytes(material)

    def fits(content: bytes, item: bytes) -> bool:
        try:
            public.verify(a2b_base64(item.removeprefix(b"v1a,"), strict_mode=True), content)
        except (NotBase64, InvalidSignature):
            return False
        return True

    def check(head: bytes, body: bytes, items: list[bytes]) -> bool:
        return any(fits(head + body, item) for item in items if item.startswith(b"v1a,"))

    return check


def _seconds(moment: datetime | int | None) -> int:
    """Whole seconds since 1970; a datetime without an offset means UTC, None is now."""
    if moment is None:
        from tenterhook.clock import SECOND, SystemClock  # here, as it brings asyncio, which a receiver may not need

        return SystemClock().now() // SECOND
    if isinstance(moment, datetime):
        return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
    return moment


class Webhook:
    """Signs and verifies webhooks with one secret, or with several while they rotate (newest first).

    A secret is `whsec_…`, its base64 without the prefix, the raw bytes of a shared secret, `whsk_…` (signs and
    verifies) or `whpk_…` (verifies). Anything else raises `tenterhook.errors.Invalid` here, not on use.
    Times are seconds since 1970 or datetimes (UTC if they have no offset); None is now.
    """

    def __init__(self, secret: str | bytes | Sequence[str | bytes]) -> None:
        given = [secret] if isinstance(secret, str | bytes) else secret
        keys = [shared_key(item) if isinstance(item, bytes) else parse_secret(item, bare=True) for item in given or ()]
        if not keys:
            raise _refused("at least one secret is needed")
        signing = [_shown(key.kind, key.material) for key in keys if key.kind is not Kind.PUBLIC]
        self._signer = Signer(signing) if signing else None
        self._checks = [
            _hmac_check(key.material) if key.kind is Kind.SHARED else _ed25519_check(key.material[-32:]) for key in keys
        ]

    def sign(self, msg_id: str, timestamp: datetime | int, body: bytes | str) -> str:
        """The value of `webhook-signature`. Raises `Invalid` if no key can sign, or the id or time cannot be signed."""
        if self._signer is None:
            raise _refused("a public key (whpk_) cannot sign")
        return self._signer.sign(msg_id, _seconds(timestamp), body.encode() if isinstance(body, str) else body)

    def headers(self, msg_id: str, body: bytes | str, timestamp: datetime | int | None = None) -> dict[str, str]:
        """The three headers of a request with this body. Raises as `sign` does."""
        seconds = _seconds(timestamp)
        return {
            "webhook-id": msg_id,
            "webhook-timestamp": str(seconds),
            "webhook-signature": self.sign(msg_id, seconds, body),
        }

    def verify_bytes(
        self, body: bytes | str, headers: Headers, *, tolerance: int = TOLERANCE, now: datetime | int | None = None
    ) -> bytes:
        """The body as it came, once its signature and age are proven; `tolerance` is in seconds, both ways.

        `headers` may hold `webhook-*` or `svix-*` names in any case. Raises WebhookVerificationError, and nothing else.
        """
        content = _body_bytes(body)
        message_id, timestamp, items = _signed_headers(headers)
        age = _seconds(now) - int(timestamp)
        if age > tolerance:
            raise WebhookVerificationError(Failure.TOO_OLD, f"the timestamp is {age} s old")
        if -age > tolerance:
            raise WebhookVerificationError(Failure.TOO_NEW, f"the timestamp is {-age} s ahead of this clock")
        head = f"{message_id}.{timestamp}.".encode()  # the digits as received, leading zeros included
        # what is not ASCII becomes "?", which is in no signature
        candidates = [item.encode("ascii", "replace") for item in items]
        if not any(check(head, content, candidates) for check in self._checks):
            raise WebhookVerificationError(Failure.NO_MATCH, "no signature fits the secret, the headers and the body")
        return content

    def verify(
        self, body: bytes | str, headers: Headers, *, tolerance: int = TOLERANCE, now: datetime | int | None = None
    ) -> Any:
        """As `verify_bytes`, and gives the body's JSON, parsed; a body that is not JSON is refused."""
        content = self.verify_bytes(body, headers, tolerance=tolerance, now=now)
        try:
            return json.loads(content)
        except (ValueError, RecursionError):
            raise WebhookVerificationError(Failure.BAD_BODY, "the body is not JSON; verify_bytes takes any") from None
