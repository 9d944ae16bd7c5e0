"""The display of the demo: counters of both nodes and the lag, drawn on a terminal, as plain lines elsewhere."""

from __future__ import annotations

import statistics
import sys
from collections import deque
from typing import TYPE_CHECKING, Any

import attrs

from i2core.cli.output import size
from i2core.cli.words import words

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

_BARS = "▁▂▃▄▅▆▇█"
_HISTORY = 60
PLAIN_S = 2.0


@attrs.define
class Figures:
    """Figures of one moment, from the status of both nodes and the counts of the workload."""

    seconds: float = 0.0
    operations: int = 0
    captured: int = 0
    sent: int = 0
    applied: int = 0
    sent_bytes: int = 0
    lag_ms: float = 0.0


@attrs.define
class Lag:
    """Samples of the lag while the workload ran."""

    samples_ms: list[float] = attrs.field(factory=list)

    @property
    def median_ms(self) -> float:
        """0 without samples."""
        return statistics.median(self.samples_ms) if self.samples_ms else 0.0

    @property
    def worst_ms(self) -> float:
        """0 without samples."""
        return max(self.samples_ms, default=0.0)


def figures(seconds: float, operations: int, work: dict[str, Any], backup: dict[str, Any] | None) -> Figures:
    """Figures from the entries of ``i2 rule status --json`` on both nodes."""
    return Figures(
        seconds=seconds,
        operations=operations,
        captured=work["captured"],
        sent=work["seq"],
        applied=backup["seq"] if backup else 0,
        sent_bytes=work["sent_bytes"],
        lag_ms=(work["lag_seconds"] or 0.0) * 1000,
    )


def bars(values: deque[float]) -> str:
    """A line of little bars, the highest value as the full height."""
    top = max(values, default=0.0) or 1.0
    return "".join(_BARS[min(len(_BARS) - 1, int(value / top * (len(_BARS) - 1)))] for value in values)


class View:
    """Draws figures on stderr: stdout is for the verdict."""

    def __init__(self) -> None:
        self._history: deque[float] = deque(maxlen=_HISTORY)
        self._printed_s = -PLAIN_S
        self._live: Live | None = None

    def line(self, text: str) -> None:
        """Prints a line, above the drawing if there is one."""
        if self._live is not None:
            from rich.text import Text

            self._live.console.print(Text(text))
        else:
            print(text, file=sys.stderr, flush=True)

    def draw(self, now: Figures) -> None:
        """Shows one moment."""
        self._history.append(now.lag_ms)
        if sys.stderr.isatty():
            self._open().update(self._picture(now), refresh=True)
        elif now.seconds - self._printed_s >= PLAIN_S:
            self._printed_s = now.seconds
            print(_text(now), file=sys.stderr, flush=True)

    def close(self) -> None:
        """Ends the drawing and restores the terminal; the last picture stays."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _open(self) -> Live:
        if self._live is None:
            from rich.console import Console
            from rich.live import Live

            self._live = Live(console=Console(stderr=True), auto_refresh=False)
            self._live.start()
        return self._live

    def _picture(self, now: Figures) -> RenderableType:
        from rich.panel import Panel
        from rich.table import Table

        grid = Table.grid(padding=(0, 3))
        for _ in range(5):
            grid.add_column(justify="right", min_width=9)
        heads = ("operations", "captured", "sent", "applied", "lag")
        grid.add_row(*(f"[dim]{words(head)}[/dim]" for head in heads))
        counts = (now.operations, now.captured, now.sent, now.applied)
        grid.add_row(*(f"[bold]{count:,}[/bold]" for count in counts), f"[bold]{now.lag_ms:,.0f} ms[/bold]")
        outer = Table.grid()
        outer.add_row(grid)
        outer.add_row(f"[green]{bars(self._history)}[/green]")
        title = f"{words('work')} → {words('backup')}   {now.seconds:.0f} s   {size(now.sent_bytes)}"
        return Panel(outer, title=title, expand=False)


def _text(now: Figures) -> str:
    return (
        f"{now.seconds:4.0f} s  {words('operations')} {now.operations:,}  {words('captured')} {now.captured:,}  "
        f"{words('sent')} {now.sent:,}  {words('applied')} {now.applied:,}  {words('lag')} {now.lag_ms:,.0f} ms"
    )
