"""``i2 node log``: what a node did and met. Read from its disk, so that it answers also when the daemon does not; only
what is still to come is asked for at the daemon."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from i2core.cli.output import json_option, wants_json
from i2core.config.words import language

PAGE = 500
WAIT_S = 25.0
AGAIN_S = 1.0
"""A daemon that is being restarted is asked again so often."""

Entries = Iterator[dict[str, Any]]


@click.command()
@click.option("--config", "config_file", metavar="FILE", help="Config file of the node.")
@click.option("--state-dir", metavar="DIR", help="State directory of the node.")
@click.option("--follow", is_flag=True, help="Go on with what comes, until Ctrl-C; without --after with that alone.")
@click.option("--after", type=click.IntRange(min=0), metavar="CURSOR", help="Begin behind this cursor.")
@click.option("--rule", metavar="NAME", help="Lines of this rule alone.")
@json_option
def log(config_file: str | None, state_dir: str | None, follow: bool, after: int | None, rule: str | None) -> None:
    """Show the node's logbook, oldest line first. Each line begins with its cursor.

    Cursors only grow, also across restarts: who names the last one that it has with --after misses nothing. When lines
    behind it are gone, because they were older than log_days, that is said on stderr.

    With --json, a list of {"cursor", "time", "rule", "state", "code", "level", "text", "text_zh", "object", "cause",
    "cause_zh", "next_step", "next_step_zh", "line"}; with --follow one such document a line.
    """
    from i2core.node.entry import human
    from i2core.node.place import find_state_dir

    place = find_state_dir(Path(config_file) if config_file else None, Path(state_dir) if state_dir else None)
    entries = _follow(place, after) if follow else _kept(place, after)
    chosen = (entry for entry in entries if rule is None or entry["rule"] == rule)
    if wants_json():
        _print_json(chosen, lines=follow)
        return
    for entry in chosen:
        click.echo(f"{entry['cursor']} {human(entry, language())}")


def _print_json(entries: Entries, *, lines: bool) -> None:
    """A log may be long: the list is written as it is read."""
    import json

    if lines:
        for entry in entries:
            click.echo(json.dumps(entry))
        return
    click.echo("[", nl=False)
    for number, entry in enumerate(entries):
        click.echo((",\n " if number else "\n ") + json.dumps(entry), nl=False)
    click.echo("\n]")


def _kept(state_dir: Path, after: int | None) -> Entries:
    """What is on disk; nothing of a node that has not run yet.

    Raises:
        UsageError: there is no such node, or this user may not look at it.
    """
    from i2core.api import UsageError
    from i2core.node.speech import said

    try:
        known = os.listdir(state_dir)
        if "log" in known:
            os.listdir(state_dir / "log")
    except PermissionError as error:
        raise UsageError(
            said("this user may not read the logbook", "当前用户无权读取日志"),
            obj=str(state_dir),
            next_step=said("run the command as the daemon's user (sudo)", "请以守护进程的用户身份执行（sudo）"),
        ) from error
    except FileNotFoundError as error:
        raise UsageError(
            said("no node has its state here", "此处没有节点的状态目录"),
            obj=str(state_dir),
            next_step=said("name its config with --config", "请用 --config 指定其配置"),
        ) from error
    return _read(state_dir / "log", after) if "log" in known else iter(())


def _read(directory: Path, after: int | None) -> Entries:
    from i2core.node.log_files import oldest_cursor, read_entries
    from i2core.node.logbook import is_lost

    cursor = after or 0
    oldest = oldest_cursor(directory)
    if is_lost(cursor, oldest) and after is not None:
        _warn(oldest)
    while page := read_entries(directory, cursor, PAGE):
        yield from page
        cursor = page[-1]["cursor"]


def _follow(state_dir: Path, after: int | None) -> Entries:
    """What is there behind `after`, and all that comes. A daemon that is restarted meanwhile is waited for.

    Raises:
        I2Error: no daemon answers at the beginning.
    """
    from i2core.api import Code, I2Error
    from i2core.node.client import control_client

    cursor, answered = after, False
    while True:
        try:
            with control_client(state_dir) as daemon:
                if cursor is None:
                    cursor = int(daemon.events(limit=1)["newest"])
                while True:
                    page = daemon.events(cursor, wait_s=WAIT_S)
                    answered = True
                    if page["lost"]:
                        _warn(page["oldest"])
                    yield from page["events"]
                    cursor = int(page["cursor"])
        except I2Error as error:
            if not answered or error.code is not Code.NETWORK:
                raise
            time.sleep(AGAIN_S)


def _warn(oldest: int) -> None:
    from i2core.node.speech import said

    line = said(
        f"lines behind this cursor are gone; the oldest that is left is {oldest}",
        f"此游标之后的部分日志已被清除；现存最早的是 {oldest}",
    )
    click.echo(f"i2: {line}", err=True)
