"""Verifying: what is accepted, what is refused and why, and that nothing in a request can raise."""

import base64
import hashlib
import hmac
import json
import tracemalloc
from urllib.parse import unquote_to_bytes

import msgspec
import pytest
import standardwebhooks
from hypothesis import assume, given
from hypothesis import strategies as st

from tenterhook import providers, receive
from tenterhook.clock import SECOND
from tenterhook.errors import Invalid
from tenterhook.model import Request
from tenterhook.receive import Outcome, Reason, Verdict
from tenterhook.receive.facts import fields
from tenterhook.receive.provider import Provider, parse
from tenterhook.signing import generate_key_pair

NOW = 1_714_555_800 * SECOND
SECRET = "It's a Secret to Everybody"
SHARED = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def request(
    headers: dict[str, str] | None = None, body: bytes = b"{}", query: bytes = b"", method: str = "POST"
) -> Request:
    lines = tuple((name.encode(), value.encode()) for name, value in (headers or {}).items())
    return Request(method=method, path="/in/abc", query=query, headers=lines, body=body)


def with_lines(of: Request, *lines: tuple[str, str]) -> Request:
    return msgspec.structs.replace(of, headers=of.headers + tuple((a.encode(), b.encode()) for a, b in lines))


def verify(name: str, of: Request, *secrets: str, now: int = NOW, **options: str) -> Verdict:
    return receive.verify(providers.load(name), of, secrets or [SECRET], now=now, options=options)


def sign(name: str, of: Request, secret: str = SECRET, now: int = NOW, **options: str) -> Request:
    return receive.sign(providers.load(name), of, secret, now=now, options=options)


def example(rules: str) -> Provider:
    return parse("example", f'title = "Example"\n{rules}', providers.read)


def github(body: bytes, **headers: str) -> Request:
    digest = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return request({"X-Hub-Signature-256": f"sha256={digest}", **named}, body)


def test_a_signature_made_by_hand_is_accepted() -> None:
    found = verify("github", github(b'{"action":"opened"}', X_GitHub_Event="issues", X_GitHub_Delivery="g-1"))
    assert found == Verdict(
        outcome=Outcome.ACCEPTED, event_type="github.issues.opened", dedup_key="g-1", row="sha256", secret=0
    )


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, Reason.MISSING_SIGNATURE),
        ("", Reason.MALFORMED_SIGNATURE),
        ("sha256=", Reason.MALFORMED_SIGNATURE),
        ("sha1=" + "0" * 64, Reason.MALFORMED_SIGNATURE),
        ("0" * 64, Reason.MALFORMED_SIGNATURE),
        ("sha256=xyz", Reason.MALFORMED_SIGNATURE),
        ("sha256=" + "00 " * 32, Reason.MALFORMED_SIGNATURE),
        ("sha256=" + "0" * 64, Reason.SIGNATURE_MISMATCH),
        ("sha256=00", Reason.SIGNATURE_MISMATCH),
    ],
)
def test_bad_signatures_have_their_reason(value: str | None, reason: Reason) -> None:
    found = verify("github", request({} if value is None else {"x-hub-signature-256": value}))
    assert (found.outcome, found.reason) == (Outcome.REJECTED, reason)
    assert found.reply == receive.Reply(401)
    assert found.detail


def test_hexadecimal_is_accepted_in_either_case() -> None:
    good = github(b"x")
    shouted = [(name, b"sha256=" + value[7:].upper()) for name, value in good.headers]
    assert verify("github", msgspec.structs.replace(good, headers=tuple(shouted))).outcome == "accepted"


@pytest.mark.parametrize("name", ["X-Hub-Signature-256", "X-GITHUB-EVENT", "x-github-delivery"])
def test_a_header_that_must_be_single_and_is_repeated_fails(name: str) -> None:
    good = github(b"{}", X_GitHub_Event="push", X_GitHub_Delivery="1")
    value = {a.lower(): b for a, b in good.headers}[name.lower().encode()].decode()
    assert verify("github", with_lines(good, (name, value))).reason == Reason.REPEATED_HEADER


