"""Standard Webhooks: our signatures against code that we did not write, and every way in which one must not verify."""

import base64
import contextlib
import hashlib
import hmac
import os
import pickle
import random
import string
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
import standardwebhooks
import svix.webhooks
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from tenterhook.clock import SECOND
from tenterhook.errors import Invalid
from tenterhook.model import Secret
from tenterhook.signing import (
    MAX_SIGNATURES,
    Failure,
    Kind,
    Signer,
    Webhook,
    WebhookVerificationError,
    generate_key_pair,
    generate_secret,
    parse_secret,
    public_form,
    sign,
    signing_key,
    verifying_key,
)

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"
AT = 1_614_265_330
BODY = b'{"test": 2432232314}'
PUBLISHED = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="

EXAMPLES = (Path(__file__).parent.parent / "docs" / "signing.md").read_text(encoding="utf-8")

SEEDED = random.Random(1)
OTHER = generate_secret(SEEDED.randbytes)
PRIVATE, PUBLIC = generate_key_pair(SEEDED.randbytes)
OTHER_PRIVATE, OTHER_PUBLIC = generate_key_pair(SEEDED.randbytes)

message_ids = st.text(string.ascii_letters + string.digits + "_-", min_size=1, max_size=64)
timestamps = st.integers(0, 10**12 - 1)


def headers(
    signature: str = PUBLISHED, message_id: str = ID, timestamp: object = AT, family: str = "webhook"
) -> dict[str, str]:
    return {f"{family}-id": message_id, f"{family}-timestamp": str(timestamp), f"{family}-signature": signature}


def refusal(given_headers: object, body: object = BODY, secret: object = SECRET, now: int = AT) -> Failure:
    with pytest.raises(WebhookVerificationError) as caught:
        Webhook(secret).verify(body, given_headers, now=now)  # type: ignore[arg-type]  # wrong types are part of the test
    assert str(caught.value)
    return caught.value.reason


def encoded(material: bytes) -> str:
    return base64.b64encode(material).decode()


class TestSigning:
    def test_published_vector(self) -> None:
        assert sign([SECRET], ID, AT, BODY) == PUBLISHED
        assert Webhook(SECRET).sign(ID, AT, BODY) == PUBLISHED
        assert Webhook(SECRET).verify(BODY, headers(), now=AT) == {"test": 2432232314}

    @given(material=st.binary(min_size=24, max_size=75), message_id=message_ids, at=timestamps, body=st.binary())
    def test_v1_is_hmac_sha256(self, material: bytes, message_id: str, at: int, body: bytes) -> None:
        content = f"{message_id}.{at}.".encode() + body
        expected = "v1," + encoded(hmac.digest(material, content, hashlib.sha256))
        assert sign(["whsec_" + encoded(material)], message_id, at, body) == expected

    @given(seed=st.binary(min_size=32, max_size=32), message_id=message_ids, at=timestamps, body=st.binary())
    def test_v1a_is_ed25519(self, seed: bytes, message_id: str, at: int, body: bytes) -> None:
        private = Ed25519PrivateKey.from_private_bytes(seed)
        public = private.public_key().public_bytes_raw()
        content = f"{message_id}.{at}.".encode() + body
        value = sign(["whsk_" + encoded(seed + public)], message_id, at, body)
        assert value == "v1a," + encoded(private.sign(content))
        found = {**headers(value, message_id, at)}
        assert Webhook("whpk_" + encoded(public)).verify_bytes(body, found, now=at) == body

    def test_one_signature_per_secret_in_the_given_order(self) -> None:
        value = sign([OTHER, PRIVATE, SECRET], ID, AT, BODY)
        assert value.split(" ") == [sign([key], ID, AT, BODY) for key in (OTHER, PRIVATE, SECRET)]
        assert [item.partition(",")[0] for item in value.split(" ")] == ["v1", "v1a", "v1"]

    def test_header_lines_for_the_wire(self) -> None:
        assert Signer([SECRET]).headers(ID, AT, BODY) == (
            f"webhook-id: {ID}\r\nwebhook-timestamp: {AT}\r\nwebhook-signature: {PUBLISHED}\r\n".encode()
        )

    def test_a_signer_can_be_used_again(self) -> None:
        signer = Signer([SECRET])
        assert signer.sign(ID, AT, b"") != PUBLISHED
        assert signer.sign(ID, AT, BODY) == PUBLISHED

    @pytest.mark.parametrize("message_id", ["", "a.b", "a b", "a\r\nx: y", "a\n", "ü", "\ud800"])
    def test_an_id_that_cannot_be_signed(self, message_id: str) -> None:
        with pytest.raises(Invalid):
            Signer([SECRET]).headers(message_id, AT, BODY)

    @pytest.mark.parametrize("at", [-1, 10**12, AT * SECOND])
    def test_a_timestamp_that_is_not_in_seconds(self, at: int) -> None:
        with pytest.raises(Invalid):
            sign([SECRET], ID, at, BODY)

    @pytest.mark.parametrize("secrets", [[], [PUBLIC], [SECRET, PUBLIC], ["whsec_"], [SECRET.removeprefix("whsec_")]])
    def test_what_cannot_sign_is_refused_when_configured(self, secrets: list[str]) -> None:
        with pytest.raises(Invalid):
            Signer(secrets)

    def test_rotation_by_expiry(self) -> None:
        secrets = (Secret(OTHER), Secret(SECRET, 2 * SECOND), Secret(PRIVATE, 3 * SECOND))
        both, two, one = (Signer.of(secrets, now) for now in (2 * SECOND - 1, 2 * SECOND, 3 * SECOND))
        assert both.sign(ID, AT, BODY) == sign([OTHER, SECRET, PRIVATE], ID, AT, BODY)
        assert both.expires_at == 2 * SECOND
        assert two.sign(ID, AT, BODY) == sign([OTHER, PRIVATE], ID, AT, BODY)
        assert two.expires_at == 3 * SECOND
        assert one.sign(ID, AT, BODY) == sign([OTHER], ID, AT, BODY)
        assert one.expires_at is None

    def test_no_living_secret(self) -> None:
        with pytest.raises(Invalid):
            Signer.of([Secret(SECRET, 5)], 5)


