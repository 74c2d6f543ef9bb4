import ipaddress
import socket
from urllib.parse import urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tenterhook.urls import MAX_URL, Reason, Target, UrlRefused, parse

REFUSED = [
    ("", Reason.SCHEME),
    ("file:///etc/passwd", Reason.SCHEME),
    ("gopher://a.example/", Reason.SCHEME),
    ("ftp://a.example/", Reason.SCHEME),
    ("httpx://a.example/", Reason.SCHEME),
    ("unix:///run/docker.sock", Reason.SCHEME),
    ("a.example/hook", Reason.SCHEME),
    ("//a.example/", Reason.SCHEME),
    ("//x", Reason.SCHEME),
    ("://a.example/", Reason.SCHEME),
    ("ｈttp://a.example/", Reason.SCHEME),
    (" https://a.example/", Reason.CHARACTER),
    ("https://a.example/ ", Reason.CHARACTER),
    ("https://a.example/a b", Reason.CHARACTER),
    ("ht\ntp://a.example/", Reason.CHARACTER),
    ("https://a.exa\tmple/", Reason.CHARACTER),
    ("https://a.example/\r\nHost: b.example", Reason.CHARACTER),
    ("https://a.example/\x00", Reason.CHARACTER),
    ("https://a.example/\x7f", Reason.CHARACTER),
    ("https://a.example/\x85", Reason.CHARACTER),
    ("https://a.example/\xa0", Reason.CHARACTER),
    ("https://a.example/\u2028", Reason.CHARACTER),
    ("https://a.example/\u3000", Reason.CHARACTER),
    ("https://a.example/\ud800", Reason.CHARACTER),
    ("https://a.example\\@b.example/", Reason.BACKSLASH),
    ("https://a.example\\.b.example/", Reason.BACKSLASH),
    ("https:\\\\a.example/", Reason.NO_HOST),
    ("http://good.example@127.0.0.1/", Reason.USER_INFO),
    ("http://u:p@a.example:80@b.example/", Reason.USER_INFO),
    ("http://@a.example/", Reason.USER_INFO),
    ("http://127.0.0.1#@good.example/", Reason.FRAGMENT),
    ("https://a.example/#top", Reason.FRAGMENT),
    ("https://a.example/#", Reason.FRAGMENT),
    ("http:///x", Reason.NO_HOST),
    ("http:/x", Reason.NO_HOST),
    ("http:x", Reason.NO_HOST),
    ("http://", Reason.NO_HOST),
    ("http://:80/", Reason.NO_HOST),
    ("http://?x", Reason.NO_HOST),
    ("http://127.1/", Reason.NUMBER),
    ("http://127.0.1/", Reason.NUMBER),
    ("http://0/", Reason.NUMBER),
    ("http://2130706433/", Reason.NUMBER),
    ("http://0x7f000001/", Reason.NUMBER),
    ("http://0X7F000001/", Reason.NUMBER),
    ("http://017700000001/", Reason.NUMBER),
    ("http://0177.0.0.1/", Reason.NUMBER),
    ("http://0x7f.1/", Reason.NUMBER),
    ("http://127.0.0.0x1/", Reason.NUMBER),
    ("http://1.1.1.0x/", Reason.NUMBER),
    ("http://00000177.1/", Reason.NUMBER),
    ("http://256.0.0.1/", Reason.NUMBER),
    ("http://4294967296/", Reason.NUMBER),
    ("http://08.8.8.8/", Reason.NUMBER),
    ("http://8.8.8.08/", Reason.NUMBER),
    ("http://1.2.3.4.5/", Reason.NUMBER),
    ("http://a.example.1/", Reason.NUMBER),
    ("http://127.1./", Reason.NUMBER),
    ("http://①②⑦.①/", Reason.NUMBER),
    ("http://[fe80::1%25eth0]/", Reason.ZONE),
    ("http://[fe80::1%eth0]/", Reason.ZONE),
    ("http://[v1.x]/", Reason.BRACKET),
    ("http://[127.0.0.1]/", Reason.BRACKET),
    ("http://[a.example]/", Reason.BRACKET),
    ("http://[::1]evil.example/", Reason.BRACKET),
    ("http://[::1/", Reason.BRACKET),
    ("http://[]/", Reason.BRACKET),
    ("http://[::1/64]/", Reason.BRACKET),
    ("http://[1:2:3:4:5:6:7:8:9]/", Reason.BRACKET),
    ("http://[::ffff:127.0.0.01]/", Reason.BRACKET),
    ("http://[::１]/", Reason.BRACKET),
    ("http://[[::1]]/", Reason.BRACKET),
    ("http://::1/", Reason.NO_HOST),
    ("http://fe80::1/", Reason.PORT),
    ("http://a.example]/", Reason.HOST_CHARACTER),
    ("http://%6c%6f%63alhost/", Reason.PERCENT),
    ("http://127.0.0.1%2eevil.example/", Reason.PERCENT),
    ("http://a.example%00.b/", Reason.PERCENT),
    ("http://a％2eexample/", Reason.PERCENT),
    ("http://a／b.example/", Reason.HOST_CHARACTER),
    ("http://a＠b.example/", Reason.HOST_CHARACTER),
    ("http://a：80.example/", Reason.HOST_CHARACTER),
    ("http://a!b.example/", Reason.HOST_CHARACTER),
    ("http://a*b.example/", Reason.HOST_CHARACTER),
    ("http://a,b.example/", Reason.HOST_CHARACTER),
    ("http://-a.example/", Reason.HOST_CHARACTER),
    ("http://a-.example/", Reason.HOST_CHARACTER),
    ("http://xn--.example/", Reason.HOST_CHARACTER),
    ("http://xn--a.example/", Reason.IDNA),
    ("http://xn--zzzzzz9.example/", Reason.IDNA),
    ("http://xn--bcher-kva-.example/", Reason.HOST_CHARACTER),
    ("http://bü_cher.example/", Reason.IDNA),
    ("http://\u200d.example/", Reason.IDNA),
    ("http://☃❤.example/", Reason.IDNA),
    ("http://" + "ü" * 1_000 + ".example/", Reason.NAME_LENGTH),
    ("http://" + "a" * 64 + ".example/", Reason.LABEL_LENGTH),
    ("http://" + "a." * 124 + "example/", Reason.NAME_LENGTH),
    ("http://a..b/", Reason.EMPTY_LABEL),
    ("http://.a/", Reason.EMPTY_LABEL),
    ("http://a.example../", Reason.EMPTY_LABEL),
    ("http://./", Reason.EMPTY_LABEL),
    ("http://../", Reason.EMPTY_LABEL),
    ("http://a。。b/", Reason.EMPTY_LABEL),
    ("http://a.example:0/", Reason.PORT),
    ("http://a.example:65536/", Reason.PORT),
    ("http://a.example:000080/", Reason.PORT),
    ("http://a.example:+80/", Reason.PORT),
    ("http://a.example:-80/", Reason.PORT),
    ("http://a.example:８０/", Reason.PORT),
    ("http://a.example:80:90/", Reason.PORT),
    ("http://a.example:http/", Reason.PORT),
    ("http://[::1]:80:90/", Reason.PORT),
    ("http://a.example/" + "x" * MAX_URL, Reason.TOO_LONG),
]

