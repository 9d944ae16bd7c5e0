"""Commands that look into the past, and change nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from i2core.cli.completion import rules
from i2core.cli.daemon import daemon_of, where
from i2core.cli.output import document, json_option, printable, size, table, wants_json
from i2core.cli.progress import clock
from i2core.cli.words import words
from i2core.config.words import language

EXIT_DIFFERENT = 3


@click.command("range", short_help="Show which moments can be had.")
@click.argument("name", metavar="[PEER/]RULE", shell_complete=rules)
@where
@json_option
def range_(name: str, config_file: str | None, state_dir: str | None) -> None:
    """Show which moments of the past can be had: the oldest one, from which one on every one, the newest one; and
    single moments before, which are kept for days and months. Then whether that is what was promised (history
    objective), what the lock is, and when old moments are given up next.
    """
    with daemon_of(config_file, state_dir) as node:
        found = node.history(name)
    if wants_json():
        document(found)
        return
    rows = [(words("cdp_first"), found["first"]["time"]), (words("cdp_floor"), found["floor"]["time"])]
    rows += [(words("cdp_mark"), mark["time"]) for mark in found["marks"]]
    rows += [(words("cdp_last"), f"{found['last']['time']}  ({words('seq')} {found['last']['seq']})")]
    if found["kept"]:
        rows += _promised(found["kept"], found["promised"])
    table(("", ""), rows)


def _promised(kept: Mapping[str, Any], promised: str) -> list[tuple[str, str]]:
    rows = [
        (words("cdp_objective"), words("history_met" if kept["objective_met"] else "history_not_met")),
        (words("cdp_promised"), promised),
    ]
    if kept["missing_days"]:
        rows.append((words("cdp_missing_days"), str(kept["missing_days"])))
    if kept["lock_seconds"]:
        rows.append((words("cdp_lock"), _hours(kept["lock_seconds"])))
    return [*rows, (words("cdp_next_pass"), clock(kept["next_pass_seconds"]))]


def _hours(seconds: float) -> str:
    return words("hours", hours=int(seconds // 3600)) if seconds >= 3600 else clock(seconds)


@click.command(short_help="Show how much room the history takes.")
@click.argument("name", metavar="[PEER/]RULE", shell_complete=rules)
@where
@json_option
def space(name: str, config_file: str | None, state_dir: str | None) -> None:
    """Show how much room the history takes: its journal, what is free on that disk, the room that is kept back, and
    when the disk is full if the history grows as it did in the last hour and day."""
    with daemon_of(config_file, state_dir) as node:
        history = node.history(name)
    found, kept = history["space"], history["kept"]
    if wants_json():
        document(found | {"full_in_seconds": kept and kept["full_in_seconds"]})
    else:
        keys = ("used_bytes", "free_bytes", "total_bytes", "reserve_bytes")
        rows = [(words(f"cdp_{key}"), size(found[key])) for key in keys]
        if kept and kept["full_in_seconds"] is not None:
            rows.append((words("cdp_full_in"), _hours(kept["full_in_seconds"])))
        table(("", ""), rows)


@click.command(short_help="Show what was changed.")
@click.argument("name", metavar="[PEER/]RULE", shell_complete=rules)
@click.argument("path", required=False)
@click.option("--from", "begin", metavar="MOMENT", help="Changes from this moment on.")
@click.option("--to", "end", metavar="MOMENT", help="Changes up to this moment.")
@click.option(
    "--op", "ops", metavar="WORD", multiple=True, help="Only this operation, such as remove; may be repeated."
)
@click.option("--file", "follows", is_flag=True, help="Follow the object that is at PATH now across its names.")
@click.option("--oldest", is_flag=True, help="Oldest first.")
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True, help="At most so many.")
@click.option("--after", type=click.IntRange(0), help="Go on where the page before ended.")
@where
@json_option
def log(name: str, path: str | None, config_file: str | None, state_dir: str | None, **asked: Any) -> None:
    """Show what was changed: when, by which operation, and where. Newest first.

    PATH is a path on this node beneath the replica, or relative to it: only changes of it, and of what is beneath it,
    are shown. When there are more, the last line tells how to go on.

    Operations: create, stage, write, punch, truncate, publish, mkdir, symlink, mknod, link, rename, remove, setattr.
    """
    query = {
        "path": path,
        "from": asked["begin"],
        "to": asked["end"],
        "op": ",".join(asked["ops"]) or None,
        "object": 1 if asked["follows"] else None,
        "oldest": 1 if asked["oldest"] else None,
        "limit": asked["limit"],
        "after": asked["after"],
    }
    with daemon_of(config_file, state_dir) as node:
        found = node.history_log(name, query)
    if wants_json():
        document(found)
        return
    heads = [words(key) for key in ("cdp_time", "seq", "cdp_op", "cdp_bytes", "cdp_path")]
    table(heads, [_row(record) for record in found["records"]])
    if found["after"] is not None:
        click.echo(words("cdp_more", after=found["after"]))


def _row(record: Mapping[str, Any]) -> tuple[str, ...]:
    other = f" ← {record['other']}" if record["op"] in ("link", "symlink") else f" → {record['other']}"
    path = record["place"] + (other if record["other"] else "")
    length = size(record["length"]) if record["length"] else ""
    return record["time"], str(record["seq"]), record["op"], length, printable(path)


@click.command(short_help="Show what differs between two moments.")
@click.argument("name", metavar="[PEER/]RULE", shell_complete=rules)
@click.argument("begin", metavar="MOMENT")
@click.argument("end", metavar="MOMENT", default="now")
@click.argument("path", required=False)
@click.option("--nearest", type=click.Choice(["before", "after"]), help="Take a neighbour of a moment that is gone.")
@where
@json_option
def diff(
    name: str,
    begin: str,
    end: str,
    path: str | None,
    nearest: str | None,
    config_file: str | None,
    state_dir: str | None,
) -> None:
    """Show what differs between two moments (the second one is now by default). A directory that was renamed is one
    line; of one that came or went, each name is.

    A moment that begins with a minus sign comes after a double dash: i2 cdp diff data -- -2h

    Exit code 3 when something differs, else 0.
    """
    with daemon_of(config_file, state_dir) as node:
        found = node.history_changes(name, {"from": begin, "to": end, "path": path, "nearest": nearest})
    if wants_json():
        document(found)
    else:
        rows = [(words(f"cdp_{one['what']}"), _what(one), printable(one["path"]) or ".") for one in found["found"]]
        click.echo(words("cdp_between", begin=found["from"]["time"], end=found["to"]["time"]))
        table(("", "", ""), rows)
        if found["more"]:
            click.echo(words("cdp_and_more"))
    if found["found"]:
        raise click.exceptions.Exit(EXIT_DIFFERENT)


def _what(one: Mapping[str, Any]) -> str:
    if one["what"] in ("created", "removed"):
        return ""
    parts = [words(f"cdp_{key}") for key in ("content", "attributes", "names") if one[key]]
    moved = one["names"] and one["before"] != one["path"]
    return ", ".join(parts) + (f" ({printable(one['before'])})" if moved else "")


@click.command(short_help="Prove that the journal is what was written.")
@click.argument("name", metavar="[PEER/]RULE", shell_complete=rules)
@where
@json_option
def verify(name: str, config_file: str | None, state_dir: str | None) -> None:
    """Read the whole journal and prove that it is what was written: any flipped, dropped, exchanged or cut part is
    found, and its place is told.

    Exit code 3 when something is wrong, else 0.
    """
    with daemon_of(config_file, state_dir) as node:
        result = node.await_task(node.verify_history(name))
    faults = result["faults"]
    if wants_json():
        document(result)
    elif not faults:
        click.echo(words("cdp_proved", rule=name))
    for fault in [] if wants_json() else faults:
        click.echo(fault["text_zh" if language() == "zh" else "text"])
    if faults:
        raise click.exceptions.Exit(EXIT_DIFFERENT)
