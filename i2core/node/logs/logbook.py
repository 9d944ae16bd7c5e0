"""The log of a node: lines on stderr for people, and JSON lines on disk for programs.

Every line has a cursor, a number that only grows, also across restarts. A follower asks for the lines after its last
cursor, and misses nothing that came while it was away. The files are bounded in size and age, lines in length, and
lines of one rule and code, or about one peer, in rate: suppressed lines are counted, and their number is logged.
"""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import attrs
import trio

from i2core.api import Code
from i2core.config.words import language
from i2core.node.logs.entry import entry_of, human
from i2core.node.logs.log_files import LogFiles, oldest_cursor, read_entries
from i2core.node.logs.repeats import Kind, RepeatLimit, Suppressed
from i2core.rule.life.report import Line

KEEP_DAYS = 90
RECENT = 1000
"""Entries kept in memory: for followers that are up to date, and in case the disk cannot be written to."""
TIDY_S = 60.0
START = 1_000_000_000
"""Each start of the node begins a new billion of cursors. Otherwise: a power cut loses the last lines on disk, a
follower has seen them, new lines get the same cursors, and the follower misses the new lines."""


@attrs.frozen
class Page:
    """One answer to a follower."""

    events: list[dict[str, Any]]
    """Oldest first."""
    cursor: int
    """The cursor for the next request."""
    oldest: int
    newest: int
    """First and last cursor of this node; 0 if there are none."""
    lost: bool
    """Some entries after the requested cursor are gone: removed as too old, or with the log's directory."""

    def as_json(self) -> dict[str, Any]:
        """``{"events", "cursor", "oldest", "newest", "lost"}``."""
        return attrs.asdict(self, recurse=False)


def is_lost(after: int, oldest: int) -> bool:
    """Whether entries after the cursor `after` are gone, if `oldest` is the first cursor left."""
    return after + 1 < oldest and oldest != START + 1