ACCEPTED = [
    ("https://127.example.com/", "https://127.example.com/", "127.example.com"),
    ("https://0x7f.example.com/", "https://0x7f.example.com/", "0x7f.example.com"),
    ("https://user.example.com/@x", "https://user.example.com/@x", "user.example.com"),
    (
        "https://example.com/?u=http://127.0.0.1/",
        "https://example.com/?u=http://127.0.0.1/",
        "example.com",
    ),
    ("https://example.com?@good.example", "https://example.com/?@good.example", "example.com"),
    ("https://example.com/a\\b", "https://example.com/a%5Cb", "example.com"),
    ("https://xn--bcher-kva.example.com/", "https://xn--bcher-kva.example.com/", "xn--bcher-kva.example.com"),
    ("https://Bücher.example.com/", "https://xn--bcher-kva.example.com/", "xn--bcher-kva.example.com"),
    ("https://faß.example/", "https://xn--fa-hia.example/", "xn--fa-hia.example"),
    ("https://localhost.example.com/", "https://localhost.example.com/", "localhost.example.com"),
    ("https://1.1.1.1/", "https://1.1.1.1/", "1.1.1.1"),
    ("https://[2606:4700:4700::1111]/", "https://[2606:4700:4700::1111]/", "2606:4700:4700::1111"),
    ("https://[2606:4700:4700:0:0:0:0:1111]:8443/", "https://[2606:4700:4700::1111]:8443/", "2606:4700:4700::1111"),
    ("https://[2001:DB8:0:0:1:0:0:1]/", "https://[2001:db8::1:0:0:1]/", "2001:db8::1:0:0:1"),
    ("https://example.com.:443/", "https://example.com/", "example.com"),
    ("https://example.com:/", "https://example.com/", "example.com"),
    ("https://example.com:00443/", "https://example.com/", "example.com"),
    ("https://example.com:80/", "https://example.com:80/", "example.com"),
    ("http://example.com:80/", "http://example.com/", "example.com"),
    ("http://example.com:65535/", "http://example.com:65535/", "example.com"),
    ("HTTPS://A.EXAMPLE/Path", "https://a.example/Path", "a.example"),
    ("https://a.example", "https://a.example/", "a.example"),
    ("https://a_b.example/", "https://a_b.example/", "a_b.example"),
    ("https://_dmarc.example/", "https://_dmarc.example/", "_dmarc.example"),
    ("https://r3---sn-ab.example/", "https://r3---sn-ab.example/", "r3---sn-ab.example"),
    ("https://exa\u00admple.com/", "https://example.com/", "example.com"),
    ("https://" + "a" * 63 + ".example/", "https://" + "a" * 63 + ".example/", "a" * 63 + ".example"),
    ("https://a.example/ü?q=é", "https://a.example/%C3%BC?q=%C3%A9", "a.example"),
    ("https://a.example/%7euser/%zz?100%", "https://a.example/%7euser/%25zz?100%25", "a.example"),
    ("https://a.example/a/../b//c;d?x[]=1&y=a+b", "https://a.example/a/../b//c;d?x[]=1&y=a+b", "a.example"),
    ('https://a.example/"<>^`{|}', "https://a.example/%22%3C%3E%5E%60%7B%7C%7D", "a.example"),
    # what the text may say, the address decides
    ("http://127.0.0.1?@good.example", "http://127.0.0.1/?@good.example", "127.0.0.1"),
    ("http://①②⑦.0.0.1/", "http://127.0.0.1/", "127.0.0.1"),
    ("http://１２７.0.0.1/", "http://127.0.0.1/", "127.0.0.1"),
    ("http://127。0。0。1/", "http://127.0.0.1/", "127.0.0.1"),
    ("http://127．0｡0．1/", "http://127.0.0.1/", "127.0.0.1"),
    ("http://127.0.0.1./", "http://127.0.0.1/", "127.0.0.1"),
    ("http://ⓛocalhost/", "http://localhost/", "localhost"),
    ("http://localhost./", "http://localhost/", "localhost"),
    ("http://[::1]/", "http://[::1]/", "::1"),
    ("http://[::ffff:127.0.0.1]/", "http://[::ffff:127.0.0.1]/", "::ffff:127.0.0.1"),
    ("http://[::FFFF:7F00:1]/", "http://[::ffff:127.0.0.1]/", "::ffff:127.0.0.1"),
    ("http://[64:ff9b::7f00:1]/", "http://[64:ff9b::7f00:1]/", "64:ff9b::7f00:1"),
]