class TestSecrets:
    @given(st.binary(min_size=24, max_size=75))
    def test_padding_is_optional(self, material: bytes) -> None:
        text = "whsec_" + encoded(material)
        for shown in (text, text.rstrip("=")):
            key = parse_secret(shown)
            assert (key.kind, key.material) == (Kind.SHARED, material)
            assert verifying_key(shown.removeprefix("whsec_")) == key

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "whsec_",
            "whsec_ ",
            SECRET + "\n",
            " " + SECRET,
            SECRET[:12] + "*" + SECRET[12:],
            SECRET + "A",
            SECRET + "====",
            SECRET + "é",
            "whsec_" + encoded(bytes(23)),
            "whsec_" + encoded(bytes(76)),
            "whsec" + SECRET.removeprefix("whsec_"),
            "whsec-" + SECRET.removeprefix("whsec_"),
            "WHSEC_" + SECRET.removeprefix("whsec_"),
            "whsecret_" + SECRET.removeprefix("whsec_"),
            "whsk_",
            "whsk_" + encoded(bytes(32)),
            "whsk_" + encoded(bytes(64)),
            PRIVATE.replace("whsk_", "whsec_")[:-8] + "!",
            PUBLIC.replace("whpk_", "whsk_"),
            PRIVATE.replace("whsk_", "whpk_"),
            "whpk_" + encoded(bytes(31)),
            "whpk_" + encoded(bytes(33)),
        ],
    )
    def test_refused_when_configured(self, text: str) -> None:
        for configure in (
            parse_secret,
            signing_key,
            verifying_key,
            public_form,
            Webhook,
            lambda given: Signer([given]),
        ):
            with pytest.raises(Invalid) as caught:
                configure(text)
            rest = text.partition("_")[2].strip()
            assert not rest or rest not in caught.value.detail

    @pytest.mark.parametrize("given", [None, [], (), b"", b"x" * 23, b"x" * 76, [b""], [None]])
    def test_the_helper_refuses_what_is_no_secret(self, given: object) -> None:
        with pytest.raises(Invalid):
            Webhook(given)  # type: ignore[arg-type]  # what an unset variable gives

    def test_halves_of_two_pairs_do_not_make_a_key(self) -> None:
        mixed = parse_secret(PRIVATE).material[:32] + parse_secret(OTHER_PRIVATE).material[32:]
        with pytest.raises(Invalid, match="belong together"):
            parse_secret("whsk_" + encoded(mixed))

    def test_the_wrong_kind(self) -> None:
        with pytest.raises(Invalid, match="whsk_"):
            signing_key(PUBLIC)
        with pytest.raises(Invalid, match="whpk_"):
            verifying_key(PRIVATE)
        with pytest.raises(Invalid):
            Webhook(PUBLIC).sign(ID, AT, BODY)
        assert signing_key(PRIVATE).kind is Kind.PRIVATE
        assert verifying_key(PUBLIC).kind is Kind.PUBLIC

    def test_without_a_prefix_only_for_receivers(self) -> None:
        bare = SECRET.removeprefix("whsec_")
        assert verifying_key(bare) == parse_secret(SECRET)
        with pytest.raises(Invalid, match="must begin with"):
            parse_secret(bare)

    @given(st.text())
    def test_any_text_is_a_key_or_invalid(self, text: str) -> None:
        for parse in (parse_secret, signing_key, verifying_key):
            with contextlib.suppress(Invalid):
                assert parse(text).material

    @given(st.binary(max_size=80), st.sampled_from(Kind))
    def test_any_bytes_are_a_key_or_invalid(self, material: bytes, kind: Kind) -> None:
        try:
            key = parse_secret(kind + encoded(material))
        except Invalid:
            return
        assert key.material == material
        assert len(material) in {Kind.SHARED: range(24, 76), Kind.PRIVATE: [64], Kind.PUBLIC: [32]}[kind]

    def test_generated(self) -> None:
        assert len(parse_secret(generate_secret(os.urandom)).material) == 24
        assert generate_secret(os.urandom) != generate_secret(os.urandom)
        private, public = generate_key_pair(os.urandom)
        assert parse_secret(private).material[32:] == parse_secret(public).material

    def test_public_form(self) -> None:
        assert public_form(PRIVATE) == public_form(PUBLIC) == PUBLIC
        assert public_form(SECRET) == SECRET

    def test_a_key_does_not_show_itself(self) -> None:
        key = parse_secret(SECRET)
        assert repr(key) == str(key) == "Key(whsec_…)"


