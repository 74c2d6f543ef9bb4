"""How signatures are written into the value that holds them: alone, behind a prefix, or in a list."""

from collections.abc import Callable, Iterator

from msgspec import Struct

from tenterhook.errors import Invalid


class ParseSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to find the signatures in a value: nothing set means that the value is the signature.

    `prefix` must stand before it. With `split`, the value is a list: of labelled items (`sep` stands between label and
    value; `signature` and `timestamp` are labels), or by position (`order` names the items, the last name takes all
    that follow).
    """

    prefix: str = ""
    any_case: bool = False
    split: str = ""
    sep: str = ""
    signature: tuple[str, ...] = ()
    timestamp: str | None = None
    order: tuple[str, ...] = ()


class Parsed(Struct, frozen=True):
    """The signatures of a value, still encoded, and its timestamp."""

    signatures: list[bytes]
    timestamp: bytes | None = None


Parse = Callable[[bytes], Parsed | None]
"""None for a value that is not of the form."""

Write = Callable[[bytes, bytes], bytes]
"""An encoded signature and a timestamp → the value that holds them."""


def _prefixed(spec: ParseSpec) -> Parse:
    prefix = spec.prefix.encode()
    length = len(prefix)
    if not spec.any_case:
        return lambda value: Parsed([value[length:]]) if value.startswith(prefix) else None
    lower = prefix.lower()
    return lambda value: Parsed([value[length:]]) if value[:length].lower() == lower else None


def _labelled(spec: ParseSpec) -> Parse:
    split, sep = spec.split.encode(), spec.sep.encode()
    labels = frozenset(label.encode() for label in spec.signature)
    clock = None if spec.timestamp is None else spec.timestamp.encode()

    def parse(value: bytes) -> Parsed | None:
        signatures, times = [], []
        for item in value.split(split):
            label, found, rest = item.strip(b" \t").partition(sep)
            if found and label in labels:
                signatures.append(rest)
            elif found and label == clock:
                times.append(rest)
        if not signatures or len(times) > 1:
            return None
        return Parsed(signatures, times[0] if times else None)

    return parse


def _positional(spec: ParseSpec) -> Parse:
    split, order = spec.split.encode(), spec.order

    def parse(value: bytes) -> Parsed | None:
        items = value.split(split)
        if len(items) < len(order):
            return None
        names = (*order, *(order[-1:] * (len(items) - len(order))))
        times = [item for name, item in zip(names, items) if name == "timestamp"]
        signatures = [item for name, item in zip(names, items) if name == "signature"]
        return Parsed(signatures, times[0] if times else None) if len(times) < 2 else None

    return parse


def _form(spec: ParseSpec) -> str:
    """Which of the forms a ParseSpec is. Raises Invalid for a mixture."""
    lists = bool(spec.split or spec.sep or spec.signature or spec.timestamp or spec.order)
    if not lists:
        return "prefixed"
    if spec.prefix or not spec.split:
        raise Invalid("parse has either a prefix, or split and what the list consists of")
    if spec.order:
        if spec.sep or spec.signature or not set(spec.order) <= {"timestamp", "signature", "_"}:
            raise Invalid('the order of a list consists of "timestamp", "signature" and "_" (to be skipped)')
        return "positional"
    if not (spec.sep and spec.signature):
        raise Invalid("a labelled list needs split, sep and the labels of signatures")
    return "labelled"


FORMS: dict[str, Callable[[ParseSpec], Parse]] = {
    "prefixed": _prefixed,
    "labelled": _labelled,
    "positional": _positional,
}


def parser(spec: ParseSpec) -> Parse:
    """The function that finds the signatures in a value. Raises Invalid."""
    return FORMS[_form(spec)](spec)


def _list_items(spec: ParseSpec, signature: bytes, timestamp: bytes) -> Iterator[bytes]:
    if spec.order:
        known = {"timestamp": timestamp, "signature": signature}
        yield from (known.get(name, b"") for name in spec.order)
        return
    if spec.timestamp is not None:
        yield spec.timestamp.encode() + spec.sep.encode() + timestamp
    yield spec.signature[0].encode() + spec.sep.encode() + signature


def written(spec: ParseSpec, signature: bytes, timestamp: bytes) -> bytes:
    """The value that holds a signature: the inverse of what `parser` makes."""
    if _form(spec) == "prefixed":
        return spec.prefix.encode() + signature
    return spec.split.encode().join(_list_items(spec, signature, timestamp))
