"""Text from outside, written in the markup of a chat service: escaped unless one of the filters here wrote it.

A template cannot forget to escape: what it prints is a `Rendered`, which only this module makes, or it is escaped.
"""

import json
import re
from collections.abc import Callable, Mapping

import msgspec
from msgspec import Struct

from tenterhook.clock import SECOND, from_rfc3339

ELLIPSIS = "…"
MAX_TEXT = 16_384
"""So much of a value is looked at: no message is longer, and a payload may be huge."""

MAX_VALUE = 500
MAX_LABEL = 250
MAX_LINK = 2_000


class Marks(Struct, frozen=True, forbid_unknown_fields=True):
    """How a chat service writes text. Swaps are done in order, each on the result of the one before.

    `unit` is a pattern of what must never be cut in two; `percent` are the characters that a URL may not hold, `url`
    and `label` are further swaps inside a link.
    """

    escape: tuple[tuple[str, str], ...]
    link: str
    bold: str
    code: str
    block: str
    unit: str = "."
    percent: str = "|<>"
    url: tuple[tuple[str, str], ...] = ()
    label: tuple[tuple[str, str], ...] = ()


class Rendered(Struct, frozen=True):
    """Markup that is safe to print. As text it is what it says without the markup, so joining it loses only that."""

    text: str
    plain: str
    linked: bool = False

    def __str__(self) -> str:
        return self.plain


def without_markup(marks: Marks) -> Marks:
    """The same escapes with bare text instead of links, bold and code: for a summary in one line."""
    return msgspec.structs.replace(marks, link="{label}", bold="{text}", code="{text}", block="{text}")


# C0 and C1 controls but tab and newline, surrogates, and the marks that turn the direction of writing
_UNWANTED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]")
_LINE_END = re.compile("\r\n?|[\u2028\u2029]")


def clean(text: str) -> str:
    """The text without control characters and without what could turn its direction; line ends as `\\n`."""
    return _UNWANTED.sub("", _LINE_END.sub("\n", text))


def one_line(text: str) -> str:
    """The text with all white space as single spaces."""
    return " ".join(text.split())


def text_of(value: object) -> str:
    """A value of a JSON document as people read it; nothing for null."""
    match value:
        case str():
            return clean(value[:MAX_TEXT])
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case int() | float():
            return str(value)
        case Rendered():
            return value.plain
        case list() | dict():
            return clean(_json(value, None, MAX_TEXT))
        case _:
            return ""


def swapped(text: str, swaps: tuple[tuple[str, str], ...]) -> str:
    for old, new in swaps:
        text = text.replace(old, new)
    return text


def cut(marks: Marks, text: str, size: int) -> str:
    """The longest beginning of a raw text that, escaped, has at most `size` characters, an ellipsis included."""
    if len(text) <= size and len(swapped(text, marks.escape)) <= size:
        return text
    room = size - len(ELLIPSIS)
    used = 0
    for place, character in enumerate(text):
        used += len(swapped(character, marks.escape))
        if used > room:
            return text[:place].rstrip() + ELLIPSIS
    return text


def shortened(marks: Marks, markup: str, size: int) -> str:
    """Markup of at most `size` characters: cut between units, so that no entity and no link is left half."""
    if len(markup) <= size:
        return markup
    end = 0
    for unit in re.finditer(f"{marks.unit}|.", markup, re.DOTALL):
        if unit.end() > size - len(ELLIPSIS):
            break
        end = unit.end()
    return markup[:end] + ELLIPSIS


_URL = re.compile(r"https?://[^\s/@?#\\]+(?:[/?#]\S*)?", re.IGNORECASE)
_SCHEME = re.compile(r"https?://", re.IGNORECASE)


def safe_url(value: object, percent: str = "|<>") -> str:
    """A web address that is fit to be a link, with the characters of `percent` encoded; empty for anything else."""
    text = value if isinstance(value, str) else ""
    if len(text) > MAX_LINK or clean(text) != text or not _URL.fullmatch(text):
        return ""
    if not any(character in text for character in percent):
        return text
    return "".join(f"%{ord(c):02X}" if c in percent else c for c in text)


def undisguised(label: str) -> str:
    """A label that does not look like a URL of its own: without `https://`, however often it was put into itself."""
    while _SCHEME.search(label):
        label = _SCHEME.sub("", label)
    return label


