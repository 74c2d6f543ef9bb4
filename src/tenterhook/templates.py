"""Messages for people: a template file per provider says what an event is in words, a chat file how a service shows it.

Both are TOML, described in docs/templates.md, compiled once and rendered without files, clock or network. A payload is
never trusted: a part that it does not fit is left out, and a message that it does not fit gives way to the next one.
"""

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any, TypeVar, cast

import msgspec
from minijinja import Environment, TemplateError
from msgspec import Struct

from tenterhook.clock import SECOND, from_rfc3339
from tenterhook.errors import ConfigurationError
from tenterhook.markup import Marks, Writer, one_line, safe_url, shortened, text_of, undisguised, without_markup

FUEL = 50_000
MAX_FIELDS = 10


class Field(Struct, frozen=True):
    """A name and a value beside each other."""

    name: str
    value: str


class Card(Struct, frozen=True, kw_only=True):
    """What a message says, in the markup of one service; empty text is a part that it does not have.

    `title` may be linked to `url`. `colour` is `#rrggbb`, `time` µs UTC, `fallback` one line without links.
    """

    headline: str
    title: str = ""
    url: str = ""
    body: str = ""
    fields: tuple[Field, ...] = ()
    colour: str = ""
    footer: str = ""
    icon: str = ""
    time: int = 0
    fallback: str = ""


