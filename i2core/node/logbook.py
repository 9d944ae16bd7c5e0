"""The logbook: what a node did and met, as lines on stderr for people and as JSON lines on disk for programs.

A failing link or disk must never fill the disk with its own complaints, so the files are bounded and lines of one
rule and code are limited in rate; what was left out is counted and said.
"""

from __future__ import annotations

import json
import logging
import logging.handlers
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

import attrs

from i2core.api import Code

FILE_BYTES = 10_000_000
FILES = 5
"""Five files of 10 MB: some hundred thousand lines, and never more than 50 MB."""

BURST = 20
"""Lines of one (rule, code) let through in one window."""
WINDOW_S = 60.0


@attrs.define
class _Window:
    began_s: float
    count: int = 0
    left_out: int = 0


@attrs.define
class RateLimit:
    """Lets `BURST` lines of one key through in `WINDOW_S` seconds, and counts the rest."""

    clock: Callable[[], float] = time.monotonic
    _windows: dict[tuple[str, int | None], _Window] = attrs.field(factory=dict, init=False)

    def admit(self, key: tuple[str, int | None]) -> tuple[bool, int]:
        """Whether a line of `key` may pass now, and how many were left out in the window that just ended."""
        now = self.clock()
        window = self._windows.get(key)
        left_out = 0
        if window is None or now - window.began_s >= WINDOW_S:
            left_out = window.left_out if window else 0
            window = self._windows[key] = _Window(now)
        if window.count >= BURST:
            window.left_out += 1
            return False, 0
        window.count += 1
        return True, left_out


class _File(logging.handlers.RotatingFileHandler):
    """A full log disk is no reason to stop replicating, nor to say so for each line."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (logging's name)
        del record


class _JsonLine(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        code: Code | None = record.__dict__["code"]
        fields = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S") + f".{int(record.msecs):03d}" + time.strftime("%z"),
            "rule": record.__dict__["rule"],
            "code": None if code is None else code.value,
            "level": "info" if code is None else code.text.level.value,
            "line": record.getMessage(),
        }
        return json.dumps(fields)


class _HumanLine(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        code: Code | None = record.__dict__["code"]
        rule = record.__dict__["rule"]
        text = "".join(
            c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in record.getMessage()
        )
        return " ".join(
            part
            for part in (
                self.formatTime(record, "%Y-%m-%d %H:%M:%S"),
                f"{rule}:" if rule else "",
                f"[{code.value}]" if code else "",
                text,
            )
            if part
        )


class Logbook:
    """The `say` sink of a node. `directory` None: stderr alone."""

    def __init__(self, directory: Path | None, *, stderr: TextIO | None = None, limit: RateLimit | None = None) -> None:
        self._limit = limit or RateLimit()
        self._handlers: list[logging.Handler] = [logging.StreamHandler(stderr or sys.stderr)]
        self._handlers[0].setFormatter(_HumanLine())
        if directory is not None:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            file = _File(directory / "node.jsonl", maxBytes=FILE_BYTES, backupCount=FILES - 1, encoding="utf-8")
            file.setFormatter(_JsonLine())
            self._handlers.append(file)

    def say(self, rule: str, code: Code | None, line: str) -> None:
        """Notes one line about `rule` (``""``: the node itself). Never raises, never blocks for long."""
        passes, left_out = self._limit.admit((rule, None if code is None else code.value))
        if not passes:
            return
        if left_out:
            line = f"{line} ({left_out} more of this kind were left out)"
        record = logging.LogRecord("i2", logging.INFO, __file__, 0, line, None, None)
        record.__dict__.update(rule=rule, code=code)
        for handler in self._handlers:
            handler.handle(record)

    def close(self) -> None:
        """Closes the file; stderr stays open."""
        for handler in self._handlers[1:]:
            handler.close()
