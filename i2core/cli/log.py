"""``i2 node log``: the log of a node. It is read from disk, so that the command works while the daemon is down. Only
new lines (``--follow``) come from the daemon."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from i2core.cli.completion import directories, files, rules
from i2core.cli.output import json_option, say, wants_json
from i2core.config.words import language

PAGE = 500
WAIT_S = 25.0
AGAIN_S = 1.0
"""Seconds between attempts to reach a daemon that is being restarted."""

Entries = Iterator[dict[str, Any]]


@click.command()
@click.option("--config", "config_file", metavar="FILE", shell_complete=files, help="Config file of the node.")
@click.option("--state-dir", metavar="DIR", shell_complete=directories, help="State directory of the node.")
@click.option("--follow", is_flag=True, help="Print new lines until Ctrl-C; without --after only new ones.")
@click.option("--after", type=click.IntRange(min=0), metavar="CURSOR", help="Start after this cursor.")
@click.option("--rule", metavar="NAME", shell_complete=rules, help="Only lines of this rule.")
@json_option
def log(config_file: str | None, state_dir: str | None, follow: bool, after: int | None, rule: str | None) -> None:
    """Show the node's log, oldest line first. Each line begins with its cursor.

    Cursors only grow, also across restarts. To miss no line, pass the last cursor that you have with --after. If lines
    after it were removed because they were older than log_days, a message on stderr reports it.

    With --json, a list of {"cursor", "time", "rule", "state", "code", "level", "text", "text_zh", "object", "cause",
    "cause_zh", "next_step", "next_step_zh", "line"}; with --follow one such document a line.
    """
    from i2core.node.daemon.paths import find_state_dir
    from i2core.node.logs.entry import human

    config = Path(config_file) if config_file else None
    place = find_state_dir(config, Path(state_dir) if state_dir else None)
    if rule is not None:
        _refuse_unknown(rule, config, place)
    entries = _follow(place, after) if follow else _kept(place, after)
    chosen = (entry for entry in entries if rule is None or entry["rule"] == rule)
    if wants_json():
        _print_json(chosen, lines=follow)
        return
    for entry in chosen:
        click.echo(f"{entry['cursor']} {human(entry, language())}")


def _refuse_unknown(rule: str, config: Path | None, state_dir: Path) -> None:
    """A mistyped name must not look like a rule without any problem.

    Raises:
        UsageError: neither the config, nor the running daemon, nor the log on disk has this rule.
    """
    from i2core.api import I2Error
    from i2core.node.control.client import control_client
    from i2core.node.control.errors import unknown_rule
    from i2core.node.daemon.paths import rule_names

    if any(entry["rule"] == rule for entry in _kept(state_dir, None)) or rule in rule_names(config):
        return
    with contextlib.suppress(I2Error, OSError), control_client(state_dir) as daemon:
        if any(known["name"] == rule for known in daemon.rules()):
            return
    raise unknown_rule(rule)


def _print_json(entries: Entries, *, lines: bool) -> None:
    """Prints the list while it is read, because a log may be long."""
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
    """The entries on disk; none if the node has not run yet.

    Raises:
        UsageError: there is no such node, or this user may not read its log.
    """
    from i2core.api import UsageError
    from i2core.config.words import bilingual

    try:
        known = os.listdir(state_dir)
        if "log" in known:
            os.listdir(state_dir / "log")
    except PermissionError as error:
        raise UsageError(
            bilingual("this user may not read the log", "当前用户无权读取日志"),
            obj=str(state_dir),
            next_step=bilingual("run the command as the daemon's user (sudo)", "请以守护进程的用户身份执行（sudo）"),
        ) from error
    except FileNotFoundError as error:
        raise UsageError(
            bilingual("no node has its state here", "此处没有节点的状态目录"),
            obj=str(state_dir),
            next_step=bilingual("name its config with --config", "请用 --config 指定其配置"),
        ) from error
    return _read(state_dir / "log", after) if "log" in known else iter(())


def _read(directory: Path, after: int | None) -> Entries:
    from i2core.node.logs.log_files import oldest_cursor, read_entries
    from i2core.node.logs.logbook import is_lost

    cursor = after or 0
    oldest = oldest_cursor(directory)
    if is_lost(cursor, oldest) and after is not None:
        _warn(oldest)
    while page := read_entries(directory, cursor, PAGE):
        yield from page
        cursor = page[-1]["cursor"]


def _follow(state_dir: Path, after: int | None) -> Entries:
    """The entries after `after`, then new ones as they come. Waits for a daemon that is being restarted.

    Raises:
        I2Error: no daemon answers at the beginning.
    """
    from i2core.api import Code, I2Error
    from i2core.node.control.client import control_client

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
    from i2core.config.words import bilingual

    line = bilingual(
        f"some lines after this cursor are gone; the oldest line left is {oldest}",
        f"此游标之后的部分日志已被清除；现存最早的是 {oldest}",
    )
    say(line)