@pytest.mark.parametrize(("text", "reason"), REFUSED, ids=lambda value: ascii(str(value))[:60])
def test_refuses_with_the_reason(text: str, reason: Reason) -> None:
    with pytest.raises(UrlRefused) as refused:
        parse(text)
    assert refused.value.rule is reason
    assert refused.value.status == 422


@pytest.mark.parametrize(("text", "normal", "host"), ACCEPTED, ids=lambda value: ascii(value)[:60])
def test_writes_one_normal_form(text: str, normal: str, host: str) -> None:
    target = parse(text)
    assert (target.url, target.host) == (normal, host)


@pytest.mark.parametrize(
    ("text", "authority", "port", "path", "literal"),
    [
        ("https://a.example/x?y", "a.example", 443, "/x?y", None),
        ("http://a.example:8080", "a.example:8080", 8080, "/", None),
        ("http://a.example:443", "a.example:443", 443, "/", None),
        ("https://1.2.3.4/", "1.2.3.4", 443, "/", ipaddress.IPv4Address("1.2.3.4")),
        ("https://[2600::1]", "[2600::1]", 443, "/", ipaddress.IPv6Address("2600::1")),
        ("https://[2600::1]:444?q", "[2600::1]:444", 444, "/?q", ipaddress.IPv6Address("2600::1")),
    ],
)
def test_the_parts_of_a_target(text: str, authority: str, port: int, path: str, literal: object) -> None:
    target = parse(text)
    assert (target.authority, target.port, target.path, target.literal) == (authority, port, path, literal)


