"""``i2 cdp rewind``: turns a replica back in place."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from i2core.cli.completion import rules
from i2core.cli.daemon import daemon_of, where
from i2core.cli.output import document, json_option, printable, say, size, wants_json
from i2core.cli.words import words

if TYPE_CHECKING:
    from i2core.node.control.client import ControlClient

EXIT_DIFFERENT = 3
SHOWN = 20
"""Paths that a plan for people lists."""


@click.command(short_help="Turn the replica itself back to a moment, in place.")
@click.argument("name", metavar="[PEER/]RULE", shell_complete=rules)
@click.option("--to", "at", metavar="MOMENT", help="The moment.")
@click.option("--to-seq", "at_seq", type=click.IntRange(0), help="The state after the change of this number.")
@click.option("--nearest", type=click.Choice(["before", "after"]), help="Take a neighbour of a moment that is gone.")
@click.option("--dry-run", is_flag=True, help="Change nothing; tell what would be changed.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@where
@json_option
def rewind(name: str, dry_run: bool, yes: bool, config_file: str | None, state_dir: str | None, **asked: Any) -> None:
    """Turn the replica itself back to a moment, in place. Only what changed since is written, however large it is. The
    rule must be stopped: on the work node, i2 rule stop RULE.

    A rewind is a change like any other: it can be undone by one to the moment before, whose number is told at the end.
    It goes on after a restart of the daemon. To bring data to another directory, use i2 recover.

    Afterwards the work node is refused (3660), until i2 rule release RULE: a mirror would make the replica equal to its
    files again. The release lets it compare everything, and the history keeps what that replaces.

    \b
    Exit codes:
      0    the replica has the state of that moment
      2    refused; nothing was changed
      3    not all was turned back; with --dry-run: something would be changed
    """
    from i2core.api import UsageError
    from i2core.config.words import bilingual

    if (asked["at"] is None) == (asked["at_seq"] is None):
        raise UsageError(bilingual("give either --to or --to-seq", "请在 --to 与 --to-seq 中给出一个"))
    body = {key: value for key, value in asked.items() if value is not None}
    with daemon_of(config_file, state_dir) as node:
        if dry_run or not yes:
            plan = _done(node, name, body | {"dry_run": True})
            if dry_run:
                _show_plan(plan)
                raise click.exceptions.Exit(0 if plan["equal"] else EXIT_DIFFERENT)
            _ask(plan)
            body = {"at_seq": plan["seq"]}
        result = _done(node, name, body)
    _show_result(name, result)
    if not result["equal"]:
        raise click.exceptions.Exit(EXIT_DIFFERENT)


def _done(node: ControlClient, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
    number = node.begin_rewind(name, body)
    shows = sys.stderr.isatty()

    def report(task: Mapping[str, Any]) -> None:
        if shows and task["progress"]:
            text = words("rewind_progress", records=task["progress"]["records"], bytes=size(task["progress"]["bytes"]))
            click.echo(f"\r\x1b[K{text}", nl=False, err=True)

    try:
        return node.await_task(number, report)
    except KeyboardInterrupt:
        say(words("goes_on", number=number))
        raise
    finally:
        if shows:
            click.echo("\r\x1b[K", nl=False, err=True)


def _ask(plan: Mapping[str, Any]) -> None:
    """A replica may be in use where it is."""
    if not sys.stdin.isatty():
        from i2core.api import UsageError
        from i2core.config.words import bilingual

        count = len(plan["changes"])
        more = "+" if plan["more"] else ""
        raise UsageError(
            bilingual(f"{count}{more} objects of the replica would change", f"将改变灾备数据中的 {count}{more} 个对象"),
            next_step=bilingual("add --yes, or look with --dry-run", "加上 --yes，或用 --dry-run 查看"),
        )
    _show_plan(plan, to_stderr=True)
    click.confirm(words("rewind_ask"), abort=True, err=True)


def _show_plan(plan: Mapping[str, Any], *, to_stderr: bool = False) -> None:
    if wants_json():
        if not to_stderr:
            document(plan)
        return
    click.echo(words("rewind_plan", moment=plan["moment"], seq=plan["seq"]), err=to_stderr)
    if plan["equal"]:
        click.echo(words("rewind_nothing"), err=to_stderr)
    for one in plan["changes"][:SHOWN]:
        what = words(f"rewind_{one['what']}")
        click.echo(f"  {what}  {printable(one['path']) or '.'}", err=to_stderr)
    if len(plan["changes"]) > SHOWN or plan["more"]:
        rest = f"{len(plan['changes']) - SHOWN}{'+' if plan['more'] else ''}"
        click.echo(f"  {words('skipped_more', more=rest)}", err=to_stderr)


def _show_result(name: str, result: Mapping[str, Any]) -> None:
    if wants_json():
        document(result)
        return
    for failed in result["failed"][:SHOWN]:
        say(f"{printable(failed['path'])}: {printable(failed['message'])} [{failed['code']}]")
    if not result["equal"]:
        say(words("rewind_not_equal", rule=name))
        return
    click.echo(words("rewind_done", rule=name, moment=result["moment"], seq=result["seq"]))
    click.echo(words("rewind_held", rule=name, before=result["before_seq"]))
