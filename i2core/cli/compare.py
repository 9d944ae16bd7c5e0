"""``i2 compare``: compares source and replica of a rule."""

from __future__ import annotations

import datetime
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from i2core.cli.completion import files, rules
from i2core.cli.daemon import daemon_of, where
from i2core.cli.output import document, json_option, printable, say, size, table, wants_json
from i2core.cli.words import words

if TYPE_CHECKING:
    from i2core.node.control.client import ControlClient

EXIT_DIFFERENT = 3
SHOWN = 20
"""Objects that are listed at the end of a compare."""
KINDS = ("missing", "different", "extra", "unsettled", "unreadable")


@click.command(short_help="Compare source and replica of a rule.")
@click.argument("name", metavar="RULE", shell_complete=rules)
@click.argument("paths", metavar="[PATH]...", nargs=-1, shell_complete=files)
@click.option("--strict", "--md5", "strict", is_flag=True, help="Compare contents as well, not only size and time.")
@click.option("--mend", is_flag=True, help="Send what is missing or different; the rule must run.")
@click.option("--when", metavar="MOMENT", help="Begin then, and do not wait for the end.")
@click.option("--list", "lists", is_flag=True, help="List earlier compares of the rule.")
@click.option("--show", type=click.IntRange(1), metavar="NUMBER", help="List what that compare has found.")
@click.option("--kind", type=click.Choice(KINDS), multiple=True, help="With --show: only these.")
@click.option("--after", type=click.IntRange(0), metavar="N", help="With --show: continue after this one.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True, help="With --show: so many.")
@where
@json_option
def compare(name: str, paths: tuple[str, ...], config_file: str | None, state_dir: str | None, **asked: Any) -> None:
    """Compare source and replica of a rule. For the work node.

    Without PATH everything is compared. A PATH is absolute, or relative to the only directory of the rule. Nothing is
    changed on either side without --mend. The rule may run meanwhile: what changes is looked at again before it is
    called different. With --strict both sides read every file and compare digests (xxh3-128) of its blocks; --md5 is
    another name for it.

    \b
    Exit codes:
      0    both sides are equal, or are so after --mend
      1    failed
      2    refused; nothing was changed
      3    something differs
    """
    with daemon_of(config_file, state_dir) as node:
        if asked["lists"]:
            _show_list(node.compares(name))
        elif asked["show"] is not None:
            kind = ",".join(asked["kind"]) or None
            _show_items(node.compared(name, asked["show"], _page(asked) | {"kind": kind}))
        else:
            _compare(node, name, paths, asked)


def _page(asked: Mapping[str, Any]) -> dict[str, Any]:
    return {"after": asked["after"], "limit": asked["limit"]}


def _compare(node: ControlClient, name: str, paths: tuple[str, ...], asked: Mapping[str, Any]) -> None:
    body = {"strict": asked["strict"], "mend": asked["mend"], "paths": list(paths), "when": asked["when"]}
    number = node.begin_compare(name, {key: value for key, value in body.items() if value is not None})
    if asked["when"] is not None:
        _show_booked(number)
        return
    totals = await_compare(node, number)
    found = node.compared(name, number, {"limit": SHOWN})
    if wants_json():
        document(found | {"result": totals})
    else:
        _show_totals(number, totals)
        _show_lines(found)
    if totals["differs"]:
        raise click.exceptions.Exit(EXIT_DIFFERENT)


def await_compare(node: ControlClient, number: int) -> dict[str, Any]:
    """The result of a compare, with its progress on a terminal."""
    shows = sys.stderr.isatty()

    def report(task: Mapping[str, Any]) -> None:
        progress = task["progress"]
        if shows and progress:
            line = words(f"compare_{progress['phase']}")
            if "files" in progress:
                line += f"  {progress['files']:,} {words('files')}  {size(progress['read_bytes'])}"
            click.echo(f"\r\x1b[K{line}", nl=False, err=True)

    try:
        return node.await_task(number, report)
    except KeyboardInterrupt:
        say(words("compare_goes_on", number=number))
        raise
    finally:
        if shows:
            click.echo("\r\x1b[K", nl=False, err=True)


def _show_booked(number: int) -> None:
    if wants_json():
        document({"task": number})
    else:
        click.echo(words("compare_is_booked", number=number))


def _show_totals(number: int, totals: Mapping[str, Any]) -> None:
    rows = [
        (words("number"), str(number)),
        (words("compare_files"), f"{totals['files']:,}  {size(totals['bytes'])}"),
        (words("compare_same"), f"{totals['same']:,}"),
    ]
    rows += [(words(f"compare_{kind}"), f"{totals[kind]:,}") for kind in KINDS if totals[kind] or kind in KINDS[:3]]
    if totals["mended"]:
        rows.append((words("compare_mended"), f"{totals['mended']:,}"))
    table(("", ""), rows)


def _show_list(found: list[dict[str, Any]]) -> None:
    if wants_json():
        document(found)
        return
    if not found:
        click.echo(words("compare_none"))
        return
    heads = [words(key) for key in ("number", "since", "until", "state")]
    heads += [words(f"compare_{kind}") for kind in ("same", *KINDS[:3])]
    table(heads, [_row(task) for task in found])


def _row(task: Mapping[str, Any]) -> tuple[str, ...]:
    result = task["result"] or {}
    counts = [f"{result[kind]:,}" if result else "" for kind in ("same", *KINDS[:3])]
    state = words(f"task_{task['state']}")
    if task["state"] == "running" and task["progress"]:
        state = words(f"compare_{task['progress']['phase']}")
    return str(task["ident"]), _time(task["began_ns"]), _time(task["ended_ns"]), state, *counts


def _show_items(found: Mapping[str, Any]) -> None:
    if wants_json():
        document(found)
        return
    _show_lines(found, more=False)
    if found["after"] is not None:
        say(words("compare_more", after=found["after"]))


def _show_lines(found: Mapping[str, Any], *, more: bool = True) -> None:
    for item in found["items"]:
        reasons = ", ".join(words(f"reason_{reason}") for reason in item["reasons"])
        why = f"  ({reasons or printable(item['cause'])})" if reasons or item["cause"] else ""
        mended = f"  {words('compare_mended')}" if item["mended"] else ""
        kind = words(f"compare_{item['kind']}")
        click.echo(f"{kind}  {printable(item['path'])}{why}{mended}")
    if more and found["after"] is not None:
        say(words("compare_see_all", number=found["task"]["ident"], rule=printable(found["task"]["rule"])))


def _time(at_ns: int | None) -> str:
    if at_ns is None:
        return ""
    local = datetime.datetime.fromtimestamp(at_ns / 1e9).astimezone()
    return local.isoformat(sep=" ", timespec="seconds")
