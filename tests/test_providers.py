"""Every provider file proves itself by its samples; a file that is not exactly right is refused by file and key."""

import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenterhook import providers, receive
from tenterhook.errors import ConfigurationError, Invalid
from tenterhook.model import Request
from tenterhook.receive import locate, schemes
from tenterhook.receive.meaning import ChallengeSpec
from tenterhook.receive.proof import RowSpec
from tenterhook.receive.provider import File, Option, Provider, Sample, parse
from tenterhook.receive.rules import Spec
from tenterhook.receive.signed import sample_time

CASES = [(name, sample) for name in providers.names() for sample in providers.load(name).samples]
PROVEN = [(name, sample) for name, sample in CASES if name != "none"]
SIGNED = [  # a token proves who sent a request, not what
    (name, sample)
    for name, sample in PROVEN
    if name not in ("token", "basic") and not (name == "gitlab" and sample.row is None)
]
TIMED = {"webhook-timestamp", "svix-timestamp", "x-slack-request-timestamp", "stripe-signature", "x-hook-time"}


def label(value: object) -> str:
    return value.title if isinstance(value, Sample) else str(value)


def verdict(name: str, sample: Sample, request: Request, secret: str | None = None) -> receive.Verdict:
    secrets = [sample.secret if secret is None else secret]
    return receive.verify(providers.load(name), request, secrets, now=sample_time(sample), options=sample.options)


def flipped(value: bytes, place: int) -> bytes:
    """The bytes with one bit turned, at a place counted round."""
    byte, bit = divmod(place % (len(value) * 8), 8)
    return value[:byte] + bytes([value[byte] ^ 1 << bit]) + value[byte + 1 :]


def forgeries(name: str, sample: Sample, request: Request) -> Iterator[Request]:
    """The request with each bit of each header that carries proof flipped in turn."""
    specs = [row.spec for row in providers.load(name).rules(sample.options).rows]
    any_case = any(spec.encoding == "hex" for spec in specs)
    prefix = max(len(spec.parse.prefix) if spec.parse.any_case else 0 for spec in specs)
    for place, (header, value) in enumerate(request.headers):
        if header.decode().lower() not in proof_headers(name, sample):
            continue
        for bit in range(len(value) * 8):
            changed = flipped(value, bit)
            if changed.lower() == value.lower() and (any_case or bit < prefix * 8):
                continue  # hexadecimal, and the words Basic and Bearer, mean the same in either case
            lines = (*request.headers[:place], (header, changed), *request.headers[place + 1 :])
            yield msgspec.structs.replace(request, headers=lines)


def proof_headers(name: str, sample: Sample) -> set[str]:
    rows = providers.load(name).rules(sample.options).rows
    return {row.place[1].lower() for row in rows if row.place[0] == "header"} | TIMED


def test_every_file_has_a_sample() -> None:
    assert {name for name, _ in CASES} == set(providers.names())
    assert {"github", "gitlab", "stripe", "shopify", "slack", "standard-webhooks", "svix"} <= set(providers.names())
    assert {"hmac", "token", "basic", "none"} <= set(providers.names())


@pytest.mark.parametrize(("name", "sample"), CASES, ids=label)
def test_the_sample_verifies(name: str, sample: Sample) -> None:
    request = receive.sample_request(providers.load(name), sample)
    found = verdict(name, sample, request)
    assert (found.outcome, found.event_type, found.dedup_key) == (sample.outcome, sample.event, sample.dedup)
    assert found.row == (sample.row or found.row)
    assert (found.reply is None) is (sample.outcome == "accepted")
    receive.check_source(providers.load(name), [sample.secret] if sample.secret else [], sample.options)


@pytest.mark.parametrize(("name", "sample"), [case for case in CASES if case[1].published], ids=label)
def test_our_signature_is_the_published_one(name: str, sample: Sample) -> None:
    provider = providers.load(name)
    request = receive.sample_request(provider, sample)
    again = receive.sign(provider, request, sample.secret, now=sample_time(sample), row=sample.row)
    assert sorted(again.headers) == sorted(request.headers)


