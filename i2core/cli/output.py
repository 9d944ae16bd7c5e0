"""Output of commands: one JSON document or lines for people on stdout, everything else on stderr.

File names are hostile: control characters are escaped for a terminal, and programs get ASCII JSON.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from i2core.cli.words import words
from i2core.config.words import language

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer as Buffer

    from i2core.api import I2Error

_JSON = "i2core.cli.json"
Command = TypeVar("Command", bound=Callable[..., Any])


class OutputFailed(OSError):
    """Stdout cannot be written to: its disk is full, or its device fails. What the command did is done all the same."""


class _Stdout(io.FileIO):
    """Tells a failure of the output apart from any other. A reader that is gone stays a `BrokenPipeError`: a command
    that prints on and on ends with it."""

    def write(self, data: Buffer, /) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputFailed(error.errno, error.strerror) from error


def stdout(fd: int, encoding: str) -> io.TextIOWrapper:
    """The stream for the output of all commands. Characters that the encoding lacks are written as escapes."""
    raw = _Stdout(fd, "w", closefd=False)
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding, errors="backslashreplace", line_buffering=raw.isatty())


def json_option(command: Command) -> Command:
    """Gives a command ``--json``; `wants_json` returns whether it was given."""

    def note(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
        context.meta[_JSON] = value

    return click.option(
        "--json",
        "as_json",
        is_flag=True,
        expose_value=False,
        is_eager=True,
        callback=note,
        help="Print one JSON document on stdout; progress and messages go to stderr.",
    )(command)


def wants_json(context: click.Context | None = None) -> bool:
    """True when the command of this invocation was given ``--json``."""
    return bool((context or click.get_current_context()).meta.get(_JSON))


def document(value: Any) -> None:
    """Prints the command's one JSON document. Bytes that are not UTF-8 stay as lone surrogates (``\\udcXX``)."""
    click.echo(json.dumps(value, indent=2))


def say(line: str) -> None:
    """Prints a message for a person on stderr. A stderr that cannot be written to does not change the command's
    outcome."""
    with contextlib.suppress(OSError):
        click.echo(f"i2: {line}", err=True)


def printable(text: str) -> str:
    """`text` made safe for a terminal line: control characters and bytes that are not UTF-8 become backslash
    escapes."""
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


_FOLDED_COLUMNS = 24
"""The least width of the widest column of a table."""
_GAP = 2


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], *, spare: Sequence[str] = ()) -> None:
    """Prints aligned columns on stdout. On a terminal that is too narrow, the columns `spare` are omitted one by one,
    in their order; then the cells of the widest column are wrapped; then those of all columns. Nothing is wrapped or
    omitted when stdout is not a terminal, so that grep and cut work."""
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    columns = [[head, *map(printable, cells)] for head, *cells in zip(heads, *rows, strict=True)]
    widths = [max(map(cell_len, column)) for column in columns]
    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else 1000, highlight=False)

    def missing() -> int:
        """How many terminal cells the table is too wide, even with the widest column wrapped."""
        widest = max(widths, default=0)
        return sum(widths) + _GAP * (len(widths) - 1) - max(0, widest - _FOLDED_COLUMNS) - console.width

    for head in spare:
        number = next((n for n, column in enumerate(columns) if column[0] == head), None)
        if number is not None and missing() > 0:
            del columns[number], widths[number]
    tight, widest_at = missing() > 0, widths.index(max(widths))
    drawn = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold", show_header=any(heads))
    for number, column in enumerate(columns):
        drawn.add_column(column[0], no_wrap=not tight and number != widest_at, overflow="fold")
    for cells in zip(*(column[1:] for column in columns), strict=True):
        drawn.add_row(*map(Text, cells))
    console.print(drawn, soft_wrap=False)


def error_lines(error: I2Error) -> list[str]:
    """An error for a person, one line for each mistake: what, where, why, next step, code."""
    from i2core.config.mistakes import ConfigErrors

    if isinstance(error, ConfigErrors):
        return [f"{words('error')}: {printable(str(mistake))}" for mistake in error.mistakes]
    chinese = language() == "zh"
    text = error.code.text
    where = f"{printable(error.obj)}: " if error.obj else ""
    what = text.zh if chinese else text.en
    step = error.next_step or (text.next_zh if chinese else text.next_en)
    return [f"{words('error')} {error.code.value}: {what}: {where}{printable(error.cause)} ({words('next')}: {step})"]
