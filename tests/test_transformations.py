"""Transformations: what code is given, and what it may give back."""

import contextlib
from pathlib import Path

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tenterhook.model import Transformation
from tenterhook.transformations.child import transform
from tenterhook.transformations.contract import Changed, Failed, Webhook, is_json, job, result
from tenterhook.transformations.jobs import Job, Report

MOST = 1 << 20
URL = "https://receiver.example/hook"
PAYLOAD = b'{"id": 7,  "name": "Zo\xc3\xab", "big": 12345678901234567890}'
WEBHOOK = Webhook(url=URL, event_type="invoice.paid", payload=PAYLOAD)
AS_IT_WAS = Changed(method="POST", url=URL)


def handler(body: str) -> Transformation:
    """A transformation whose second line is `body`."""
    return of("function handler(webhook) {\n" + body + "\nreturn webhook; }")


def of(code: str, **variables: str) -> Transformation:
    return Transformation(code=code, enabled=True, variables=variables, updated_at=0)


def run(transformation: Transformation, webhook: Webhook = WEBHOOK, most: int = MOST) -> Changed | None:
    """In this process, which only code that ends may do."""
    return result(transform(job(transformation, webhook, most)), webhook)


def why(transformation: Transformation, webhook: Webhook = WEBHOOK, most: int = MOST) -> str:
    with pytest.raises(Failed) as failed:
        run(transformation, webhook, most)
    return failed.value.detail


def test_what_it_does_not_touch_stays_byte_for_byte() -> None:
    assert run(handler("")) == AS_IT_WAS
    assert run(handler("webhook.payload = JSON.parse(JSON.stringify(webhook.payload))")) == AS_IT_WAS


def test_what_code_is_given() -> None:
    code = "webhook.payload = [Object.keys(webhook), webhook.method, webhook.url, webhook.eventType, webhook.headers,"
    changed = run(of(f"function handler(webhook) {{ {code} webhook.variables, webhook.payload.name, webhook.cancel];"
                     " return webhook; }", team="a"))  # fmt: skip
    assert changed is not None and changed.payload is not None
    names, *values = msgspec.json.decode(changed.payload)
    assert sorted(names) == ["cancel", "eventType", "headers", "method", "payload", "url", "variables"]
    assert values == ["POST", URL, "invoice.paid", {}, {"team": "a"}, "Zoë", False]


def test_everything_may_be_changed() -> None:
    body = """webhook.method = "PUT"; webhook.url += "?a=1"; webhook.headers["X-Team"] = webhook.variables.team;
              webhook.payload = { text: `${webhook.eventType}: ${webhook.payload.id}` };"""
    changed = run(of("function handler(webhook) { " + body + " return webhook; }", team="a"))
    assert changed == Changed(
        method="PUT", url=URL + "?a=1", headers=(("X-Team", "a"),), payload=b'{"text":"invoice.paid: 7"}'
    )


def test_another_object_may_be_returned_and_other_ways_to_declare_the_handler() -> None:
    changed = run(of("const handler = ({ url }) => ({ url, method: 'POST', payload: null })"))
    assert changed == Changed(method="POST", url=URL, payload=b"null")


@pytest.mark.parametrize("value", ["true", "1", "'no'"])
def test_cancelling_needs_nothing_else(value: str) -> None:
    assert run(handler(f"return {{ cancel: {value} }};")) is None


def test_numbers_are_those_of_javascript_in_what_has_changed() -> None:
    changed = run(handler("webhook.payload.huge = 1e400"))
    assert changed is not None
    assert changed.payload == '{"id":7,"name":"Zoë","big":12345678901234567000,"huge":null}'.encode()


def test_surrogates_and_zeros_pass() -> None:
    given = Webhook(url=URL, event_type="a", payload=b'{"a": "\\ud800 \\u0000 \\ud83d\\ude00", "__proto__": {"b": 1}}')
    changed = run(handler("webhook.payload.c = '\\udfff'"), given)
    assert changed is not None
    assert changed.payload == '{"a":"\\ud800 \\u0000 😀","__proto__":{"b":1},"c":"\\udfff"}'.encode()