@pytest.mark.parametrize(("name", "sample"), PROVEN, ids=label)
def test_a_flipped_bit_of_the_proof_fails(name: str, sample: Sample) -> None:
    request = receive.sample_request(providers.load(name), sample)
    for forged in forgeries(name, sample, request):
        assert verdict(name, sample, forged).outcome == "rejected", forged.headers


@pytest.mark.parametrize(("name", "sample"), SIGNED, ids=label)
def test_a_flipped_bit_of_the_body_fails(name: str, sample: Sample) -> None:
    request = receive.sample_request(providers.load(name), sample)
    for bit in range(len(request.body) * 8):
        forged = msgspec.structs.replace(request, body=flipped(request.body, bit))
        assert verdict(name, sample, forged).reason == receive.Reason.SIGNATURE_MISMATCH


@pytest.mark.parametrize(("name", "sample"), PROVEN, ids=label)
def test_another_secret_fails(name: str, sample: Sample) -> None:
    request = receive.sample_request(providers.load(name), sample)
    for secret in ("another", "whsec_" + "A" * 32, "user:another", ""):
        assert verdict(name, sample, request, secret).outcome == "rejected"


@pytest.mark.parametrize(("name", "sample"), PROVEN, ids=label)
def test_any_of_several_secrets_verifies(name: str, sample: Sample) -> None:
    request = receive.sample_request(providers.load(name), sample)
    found = receive.verify(
        providers.load(name),
        request,
        ["an old secret:that is no longer used", sample.secret],
        now=sample_time(sample),
        options=sample.options,
    )
    assert (found.outcome, found.secret) == (sample.outcome, 1)


def test_every_choice_of_an_option_works() -> None:
    provider = providers.load("hmac")
    with_choices = {key: option.choices for key, option in provider.options.items() if option.choices}
    assert set(with_choices) == {"algorithm", "encoding", "key", "timestamp_unit"}
    sample = msgspec.structs.replace(provider.samples[0], secret="0011223344556677")  # text, base64, hexadecimal
    timed = {"content": "{ts}{body}", "timestamp_header": "X-Time"}
    for values in itertools.product(*with_choices.values()):
        options = {**sample.options, **timed, **dict(zip(with_choices, values))}
        request = receive.sample_request(provider, msgspec.structs.replace(sample, options=options))
        found = receive.verify(provider, request, [sample.secret], now=sample_time(sample), options=options)
        assert found.outcome == "accepted"


def test_size_limits() -> None:
    assert providers.size_limit("github") == 26_214_400
    assert providers.size_limit("hmac") is None


def test_an_unknown_name_is_refused_and_the_known_ones_named() -> None:
    with pytest.raises(ConfigurationError, match=r"no provider '\.\./x'.*github"):
        providers.load("../x")


GOOD = """
title = "Example"
event = { json = "kind" }
[options.way]
help = "where"
default = "X-Proof"
[[proof]]
name = "one"
scheme = "hmac-sha256"
signature = { header = "$way" }
encoding = "hex"
"""


def parsed(text: str) -> Provider:
    return parse("example", text, providers.read)


