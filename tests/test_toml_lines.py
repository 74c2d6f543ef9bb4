"""Where things stand in a TOML document, for every way to write it."""

import tomllib
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenterhook.toml_lines import Path, line_of, lines_of

DOCUMENT = '''\
# 1
title = "a" # "2"
a.b."c d" = 1.5e3

[server]
when = 1979-05-27 07:32:00.5
text = """
[not.a.table]
x = 1 \\"""
"""""
raw = \'\'\'
[[nor.this]]\'\'\'

[[endpoint]]
name = 'one # [x]'
list = [ # comment ]
  "a",
  [1, 2], {k = "}", m.n = [
    true]},
]
[endpoint.headers]
"X=Y" = "z"

[[ "endpoint" ]]
name = "two"
  [[endpoint.inner]]
  deep = 1
  [[endpoint.inner]]
  deep = 2
  [endpoint.inner.most]
  x = 1
[ a . z ]
y = [ ]
'''
LINES: dict[Path, int] = {
    ("title",): 2,
    ("a",): 3,
    ("a", "b", "c d"): 3,
    ("server",): 5,
    ("server", "when"): 6,
    ("server", "text"): 7,
    ("server", "raw"): 11,
    ("endpoint",): 14,
    ("endpoint", 0): 14,
    ("endpoint", 0, "name"): 15,
    ("endpoint", 0, "list"): 16,
    ("endpoint", 0, "list", 0): 17,
    ("endpoint", 0, "list", 1): 18,
    ("endpoint", 0, "list", 1, 1): 18,
    ("endpoint", 0, "list", 2, "k"): 18,
    ("endpoint", 0, "list", 2, "m", "n"): 18,
    ("endpoint", 0, "list", 2, "m", "n", 0): 19,
    ("endpoint", 0, "headers"): 21,
    ("endpoint", 0, "headers", "X=Y"): 22,
    ("endpoint", 1): 24,
    ("endpoint", 1, "name"): 25,
    ("endpoint", 1, "inner", 0): 26,
    ("endpoint", 1, "inner", 0, "deep"): 27,
    ("endpoint", 1, "inner", 1): 28,
    ("endpoint", 1, "inner", 1, "deep"): 29,
    ("endpoint", 1, "inner", 1, "most"): 30,
    ("endpoint", 1, "inner", 1, "most", "x"): 31,
    ("a", "z"): 32,
    ("a", "z", "y"): 33,
}


def paths(value: object, at: Path = ()) -> Iterator[Path]:
    """Every path in a parsed document."""
    yield at
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from paths(inner, (*at, key))


@pytest.mark.parametrize("text", [DOCUMENT, DOCUMENT.replace("\n", "\r\n")], ids=["LF", "CR LF"])
def test_each_part_has_its_line(text: str) -> None:
    lines = lines_of(text)
    assert set(lines) == set(paths(tomllib.loads(text))) - {()}
    for path, line in LINES.items():
        assert lines[path] == line, path


def test_an_unknown_path_has_the_line_of_what_is_around_it() -> None:
    lines = lines_of("\n[a]\nb = 1\n")
    assert line_of(lines, ("a", "c", 4)) == 2
    assert line_of(lines, ("x",)) == 1
    assert line_of({}, ()) == 1


SCALARS = st.sampled_from(
    [
        "1",
        "-2.5e+3",
        "true",
        "nan",
        "07:32:00",
        "1979-05-27T07:32:00Z",
        '"# = ["',
        "'\\'",
        '""',
        '"\\"\\\\"',
        '"""\n[x]\ny = 1\n"""',
        "'''\n''\n'''",
        '"""a"""""',
        "''''''",
        '"""\\"""\n"""',
    ]
)
GAPS = st.sampled_from(["", " ", "\n", " # ] } =\n", "\n\n"])
KEYS = st.sampled_from(["a", "b-1", "1", '"c d"', "'x.y'", '"é\\u0041"', '"]"', '"="', '""'])


@st.composite
def values(draw: st.DrawFn, depth: int = 2) -> str:
    """A value in TOML, written somehow."""
    shape = draw(st.sampled_from(["scalar", "array", "table"] if depth else ["scalar"]))
    if shape == "scalar":
        return draw(SCALARS)
    if shape == "array":
        items = draw(st.lists(values(depth - 1), max_size=3))
        gaps = [draw(GAPS) for _ in items]
        return "[" + draw(GAPS) + ",".join(gap + item + gap for gap, item in zip(gaps, items)) + draw(GAPS) + "]"
    keys = draw(st.lists(KEYS, max_size=3, unique=True))
    return "{ " + ", ".join(f"{key} = {draw(values(depth - 1))}" for key in keys) + " }"


@st.composite
def documents(draw: st.DrawFn) -> tuple[str, dict[Path, int]]:
    """A document, and the lines of its tables and of the keys in them, known from how it was written."""
    text, known, count = "", {}, {}
    for number in range(draw(st.integers(0, 5))):
        text += draw(st.sampled_from(["", "\n", "# [x]\n", "  "]))
        base: Path = (f"t{number}",)
        header = f"[t{number}]"
        if draw(st.booleans()):
            count["rows"] = count.get("rows", 0) + 1
            base, header = ("rows", count["rows"] - 1), draw(st.sampled_from(["[[rows]]", '[[ "rows" ]]']))
        known[base] = text.count("\n") + 1
        text += header + draw(st.sampled_from(["\n", " # ]]\n"]))
        for key in draw(st.lists(KEYS, max_size=3, unique=True)):
            dotted = draw(st.booleans())
            decoded = next(iter(tomllib.loads(f"{key} = 1")))
            known[(*base, decoded, "sub") if dotted else (*base, decoded)] = text.count("\n") + 1
            text += f"{key}{' . sub' if dotted else ''} = {draw(values())}\n"
    return text, known


@given(documents())
def test_lines_are_those_where_it_was_written(document: tuple[str, dict[Path, int]]) -> None:
    text, known = document
    lines = lines_of(text)
    assert set(lines) == set(paths(tomllib.loads(text))) - {()}
    assert {path: lines[path] for path in known} == known


@given(st.text(st.sampled_from("ab=[]{}.,\"'\\# \n1"), max_size=60))
def test_every_part_of_any_document_has_a_line(text: str) -> None:
    try:
        parsed = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    assert set(lines_of(text)) == set(paths(parsed)) - {()}