class FieldTemplate(Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    value: str


class MessageTemplate(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One message: the events it is for, an expression that must be true, and the templates of its parts."""

    event: str | tuple[str, ...]
    when: str = ""
    skip: bool = False
    headline: str = ""
    title: str | None = None
    url: str | None = None
    body: str | None = None
    fields: tuple[FieldTemplate, ...] = ()
    colour: str | None = None
    footer: str | None = None
    icon: str | None = None
    context: str | None = None
    time: str | None = None


class Defaults(Struct, frozen=True, forbid_unknown_fields=True):
    """Parts of every message that has none of its own."""

    colour: str = ""
    footer: str = ""
    icon: str = ""
    context: str = ""
    time: str = ""


class TemplateFile(Struct, frozen=True, forbid_unknown_fields=True):
    """A provider's template file."""

    title: str
    message: tuple[MessageTemplate, ...]
    docs: str = ""
    values: dict[str, str] = {}
    defaults: Defaults = Defaults()
    colours: dict[str, str] = {}


class ChatFile(Struct, frozen=True, forbid_unknown_fields=True):
    """A chat service's file: its markup, the JSON document that it takes, and the limits of that."""

    title: str
    marks: Marks
    message: str
    docs: str = ""
    limits: dict[str, int] = {}


_PARTS = ("headline", "title", "url", "body", "colour", "footer", "icon", "context", "time")

_File = TypeVar("_File", TemplateFile, ChatFile)
# what minijinja raises for a template that a payload does not fit, and what a filter raises for a wrong argument
_UNFIT = (TemplateError, TypeError, ValueError, RecursionError)
_TAG = re.compile(r"\{[{%].*?[%}]\}", re.DOTALL)
_LITERAL = re.compile(r"'[^']*'|\"[^\"]*\"")
_FILTER = re.compile(r"\|\s*([A-Za-z_]\w*)")
_NAME = re.compile(r"[^\W\d]\w*")
_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")


class Templates:
    """A template file, compiled for one kind of markup. Raises ConfigurationError for a file that is wrong."""

    def __init__(self, name: str, text: str, marks: Marks) -> None:
        self._file = file = _read(name, text, TemplateFile)
        wrong = [colour for colour in file.colours.values() if not _COLOUR.fullmatch(colour)]
        if wrong:
            raise ConfigurationError(f"{name}: colours: {wrong[0]!r} is not #rrggbb")
        marked, plain = Writer(marks), Writer(without_markup(marks))
        self._marked = _compiled(name, file, marked, marked.escaped)
        self._plain = _compiled(name, file, plain, plain.escaped)
        self._raw = _compiled(name, file, plain, text_of)
        # each part that is rendered takes all variables over, and a payload may have thousands of members
        words = {word for _, template in _parts_of(file) for word in _NAME.findall(template)}
        self._names = words - {"self"}  # the template engine's own first argument

    def render(self, event: str, payload: object, *, event_type: str, text: str = "", now: int) -> Card | None:
        """The card of an event (as the file names it) with its payload; None where the file wants no message.

        `text` is what to show of a payload that is not JSON, `now` the time (µs UTC) where the payload names none.
        Raises LookupError if the file has no message for this.
        """
        members = payload if isinstance(payload, dict) else {}
        variables = {name: members[name] for name in self._names if name in members}
        variables |= {"payload": payload, "event": event_type, "text": text}
        marked = _Evaluation(self._marked, self._file.values, variables)
        for number, row in enumerate(self._file.message):
            if not _matches(row.event, event) or not marked.text(f"{number}.when"):
                continue
            if row.skip:
                return None
            headline = one_line(marked.text(f"{number}.headline"))
            if headline:
                plain = _Evaluation(self._plain, self._file.values, variables)
                raw = _Evaluation(self._raw, self._file.values, variables)
                return self._card(number, row, marked, plain, raw, now)
        raise LookupError(event)

    def _card(
        self,
        number: int,
        row: MessageTemplate,
        marked: "_Evaluation",
        plain: "_Evaluation",
        raw: "_Evaluation",
        now: int,
    ) -> Card:
        def part(name: str, evaluation: _Evaluation) -> str:
            default = getattr(row, name) is None and name in Defaults.__struct_fields__
            return evaluation.text(f"{'defaults' if default else number}.{name}").strip()

        colours = self._file.colours
        url = safe_url(part("url", raw))
        title = one_line(part("title", marked))
        return Card(
            headline=one_line(part("headline", marked)),
            title=undisguised(title) if url else title,
            url=url,
            body=part("body", marked),
            fields=tuple(_fields(number, row, marked))[:MAX_FIELDS],
            colour=colours.get(part("colour", raw)) or colours.get("neutral", ""),
            footer=one_line(part("footer", marked)),
            icon=safe_url(part("icon", raw)),
            time=_instant(part("time", raw), now),
            fallback=_summary(part("context", plain), part("headline", plain), part("title", plain)),
        )


class Chat:
    """A chat file: cards become the JSON document that the service takes. Raises ConfigurationError if it is wrong."""

    def __init__(self, name: str, text: str) -> None:
        self._file = _read(name, text, ChatFile)
        try:
            re.compile(self._file.marks.unit)
        except re.error as error:
            raise ConfigurationError(f"{name}: marks.unit: {error}") from None
        self._environment = _environment({}, _as_json)
        _add(self._environment, name, "message", self._file.message)

    @property
    def marks(self) -> Marks:
        return self._file.marks

    def document(self, card: Card) -> dict[str, object]:
        """The document for a card, within the limits of the service. Raises ConfigurationError if it is not JSON."""
        variables = {**msgspec.to_builtins(card), "time": card.time // SECOND}
        written = self._environment.render_template("message", **variables)
        try:
            document = msgspec.json.decode(written)
        except msgspec.DecodeError as error:
            raise ConfigurationError(f"{self._file.title}: the message is not JSON: {error}") from None
        return cast("dict[str, object]", fitted(without_empty(document), self._file.limits, self.marks))


def without_empty(document: Any) -> Any:
    """A document without the members and items that are null, empty text, an empty list or an empty object."""
    if isinstance(document, dict):
        members = ((key, without_empty(value)) for key, value in document.items())
        return {key: value for key, value in members if value not in (None, "", [], {})}
    if isinstance(document, list):
        return [value for value in map(without_empty, document) if value not in (None, "", [], {})]
    return document


def fitted(document: Any, limits: Mapping[str, int], marks: Marks, path: str = "") -> Any:
    """A document within `limits`: by path, the most characters of a text, the most items of a list.

    The path of a member names the members above it, joined by full stops; lists have no step of their own.
    """
    limit = limits.get(path)
    if isinstance(document, dict):
        return {key: fitted(value, limits, marks, f"{path}.{key}" if path else key) for key, value in document.items()}
    if isinstance(document, list):
        return [fitted(value, limits, marks, path) for value in document[:limit]]
    if isinstance(document, str) and limit is not None:
        return shortened(marks, document, limit)
    return document


class _Evaluation:
    """The compiled parts of a file, with the variables of one event."""

    def __init__(self, environment: Environment, values: Mapping[str, str], variables: Mapping[str, Any]) -> None:
        self._environment = environment
        self._variables = {**variables}
        for name, expression in values.items():
            try:
                self._variables[name] = environment.eval_expr(expression, **self._variables)
            except _UNFIT:
                # a member of the payload with that name must not stand in for a value that cannot be had
                self._variables.pop(name, None)

    def text(self, part: str) -> str:
        """A part; empty if there is none, or if the payload lacks what it needs."""
        try:
            return self._environment.render_template(part, **self._variables)
        except _UNFIT:
            return ""


def _matches(patterns: str | tuple[str, ...], event: str) -> bool:
    wanted = (patterns,) if isinstance(patterns, str) else patterns
    return any(fnmatchcase(event, pattern) for pattern in wanted)


def _fields(number: int, row: MessageTemplate, evaluation: _Evaluation) -> Iterator[Field]:
    for place, field in enumerate(row.fields):
        value = evaluation.text(f"{number}.fields.{place}").strip()
        if value:
            yield Field(field.name, value)


def _summary(context: str, headline: str, title: str) -> str:
    said = ": ".join(filter(None, (headline, title)))
    return one_line(f"[{context}] {said}" if context else said)


def _instant(text: str, now: int) -> int:
    try:
        return from_rfc3339(text)
    except (ValueError, OverflowError):
        return now


def _as_json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _parts_of(file: TemplateFile) -> Iterator[tuple[str, str]]:
    """The templates of a file, by the names under which they are rendered."""
    for key, expression in file.values.items():
        yield f"values.{key}", f"{{{{ {expression} }}}}"
    for part in Defaults.__struct_fields__:
        yield f"defaults.{part}", getattr(file.defaults, part)
    for number, row in enumerate(file.message):
        yield f"{number}.when", f"{{% if {row.when or 'true'} %}}yes{{% endif %}}"
        for part in _PARTS:
            yield f"{number}.{part}", getattr(row, part) or ""
        for place, field in enumerate(row.fields):
            yield f"{number}.fields.{place}", field.value


def _compiled(name: str, file: TemplateFile, writer: Writer, finalizer: Callable[[Any], str]) -> Environment:
    environment = _environment(writer.filters(), finalizer)
    for part, template in _parts_of(file):
        _add(environment, name, part, template)
    return environment


def _environment(filters: Mapping[str, Callable[..., object]], finalizer: Callable[[Any], str]) -> Environment:
    return Environment(
        filters=dict(filters),
        finalizer=finalizer,
        auto_escape_callback=lambda _: False,  # the finalizer escapes; HTML's way would escape once more
        undefined_behavior="strict",
        fuel=FUEL,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _add(environment: Environment, file: str, part: str, template: str) -> None:
    try:
        environment.add_template(part, template)
    except TemplateError as error:
        raise ConfigurationError(f"{file}: {part}: {error.message}") from None
    for name in _filters_of(template):
        if not _has_filter(environment, name):
            raise ConfigurationError(f"{file}: {part}: there is no filter {name!r}")


def _filters_of(template: str) -> set[str]:
    """The names behind bars in the tags of a template; the engine itself would miss a filter only when it runs."""
    return {name for tag in _TAG.findall(template) for name in _FILTER.findall(_LITERAL.sub("''", tag))}


def _has_filter(environment: Environment, name: str) -> bool:
    try:
        environment.eval_expr(f"'' | {name}")
    except TemplateError as error:
        return bool(error.kind != "UnknownFilter")
    except (TypeError, ValueError):
        return True
    return True


def _read(name: str, text: str, kind: type[_File]) -> _File:
    try:
        return msgspec.convert(tomllib.loads(text), kind)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise ConfigurationError(f"{name}: {error}") from None