def test_a_repeated_query_parameter_fails() -> None:
    twice = request(query=b"token=secret&token=secret")
    assert verify("token", twice, "secret", query="token").reason == Reason.REPEATED_PARAMETER


@pytest.mark.parametrize("name", ["stripe", "slack", "standard-webhooks"])
@pytest.mark.parametrize(
    ("shift", "reason"),
    [
        (300, None),
        (-300, None),
        (301, Reason.TIMESTAMP_TOO_OLD),
        (-301, Reason.TIMESTAMP_TOO_NEW),
        (10**9, Reason.TIMESTAMP_TOO_OLD),
    ],
)
def test_the_tolerance_holds_both_ways(name: str, shift: int, reason: Reason | None) -> None:
    good = sign(name, request(), SHARED)
    assert verify(name, good, SHARED, now=NOW + shift * SECOND).reason == reason


def test_the_tolerance_is_an_option() -> None:
    good = sign("stripe", request(), "s")
    assert verify("stripe", good, "s", now=NOW + 10 * SECOND, tolerance="9").reason == Reason.TIMESTAMP_TOO_OLD
    assert verify("stripe", good, "s", now=NOW + 10 * SECOND, tolerance="10").reason is None


def slack(stamp: str, body: bytes = b"{}") -> Request:
    mac = hmac.new(b"s", b"v0:" + stamp.encode() + b":" + body, hashlib.sha256).hexdigest()
    return request({"X-Slack-Request-Timestamp": stamp, "X-Slack-Signature": f"v0={mac}"}, body)


@pytest.mark.parametrize("stamp", ["-1", "1.5", "1e9", "1 714555800", "+1714555800", "١٧١٤", "0x10", "9" * 13, "now"])
def test_a_signed_timestamp_that_is_not_whole_seconds_fails(stamp: str) -> None:
    assert verify("slack", slack(stamp), "s").reason == Reason.TIMESTAMP_MALFORMED


def test_the_timestamp_is_judged_only_after_the_signature() -> None:
    assert verify("slack", slack("1"), "another").reason == Reason.SIGNATURE_MISMATCH
    assert verify("slack", slack("1"), "s").reason == Reason.TIMESTAMP_TOO_OLD


def test_a_missing_timestamp_and_a_missing_id_have_their_reason() -> None:
    signature = "v1," + base64.b64encode(bytes(32)).decode()
    bare = request({"webhook-signature": signature})
    assert verify("standard-webhooks", bare, SHARED).reason == Reason.TIMESTAMP_MISSING
    timed = with_lines(bare, ("webhook-timestamp", "1714555800"))
    assert verify("standard-webhooks", timed, SHARED).reason == Reason.MISSING_PART


def test_without_a_usable_secret_nothing_is_accepted() -> None:
    good = sign("standard-webhooks", request(), SHARED)
    for secrets in ([], [""], ["whsec_!"], ["whpk_AAAA"]):
        found = receive.verify(providers.load("standard-webhooks"), good, secrets, now=NOW)
        assert found.reason == Reason.NOT_CONFIGURED
    assert verify("hmac", good, "s", algorithm="md5").reason == Reason.NOT_CONFIGURED


