"""How the log is written: lines for people, or one JSON object per line, on standard error."""

import logging
from typing import IO

import msgspec

from tenterhook.clock import MILLISECOND, to_rfc3339

_encode = msgspec.json.Encoder().encode


class TextLines(logging.Formatter):
    """`2026-01-31T12:00:00.123456Z warning tenterhook: text`, then the traceback if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        line = f"{_time(record)} {record.levelname.lower()} {record.name}: {record.getMessage()}"
        return line if record.exc_info is None else f"{line}\n{self.formatException(record.exc_info)}"


class JsonLines(logging.Formatter):
    """One object per record: `time`, `level`, `logger`, `message`, and `traceback` if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info is not None:
            line["traceback"] = self.formatException(record.exc_info)
        return _encode(line).decode()


FORMATS: dict[str, type[logging.Formatter]] = {"text": TextLines, "json": JsonLines}
"""By the values of the setting `log_format`."""


def configure(level: str, form: str, stream: IO[str] | None = None) -> None:
    """Send the log to `stream` (standard error). Chatter of the HTTP server about its own life is left out."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(FORMATS[form]())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for noisy in ("uvicorn", "uvicorn.error", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def _time(record: logging.LogRecord) -> str:
    return to_rfc3339(int(record.created * 1_000) * MILLISECOND)