def test_the_good_file_is_good() -> None:
    assert parsed(GOOD).rules({}).rows[0].place == ("header", "X-Proof")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("title", "titel", "titel"),
        ("encoding", "encodign", "encodign"),
        ('"hex"', '"octal"', "encoding.*octal"),
        ("hmac-sha256", "hmac-md5", "scheme.*hmac-md5"),
        ("$way", "$where", "where"),
        ('encoding = "hex"', 'encoding = "hex"\ncontent = "{bdoy}"', "bdoy"),
        ('encoding = "hex"', 'encoding = "hex"\ncontent = "{body"', "brace"),
        ('encoding = "hex"', 'encoding = "hex"\ncontent = "{header:}"', "header:"),
        ('encoding = "hex"', 'encoding = "hex"\nkey = "rot13"', "key.*rot13"),
        ('encoding = "hex"', 'encoding = "hex"\nparse = { prefix = "a", split = "," }', "parse"),
        ('encoding = "hex"', 'encoding = "hex"\nparse = { split = ",", sep = "=" }', "list"),
        ('encoding = "hex"', 'encoding = "hex"\nparse = { split = ",", order = ["when"] }', "order"),
        ('encoding = "hex"', 'encoding = "hex"\ntimestamp = { from = "signature", unit = "h", tolerance = 1 }', "unit"),
        ('encoding = "hex"', 'encoding = "hex"\ntimestamp = { from = "signature" }', "tolerance"),
        ('encoding = "hex"', 'encoding = "hex"\nlike = "two"', "two"),
        ('encoding = "hex"', 'encoding = "hex"\nlike = "github/two"', "github/two"),
        ('encoding = "hex"', 'encoding = "hex"\nlike = "nobody/two"', "nobody"),
        ('{ header = "$way" }', '{ header = "$way", query = "x" }', "exactly one"),
        ('{ header = "$way" }', '{ heather = "x" }', "heather"),
        ('{ header = "$way" }', '{ header = "a b" }', "a b"),
        ('{ json = "kind" }', '{ jason = "kind" }', "jason"),
        ('title = "Example"', 'title = "Example"\nlike = "svix"', "like"),
        ('title = "Example"', 'title = "Example"\nnamespace = "a b"', "a b"),
        ('title = "Example"', 'title = "Example"\noptions = 3', "options|Cannot"),
        ('title = "Example"', 'title = "Example" x', "line 2"),
        ("[[proof]]", '[[challenge]]\nkind = "riddle"\nwhen = {}\n[[proof]]', "riddle"),
        ('help = "where"', 'hlep = "where"', "hlep"),
    ],
)
def test_a_wrong_file_is_refused_by_file_and_key(old: str, new: str, words: str) -> None:
    assert old in GOOD
    with pytest.raises(ConfigurationError, match=rf"(?s)example\.toml.*({words})|nobody"):
        parsed(GOOD.replace(old, new))


@given(
    st.text(max_size=200)
    | st.builds(lambda cut, put: GOOD[:cut] + put + GOOD[cut + 1 :], st.integers(0, 200), st.text(max_size=3))
)
def test_any_text_is_a_provider_or_a_configuration_error(text: str) -> None:
    try:
        parsed(text)
    except ConfigurationError as error:
        assert "example.toml" in error.detail


@pytest.mark.parametrize(
    ("options", "words"),
    [({"wya": "x"}, "wya"), ({"way": "a b"}, "a b"), ({"way": ""}, "where the proof is")],
)
def test_wrong_options_are_refused(options: dict[str, str], words: str) -> None:
    with pytest.raises(Invalid, match=words):
        parsed(GOOD).rules(options)


def test_an_option_value_is_not_looked_at_again() -> None:
    assert parsed(GOOD).rules({"way": "$way"}).rows[0].place == ("header", "$way")


PAGE = (Path(__file__).parent.parent / "docs" / "sources.md").read_text()
WORDS = {
    *providers.names(),
    *(option for name in providers.names() for option in providers.load(name).options),
    *receive.Reason,
    *receive.Outcome,
    *schemes.SCHEMES,
    *schemes.ENCODINGS,
    *schemes.KEYS,
    *(f"{{{variable}}}" for variable in locate.PLAIN),
    *(
        field
        for kind in (File, Option, Sample)
        for field in kind.__struct_fields__
        if field not in ("options", "sample")
    ),
    *(field for kind in (Spec, RowSpec, ChallengeSpec) for field in kind.__struct_fields__ if field != "proof"),
}


@pytest.mark.parametrize("word", sorted(WORDS - {"challenge"}))
def test_the_page_has_every_word(word: str) -> None:
    assert f"`{word}`" in PAGE


def test_the_code_of_the_page_runs() -> None:
    blocks = re.findall(r"```(\w+)\n(.*?)```", PAGE, re.DOTALL)
    assert [language for language, _ in blocks] == ["toml", "python"]
    provider = parse("example", blocks[0][1], providers.read)
    sample = provider.samples[0]
    request = receive.sample_request(provider, sample)
    found = receive.verify(provider, request, [sample.secret], now=sample_time(sample))
    assert (found.event_type, found.dedup_key) == (sample.event, sample.dedup)
    exec(blocks[1][1], {})