def _holds_together(target: Target) -> None:
    assert parse(target.url) == target
    assert target.url.isascii()
    assert target.url == f"{target.scheme}://{target.authority}{target.path}"
    assert target.path.startswith("/")
    assert target.host == target.host.lower()
    assert not target.host.endswith(".")
    assert 1 <= target.port <= 65_535
    assert (target.literal is not None) == (":" in target.host or target.host.rpartition(".")[2].isdigit())
    # a second parser must not see another host
    other = urlsplit(target.url)
    assert (other.hostname, other.port or {"http": 80, "https": 443}[other.scheme]) == (target.host, target.port)
    assert other.username is None
    assert other.fragment == ""


def _check(text: str) -> None:
    try:
        target = parse(text)
    except UrlRefused as refused:
        assert refused.rule in Reason
    else:
        _holds_together(target)


@given(st.text())
def test_any_text_is_a_target_or_refused(text: str) -> None:
    _check(text)


HOST_PIECES = st.sampled_from(
    [
        *".:@[]%/\\?#-_0179aZxéßⓛ①。．％：／ \t\x00",
        "xn--",
        "bücher",
        "localhost",
        "127",
        "0x7f",
        "::",
        "ffff",
        "%2e",
        "\u200d",
        "\u05d0",
        "\u00ad",
        "example",
    ]
)


@given(st.sampled_from(["http", "https", "HTTP"]), st.lists(HOST_PIECES, max_size=12), st.text(max_size=8))
@example("http", [], "")
@example("http", ["[", "::", "]"], "/")
def test_any_authority_is_a_target_or_refused(scheme: str, pieces: list[str], tail: str) -> None:
    _check(f"{scheme}://{''.join(pieces)}{tail}")


@given(st.text(alphabet="abé%ß<> /?&=;2F\\^[]@:"))
def test_the_path_does_not_touch_the_host(tail: str) -> None:
    text = "https://a.example/" + tail
    try:
        target = parse(text)
    except UrlRefused as refused:
        assert refused.rule is Reason.CHARACTER
    else:
        assert target.host == "a.example"
        _holds_together(target)


def _part(value: int, spelling: int) -> str:
    return [str(value), f"0{value:o}", f"0x{value:x}", f"0X{value:X}", f"{value:03d}", f"000{value:o}"][spelling]


def _spellings(value: int, parts: int, spelled: list[int]) -> str:
    """The address in the manner of inet_aton: the last part takes the bytes that are left."""
    heads = [(value >> (24 - 8 * index)) & 0xFF for index in range(parts - 1)]
    rest = value & ((1 << (32 - 8 * (parts - 1))) - 1)
    return ".".join(_part(number, spelling) for number, spelling in zip([*heads, rest], spelled, strict=False))


def _numeric(text: str) -> str | None:
    try:
        rows = socket.getaddrinfo(text, None, socket.AF_INET, socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        return None
    return str(rows[0][4][0])


def _never_another_address(text: str) -> None:
    meant = _numeric(text)
    try:
        host = parse(f"http://{text}/").host
    except UrlRefused:
        return
    if meant is not None:
        assert host == meant == text


@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.lists(st.integers(0, 5), min_size=4, max_size=4), st.booleans())
@example(0x7F000001, 4, [0, 0, 0, 0], False)
@example(0x7F000001, 2, [1, 0, 0, 0], False)
@example(0x7F000001, 1, [0, 0, 0, 0], True)
def test_every_spelling_of_an_ipv4_address_is_refused_or_exact(
    value: int, parts: int, spelled: list[int], dot: bool
) -> None:
    text = _spellings(value, parts, spelled)
    _never_another_address(text)
    if dot:
        try:
            assert parse(f"http://{text}./").host == str(ipaddress.IPv4Address(value))
        except UrlRefused as refused:
            assert refused.rule is Reason.NUMBER


@given(st.text(alphabet="0123456789abcdefxX.", max_size=16))
def test_whatever_the_system_reads_as_a_number_is_refused_or_exact(text: str) -> None:
    _never_another_address(text)


@given(st.integers(0, 2**128 - 1))
def test_every_ipv6_address_has_one_form(value: int) -> None:
    address = ipaddress.IPv6Address(value)
    forms = {parse(f"https://[{text}]/").url for text in (str(address), address.exploded, address.exploded.upper())}
    assert len(forms) == 1
    assert parse(forms.pop()).literal == address
