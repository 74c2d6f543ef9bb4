"""YAML as the JSON that it stands for: the core schema of YAML 1.2, one document, bounded.

PyYAML reads YAML 1.1, where `no` is false, `010` is 8, `12:30` is 750 and `2024-01-31` a date. So only its parser is used,
and values are made here. Keys are always text: `200:` is `"200"`, `on:` is `"on"`.
"""

import math
import re
from typing import Any

import yaml
from msgspec import Struct

MOST_NODES = 200_000
"""Values in a document, with aliases written out: nine lines of them can stand for a billion (`a: &a [*b, *b, …]`)."""
DEEPEST = 100

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the parser in C, where the wheel has it
_CORE = "tag:yaml.org,2002:"
_INTEGER = re.compile(r"[-+]?[0-9]{1,20}")
_OTHER_BASE = re.compile(r"0o[0-7]{1,21}|0x[0-9a-fA-F]{1,16}")
_NUMBER = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS: dict[str, Any] = {
    word: value
    for words, value in (("null Null NULL ~", None), ("true True TRUE", True), ("false False FALSE", False))
    for word in words.split()
} | {"": None}


class YamlError(ValueError):
    """The text is no YAML, or none that stands for JSON; the message names line and column."""


class _Open(Struct):
    """A list or mapping that has begun. `size` counts what is in it, aliases written out."""

    content: list[Any] | dict[str, Any]
    anchor: str | None
    key: str | None = None
    merging: bool = False
    merged: dict[str, Any] = {}
    size: int = 1


def parse(text: str) -> Any:
    """The value of the one document. Raises YamlError."""
    builder = _Builder()
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            builder.take(event)
    except yaml.MarkedYAMLError as error:
        raise YamlError(_at(error.problem_mark, error.problem or "this is no YAML")) from None
    except (yaml.YAMLError, UnicodeEncodeError) as error:
        raise YamlError(f"this is no YAML: {error}") from None
    return builder.root


class _Builder:
    """Makes values from the parser's events."""

    def __init__(self) -> None:
        self.root: Any = None
        self._open: list[_Open] = []
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._documents = 0
        self._nodes = 0

    def take(self, event: yaml.Event) -> None:
        """Raises YamlError."""
        if isinstance(event, yaml.ScalarEvent):
            self._scalar(event)
        elif isinstance(event, yaml.SequenceStartEvent | yaml.MappingStartEvent):
            self._begin(event)
        elif isinstance(event, yaml.SequenceEndEvent | yaml.MappingEndEvent):
            self._end(event)
        elif isinstance(event, yaml.AliasEvent):
            value, size = self._anchors.get(str(event.anchor), (None, 0))
            if not size:
                raise YamlError(_at(event.start_mark, f"the alias *{event.anchor} names nothing that is complete here"))
            self._add(event, value, size)
        elif isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                raise YamlError(_at(event.start_mark, "there may be only one document"))

    def _begin(self, event: Any) -> None:
        is_map = isinstance(event, yaml.MappingStartEvent)
        if event.tag not in (None, "!", _CORE + ("map" if is_map else "seq")):
            raise YamlError(_at(event.start_mark, f"the tag {event.tag} has no meaning in JSON"))
        if len(self._open) >= DEEPEST:
            raise YamlError(_at(event.start_mark, f"there may be at most {DEEPEST} levels"))
        self._open.append(_Open({} if is_map else [], event.anchor))

    def _end(self, event: Any) -> None:
        done = self._open.pop()
        for key, value in done.merged.items():
            done.content.setdefault(key, value)  # type: ignore[union-attr]  # only mappings merge
        self._add(event, done.content, done.size, done.anchor, counted=True)

    def _scalar(self, event: Any) -> None:
        top = self._open[-1] if self._open else None
        if top is not None and isinstance(top.content, dict) and top.key is None:
            self._key(event, top, top.content)
        else:
            self._add(event, _value(event), 1, event.anchor)

    def _key(self, event: Any, top: _Open, content: dict[str, Any]) -> None:
        top.key, top.merging = event.value, event.value == "<<" and event.implicit[0]
        if event.value in content and not top.merging:
            raise YamlError(_at(event.start_mark, f"the key {event.value!r} is there already"))
        if event.anchor is not None:
            self._anchors[event.anchor] = (event.value, 1)

    def _add(self, event: Any, value: Any, size: int, anchor: str | None = None, counted: bool = False) -> None:
        """`counted` says that what is in the value was counted when it was read."""
        self._nodes += 1 if counted else size
        if self._nodes > MOST_NODES:
            raise YamlError(
                _at(event.start_mark, f"with aliases written out, there may be at most {MOST_NODES} values")
            )
        if anchor is not None:
            self._anchors[anchor] = (value, size)
        if not self._open:
            self.root = value
            return
        top = self._open[-1]
        top.size += size
        if isinstance(top.content, list):
            top.content.append(value)
        elif top.key is None:
            raise YamlError(_at(event.start_mark, "a key must be text"))
        elif top.merging:
            top.key, top.merged = None, top.merged | _merged(event, value)
        else:
            top.content[top.key] = value
            top.key = None


def _merged(event: Any, value: Any) -> dict[str, Any]:
    """`<<: *other` gives what is not there itself; an invention of YAML 1.1 that OpenAPI documents use."""
    found: dict[str, Any] = {}
    for one in value if isinstance(value, list) else [value]:
        if not isinstance(one, dict):
            raise YamlError(_at(event.start_mark, "`<<` takes a mapping, or a list of mappings"))
        found = one | found
    return found


def _value(event: Any) -> Any:
    """A scalar by the core schema (YAML 1.2.2, 10.3.2), or by its tag."""
    plain, text = event.implicit[0], event.value
    if event.tag in (None, "!"):
        return _of_plain(event, text) if plain and event.tag is None else text
    make = _TAGS.get(event.tag.removeprefix(_CORE)) if event.tag.startswith(_CORE) else None
    if make is None:
        raise YamlError(_at(event.start_mark, f"the tag {event.tag} has no meaning in JSON"))
    value = text if make is str else _of_plain(event, text)
    if make is float and type(value) is int:
        return float(value)
    if type(value) is not make:
        raise YamlError(_at(event.start_mark, f"{text!r} is no {event.tag.removeprefix(_CORE)}"))
    return value


def _of_plain(event: Any, text: str) -> Any:
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text) and -(1 << 63) <= int(text) < 1 << 64:
        return int(text)
    if _OTHER_BASE.fullmatch(text):
        return int(text[2:], 8 if text[1] == "o" else 16)
    if _NUMBER.fullmatch(text):
        value = float(text)
        if value in (math.inf, -math.inf):
            raise YamlError(_at(event.start_mark, f"{text[:40]} is too large for a number"))
        return value
    return text


def _at(mark: Any, detail: str) -> str:
    return detail if mark is None else f"line {mark.line + 1}, column {mark.column + 1}: {detail}"


_TAGS: dict[str, type] = {"str": str, "int": int, "float": float, "bool": bool, "null": type(None)}