class TestOtherLibraries:
    @given(material=st.binary(min_size=24, max_size=64), body=st.text(st.characters(codec="utf-8")))
    def test_they_sign_and_we_verify(self, material: bytes, body: str) -> None:
        secret = "whsec_" + encoded(material)
        moment = datetime.fromtimestamp(AT, UTC)
        for library in (standardwebhooks.Webhook(secret), svix.webhooks.Webhook(secret)):
            found = headers(library.sign(ID, moment, body))
            assert Webhook(secret).verify_bytes(body, found, now=AT) == body.encode()

    @pytest.mark.parametrize("body", [b"{}", BODY, '{"name": "Zoë 🎣"}'.encode()])
    def test_we_sign_and_they_verify(self, body: bytes) -> None:
        ours = Webhook([OTHER, SECRET, PRIVATE])
        found = ours.headers(ID, body)  # now: their libraries read the clock
        parsed = ours.verify(body, found)
        assert standardwebhooks.Webhook(SECRET).verify(body, found) == parsed
        assert standardwebhooks.Webhook(OTHER).verify(body, found) == parsed
        renamed = {name.replace("webhook-", "svix-"): value for name, value in found.items()}
        for given_headers in (found, renamed):
            svix.webhooks.Webhook(SECRET).verify(body, given_headers)  # gives nothing, raises if it does not verify
            with pytest.raises(svix.webhooks.WebhookVerificationError):
                svix.webhooks.Webhook(SECRET).verify(body + b" ", given_headers)