class Writer:
    """The filters of a template, for one kind of markup."""

    def __init__(self, marks: Marks) -> None:
        self.marks = marks

    def escaped(self, value: object, size: int = MAX_VALUE) -> str:
        """What a template prints: markup as it is, anything else cut and escaped."""
        if isinstance(value, Rendered):
            return value.text
        return swapped(cut(self.marks, text_of(value), size), self.marks.escape)

    def cut(self, value: object, size: int = MAX_VALUE) -> Rendered:
        """Text of at most `size` characters."""
        plain = cut(self.marks, text_of(value), size)
        return Rendered(swapped(plain, self.marks.escape), plain)

    def line(self, value: object, size: int = 120) -> Rendered:
        """The first line that is not empty."""
        lines = (one_line(line) for line in text_of(value).split("\n"))
        return self.cut(next(filter(None, lines), ""), size)

    def link(self, url: object, label: object = "") -> Rendered:
        """A link; only the label where the URL is not one of the web. A label never looks like another URL."""
        target = safe_url(url, self.marks.percent)
        if isinstance(label, Rendered) and not label.linked:
            text, plain = label.text, label.plain
        else:
            plain = one_line(text_of(label)) or target
            text = self.escaped(plain, MAX_LABEL)
        if not target:
            return Rendered(text, plain)
        label_text = swapped(undisguised(one_line(text)), self.marks.label)
        written = self.marks.link.replace("{label}", "\0").replace("{url}", swapped(target, self.marks.url))
        return Rendered(written.replace("\0", label_text), plain, linked=True)

    def bold(self, value: object) -> Rendered:
        plain = one_line(text_of(value))
        return self._wrapped(self.marks.bold, plain, self.escaped(plain))

    def code(self, value: object) -> Rendered:
        """Text in code font; its own back quotes become apostrophes."""
        plain = one_line(text_of(value)).replace("`", "'")
        return self._wrapped(self.marks.code, plain, self.escaped(plain))

    def block(self, value: object, size: int = 2_500) -> Rendered:
        """Lines in code font."""
        plain = cut(self.marks, text_of(value).replace("```", "'''"), size)
        return self._wrapped(self.marks.block, plain, swapped(plain, self.marks.escape))

    def json(self, value: object, size: int = 2_500) -> Rendered:
        """A value as indented JSON in code font."""
        return self.block(_json(value, 2, MAX_TEXT), size)

    def markdown(self, value: object, size: int = 1_000) -> Rendered:
        """GitHub's Markdown, simply: comments go; headings, bold, bullets and links are shown, each link with its URL."""
        source = _COMMENT.sub("", text_of(value)[: 8 * size]).strip()
        source = cut(self.marks, _BLANK_LINES.sub("\n\n", source), size)
        lines, in_code = [], False
        for line in source.split("\n"):
            fence = line.lstrip().startswith("```")
            in_code ^= fence
            lines.append("```" if fence else self.escaped(line, size) if in_code else self._markdown_line(line))
        if in_code:
            lines.append("```")
        return Rendered(shortened(self.marks, "\n".join(lines), size + 8), source)

    def _markdown_line(self, line: str) -> str:
        heading = _HEADING.fullmatch(line)
        if heading is not None:
            return self.bold(_plain_marks(heading[1])).text
        line = _BULLET.sub(lambda found: found[1] + _BULLETS.get(found[2] or "", "•") + " ", _shown_links(line))
        pieces, end = [], 0
        for found in _BOLD.finditer(line):
            pieces += [self._plain(line[end : found.start()]), self.bold(found[1] or found[2]).text]
            end = found.end()
        return "".join([*pieces, self._plain(line[end:])])

    def _plain(self, text: str) -> str:
        return swapped(text, self.marks.escape)

    @staticmethod
    def _wrapped(form: str, plain: str, text: str) -> Rendered:
        return Rendered(form.replace("{text}", text) if text else "", plain)

    def filters(self) -> Mapping[str, Callable[..., object]]:
        """What templates may call."""
        names = ("link", "bold", "code", "block", "json", "markdown", "line", "cut")
        return {**{name: getattr(self, name) for name in names}, "span": span}


_COMMENT = re.compile(r"<!--.*?(?:-->|\Z)", re.DOTALL)
_BLANK_LINES = re.compile(r"\n\s*\n")
_HEADING = re.compile(r" {0,3}#{1,6}[ \t]+(.*?)[ \t#]*")
_BULLET = re.compile(r"^([ \t]*)[*+-] (\[[ xX]\] )?")
_BULLETS = {"[ ] ": "☐", "[x] ": "☑", "[X] ": "☑"}
_BOLD = re.compile(r"\*\*([^*\n]{1,300})\*\*|\b__([^_\n]{1,300})__\b")
_LINK = re.compile(r"!?\[([^\[\]\n]{0,300})\]\((https?://[^\s()<>]{1,1000})\)")


def _shown_links(line: str) -> str:
    """`[label](url)` as `label (url)`: nothing that a stranger wrote leads elsewhere than it says."""
    return _LINK.sub(lambda found: found[2] if found[1] in ("", found[2]) else f"{found[1]} ({found[2]})", line)


def _plain_marks(line: str) -> str:
    return _shown_links(line).replace("**", "").replace("__", "")


def span(start: object, end: object) -> str:
    """The time between two RFC 3339 instants: `1h 2m`, `3m 12s`, `45s`; nothing where that makes no sense."""
    try:
        seconds = (from_rfc3339(str(end)) - from_rfc3339(str(start))) // SECOND
    except (ValueError, OverflowError):
        return ""
    if seconds < 0:
        return ""
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h {minutes}m" if hours else f"{minutes}m {rest}s" if minutes else f"{rest}s"


def _json(value: object, indent: int | None, most: int) -> str:
    """The first `most` characters of a value as JSON; empty if it cannot be written as such."""
    pieces, size = [], 0
    try:
        for piece in json.JSONEncoder(ensure_ascii=False, indent=indent, default=str).iterencode(value):
            pieces.append(piece)
            size += len(piece)
            if size > most:
                break
    except (ValueError, TypeError, RecursionError):
        return ""
    return "".join(pieces)[:most]