class Logbook:
    """The `say` sink of a node. `directory` None: only stderr and memory. `clock` returns Unix time."""

    def __init__(
        self,
        directory: Path | None,
        *,
        keep_days: int = KEEP_DAYS,
        stderr: TextIO | None = None,
        limit: RepeatLimit | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._limit = limit or RepeatLimit()
        self._stderr = stderr or sys.stderr
        self._clock = clock
        self._directory = directory
        self._files = None if directory is None else LogFiles(directory, keep_days, clock)
        last = self._files.last_cursor if self._files else 0
        self._cursor = self._start = (last // START + 1) * START
        self._recent: deque[dict[str, Any]] = deque(maxlen=RECENT)
        self._unwritten: deque[bytes] = deque(maxlen=RECENT)
        self._waiting: dict[trio.Event, trio.lowlevel.TrioToken] = {}
        self._lock = threading.Lock()

    # ------------------------------------------------------------------------------------------ writing

    def say(self, rule: str, code: Code | None, line: str) -> None:
        """Logs one line about `rule` (``""``: the node itself); a `Line` has separate parts. Callable from any thread.
        Never raises, never blocks for long."""
        with self._lock:
            self._log_suppressed(self._limit.ended())
            peer = line.peer if isinstance(line, Line) else ""
            if self._limit.admit(Kind(rule, None if code is None else code.value, peer), len(line)):
                self._note(rule, code, line)

    def tidy(self) -> None:
        """Logs the number of suppressed lines, and removes files that are too old; call it regularly."""
        with self._lock:
            self._log_suppressed(self._limit.ended())
            if self._files:
                self._files.tidy()

    async def keep_tidy(self) -> None:
        """`tidy` once a minute, until cancelled."""
        while True:
            await trio.sleep(TIDY_S)
            self.tidy()

    def close(self) -> None:
        """Logs the number of suppressed lines, and closes the files; stderr stays open."""
        with self._lock:
            self._log_suppressed(self._limit.ended(all_of_them=True))
            if self._files:
                self._files.close()
                self._files = None

    def _log_suppressed(self, ended: list[Suppressed]) -> None:
        for kind, peer, count in ended:
            if kind is None:
                self._note("", None, f"{count} more lines about sessions of {peer} were suppressed")
            else:
                code = None if kind.code is None else Code(kind.code)
                self._note(kind.rule, code, f"{count} more lines of this kind were suppressed")

    def _note(self, rule: str, code: Code | None, line: str) -> None:
        self._cursor += 1
        entry = entry_of(self._cursor, self._clock(), rule, code, line)
        # A full log disk or a closed terminal must not stop replication, and must not be reported for each line.
        with contextlib.suppress(OSError, ValueError):
            self._stderr.write(human(entry, language()) + "\n")
            self._stderr.flush()
        self._recent.append(entry)
        self._unwritten.append(_encoded(entry))
        if self._files:
            # The first line of a start must be durable: otherwise the next start would use the same billion of cursors.
            while self._unwritten and self._files.append(self._unwritten[0], sync=self._cursor == self._start + 1):
                self._unwritten.popleft()
        else:
            self._unwritten.clear()
        for event, token in self._waiting.items():
            with contextlib.suppress(trio.RunFinishedError):
                token.run_sync_soon(event.set)
        self._waiting.clear()

    # ------------------------------------------------------------------------------------------ following

    async def events(
        self, after: int | None = None, *, wait_s: float = 0.0, limit: int = 500, rule: str | None = None
    ) -> Page:
        """The entries after the cursor `after` (None: all), at most `limit`; waits up to `wait_s` seconds while there
        are none. With `rule`, only those of that rule; the page's cursor is then after the entries that were skipped.

        Raises:
            OSError: the disk fails.
        """
        cursor, oldest = after or 0, await self._oldest()
        lost = after is not None and (is_lost(after, oldest) or after > self._cursor)
        if cursor > self._cursor:
            cursor = 0  # the cursor is from another log: all entries of this one are new to the follower
        until = trio.current_time() + wait_s
        while True:
            come = trio.Event()
            passed = await self._after(cursor, limit, come)
            cursor = passed[-1]["cursor"] if passed else cursor
            found = [entry for entry in passed if rule is None or entry["rule"] == rule]
            if found or lost or (not passed and not await self._wait(come, until)):
                return Page(found, cursor, oldest, self._newest, lost)

    async def _wait(self, come: trio.Event, until: float) -> bool:
        """False: no entry came until then."""
        with trio.move_on_at(until):
            await come.wait()
        with self._lock:
            self._waiting.pop(come, None)
        return come.is_set()

    @property
    def _newest(self) -> int:
        return self._cursor if self._cursor > self._start else self._files.last_cursor if self._files else 0

    async def _oldest(self) -> int:
        oldest = await trio.to_thread.run_sync(oldest_cursor, self._directory) if self._directory else 0
        return oldest or (self._recent[0]["cursor"] if self._recent else 0)

    async def _after(self, cursor: int, limit: int, come: trio.Event) -> list[dict[str, Any]]:
        """Entries after `cursor`; if there are none, `come` is set as soon as one comes."""
        with self._lock:
            recent = list(self._recent)
            if not recent or recent[-1]["cursor"] <= cursor:
                self._waiting[come] = trio.lowlevel.current_trio_token()
        if self._directory and not (recent and recent[0]["cursor"] <= cursor + 1):
            # The files may have been removed; the next line creates them again.
            with contextlib.suppress(FileNotFoundError):
                found = await trio.to_thread.run_sync(read_entries, self._directory, cursor, limit)
                if found:
                    return found
        return [entry for entry in recent if entry["cursor"] > cursor][:limit]


def _encoded(entry: dict[str, Any]) -> bytes:
    try:
        return json.dumps(entry, ensure_ascii=False).encode() + b"\n"
    except UnicodeEncodeError:  # a name that is not UTF-8
        return json.dumps(entry).encode() + b"\n"