class TestHeaders:
    @pytest.mark.parametrize("family", ["webhook", "svix", "Webhook", "SVIX"])
    def test_both_families_in_any_case(self, family: str) -> None:
        assert Webhook(SECRET).verify(BODY, headers(family=family), now=AT)

    def test_pairs_and_bytes(self) -> None:
        as_bytes = [(name.encode(), value.encode()) for name, value in headers().items()]
        assert Webhook(SECRET).verify(BODY, as_bytes, now=AT)
        assert Webhook(SECRET).verify(BODY, dict(as_bytes), now=AT)

    def test_other_headers_do_not_matter(self) -> None:
        assert Webhook(SECRET).verify(BODY, {**headers(), "x": "ü", "set-cookie": ["a", "b"]}, now=AT)  # type: ignore[dict-item]  # as some frameworks give them

    def test_a_whole_family_is_used(self) -> None:
        partial = {"webhook-id": "other", **headers(family="svix")}
        assert Webhook(SECRET).verify(BODY, partial, now=AT)
        mixed = {**headers(), **headers(family="svix")}
        del mixed["webhook-signature"], mixed["svix-id"]
        assert refusal(mixed) is Failure.MISSING_HEADER

    @pytest.mark.parametrize("name", list(headers()))
    def test_each_is_needed(self, name: str) -> None:
        found = headers()
        del found[name]
        with pytest.raises(WebhookVerificationError, match=name) as caught:
            Webhook(SECRET).verify(BODY, found, now=AT)
        assert caught.value.reason is Failure.MISSING_HEADER

    @pytest.mark.parametrize("name", list(headers()))
    def test_none_may_be_repeated(self, name: str) -> None:
        found = {**headers(), name.title(): headers()[name]}
        assert refusal(found) is Failure.BAD_HEADER

    @pytest.mark.parametrize("message_id", ["", "a.b", "a b", "ü", "a\n", "msg_\ud800"])
    def test_an_id_that_cannot_be(self, message_id: str) -> None:
        assert refusal(headers(message_id=message_id)) is Failure.BAD_HEADER

    def test_the_dot_cannot_be_moved(self) -> None:
        """With a dot in the id, the start of a body could be passed off as the timestamp."""
        body = f"{AT}.rest".encode()
        value = sign([SECRET], "a", AT, body)
        assert Webhook(SECRET).verify_bytes(body, headers(value, "a"), now=AT) == body
        assert refusal(headers(value, f"a.{AT}"), b"rest") is Failure.BAD_HEADER

    @pytest.mark.parametrize(
        "timestamp",
        ["", "x", f"{AT}.0", f"-{AT}", f"+{AT}", f" {AT}", f"{AT} ", f"{AT}\n", "1e9", "1_614_265_330", "0x10", "nan",
         "inf", "1" * 13, "١٦١٤٢٦٥٣٣٠", "１６１４２６５３３０", "²"],
    )  # fmt: skip
    def test_a_timestamp_that_is_not_whole_seconds(self, timestamp: str) -> None:
        content = f"{ID}.{timestamp}.".encode() + BODY
        value = "v1," + encoded(hmac.digest(parse_secret(SECRET).material, content, "sha256"))
        assert refusal(headers(value, timestamp=timestamp)) is Failure.BAD_HEADER

    def test_the_timestamp_is_signed_as_it_was_received(self) -> None:
        zeros = f"0{AT}"
        content = f"{ID}.{zeros}.".encode() + BODY
        value = "v1," + encoded(hmac.digest(parse_secret(SECRET).material, content, "sha256"))
        assert Webhook(SECRET).verify(BODY, headers(value, timestamp=zeros), now=AT)
        assert refusal(headers(timestamp=zeros)) is Failure.NO_MATCH

    @pytest.mark.parametrize("away", [-300, -299, 0, 299, 300])
    def test_within_the_tolerance(self, away: int) -> None:
        assert Webhook(SECRET).verify(BODY, headers(), now=AT + away)

    @pytest.mark.parametrize(("away", "reason"), [(301, Failure.TOO_OLD), (-301, Failure.TOO_NEW)])
    def test_beyond_the_tolerance(self, away: int, reason: Failure) -> None:
        assert refusal(headers(), now=AT + away) is reason
        assert Webhook(SECRET).verify(BODY, headers(), now=AT + away, tolerance=301)

    def test_the_clock_is_read_when_no_time_is_given(self) -> None:
        ours = Webhook(SECRET)
        assert ours.verify(BODY, ours.headers(ID, BODY)) == {"test": 2432232314}
        with pytest.raises(WebhookVerificationError, match="old"):
            ours.verify(BODY, headers())

    def test_moments(self) -> None:
        ours = Webhook(SECRET)
        utc = datetime.fromtimestamp(AT, UTC)
        east = utc.astimezone(timezone(timedelta(hours=5)))
        for moment in (utc, east, utc.replace(tzinfo=None), utc.replace(microsecond=999_999)):
            assert ours.sign(ID, moment, BODY) == PUBLISHED
            assert ours.headers(ID, BODY, moment)["webhook-timestamp"] == str(AT)
            assert ours.verify(BODY, headers(), now=moment, tolerance=0)


