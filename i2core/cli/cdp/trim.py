"""``i2 cdp trim``: gives up old moments by hand."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import click

from i2core.cli.completion import rules
from i2core.cli.daemon import daemon_of, where
from i2core.cli.output import document, json_option, say, size, wants_json
from i2core.cli.words import words


@click.command(short_help="Give up old moments by hand.")
@click.argument("name", metavar="[PEER/]RULE", shell_complete=rules)
@click.option("--before", metavar="MOMENT", required=True, help="Give up every moment before this one.")
@click.option("--dry-run", is_flag=True, help="Change nothing; tell what would be given up.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@where
@json_option
def trim(name: str, before: str, dry_run: bool, yes: bool, config_file: str | None, state_dir: str | None) -> None:
    """Give up every moment before MOMENT, for good, and free its room. The state at MOMENT itself can still be had.
    Snapshots and tags stay.

    Refused while cdp.lock holds one of the moments, or a mount or a recovery reads one. A trim that was cut off is
    completed within minutes after the daemon has started again.

    \b
    Exit codes:
      0    done, or there was nothing before MOMENT
      2    refused; nothing was changed
    """
    with daemon_of(config_file, state_dir) as node:
        plan = node.trim_plan(name, before)
        if plan["moments"] and not dry_run:
            _ask(plan, yes)
            plan = node.await_task(node.trim(name, plan["before"]["seq"]))
    if wants_json():
        document(plan)
    elif not plan["moments"]:
        click.echo(words("trim_nothing", before=plan["before"]["time"]))
    elif dry_run:
        click.echo(_planned(plan))
    else:
        click.echo(words("trim_done", before=plan["before"]["time"], freed=size(plan["freed_bytes"])))


def _ask(plan: Mapping[str, Any], yes: bool) -> None:
    """What is given up is gone: nobody does that by one wrong digit."""
    if yes:
        return
    if not sys.stdin.isatty():
        from i2core.api import UsageError
        from i2core.config.words import bilingual

        raise UsageError(
            bilingual(f"{plan['moments']} moments would be given up for good", f"将永久清除 {plan['moments']} 个时刻"),
            next_step=bilingual("add --yes, or look with --dry-run", "加上 --yes，或用 --dry-run 查看"),
        )
    say(_planned(plan))
    click.confirm(words("trim_ask"), abort=True, err=True)


def _planned(plan: Mapping[str, Any]) -> str:
    return words(
        "trim_plan",
        first=plan["first"]["time"],
        before=plan["before"]["time"],
        moments=plan["moments"],
        bytes=size(plan["bytes"]),
    )
