"""``i2 task``: long operations of the daemon on this host."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

import click

from i2core.cli.daemon import daemon_of, where
from i2core.cli.output import document, json_option, printable, table, wants_json
from i2core.cli.words import words
from i2core.config.words import language

WAIT_S = 20.0
"""How long one question waits for the end of a task; another one follows."""
EXIT_FAILED = 1


@click.group(short_help="Show and cancel long operations, such as recoveries.")
def task() -> None:
    """Show and cancel long operations of the daemon on this host.

    A recovery, for example, is a task: it goes on when the command that began it is ended, and its result is kept.
    """


@task.command("list", short_help="List running and ended tasks.")
@where
@json_option
def list_(config_file: str | None, state_dir: str | None) -> None:
    """List running and ended tasks, oldest first."""
    with daemon_of(config_file, state_dir) as node:
        found = node.tasks()
    if wants_json():
        document(found)
    elif not found:
        click.echo(words("no_tasks"))
    else:
        heads = [words(key) for key in ("number", "task", "rule", "since", "state", "cause")]
        table(heads, [_row(each) for each in found])


@task.command(short_help="Show one task.")
@click.argument("number", type=click.IntRange(min=1))
@click.option("--wait", is_flag=True, help="Wait for its end.")
@where
@json_option
def show(number: int, wait: bool, config_file: str | None, state_dir: str | None) -> None:
    """Show one task: what was asked for, its progress, its result.

    Exit code 1 when it has failed, was cancelled or interrupted; else 0.
    """
    with daemon_of(config_file, state_dir) as node:
        found = node.task(number, wait_s=WAIT_S if wait else 0)
        while wait and found["state"] == "running":
            found = node.task(number, wait_s=WAIT_S)
    if wants_json():
        document(found)
    else:
        table(("", ""), [(words(key), text) for key, text in _details(found)])
    if found["state"] not in ("running", "done"):
        raise click.exceptions.Exit(EXIT_FAILED)


@task.command(short_help="Cancel a running task.")
@click.argument("number", type=click.IntRange(min=1))
@where
@json_option
def cancel(number: int, config_file: str | None, state_dir: str | None) -> None:
    """Ask a running task to end. What it has done stays; begun again, it continues."""
    with daemon_of(config_file, state_dir) as node:
        done = node.cancel_task(number)
    if wants_json():
        document({"number": number, "done": done})
    else:
        click.echo(words("cancel_asked" if done else "had_ended", number=number))


def _row(found: Mapping[str, Any]) -> tuple[str, ...]:
    since = _time(found["began_ns"])
    return (
        str(found["ident"]),
        words(f"task_{found['kind']}"),
        found["rule"],
        since,
        words(f"task_{found['state']}"),
        _cause(found),
    )


def _details(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = [
        ("number", str(found["ident"])),
        ("task", words(f"task_{found['kind']}")),
        ("rule", found["rule"]),
        ("state", words(f"task_{found['state']}")),
        ("since", _time(found["began_ns"])),
    ]
    if found["ended_ns"] is not None:
        rows.append(("until", _time(found["ended_ns"])))
    for key in ("asked", "progress", "result"):
        values = [(name, _said(value)) for name, value in (found[key] or {}).items()]
        if text := ", ".join(f"{name} {printable(said)}" for name, said in values if said):
            rows.append((key, text))
    cause = _cause(found)
    return [*rows, ("cause", cause)] if cause else rows


def _said(value: object) -> str:
    """One value, for people; empty: it is a list or a table of its own, which only the JSON document has."""
    if isinstance(value, list):
        return " ".join(each for each in value if isinstance(each, str))
    return "" if isinstance(value, dict) or value is None else str(value)


def _cause(found: Mapping[str, Any]) -> str:
    error = found["error"]
    if not error:
        return ""
    chinese = language() == "zh"
    text, step = error["message_zh" if chinese else "message"], error["next_zh" if chinese else "next"]
    return f"{text} [{error['code']}] → {step}" if step else f"{text} [{error['code']}]"


def _time(at_ns: int) -> str:
    local = datetime.datetime.fromtimestamp(at_ns / 1e9).astimezone()
    return local.isoformat(sep=" ", timespec="seconds")