class TestSignatures:
    @pytest.mark.parametrize(
        "value",
        [
            "",
            " ",
            ",",
            "v1",
            "v1,",
            PUBLISHED[:-1],
            PUBLISHED[:-5],
            PUBLISHED[1:],
            PUBLISHED.removeprefix("v1,"),
            PUBLISHED.replace("g", "h"),
            PUBLISHED.replace("OE=", "OF="),  # the same bytes in base64 that is not canonical
            PUBLISHED.replace(",", ",,"),
            PUBLISHED + "=",
            PUBLISHED + ",",
            PUBLISHED + "\n",
            PUBLISHED + "\t",
            PUBLISHED.upper(),
            PUBLISHED.replace("v1", "v2"),
            PUBLISHED.replace("v1", "v1a"),
            PUBLISHED.replace(",", "="),
            "v1,ü",
            "v1,?",
            "v1a,AAAA",
            "v1,\ud800",
        ],
    )
    def test_not_a_match(self, value: str) -> None:
        assert refusal(headers(value)) is Failure.NO_MATCH
        assert refusal(headers(value), secret=PUBLIC) is Failure.NO_MATCH

    @pytest.mark.parametrize(
        "value",
        [
            "v1,AAAA " + PUBLISHED,
            PUBLISHED + " v1,AAAA",
            "v2,x " + PUBLISHED + " v0,y",
            "v1 " + PUBLISHED,
            "v1,a,b " + PUBLISHED,
            "v1,***  " + PUBLISHED + " ",
            "v1a,AAAA " + PUBLISHED,
            "v1,ü " + PUBLISHED,
            PUBLISHED + " " + PUBLISHED,
        ],
    )
    def test_wrong_neighbours_do_not_matter(self, value: str) -> None:
        assert Webhook(SECRET).verify(BODY, headers(value), now=AT)
        assert Webhook([PUBLIC, OTHER, SECRET]).verify(BODY, headers(value), now=AT)

    def test_too_many_are_refused_unseen(self) -> None:
        filler = ["v1,AAAA"] * (MAX_SIGNATURES - 1)
        assert Webhook(SECRET).verify(BODY, headers(" ".join([*filler, PUBLISHED])), now=AT)
        assert refusal(headers(" ".join([*filler, "v1,AAAA", PUBLISHED]))) is Failure.BAD_HEADER

    def test_any_of_the_keys_on_either_side(self) -> None:
        sent = sign([OTHER, SECRET], ID, AT, BODY)
        assert Webhook(SECRET).verify(BODY, headers(sent), now=AT)
        assert Webhook([PUBLIC, OTHER]).verify(BODY, headers(sent), now=AT)
        assert refusal(headers(sent), secret=PUBLIC) is Failure.NO_MATCH

    def test_raw_bytes_as_the_secret(self) -> None:
        assert Webhook(parse_secret(SECRET).material).verify(BODY, headers(), now=AT)
        assert Webhook(SECRET.removeprefix("whsec_")).verify(BODY, headers(), now=AT)

    @pytest.mark.parametrize("secret", [PRIVATE, PUBLIC])
    def test_either_half_verifies_v1a(self, secret: str) -> None:
        value = sign([PRIVATE], ID, AT, BODY)
        assert Webhook(secret).verify(BODY, headers(value), now=AT)
        assert refusal(headers(value), BODY + b" ", secret) is Failure.NO_MATCH
        assert refusal(headers(value), secret=OTHER_PUBLIC) is Failure.NO_MATCH
        assert refusal(headers(value.replace("v1a", "v1")), secret=secret) is Failure.NO_MATCH
        assert refusal(headers(value[:-1]), secret=secret) is Failure.NO_MATCH
        assert refusal(headers(value.removeprefix("v1a,")), secret=secret) is Failure.NO_MATCH

    def test_a_public_key_is_no_shared_secret(self) -> None:
        """Else anyone who knows the public key could sign with it."""
        content = f"{ID}.{AT}.".encode() + BODY
        forged = "v1," + encoded(hmac.digest(parse_secret(PUBLIC).material, content, "sha256"))
        assert refusal(headers(forged), secret=PUBLIC) is Failure.NO_MATCH


