"""Where a command's words go: one JSON document or human lines on stdout, everything else on stderr.

File names are hostile: what reaches a terminal has its control characters escaped, what reaches a program is
ASCII JSON.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from i2core.cli.words import words
from i2core.config.words import language

if TYPE_CHECKING:
    from i2core.api import I2Error

_JSON = "i2core.cli.json"
Command = TypeVar("Command", bound=Callable[..., Any])


def json_option(command: Command) -> Command:
    """Gives a command ``--json``; `wants_json` tells whether it was given."""

    def note(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
        context.meta[_JSON] = value

    return click.option(
        "--json",
        "as_json",
        is_flag=True,
        expose_value=False,
        is_eager=True,
        callback=note,
        help="Print one JSON document on stdout; progress and words go to stderr.",
    )(command)


def wants_json(context: click.Context | None = None) -> bool:
    """True when the command of this invocation was given ``--json``."""
    return bool((context or click.get_current_context()).meta.get(_JSON))


def document(value: Any) -> None:
    """Prints the command's one JSON document. Bytes that are no UTF-8 stay as lone surrogates (``\\udcXX``)."""
    click.echo(json.dumps(value, indent=2))


def shown(text: str) -> str:
    """`text` fit for a terminal line: control characters and bytes that are no UTF-8 as backslash escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def size(count: int) -> str:
    """Bytes for people, decimal units as disks and links are sold: ``12.3 MB``."""
    if count < 1000:
        return f"{count} B"
    value = float(count)
    for unit in ("kB", "MB", "GB"):
        value /= 1000
        if value < 999.95:
            return f"{value:.1f} {unit}"
    return f"{value / 1000:.1f} TB"


_FOLDED_COLUMNS = 30
"""The widest column of a table keeps at least so much of a terminal's width."""


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints aligned columns on stdout. On a terminal that is too narrow the widest column folds, and no other gives
    way. Never wraps when stdout is no terminal, so that grep and cut work."""
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", show_header=any(heads))
    cells = [[shown(cell) for cell in row] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(heads, *cells, strict=True)]
    widest = widths.index(max(widths))
    for number, head in enumerate(heads):
        drawn.add_column(head, no_wrap=number != widest, overflow="fold")
    for row in cells:
        drawn.add_row(*map(Text, row))
    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else 1000, highlight=False)
    if sys.stdout.isatty():
        others = sum(width + 2 for width in widths) - widths[widest]
        console.width = max(console.width, others + min(widths[widest], _FOLDED_COLUMNS))
    console.print(drawn, soft_wrap=False)


def error_lines(error: I2Error) -> list[str]:
    """An error for a person, one line for each mistake: what, where, why, next step, code."""
    from i2core.config.mistakes import ConfigErrors

    if isinstance(error, ConfigErrors):
        return [f"i2: {words('error')}: {shown(str(mistake))}" for mistake in error.mistakes]
    chinese = language() == "zh"
    text = error.code.text
    where = f"{shown(error.obj)}: " if error.obj else ""
    what = text.zh if chinese else text.en
    step = error.next_step or (text.next_zh if chinese else text.next_en)
    return [f"i2: {words('error')} {error.code.value}: {what}: {where}{shown(error.cause)} ({words('next')}: {step})"]
