"""Shows the progress of one rule while it runs: a bar and a line on a terminal, a few plain lines elsewhere.

Output is written in a worker thread: a terminal that was stopped (Ctrl-S) or a pipe that is not read must not block
the replication. Once the reader is gone or the disk of an output file is full, nothing more is written.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from contextlib import nullcontext
from typing import TYPE_CHECKING, TextIO

import attrs
import trio

from i2core.api import Code
from i2core.cli.output import printable, size
from i2core.cli.words import words
from i2core.config.words import language
from i2core.rule.life.status import RuleStatus, State

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

DRAW_S = 0.1
LOOK_S = 0.5
"""Seconds between two checks whether a plain line is due."""
PLAIN_S = 30.0
"""Seconds between plain lines when nothing but the figures changed."""
RATE_S = 3.0
"""Seconds over which a rate is measured."""
LINES_KEPT = 200


@attrs.define
class Rate:
    """A counter's growth per second over the last `RATE_S` seconds."""

    _samples: deque[tuple[float, int]] = attrs.field(factory=deque, init=False)

    def feed(self, now_s: float, count: int) -> float:
        """Records the counter's value and returns its growth per second."""
        samples = self._samples
        samples.append((now_s, count))
        while len(samples) > 2 and now_s - samples[1][0] >= RATE_S:
            samples.popleft()
        began, first = samples[0]
        return (count - first) / (now_s - began) if now_s > began else 0.0


def eta_seconds(status: RuleStatus, bytes_per_s: float, files_per_s: float) -> float | None:
    """Seconds until the mirror is done at these rates: by bytes where there are any, else by files. None while the
    total is not listed yet, or while nothing moves."""
    if not status.listing_done:
        return None
    if status.listed_bytes:
        return (status.listed_bytes - status.checked_bytes) / bytes_per_s if bytes_per_s > 0 else None
    return (status.listed_files - status.checked_files) / files_per_s if files_per_s > 0 else None


def clock(seconds: float) -> str:
    """``0:07``, ``12:34``, ``3:04:05``."""
    total = round(seconds)
    hours, rest = divmod(total, 3600)
    minutes, second = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{second:02}" if hours else f"{minutes}:{second:02}"


@attrs.define
class Progress:
    """Draws `status` on `stream` until its task is cancelled."""

    status: RuleStatus
    once: bool
    stream: TextIO = attrs.field(factory=lambda: sys.stderr)
    _lines: deque[str] = attrs.field(factory=lambda: deque(maxlen=LINES_KEPT), init=False)
    _checked: Rate = attrs.field(factory=Rate, init=False)
    _sent: Rate = attrs.field(factory=Rate, init=False)
    _files: Rate = attrs.field(factory=Rate, init=False)
    _wire: Rate = attrs.field(factory=Rate, init=False)
    _told: State | None = attrs.field(default=None, init=False)
    _told_at: float = attrs.field(default=0.0, init=False)
    _read: bool = attrs.field(default=True, init=False)
    """False: the reader is gone."""

    def say(self, rule: str, code: Code | None, line: str) -> None:
        """Takes a log line; the next drawing shows it. Only lines with a code are shown."""
        del rule
        if code is not None and self._read:
            what = f"{code.text.zh}：" if language() == "zh" else ""
            self._lines.append(f"i2: [{code.value}] {what}{printable(line.removesuffix(f' [{code.value}]'))}")

    async def run(self) -> None:
        """Draws until cancelled, then once more with the last figures. Never ends by itself."""
        try:
            live = self._live() if self.stream.isatty() else None
            with live or nullcontext():
                try:
                    await self._draw_on(live)
                finally:
                    self._flush(live)
        except OSError:
            self._read = False
            await trio.sleep_forever()

    async def _draw_on(self, live: Live | None) -> None:
        while True:
            # Without a terminal a line is seldom due, and a thread must not be woken for nothing.
            if live is not None or self._lines or self._is_due(time.monotonic()):
                self.status.look()
                await trio.to_thread.run_sync(self._draw, live, abandon_on_cancel=True)
            await trio.sleep(LOOK_S if live is None else DRAW_S)

    def _live(self) -> Live:
        from rich.console import Console
        from rich.live import Live

        return Live(console=Console(file=self.stream), auto_refresh=False, transient=True)

    def _draw(self, live: Live | None) -> None:
        self._flush(live)
        if live is not None:
            live.update(self._picture(), refresh=True)
        else:
            self._print_line()

    def _flush(self, live: Live | None) -> None:
        while self._lines:
            line = self._lines.popleft()
            if live is not None:
                live.console.print(line, markup=False, highlight=False)
            else:
                print(line, file=self.stream, flush=True)

    def _is_due(self, now: float) -> bool:
        """True when the state changed, and now and then while it lasts."""
        state = self.status.state
        return state is not State.STOPPED and (state is not self._told or now - self._told_at >= PLAIN_S)

    def _print_line(self) -> None:
        now, state = time.monotonic(), self.status.state
        if not self._is_due(now):
            return
        if state is State.REPLICATING and self._told is not State.REPLICATING and not self.once:
            print(f"i2: {words('live')}", file=self.stream, flush=True)
        else:
            print(f"i2: {self._figures(now)}", file=self.stream, flush=True)
        self._told, self._told_at = state, now

    def _figures(self, now: float) -> str:
        status = self.status
        name = words("held" if status.held else status.state.value)
        wire = self._wire.feed(now, status.wire_bytes)
        if status.state is State.REPLICATING:
            worse = [f"{words('skipped')} {status.skipped_count:,}"] if status.skipped_count else []
            worse += [f"{words('doubtful')} {status.doubtful:,}"] if status.doubtful else []
            lag_ms = (status.lag_seconds or 0.0) * 1000
            return (
                f"{name}: {words('captured')} {status.captured:,}, {words('sent')} {status.seq:,}, "
                f"{words('applied')} {status.applied_seq:,}, {words('lag')} {lag_ms:,.0f} ms, "
                f"{', '.join([f'{size(int(wire))}/s', *worse])}"
            )
        # Bytes count as checked when their file is done. While a large file is sent, only the bytes sent show the pace.
        pace = max(self._checked.feed(now, status.checked_bytes), self._sent.feed(now, status.sent_bytes))
        eta = eta_seconds(status, pace, self._files.feed(now, status.checked_files))
        figures = [
            f"{status.percent}%",
            f"{words('listed')} {status.listed_files:,} {words('files')} ({size(status.listed_bytes)})",
            f"{words('checked')} {status.checked_files:,}",
            f"{words('sent')} {status.sent_files:,} ({size(status.sent_bytes)})",
            f"{size(int(pace))}/s",
        ]
        if eta is not None:
            figures.append(f"{words('left')} {clock(eta)}")
        if status.state in (State.ABNORMAL, State.INVALID) and status.cause:
            figures.append(printable(status.cause))
        return f"{name} " + ", ".join(figures)

    def _picture(self) -> RenderableType:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.text import Text

        line = Text(self._figures(time.monotonic()))  # wraps: on 80 columns the estimate would be cut off
        if self.status.mirrored:
            return line
        return Group(line, ProgressBar(total=100, completed=self.status.percent))