TEXT = Webhook(url=URL, event_type="a", payload="<x>Zoë\0</x>".encode(), content_type="text/xml")


def test_what_is_not_json_is_text() -> None:
    changed = run(handler("webhook.payload = webhook.payload.toUpperCase()"), TEXT)
    assert changed is not None
    assert (changed.payload, changed.content_type) == ("<X>ZOË\0</X>".encode(), "text/xml")
    assert run(handler(""), TEXT) == Changed(method="POST", url=URL, content_type="text/xml")
    changed = run(handler("webhook.payload = { xml: webhook.payload }"), TEXT)
    assert changed is not None
    assert (changed.payload, changed.content_type) == ('{"xml":"<x>Zoë\\u0000</x>"}'.encode(), "application/json")


def test_text_cannot_hold_half_a_character() -> None:
    assert "surrogate" in why(handler("webhook.payload = '\\ud800'"), TEXT)


def test_what_claims_to_be_json_and_is_not_is_text_that_becomes_json() -> None:
    given = Webhook(url=URL, event_type="a", payload=b"{oops")
    changed = run(handler("webhook.payload += '!'"), given)
    assert changed is not None and changed.payload == b'"{oops!"'
    assert run(handler(""), given) == AS_IT_WAS


def test_what_is_not_utf_8_cannot_be_transformed() -> None:
    assert "not UTF-8" in why(handler(""), Webhook(url=URL, event_type="a", payload=b"\xff"))


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [("application/json", True), ("Application/JSON; charset=utf-8", True), ("application/cloudevents+json", True),
     ("text/plain", False), ("application/jsonl", False), ("", False)],
)  # fmt: skip
def test_json_is_told_by_the_content_type(content_type: str, expected: bool) -> None:
    assert is_json(content_type) is expected


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("webhook.method = 'DELETE'", "webhook.method must be POST or PUT"),
        ("webhook.method = ['POST']", "webhook.method must be POST or PUT"),
        ("webhook.url = { toString() { return 'https://a.example' } }", "webhook.url must be a string"),
        ("webhook.headers = ['a']", "webhook.headers must be an object of strings"),
        ("webhook.headers.a = 1", "webhook.headers must be an object of strings"),
        ("webhook.headers['Webhook-Signature'] = 'v1,x'", "webhook.headers Webhook-Signature: not allowed"),
        ("webhook.headers.Host = 'a'", "webhook.headers Host: not allowed"),
        ("webhook.headers['content-type'] = 'text/plain'", "webhook.headers content-type: not allowed"),
        ("webhook.headers.a = '1\\r\\nb: 2'", "webhook.headers a: a value has no line ends"),
        ("webhook.headers = { a: '1', A: '2' }", "webhook.headers A: this name is given twice"),
        ("webhook.headers.a = 'x'.repeat(5e3)", "webhook.headers a: a value has at most 4096 bytes"),
        ("webhook.headers.self = webhook.headers", "TypeError: circular reference"),
        ("let a = []; for (let i = 0; i < 1e4; i++) a = [a]; webhook.headers.a = a", "RangeError: Maximum call stack"),
        ("delete webhook.payload", "webhook.payload is missing"),
        ("webhook.payload = () => 1", "webhook.payload is missing"),
        ("webhook.payload = 1n", "TypeError: BigInt"),
        ("webhook.payload.self = webhook.payload", "TypeError: circular reference"),
        ("webhook.payload = 'x'.repeat(2e6)", "webhook.payload has more than 1048576 bytes"),
        ("return null", "handler must return the webhook, and returned null"),
        ("return", "handler must return the webhook, and returned undefined"),
        ("return (async () => webhook)()", "handler must not be async"),
        ("webhook.team.name = 1", "TypeError: cannot set property 'name' of undefined (line 2)"),
        ("\n\nthrow new Error('no\\nteam')", "Error: no team (line 4)"),
        ("throw 'plain'", "plain"),
        ("throw { toString() { throw 1 } }", "it threw what cannot be shown"),
        ("throw new Proxy({}, { get() { throw 1 } })", "it threw what cannot be shown"),
        ("throw '\\ud800'", "\ufffd"),
        ("require('fs')", "ReferenceError: require is not defined (line 2)"),
        ("Object.prototype.toJSON = () => 5", "it gave back what is no webhook"),
        ("Object.prototype.toJSON = () => '{}'", "it gave back what is no webhook"),
        ("Object.defineProperty(webhook, 'payload', { get() { throw new Error('trap') } })", "Error: trap (line 2)"),
    ],
)  # fmt: skip
def test_what_is_refused_and_what_is_said(body: str, said: str) -> None:
    assert why(handler(body)).startswith(said)


