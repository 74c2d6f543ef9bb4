"""The program of a child process: takes jobs from a socket, runs each in a JavaScript engine of its own, and reports.

The first thing that it says is whether the kernel guards it.

An engine has no files, network, timers or modules, and lives for one job, so that nothing is left for the next. It stops
itself at limits of time, memory and depth. Loops inside of it that cannot be stopped end with the process: the kernel
sends SIGPROF when the processor time of a job is used up.
"""

import re
import signal
import socket
import sys
from typing import Any

import msgspec
import quickjs

from tenterhook.transformations.confinement import confine
from tenterhook.transformations.frames import Frames
from tenterhook.transformations.jobs import BESIDE_PAYLOAD, GUARDED, UNGUARDED, Job, Report

CPU_SECONDS = 0.5
"""How long one run may compute before the engine stops it, and says where."""
CPU_SECONDS_OF_PROCESS = 1.0
"""How long before the process is stopped, whatever it does."""
MEMORY = 64 << 20
STACK = 256 << 10

_HARNESS = """
(function () {
  "use strict";
  const { parse, stringify } = JSON, evaluate = eval, text = String;
  const named = "\\n;(typeof handler === 'function' ? handler : undefined)";
  const quiet = () => {};
  globalThis.console = { debug: quiet, error: quiet, info: quiet, log: quiet, warn: quiet };
  function problem(words) { return { error: words, stack: "" }; }
  function thrown(error) {
    try {
      return { error: text(error).toWellFormed(), stack: error instanceof Error ? text(error.stack).toWellFormed() : "" };
    } catch { return problem("it threw what cannot be shown"); }
  }
  function read(payload, isJson) {
    if (isJson) try { return parse(payload); } catch {}
    return payload;
  }
  function __work(code, given, payload, isJson) {
    const handler = evaluate(code + named);
    if (handler === undefined) return problem("there is no function named handler");
    if (given === null) return {};
    const webhook = parse(given), value = read(payload, isJson), before = stringify(value);
    webhook.payload = value;
    const made = handler(webhook);
    if (made === null || typeof made !== "object") return problem("handler must return the webhook, and returned " +
      (made === null ? "null" : typeof made) + "; to send nothing, set webhook.cancel to true");
    if (typeof made.then === "function") return problem("handler must not be async: it returned a promise");
    if (made.cancel) return { cancel: true };
    const after = made.payload, written = stringify(after), isText = !isJson && typeof after === "string";
    if (written === undefined) return problem("webhook.payload is missing");
    if (isText && !after.isWellFormed()) return problem("webhook.payload has half of a surrogate pair");
    return { method: made.method, url: made.url, headers: made.headers, text: isText,
      payload: written === before ? null : isText ? after : written };
  }
  return function __run(code, given, payload, isJson) {
    try { return stringify(__work(code, given, payload, isJson)); } catch (error) { return stringify(thrown(error)); }
  };
})()
"""
"""What was given to a transformation and what it gave back pass through text, so no object of one side reaches the other."""

_LINE = re.compile(r"^    at (?!__work |__run )(?:.* \()?<input>:(\d+)", re.MULTILINE)
"""The innermost place in the code, which the engine names like our own."""
_MOST_WORDS = 1_000
"""Of what code says of its failure."""
_OUT_OF_TIME = f"it took more than {CPU_SECONDS:g} seconds of computing"
_OUT_OF_MEMORY = f"it took more than {MEMORY >> 20} MiB of memory"


class _Made(msgspec.Struct):
    """What the harness returns, as JSON."""

    error: str | None = None
    stack: str = ""
    cancel: bool = False
    method: Any = None
    url: Any = None
    headers: Any = None
    payload: str | None = None
    text: bool = False


def transform(job: Job) -> Report:
    """Run one job to its end, in a fresh engine."""
    engine = quickjs.Context()
    engine.set_memory_limit(MEMORY)
    engine.set_max_stack_size(STACK)
    engine.set_time_limit(CPU_SECONDS)
    try:
        result = engine.eval(_HARNESS)(job.code, job.webhook, job.payload, job.is_json)
        made = msgspec.json.decode(result, type=_Made)
    except quickjs.JSException as error:
        # one of the limits, which the code cannot catch
        return _stopped(str(error))
    except (ValueError, TypeError):
        return Report(error="it gave back what is no webhook")
    if made.error is not None:
        return Report(error=_words(made.error), line=_line(made.stack))
    payload = None if made.payload is None else made.payload.encode()
    if payload is not None and len(payload) > job.most:
        return Report(error=f"webhook.payload has more than {job.most} bytes")
    return Report(
        cancel=made.cancel, method=made.method, url=made.url, headers=made.headers, payload=payload, text=made.text
    )


def _stopped(said: str) -> Report:
    return Report(error=_OUT_OF_TIME if "interrupted" in said else _OUT_OF_MEMORY, line=_line(said))


def _words(error: str) -> str:
    """What is said of an error; an engine without memory throws null, since an error would need some."""
    if error == "null":
        return f"it threw null, or {_OUT_OF_MEMORY.removeprefix('it ')}"
    return _OUT_OF_MEMORY if error == "InternalError: out of memory" else error[:_MOST_WORDS]


def _line(stack: str) -> int | None:
    """The line of the code that was running."""
    found = _LINE.search(stack)
    return None if found is None else int(found[1])


def answer_to(job: Job) -> bytes:
    """The report on a job, as a frame."""
    answer = msgspec.msgpack.encode(transform(job))
    if len(answer) <= job.most + BESIDE_PAYLOAD:
        return answer
    return msgspec.msgpack.encode(Report(error="webhook.url and webhook.headers are too long"))


def main() -> None:
    """Serve the socket that is standard input until the other side closes it."""
    frames = Frames(socket.socket(fileno=sys.stdin.fileno()))
    for number in (signal.SIGINT, signal.SIGTERM):
        # meant for the server, which lets runs that have begun come to their end
        signal.signal(number, signal.SIG_IGN)
    frames.write(GUARDED if confine() else UNGUARDED)
    while True:
        try:
            frame = frames.read()
        except EOFError:
            return
        signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS_OF_PROCESS)
        answer = answer_to(msgspec.msgpack.decode(frame, type=Job))
        signal.setitimer(signal.ITIMER_PROF, 0)
        frames.write(answer)


if __name__ == "__main__":
    main()
