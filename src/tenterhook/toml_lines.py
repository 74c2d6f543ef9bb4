"""Where the parts of a TOML document stand: `tomllib` gives the values, this the lines, for errors that name them."""

import re
import tomllib

Path = tuple[str | int, ...]
"""The way to a value: keys, and positions in arrays: `("endpoint", 1, "headers", "X-Team")`."""

_TOKEN = re.compile(
    r'''
      (?P<string> """(?:\\.|(?!""").)*"""(?:"{1,2})? | \'\'\'(?:(?!\'\'\').)*\'\'\'(?:\'{1,2})?
                | "(?:\\.|[^"\\\n])*" | '[^'\n]*' )
    | (?P<newline> \n )
    | (?P<blank> [ \t\r]+ | \#[^\n]* )
    | (?P<mark> [\[\]{},=.] )
    | (?P<bare> [^\s\[\]{},=."'\#]+ )
    ''',
    re.VERBOSE | re.DOTALL,
)

_Token = tuple[str, str, int]
_END: _Token = ("end", "", 0)


def lines_of(text: str) -> dict[Path, int]:
    """The line (from 1) of every table, key and array item of a document that `tomllib` has accepted.

    A table that several headers describe stands where its own header is, or else where it is first named.
    """
    return _Scan(text).document()


def line_of(lines: dict[Path, int], path: Path) -> int:
    """The line of a path, or of the innermost known part around it."""
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path, 1)


def _tokens(text: str) -> list[_Token]:
    found, line = [], 1
    for match in _TOKEN.finditer(text):
        kind = str(match.lastgroup)
        if kind != "blank":
            found.append((kind, match[0], line))
        line += match[0].count("\n")
    return found


def _decoded(token: _Token) -> str:
    kind, text, _ = token
    return str(tomllib.loads(f"key = {text}")["key"]) if kind == "string" else text


class _Scan:
    """One pass over the tokens. The document is known to be right, so nothing is checked."""

    def __init__(self, text: str) -> None:
        self._left = _tokens(text)[::-1]
        self._lines: dict[Path, int] = {}
        self._tables_of: dict[Path, int] = {}  # how many tables an array of tables has so far

    def document(self) -> dict[Path, int]:
        base: Path = ()
        while self._peek() is not _END:
            if self._peek()[1] == "[" and self._peek()[0] == "mark":
                base = self._header()
            elif self._peek()[0] == "newline":
                self._left.pop()
            else:
                self._pair(base)
        return self._lines

    def _peek(self) -> _Token:
        return self._left[-1] if self._left else _END

    def _take_mark(self, mark: str) -> bool:
        taken = self._peek()[:2] == ("mark", mark)
        if taken:
            self._left.pop()
        return taken

    def _skip_newlines(self) -> None:
        while self._peek()[0] == "newline":
            self._left.pop()

    def _key(self) -> list[str]:
        """The parts of a dotted key."""
        parts = []
        while self._peek()[0] in ("string", "bare") or self._peek()[1] == ".":
            if not self._take_mark("."):
                parts.append(_decoded(self._left.pop()))
        return parts

    def _header(self) -> Path:
        """`[a.b]` or `[[a.b]]`: the path that the lines below belong to."""
        line = self._left.pop()[2]
        of_array = self._take_mark("[")
        path: Path = ()
        for part in self._key():
            path = self._inside((*path, part), line)
        if of_array:
            # the walk ended inside the latest table of the array, or at an array that is new
            array = path[:-1] if isinstance(path[-1], int) else path
            number = self._tables_of.get(array, 0)
            self._tables_of[array] = number + 1
            path = (*array, number)
        self._lines[path] = line
        while self._take_mark("]"):
            pass
        return path

    def _inside(self, path: Path, line: int) -> Path:
        """The table that a key of a header leads into: of an array of tables, the latest."""
        self._lines.setdefault(path, line)
        return (*path, self._tables_of[path] - 1) if path in self._tables_of else path

    def _pair(self, base: Path) -> None:
        line, path = self._peek()[2], base
        for part in self._key():
            path = (*path, part)
            self._lines.setdefault(path, line)
        self._take_mark("=")
        self._value(path)

    def _value(self, path: Path) -> None:
        if self._take_mark("["):
            self._array(path)
        elif self._take_mark("{"):
            self._inline_table(path)
        elif self._left.pop()[0] != "string":
            # a number or a time may have dots and a blank inside
            while self._peek()[0] == "bare" or self._peek()[1] == ".":
                self._left.pop()

    def _array(self, path: Path) -> None:
        number = 0
        self._skip_newlines()
        while not self._take_mark("]"):
            if not self._take_mark(","):
                self._lines[(*path, number)] = self._peek()[2]
                self._value((*path, number))
                number += 1
            self._skip_newlines()

    def _inline_table(self, path: Path) -> None:
        self._skip_newlines()
        while not self._take_mark("}"):
            if not self._take_mark(","):
                self._pair(path)
            self._skip_newlines()