def test_what_is_said_of_an_error_has_a_bound() -> None:
    assert len(why(handler("throw 'x'.repeat(3e6)"))) < 600


@pytest.mark.parametrize("body", [
    "JSON.parse = JSON.stringify = Object.keys = null; webhook.payload = {}",
    "globalThis.JSON = undefined; String = null; webhook.payload = {}",
    "Array.prototype[Symbol.iterator] = null; Function.prototype.call = null; webhook.payload = {}",
])  # fmt: skip
def test_code_that_breaks_its_own_world_hurts_only_itself(body: str) -> None:
    changed = run(handler(body))
    assert changed is not None and changed.payload == b"{}"


def test_there_is_nothing_outside() -> None:
    names = "std os process require module fetch XMLHttpRequest setTimeout setInterval Worker WebAssembly print gc"
    body = f"webhook.payload = [{', '.join('typeof ' + name for name in names.split())}]"
    changed = run(handler(body))
    assert changed is not None and changed.payload is not None
    assert set(msgspec.json.decode(changed.payload)) == {"undefined"}


def test_what_code_logs_goes_nowhere() -> None:
    calls = "; ".join(f"console.{name}(webhook)" for name in ("debug", "error", "info", "log", "warn"))
    assert run(handler(calls)) == AS_IT_WAS


def test_modules_are_not_loaded(tmp_path: Path) -> None:
    path = str(tmp_path / "m.js")
    Path(path).write_text("globalThis.leaked = 1;")
    assert run(handler(f"import({path!r}); webhook.payload = typeof leaked;")) == Changed(
        method="POST", url=URL, payload=b'"undefined"'
    )
    assert "SyntaxError" in why(of(f"import {path!r};\nfunction handler(w) {{ return w; }}"))


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(-(2**53), 2**53)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abé\"\\\0", max_size=4), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@settings(max_examples=60)
@given(values)
def test_values_of_json_come_out_as_they_went_in(value: object) -> None:
    body = msgspec.json.encode(value)
    changed = run(handler("webhook.payload = [webhook.payload]"), Webhook(url=URL, event_type="a", payload=body))
    assert changed is not None and changed.payload is not None
    assert msgspec.json.decode(changed.payload) == [value]


@settings(max_examples=60)
@given(
    st.builds(
        Report, method=values | st.sampled_from(["POST", "PUT"]), url=values | st.just(URL),
        headers=values | st.dictionaries(st.text(), st.text()), payload=st.none() | st.binary(), text=st.booleans(),
    )
)  # fmt: skip
@example(Report(method="PUT", url=URL, headers={}, payload=b"{}", text=False))
def test_whatever_a_child_claims_is_checked(report: Report) -> None:
    with contextlib.suppress(Failed):
        changed = result(report, WEBHOOK)
        assert changed is not None and changed.method in ("POST", "PUT") and isinstance(changed.url, str)


def test_a_job_without_a_webhook_runs_no_handler() -> None:
    assert transform(Job("function handler() { while (true); }")).error is None
