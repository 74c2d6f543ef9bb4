"""YAML as JSON: the core schema of YAML 1.2, and nothing that grows, runs or loops."""

import json
import re
from typing import Any

import pytest
import yaml
from hypothesis import assume, given
from hypothesis import strategies as st

from tenterhook.yaml_text import DEEPEST, MOST_NODES, YamlError, parse


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None), ("~", None), ("null", None), ("a", "a"), ("'1'", "1"), ('"a\\n"', "a\n"), ("|\n x\n y\n", "x\ny\n"),
        ("[1, -2, +3, 010, 0x1F, 0o17]", [1, -2, 3, 10, 31, 15]),
        ("[1.5, .5, 1., 1e3, -2E-1]", [1.5, 0.5, 1.0, 1000.0, -0.2]),
        ("[yes, no, on, off, y, n, TRUE, False]", ["yes", "no", "on", "off", "y", "n", True, False]),
        ("[2024-01-31, 12:30, 1_000, .inf, .nan]", ["2024-01-31", "12:30", "1_000", ".inf", ".nan"]),
        ("200: ok\non: push\n1.0: x\n~: y", {"200": "ok", "on": "push", "1.0": "x", "~": "y"}),
        ("18446744073709551615", 2**64 - 1), ("-9223372036854775808", -(2**63)), ("18446744073709551616", float(2**64)),
        ("[!!str 5, !!int 5, !!float 5, !!bool true, !!null ~, ! 5]", ["5", 5, 5.0, True, None, "5"]),
        ("!!map {a: !!seq []}", {"a": []}),
        ("- &x {a: 1}\n- *x\n- &y 5\n- *y", [{"a": 1}, {"a": 1}, 5, 5]),
        ("- &x {a: 1, b: 2}\n- {<<: *x, b: 3}\n- {b: 3, <<: *x}", [{"a": 1, "b": 2}] + [{"a": 1, "b": 3}] * 2),
        ("- &x {a: 1}\n- &y {a: 2, c: 2}\n- {<<: [*x, *y]}", [{"a": 1}, {"a": 2, "c": 2}, {"a": 1, "c": 2}]),
        ("{'<<': 1}", {"<<": 1}),
        ("%YAML 1.1\n---\na: no", {"a": "no"}),
        ('{"a": [1, "b"]}', {"a": [1, "b"]}),
    ],
)  # fmt: skip
def test_values(text: str, value: object) -> None:
    assert json.dumps(parse(text), sort_keys=True) == json.dumps(value, sort_keys=True)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\nb: 2\na: 3", "line 3, column 1: the key 'a' is there already"),
        ("a:\n  - *nope", "line 2, column 5: the alias *nope"),
        ("a: &a [*a]", "line 1, column 8: the alias *a"),
        ("!!python/object/apply:os.system [x]", "has no meaning in JSON"),
        ("!mine 5", "has no meaning in JSON"),
        ("a: !!binary aGk=", "has no meaning in JSON"),
        ("!!set {a}", "has no meaning in JSON"),
        ("!!int x", "'x' is no int"),
        ("!!bool 1", "'1' is no bool"),
        ("1e999", "too large"),
        ("a\n---\nb", "line 2, column 1: there may be only one document"),
        ("[1", "line 2, column 1"),
        ("{? [a] : 1}", "a key must be text"),
        ("? {a: 1}\n: 1", "a key must be text"),
        ("<<: 5", "takes a mapping"),
        ("\ta: 1", "line 1, column 1"),
        ("a: \x07", "no YAML"),
        ("a: \ud800", "no YAML"),
        ("[" * 100_000, "depth"),
        ("- " * (DEEPEST + 1) + "a", f"at most {DEEPEST} levels"),
    ],
)  # fmt: skip
def test_what_is_refused(text: str, words: str) -> None:
    with pytest.raises(YamlError) as error:
        parse(text)
    assert words in str(error.value)


def test_a_billion_laughs_are_refused_after_a_few() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    with pytest.raises(YamlError, match=f"at most {MOST_NODES} values"):
        parse("\n".join(lines))


def test_laughs_by_merging_are_refused() -> None:
    lines = ["a0: &a0 {x: [1, 2, 3, 4, 5, 6, 7, 8, 9]}"]
    lines += [f"a{n}: &a{n} {{{', '.join(f'k{k}: {{<<: *a{n - 1}}}' for k in range(9))}}}" for n in range(1, 10)]
    with pytest.raises(YamlError, match=f"at most {MOST_NODES} values"):
        parse("\n".join(lines))


TEXT = st.text(st.characters(exclude_categories=["C", "Zl", "Zp"]), max_size=8)
"""Without the line breaks that YAML has and JSON has not, and without what YAML takes only escaped."""

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


@given(VALUES)
def test_what_json_says_yaml_says_too(value: Any) -> None:
    assert parse(json.dumps(value, ensure_ascii=False)) == value


@given(VALUES, st.booleans())
def test_what_another_writer_wrote_is_read(value: Any, flow: bool) -> None:
    """PyYAML's writer quotes all that its own YAML 1.1 would read otherwise; `1e3` and `0o7` are text there."""
    assume(not re.search("[0-9]e|0o|0x", json.dumps(value), re.IGNORECASE))
    written = yaml.safe_dump(value, default_flow_style=flow, allow_unicode=True)
    assert parse(written) == value


@given(st.text(st.sampled_from("ab:-[]{}?,&*!|>'\"#%@` \n\t<0.~"), max_size=40))
def test_any_text_is_a_value_or_an_error(text: str) -> None:
    try:
        json.dumps(parse(text), allow_nan=False)
    except YamlError as error:
        assert str(error)
