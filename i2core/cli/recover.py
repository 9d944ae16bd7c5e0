"""``i2 recover``: brings data of a received rule back, as they were at a moment."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from i2core.cli.completion import directories, rules
from i2core.cli.daemon import daemon_of, where
from i2core.cli.output import document, json_option, printable, say, size, table, wants_json
from i2core.cli.progress import clock
from i2core.cli.words import words

if TYPE_CHECKING:
    from i2core.node.control.client import ControlClient

EXIT_DIFFERENT = 3
SHOWN = 20
"""Names that a plan for people lists."""


@click.command(short_help="Bring data back, as they were at a moment.")
@click.argument("name", metavar="[PEER/]RULE", shell_complete=rules)
@click.argument("paths", metavar="[PATH]...", nargs=-1)
@click.option(
    "--to",
    metavar="[NODE:]DIR",
    shell_complete=directories,
    help="Where to: on this node, or on a work node. Default: the original places of this node's own rule.",
)
@click.option("--from", "backup", metavar="NODE", help="The backup node that has the history.")
@click.option("--at", metavar="MOMENT", help="The moment; default: now.")
@click.option("--at-seq", type=click.IntRange(0), help="The state after the change of this number (see i2 cdp log).")
@click.option("--snapshot", type=click.IntRange(1), help="A snapshot instead of a moment (see i2 snapshot list).")
@click.option("--nearest", type=click.Choice(["before", "after"]), help="Take a neighbour of a moment that is gone.")
@click.option(
    "--extra",
    type=click.Choice(["keep", "aside", "delete"]),
    default="keep",
    show_default=True,
    help="What becomes of files in DIR that the recovered state does not have.",
)
@click.option("--strict", is_flag=True, help="Compare contents also where size and time are equal.")
@click.option("--no-proof", is_flag=True, help="Do not compare everything once more at the end.")
@click.option("--stop-rule", is_flag=True, help="Stop the rules whose sources are written, and start them again.")
@click.option("--dry-run", is_flag=True, help="Write nothing; tell what would be done.")
@click.option("--yes", is_flag=True, help="Replace newer files without asking.")
@where
@json_option
def recover(
    name: str, paths: tuple[str, ...], config_file: str | None, state_dir: str | None, yes: bool, **asked: Any
) -> None:
    """Bring data back, as they were at a moment.

    On the backup node: a received rule, to a directory of that node, or to one of a work node that allows it. On a work
    node: a rule that the backup node lets it recover (recover in [[backup.peer]] there), to a directory of this node;
    its own rule without --to to the original places. A running rule reads these, so it must be stopped: --stop-rule
    stops it, recovers, and starts it again.

    Without PATH everything is recovered. A PATH is absolute, as on either node, or relative to the only directory of
    the rule. Only what differs from what is in DIR is written. Begun again after an interruption, the recovery
    continues; between two nodes it does so by itself.

    \b
    Moments are written as
      2026-11-29T22:31:07.123456     in the work node's time zone
      2026-11-29T22:31:07+08:00      with a zone
      -90s, -2h, -1.5d               before now

    \b
    Exit codes:
      0    DIR has the state of that moment
      1    failed
      2    refused; nothing was changed
      3    not all was recovered; with --dry-run: something would be changed
    """
    body = _wish(paths, asked)
    with daemon_of(config_file, state_dir) as node:
        if asked["dry_run"] or not (yes or _is_blank(body.get("to"))):
            plan = _done(node, name, body | {"dry_run": True})
            if asked["dry_run"]:
                _show_plan(plan)
                raise click.exceptions.Exit(0 if plan["equal"] else EXIT_DIFFERENT)
            _ask_about_newer(plan)
            body = body if "at_seq" in body or "snapshot" in body else _at(body, plan["seq"])
        result = _done(node, name, body)
    _show_result(name, result)
    if not result["equal"]:
        raise click.exceptions.Exit(EXIT_DIFFERENT)


def _wish(paths: tuple[str, ...], asked: Mapping[str, Any]) -> dict[str, Any]:
    """What the daemon is asked for."""
    body = {
        "to": None if asked["to"] is None else _absolute(asked["to"]),
        "backup": asked["backup"],
        "stop_rule": asked["stop_rule"],
        "at": asked["at"],
        "at_seq": asked["at_seq"],
        "snapshot": asked["snapshot"],
        "nearest": asked["nearest"],
        "paths": list(paths),
        "extra": asked["extra"],
        "strict": asked["strict"],
        "prove": not asked["no_proof"],
    }
    return {key: value for key, value in body.items() if value is not None}


def _absolute(to: str) -> str:
    """The destination; one on another node as it is: ``NODE:/DIR``."""
    node, colon, _ = to.partition(":/")
    return to if colon and "/" not in node else os.path.abspath(to)


def _is_blank(to: str | None) -> bool:
    """Nothing is there that could be replaced, as far as this command can see."""
    if to is None or not to.startswith("/"):
        return False
    try:
        return not os.listdir(to)
    except OSError:
        return True


def _at(body: Mapping[str, Any], seq: int) -> dict[str, Any]:
    """The same moment as that of the plan."""
    return {key: value for key, value in body.items() if key not in ("at", "nearest")} | {"at_seq": seq}


def _done(node: ControlClient, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
    number = node.begin_recovery(name, body)
    shows = sys.stderr.isatty()

    def report(task: Mapping[str, Any]) -> None:
        if shows and task["progress"]:
            click.echo(f"\r\x1b[K{_line(task['progress'])}", nl=False, err=True)

    try:
        return node.await_task(number, report)
    except KeyboardInterrupt:
        say(words("recover_goes_on", number=number))
        raise
    finally:
        if shows:
            click.echo("\r\x1b[K", nl=False, err=True)


def _line(progress: Mapping[str, Any]) -> str:
    parts = [
        words(f"phase_{progress['phase']}"),
        f"{progress['percent']}%",
        f"{progress['files']:,}/{progress['all_files']:,} {words('files')}",
        f"{size(progress['bytes'])}/{size(progress['all_bytes'])}",
        f"{size(progress['rate'])}/s",
    ]
    if progress["left_s"] is not None:
        parts.append(f"{words('left')} {clock(progress['left_s'])}")
    return "  ".join(parts)


def _ask_about_newer(plan: Mapping[str, Any]) -> None:
    """A recovery into a place that is in use may replace what is newer than the recovered state."""
    newer = sum(total["newer"] for total in plan["totals"].values())
    if not newer:
        return
    _show_plan(plan, to_stderr=True)
    if not sys.stdin.isatty():
        from i2core.api import UsageError
        from i2core.config.words import bilingual

        raise UsageError(
            bilingual(f"{newer} files there are newer and would be replaced", f"目标处有 {newer} 个较新的文件将被替换"),
            next_step=bilingual("add --yes, or choose another directory", "加上 --yes，或选择其他目录"),
        )
    click.confirm(words("recover_newer", count=newer), abort=True, err=True)


def _show_plan(plan: Mapping[str, Any], *, to_stderr: bool = False) -> None:
    if wants_json():
        if not to_stderr:
            document(plan)
        return
    click.echo(
        words("recover_plan", moment=printable(plan["moment"]), files=plan["files"], bytes=size(plan["bytes"])),
        err=to_stderr,
    )
    if plan["equal"]:
        click.echo(words("recover_nothing"), err=to_stderr)
    for what, total in plan["totals"].items():
        newer = f"  ({words('recover_newer_of', count=total['newer'])})" if total["newer"] else ""
        click.echo(f"  {words(f'plan_{what}')}: {total['count']:,}  {size(total['size'])}{newer}", err=to_stderr)
    for item in () if to_stderr else plan["items"][:SHOWN]:
        what = words(f"plan_{item['what']}")
        click.echo(f"    {what}  {printable(item['path'])}")
    rest = sum(total["count"] for total in plan["totals"].values()) - SHOWN
    if rest > 0 and not to_stderr:
        click.echo(f"    {words('skipped_more', more=rest)}")


def _moment(result: Mapping[str, Any]) -> str:
    parts = [] if result["seq"] is None else [f"{words('seq')} {result['seq']}"]
    if "snapshot" in result:
        parts.append(f"{words('snapshot')} {result['snapshot']}")
    return f"{printable(result['moment'])}  ({', '.join(parts)})"


def _show_result(name: str, result: Mapping[str, Any]) -> None:
    if wants_json():
        document(result)
        return
    rows = [
        (words("rule"), name),
        (words("recover_moment"), _moment(result)),
        (words("recover_to"), printable(result["to"])),
        (words("recover_files"), f"{result['files']:,}  {size(result['bytes'])}"),
        (words("recover_written"), f"{result['sent_files']:,}  {size(result['sent_bytes'])}"),
        (words("recover_seconds"), f"{result['seconds']:.1f} s"),
        (words("recover_proved"), words({True: "yes", False: "no", None: "recover_not_asked"}[result["proved"]])),
    ]
    if result["extra"]:
        rows.append((words("recover_extra"), str(result["extra"])))
    if result["aside"]:
        rows.append((words("recover_aside"), printable(result["aside"])))
    table(("", ""), rows)
    for failed in result["failed"][:SHOWN]:
        say(f"{printable(failed['path'])}: {printable(failed['message'])} [{failed['code']}]")
    if result["failed_count"] > SHOWN:
        say(words("skipped_more", more=result["failed_count"] - SHOWN))
