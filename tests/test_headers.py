"""Which headers a customer may set, and that a line stays a line."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenterhook.errors import Invalid
from tenterhook.headers import FORBIDDEN, FORBIDDEN_PREFIXES, MAX_HEADERS, MAX_VALUE_BYTES, check_headers, header_lines

OF_SSRF = [
    "Host", "Content-Length", "Transfer-Encoding", "Connection", "Upgrade", "TE", "Trailer", "Expect",
    "Proxy-Authorization", "Proxy-Anything", "webhook-id", "Webhook-Signature", "svix-id", "Metadata",
    "Metadata-Flavor", "X-aws-ec2-metadata-token", "X-aws-ec2-metadata-token-ttl-seconds", "X-Google-Metadata-Request",
]  # fmt: skip
OF_SVIX = [
    "user-agent", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailers", "transfer-encoding",
    "upgrade", "age", "cache-control", "clear-site-data", "expires", "pragma", "warning", "content-length",
    "content-type", "content-encoding", "content-language", "content-location", "x-amz-a", "x-amzn-a", "x-google",
    "x-google-a", "x-goog-a", "x-gfe", "x-gfe-a", "x-azure-a", "x-fd-a", "x-svix-a", "svix-a",
]  # fmt: skip


@pytest.mark.parametrize("name", [*OF_SSRF, *OF_SVIX, *FORBIDDEN, *FORBIDDEN_PREFIXES, "tenterhook-event-type"])
def test_forbidden_names(name: str) -> None:
    for spelling in (name, name.lower(), name.upper()):
        with pytest.raises(Invalid) as refused:
            check_headers({spelling: "x"})
        assert refused.value.loc == ("body", "headers", spelling)
        assert refused.value.status == 422


@pytest.mark.parametrize(
    "name",
    ["Authorization", "X-Api-Key", "X-Host", "Accept", "X-Metadata", "webhook", "X-Amzing", "svix", "te-x", "Cookie"],
)
def test_names_beside_them_pass(name: str) -> None:
    assert check_headers({name: "x"}) == ((name, "x"),)


@pytest.mark.parametrize("name", ["", " ", "a b", "a:", "a\r\nb", "ä", "a(b)", "a\0", "x" * 257, "\u212a"])
def test_names_that_are_no_names(name: str) -> None:
    with pytest.raises(Invalid):
        check_headers({name: "x"})


@pytest.mark.parametrize(
    "value", ["a\rb", "a\nb", "\0", "\t", "\x7f", "\x85", "\ud800", " a", "a ", "x" * 4097, "ü" * 2049]
)
def test_values_that_are_refused(value: str) -> None:
    with pytest.raises(Invalid):
        check_headers({"x-a": value})


@pytest.mark.parametrize("value", ["", "a b", "Bearer abc==", "ü", "x" * MAX_VALUE_BYTES, "日本"])
def test_values_that_pass(value: str) -> None:
    assert check_headers([("X-A", value)]) == (("X-A", value),)


def test_order_and_letter_case_stay() -> None:
    given_headers = {"X-Zulu": "1", "x-alpha": "2"}
    assert check_headers(given_headers) == (("X-Zulu", "1"), ("x-alpha", "2"))


def test_a_name_twice() -> None:
    with pytest.raises(Invalid, match="twice"):
        check_headers({"X-A": "1", "x-a": "2"})


def test_how_many() -> None:
    assert len(check_headers({f"x-{n}": "" for n in range(MAX_HEADERS)})) == MAX_HEADERS
    with pytest.raises(Invalid, match="at most 50"):
        check_headers({f"x-{n}": "" for n in range(MAX_HEADERS + 1)})


PAIRS = st.lists(
    st.tuples(st.text(max_size=8) | st.from_regex(r"[Xx]-[a-z]{1,5}", fullmatch=True), st.text(max_size=20))
)


@given(PAIRS)
def test_what_passes_is_one_line_each(pairs: list[tuple[str, str]]) -> None:
    try:
        checked = check_headers(pairs)
    except Invalid:
        return
    lines = header_lines(checked).decode().split("\r\n")
    assert lines.pop() == ""
    assert lines == [f"{name}: {value}" for name, value in pairs]
    assert not re.search(r"[\x00-\x1f\x7f]", "".join(lines))


@given(PAIRS)
def test_writing_never_makes_another_line(pairs: list[tuple[str, str]]) -> None:
    try:
        written = header_lines(pairs)
    except Invalid:
        return
    assert written.count(b"\n") == written.count(b"\r") == len(pairs)