class TestBodies:
    def test_every_byte_counts(self) -> None:
        for position in range(len(BODY)):
            changed = bytearray(BODY)
            changed[position] ^= 1
            assert refusal(headers(), bytes(changed)) is Failure.NO_MATCH

    @pytest.mark.parametrize("body", [b"", b"\xff\xfe\x00", b"plain text", b"{", b"[" * 100_000, b"1" * 5_000])
    def test_not_json(self, body: bytes) -> None:
        value = sign([SECRET], ID, AT, body)
        assert Webhook(SECRET).verify_bytes(body, headers(value), now=AT) == body
        assert refusal(headers(value), body) is Failure.BAD_BODY

    @pytest.mark.parametrize("body", [bytearray(BODY), memoryview(BODY), BODY.decode()])
    def test_other_forms_of_bytes(self, body: str) -> None:
        assert Webhook(SECRET).verify_bytes(body, headers(), now=AT) == BODY

    @pytest.mark.parametrize("body", [None, {"test": 2432232314}, 7, "\ud800"])
    def test_a_body_that_is_not_the_received_one(self, body: object) -> None:
        assert refusal(headers(), body) is Failure.BAD_BODY

    @given(
        body=st.binary() | st.text() | st.none(),
        found=st.dictionaries(
            st.sampled_from([*headers(), *headers(family="Svix"), "webhook-Id"]) | st.text(),
            st.text() | st.sampled_from([PUBLISHED, str(AT), ID]) | st.binary() | st.none() | st.lists(st.text()),
        ),
        secret=st.sampled_from([OTHER, PUBLIC, PRIVATE]),
    )
    def test_arbitrary_requests_never_verify(self, body: object, found: object, secret: str) -> None:
        refusal(found, body, secret)

    @given(
        body=st.binary(),
        message_id=message_ids,
        at=st.integers(AT - 400, AT + 400),
        value=st.text()
        | st.lists(st.sampled_from(["v1", "v1a", "v1,", "v1a,", " ", ",", "=", PUBLISHED])).map("".join),
        secret=st.sampled_from([OTHER, PUBLIC]),
    )
    def test_wellformed_requests_with_a_wrong_signature_never_verify(
        self, body: bytes, message_id: str, at: int, value: str, secret: str
    ) -> None:
        refusal(headers(value, message_id, at), body, secret)

    @pytest.mark.parametrize("found", [None, 7, "text", [1], [("a",)], [("a", "b", "c")], {1: "x"}, object()])
    def test_headers_that_are_none(self, found: object) -> None:
        assert refusal(found) is Failure.BAD_HEADER

    def test_the_failure_survives_pickling(self) -> None:
        failure = pickle.loads(pickle.dumps(WebhookVerificationError(Failure.TOO_OLD, "the timestamp is 301 s old")))
        assert (failure.reason, str(failure)) == (Failure.TOO_OLD, "the timestamp is 301 s old")
        assert isinstance(failure, ValueError)


def test_the_public_name_brings_no_server() -> None:
    script = "import sys; from tenterhook import Webhook, WebhookVerificationError; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "tenterhook.signing" in loaded
    assert not loaded & {"sqlite3", "uvicorn", "asyncio", "uvloop", "httptools", "typer", "tenterhook.model"}


@pytest.mark.parametrize("number", range(EXAMPLES.count("```python")))
def test_the_examples_of_the_docs_run(number: int) -> None:
    example = EXAMPLES.split("```python")[number + 1].partition("```")[0]
    exec(compile(example, f"docs/signing.md, example {number + 1}", "exec"), {"__name__": "example"})