def stripe_value(secret: str, stamp: str, body: bytes) -> str:
    return hmac.new(secret.encode(), stamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def test_one_good_signature_among_wrong_neighbours_is_enough() -> None:
    stamp, body = str(NOW // SECOND), b'{"id":"evt_1","type":"charge.refunded"}'
    good = stripe_value("s", stamp, body)
    value = f"t={stamp},v0={good},v1=zz,v1={'0' * 64},v2,,v1={good},t2=4"
    found = verify("stripe", request({"Stripe-Signature": value}, body), "old", "s")
    assert (found.event_type, found.dedup_key, found.secret) == ("stripe.charge.refunded", "evt_1", 1)


@pytest.mark.parametrize("value", ["v0={0}", "t={1}", "v1", "t={1},t={1},v1={0}", "v1 = {0}, t={1}"])
def test_lists_without_a_usable_signature_fail(value: str) -> None:
    stamp = str(NOW // SECOND)
    text = value.format(stripe_value("s", stamp, b"{}"), stamp)
    found = verify("stripe", request({"Stripe-Signature": text}), "s")
    assert found.reason == Reason.MALFORMED_SIGNATURE


def test_the_reference_library_signs_what_we_accept() -> None:
    from datetime import UTC, datetime

    body = '{"type":"invoice.paid","data":{}}'
    stamp = datetime.fromtimestamp(NOW // SECOND, UTC)
    signature = standardwebhooks.Webhook(SHARED).sign("msg_1", stamp, body)
    headers = {"Webhook-Id": "msg_1", "Webhook-Timestamp": str(NOW // SECOND)}
    for noise in ("{}", "v1a,AAAA {}", "v1,AAAA  v1,{{}} {}", "nonsense {} v9,x"):
        of = request({**headers, "Webhook-Signature": noise.format(signature)}, body.encode())
        found = verify("standard-webhooks", of, SHARED)
        assert (found.event_type, found.dedup_key, found.row) == ("invoice.paid", "msg_1", "v1")
        assert verify("standard-webhooks", of, SHARED.removeprefix("whsec_")).outcome == "accepted"


def test_a_public_key_is_never_a_shared_secret() -> None:
    private, public = generate_key_pair(lambda size: b"k" * size)
    bare = public.removeprefix("whpk_")
    mac = hmac.new(base64.b64decode(bare), b"1.1714555800.{}", hashlib.sha256).digest()
    headers = {"webhook-id": "1", "webhook-timestamp": "1714555800"}
    forged = request({**headers, "webhook-signature": "v1," + base64.b64encode(mac).decode()})
    assert verify("standard-webhooks", forged, public).outcome == "rejected"
    assert verify("standard-webhooks", sign("standard-webhooks", request(), private), public).row == "v1a"


def test_gitlab_takes_the_token_or_the_signing_token() -> None:
    body = b'{"object_kind":"merge_request","object_attributes":{"action":"open"}}'
    by_token = request({"X-Gitlab-Token": "t0ken", "X-Gitlab-Event": "Merge Request Hook"}, body)
    signed = sign("gitlab", request(body=body), SHARED)
    for of, row in ((by_token, "token"), (signed, "signing-token")):
        found = verify("gitlab", of, SHARED, "t0ken")
        assert (found.event_type, found.row) == ("gitlab.merge_request.open", row)
    assert verify("gitlab", signed, "t0ken").outcome == "rejected"


def test_positional_lists_nonces_suffixes_and_alternative_contents() -> None:
    provider = example(
        """
        [[proof]]
        name = "list"
        scheme = "hmac-sha1"
        signature = { header = "X-Proof" }
        parse = { split = ";", order = ["timestamp", "_", "signature"] }
        encoding = "base64url"
        content = ["{nonce}|{ts}|{method} {path}?{query:a}|{header:X-A}|{json:a.b}|{json?a.c}|{body}", "{ts}{body}"]
        key_suffix = "&"
        nonce = { header = "X-Nonce" }
        timestamp = { from = "signature", unit = "iso8601", tolerance = 5 }
        """
    )
    body = b'{"a":{"b":7}}'

    def proof(content: bytes) -> str:
        return base64.urlsafe_b64encode(hmac.digest(b"s&", content, "sha1")).decode()

    stamp = "2024-05-01T09:30:00Z"
    full = proof(f"n|{stamp}|POST /in/abc?1|x|7||".encode() + body)
    short = proof(stamp.encode() + body)
    headers = {"X-Nonce": "n", "X-A": "x"}
    for value, extra in ((full, headers), (full.rstrip("="), headers), (short, {})):
        of = request({"X-Proof": f"{stamp};skipped;AAAA;{value}", **extra}, body, b"a=1")
        assert receive.verify(provider, of, ["s"], now=NOW).outcome == "accepted"
        repeated = msgspec.structs.replace(of, body=b'{"a":{"b":7,"b":7}}')
        assert receive.verify(provider, repeated, ["s"], now=NOW).reason == Reason.REPEATED_MEMBER
        assert receive.verify(provider, of, ["s&"], now=NOW).outcome == "rejected"


def test_members_that_carry_proof_may_not_be_repeated() -> None:
    provider = example(
        """
        [[proof]]
        name = "plain"
        scheme = "hash-sha256"
        signature = { json = "proof" }
        encoding = "hex"
        content = "{json:id}/{secret}"
        """
    )
    digest = hashlib.sha256(b"12/s").hexdigest()
    good = json.dumps({"id": 12, "proof": digest})
    assert receive.verify(provider, request(body=good.encode()), ["s"], now=NOW).outcome == "accepted"
    for body, reason in (
        (good.replace('"id": 12', '"id": 13'), Reason.SIGNATURE_MISMATCH),
        (good.replace('"id": 12', '"id": 13, "id": 12'), Reason.REPEATED_MEMBER),
        (good.replace('"id": 12', '"x": {"a": 1, "a": 1}, "id": 12'), Reason.REPEATED_MEMBER),
        (good.replace('"id": 12', '"x": %s, "id": 13, "id": 12' % ("9" * 5_000)), Reason.MISSING_PART),
        (good.replace('"id": 12', '"x": true'), Reason.MISSING_PART),
    ):
        assert receive.verify(provider, request(body=body.encode()), ["s"], now=NOW).reason == reason


def test_a_signature_in_a_form_field() -> None:
    provider = example('[[proof]]\nname = "f"\nscheme = "token"\nsignature = { form = "key" }')
    form = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}
    assert receive.verify(provider, request(form, b"a=b&key=s%20t"), ["s t"], now=NOW).outcome == "accepted"
    assert receive.verify(provider, request({}, b"key=s%20t"), ["s t"], now=NOW).reason == Reason.MISSING_SIGNATURE
    assert receive.verify(provider, request(form, b"key=s&key=s"), ["s"], now=NOW).reason == Reason.REPEATED_PARAMETER


def test_basic_passwords_may_have_colons_and_the_scheme_any_case() -> None:
    value = base64.b64encode("ada:pass:wörd".encode()).decode()
    for word, outcome in (("Basic", "accepted"), ("bAsIc", "accepted"), ("Bearer", "rejected")):
        assert verify("basic", request({"Authorization": f"{word} {value}"}), "ada:pass:wörd").outcome == outcome


@pytest.mark.parametrize(
    ("body", "event", "wanted"),
    [
        (b'{"action":"opened"}', "issues", "github.issues.opened"),
        (b'{"ref":"x"}', "push", "github.push"),
        (b'{"action":null}', "push", "github.push"),
        (b'{"action":{"a":1}}', "push", "github.push"),
        (b'{"action":"' + b"x" * 400 + b'"}', "issues", "github.issues." + "x" * 242),
        (b'{"action":"Re-Opened now"}', "Issues", "github.issues.re-opened_now"),
        ('{"action":"größe/ä"}'.encode(), "issues", "github.issues.gr__e._"),
        (b"not json", "push", "github.push"),
        (b'[{"action":"x"}]', "push", "github.push"),
        (b"{" * 100_000, "push", "github.push"),
        (b'{"a":' * 100_000, "push", "github.push"),
        (b'{"action":"\xff"}', "push", "github.push"),
        (b'{"action":"\\ud800"}', "push", "github.push"),
        (b"", "", "github.event"),
    ],
)
def test_event_types(body: bytes, event: str, wanted: str) -> None:
    found = verify("github", github(body, X_GitHub_Event=event))
    assert (found.outcome, found.event_type) == (Outcome.ACCEPTED, wanted)


def test_event_types_of_the_others() -> None:
    for name, headers, body, wanted in (
        ("gitlab", {"X-Gitlab-Event": "Merge Request Hook"}, b"", "gitlab.merge_request_hook"),
        ("gitlab", {"X-Gitlab-Event": "System Hook"}, b'{"event_name":"project_create"}', "gitlab.project_create"),
        ("shopify", {"Shopify-Topic": "orders/create"}, b"{}", "shopify.orders.create"),
        ("slack", {}, b'{"type":"app_rate_limited"}', "slack.app_rate_limited"),
        ("standard-webhooks", {}, b'{"type":"Invoice.Paid"}', "Invoice.Paid"),
        ("standard-webhooks", {}, b'{"type":7}', "7"),
        ("svix", {}, b"", "standard-webhooks.event"),
    ):
        wanted = "svix.event" if name == "svix" else wanted
        assert verify(name, sign(name, request(headers, body), SHARED), SHARED).event_type == wanted


@pytest.mark.parametrize(
    ("key", "wanted"),
    [
        ("a" * 256, "a" * 256),
        ("a" * 257, "sha256:" + hashlib.sha256(b"a" * 257).hexdigest()),
        ("a\\u0000b", "sha256:" + hashlib.sha256(b"a\0b").hexdigest()),
        ("", None),
    ],
)
def test_duplicate_keys(key: str, wanted: str | None) -> None:
    body = f'{{"id":"{key}"}}'.encode()
    assert verify("stripe", sign("stripe", request(body=body)), SECRET).dedup_key == wanted


def test_a_body_can_be_its_own_duplicate_key() -> None:
    provider = example('dedup = { body = "sha256" }\n[[proof]]\nname = "n"\nscheme = "none"')
    found = receive.verify(provider, request(body=b"abc"), [], now=NOW)
    assert found.dedup_key == hashlib.sha256(b"abc").hexdigest()


def test_the_challenge_of_slack_is_signed_and_answered_as_text() -> None:
    body = b'{"type":"url_verification","challenge":"<b>3eZb</b>"}'
    found = verify("slack", sign("slack", request(body=body)))
    assert found.outcome == Outcome.CHALLENGE
    assert found.reply is not None
    assert (found.reply.status, found.reply.body) == (200, b"<b>3eZb</b>")
    headers = dict(found.reply.headers)
    assert headers == {"content-type": "text/plain; charset=utf-8", "x-content-type-options": "nosniff"}
    assert verify("slack", sign("slack", request(body=body), "another")).reason == Reason.SIGNATURE_MISMATCH


@pytest.mark.parametrize("challenge", [None, {"a": 1}, "x" * 1_025])
def test_a_challenge_that_cannot_be_repeated_is_rejected(challenge: object) -> None:
    body = json.dumps({"type": "url_verification", "challenge": challenge}).encode()
    found = verify("slack", sign("slack", request(body=body)))
    assert found.reason == Reason.MALFORMED_CHALLENGE
    assert found.reply == receive.Reply(400)


def test_a_ping_must_be_signed() -> None:
    good = github(b"{}", X_GitHub_Event="ping", X_GitHub_Delivery="p-1")
    found = verify("github", good)
    assert (found.outcome, found.event_type, found.dedup_key) == (Outcome.PING, "github.ping", "p-1")
    assert found.reply == receive.Reply(200)
    assert verify("github", good, "another").outcome == Outcome.REJECTED


def test_an_unsigned_challenge_is_answered_before_any_proof() -> None:
    provider = example(
        """
        answer = { bad_signature = 403 }
        [[proof]]
        name = "t"
        scheme = "token"
        signature = { header = "X-T" }
        [[challenge]]
        kind = "challenge"
        signed = false
        when = { method = "GET", query = { mode = "subscribe", challenge = "*" } }
        reply = { status = 202, text = "{query:challenge}", headers = { X-Echo = "{query:challenge}" } }
        """
    )

    def asked(query: bytes, method: str = "GET") -> Verdict:
        return receive.verify(provider, request({}, b"", query, method), ["s"], now=NOW)

    found = asked(b"mode=subscribe&challenge=a+b%21")
    assert found.reply is not None
    assert (found.outcome, found.reply.status, found.reply.body) == (Outcome.CHALLENGE, 202, b"a b!")
    assert ("X-Echo", "a b!") in found.reply.headers
    assert asked(b"mode=subscribe&challenge=a%0d%0aX: y").reason == Reason.MALFORMED_CHALLENGE
    for query, method in ((b"mode=subscribe", "GET"), (b"mode=x&challenge=a", "GET"), (b"", "POST")):
        assert asked(query, method).reason == Reason.MISSING_SIGNATURE
        assert asked(query, method).reply == receive.Reply(403)
    assert asked(b"mode=subscribe&challenge=a", "POST").reason == Reason.MISSING_SIGNATURE
    assert asked(b"mode=subscribe&mode=subscribe&challenge=a").reason == Reason.MISSING_SIGNATURE


ESCAPES = st.sampled_from(
    [b"%", b"%41", b"%2b", b"%25", b"=", b"=41", b"=\n", b"+", b"\r\n", b" ", b"_", b"\x00", b"\xff", b"4"]
)


@given(st.lists(ESCAPES).map(b"".join))
def test_fields_are_decoded_as_urllib_decodes_them(value: bytes) -> None:
    assert fields(b"a=" + value) == {b"a": [unquote_to_bytes(value.replace(b"+", b" "))]}


def test_a_large_form_takes_little_more_memory_than_its_own_size() -> None:
    value = b"%22ab%22%3A%5B%5D%2C" * 100_000
    tracemalloc.start()
    try:
        assert fields(b"payload=" + value) == {b"payload": [b'"ab":[],' * 100_000]}
        assert tracemalloc.get_traced_memory()[1] < 10 * len(value)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("value", [b"%" * 200_000, b"a%zz" * 200_000])
def test_text_that_is_hardly_percent_encoded_is_left_alone(value: bytes) -> None:
    assert fields(b"a=" + value) == {b"a": [value]}


def test_a_huge_event_type_is_cut_before_it_is_cleaned() -> None:
    found = verify("github", github(b'{"action":"' + b"%" * 2_000_000 + b'"}', X_GitHub_Event="issues"))
    assert found.event_type == "github.issues." + "_" * 242


def test_json_documents() -> None:
    hook, form = providers.load("github"), "application/x-www-form-urlencoded"
    assert receive.json_document(hook, "application/json", b'{"a":[1]}') == {"a": [1]}
    assert receive.json_document(hook, form + "; charset=utf-8", b"payload=%7B%22a%22%3A+1%7D") == {"a": 1}
    assert receive.json_document(providers.load("stripe"), form, b'{"a":1}') == {"a": 1}
    for body in (b"", b"payload=", b"payload=1&payload=2", b"x=1", b"&" * 5_000):
        assert receive.json_document(hook, form, body) is None
    for body in (b"", b"\xff", b"[" * 100_000, b'"\\ud800"', b"nul"):
        assert receive.json_document(hook, "text/plain", body) is None


@pytest.mark.parametrize(
    ("name", "secrets", "options", "words"),
    [
        ("github", [], {}, "needs a secret"),
        ("github", [""], {}, "empty"),
        ("github", ["good", "  "], {}, "empty"),
        ("github", ["copied\n"], {}, "line break"),
        ("github", ["\ud800"], {}, "Unicode"),
        ("github", ["s"], {"heather": "x"}, "heather"),
        ("standard-webhooks", ["whsec_"], {}, "secret"),
        ("standard-webhooks", ["whsec_AAAA"], {}, "24 to 75"),
        ("standard-webhooks", ["whsec_" + "A" * 31 + "!"], {}, "base64"),
        ("standard-webhooks", ["whsek_" + "A" * 32], {}, "whsec_"),
        ("standard-webhooks", ["whpk_AAAA"], {}, "32 bytes"),
        ("standard-webhooks", [generate_key_pair(bytes)[0]], {}, "private"),
        ("svix", ["not a secret"], {}, "secret"),
        ("gitlab", ["whsec_!"], {}, "base64"),
        ("stripe", ["s"], {"tolerance": "-1"}, "whole number"),
        ("stripe", ["s"], {"tolerance": "9" * 10}, "whole number"),
        ("hmac", ["s"], {"algorithm": "md5"}, "one of sha256"),
        ("hmac", ["s"], {"content": "{bdoy}"}, "bdoy"),
        ("hmac", ["s"], {"header": "a b"}, "header"),
        ("hmac", ["xyz"], {"key": "hex"}, "hexadecimal"),
        ("hmac", ["s"], {"timestamp_header": "X-Time"}, "not signed"),
        ("hmac", ["s"], {"event_type": "two words"}, "event type"),
        ("token", ["s"], {}, "header or a query"),
        ("basic", ["s"], {}, "colon"),
        ("none", ["s"], {}, "no secret"),
    ],
)
def test_a_source_that_cannot_work_is_refused(
    name: str, secrets: list[str], options: dict[str, str], words: str
) -> None:
    with pytest.raises(Invalid, match=words) as caught:
        receive.check_source(providers.load(name), secrets, options)
    assert not any(secret.strip() and len(secret) > 3 and secret in caught.value.detail for secret in secrets)


def test_sources_that_can_work() -> None:
    for name, secrets, options in (
        ("github", [SECRET, "another"], {}),
        ("standard-webhooks", [SHARED, SHARED.removeprefix("whsec_"), generate_key_pair(bytes)[1]], {}),
        ("gitlab", ["plain", SHARED], {"tolerance": "60"}),
        ("hmac", ["s"], {"timestamp_header": "X-Time", "content": "{ts}.{body}"}),
        ("token", ["s"], {"query": "key"}),
        ("none", [], {}),
    ):
        receive.check_source(providers.load(name), secrets, options)


def test_signing_with_the_wrong_kind_of_secret_is_refused() -> None:
    for name, secret in (("standard-webhooks", generate_key_pair(bytes)[1]), ("svix", "short")):
        with pytest.raises(Invalid):
            sign(name, request(), secret)


TELLING = [
    *[
        row.place[1]
        for name in providers.names()
        for row in providers.load(name).rules({"header": "X-Signature"} if name in ("hmac", "token") else {}).rows
    ],
    "webhook-id",
    "webhook-timestamp",
    "svix-id",
    "svix-timestamp",
    "X-Slack-Request-Timestamp",
    "Content-Type",
    "X-GitHub-Event",
    "X-GitHub-Delivery",
]
VALUES = st.binary(max_size=60) | st.sampled_from(
    [b"1714555800", b"v1,AAAA", b"sha256=00", b"t=1714555800,v1=00", b"v0=00", b"Basic YTpi", b"=", b",", b" ",
     b"application/x-www-form-urlencoded", b"ping", b"v1a," + base64.b64encode(bytes(64))]
)  # fmt: skip
BODIES = (
    st.binary(max_size=200)
    | st.sampled_from([b'{"type":"url_verification","challenge":"x"}', b"payload=%7B%7D", b'{"type":{"type":1}}'])
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["type", "id", "event", "action", "challenge", "proof"]), inner, max_size=4
            )
        ),
    ).map(lambda value: json.dumps(value).encode())
)
REQUESTS = st.builds(
    Request,
    method=st.text(max_size=8),
    path=st.text(st.characters(), max_size=20),
    query=st.binary(max_size=40),
    headers=st.lists(
        st.tuples(st.sampled_from([name.encode() for name in TELLING]) | st.binary(max_size=12), VALUES), max_size=8
    ).map(tuple),
    body=BODIES,
)
OPTIONS = {"token": {"header": "X-Signature", "query": "key"}}


@given(REQUESTS, st.sampled_from(providers.names()), st.integers(0, 10**18))
def test_no_request_raises_and_none_is_accepted_without_the_secret(of: Request, name: str, now: int) -> None:
    provider = providers.load(name)
    secrets = ["kept: 5f0c2a9d", SHARED, generate_key_pair(lambda size: b"k" * size)[1]]
    found = receive.verify(provider, of, secrets, now=now, options=OPTIONS.get(name, {}))
    assert found.outcome == (Outcome.ACCEPTED if name == "none" and found.reason is None else Outcome.REJECTED)
    assert (found.outcome is Outcome.REJECTED) == (found.reason is not None) == (found.event_type is None)


@given(REQUESTS, st.sampled_from(["github", "gitlab", "stripe", "shopify", "slack", "svix", "hmac"]))
def test_whatever_is_signed_verifies_and_has_a_valid_meaning(of: Request, name: str) -> None:
    provider = providers.load(name)
    places = {row.place[1].lower().encode() for row in provider.rules({}).rows}
    kept = {line[0].lower(): line for line in of.headers if line[0].lower() not in places}
    of = msgspec.structs.replace(of, headers=tuple(kept.values()))
    signed = receive.sign(provider, of, SHARED, now=NOW)
    found = receive.verify(provider, signed, ["old", SHARED], now=NOW)
    assume(found.reason is not Reason.MALFORMED_CHALLENGE)
    assert found.outcome is not Outcome.REJECTED, found
    assert found.secret == 1
    assert found.event_type is not None
    assert 0 < len(found.event_type) <= 256
    assert found.event_type.isascii()
    assert found.dedup_key is None or 0 < len(found.dedup_key) <= 256
    assert receive.verify(provider, signed, ["old"], now=NOW).outcome is Outcome.REJECTED


@given(REQUESTS, st.sampled_from(["hex", "json", "form", "query", "list"]))
def test_no_request_raises_with_a_provider_of_ones_own(of: Request, kind: str) -> None:
    place = kind if kind in ("json", "form", "query") else "header"
    provider = example(
        f"""
        json_field = "payload"
        event = {{ form = "type", query = ["a", "b"], json = ["event.type", "proof.0.x"], body = "sha256" }}
        [[proof]]
        name = "own"
        scheme = "{"hash-sha256" if kind == "json" else "hmac-sha512"}"
        signature = {{ {place} = "proof" }}
        parse = {'{ split = ",", order = ["timestamp", "signature"] }' if kind == "list" else "{}"}
        encoding = "{"base64url" if kind == "form" else "hex"}"
        content = ["{{method}}{{path}}{{json:event.0.type}}{{secret}}{{body}}", "{{json?id}}{{form:a}}{{body}}", "x"]
        [[challenge]]
        kind = "ping"
        signed = false
        when = {{ header = {{ X-Ask = "*" }}, form = {{ a = "1" }} }}
        """
    )
    assert receive.verify(provider, of, ["s"], now=NOW).outcome is Outcome.REJECTED


def test_of_several_ways_the_one_that_came_closest_gives_the_reason() -> None:
    late = sign("gitlab", request(), SHARED, now=NOW - 400 * SECOND)
    assert verify("gitlab", with_lines(late, ("X-Gitlab-Token", "x")), SHARED).reason == Reason.TIMESTAMP_TOO_OLD
    shopify = request({"X-Shopify-Hmac-SHA256": "AAAA", "Shopify-Hmac-SHA256": "*"})
    assert verify("shopify", shopify).reason == Reason.SIGNATURE_MISMATCH


@pytest.mark.parametrize(
    ("path", "event"), [("a.0.b", "one"), ("a.1.b", "own.event"), ("a.-1.b", "own.event"), ("a.b", "own.event")]
)
def test_paths_step_into_lists(path: str, event: str) -> None:
    provider = parse(
        "own",
        f'title = ""\nnamespace = ""\nevent = {{ json = "{path}" }}\nproof = [{{ name = "n", scheme = "none" }}]',
        str,
    )
    assert receive.verify(provider, request(body=b'{"a":[{"b":"one"}]}'), [], now=NOW).event_type == event
