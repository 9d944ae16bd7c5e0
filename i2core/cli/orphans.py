"""``i2 orphans``: names that only the replica of a rule has."""

from __future__ import annotations

import datetime
import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from i2core.cli.compare import await_compare
from i2core.cli.completion import directories, rules
from i2core.cli.daemon import daemon_of, where
from i2core.cli.output import document, json_option, printable, say, size, table, wants_json
from i2core.cli.words import words

if TYPE_CHECKING:
    from i2core.node.control.client import ControlClient

EXIT_DIFFERENT = 3


@click.group(short_help="List, remove and fetch files that only the replica has.")
def orphans() -> None:
    """List, remove and fetch orphans: files that only the replica of a rule has.

    The latest compare of the rule, on the work node, shows which they are.
    """


@orphans.command("list", short_help="List the orphans of a directory.")
@click.argument("name", metavar="RULE", shell_complete=rules)
@click.argument("path", metavar="[DIR]", required=False)
@click.option("--refresh", is_flag=True, help="Compare first.")
@click.option("--after", metavar="NAME", help="Continue after this name.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True, help="So many names.")
@where
@json_option
def list_(
    name: str, path: str | None, refresh: bool, config_file: str | None, state_dir: str | None, **page: Any
) -> None:
    """List the orphans of a directory, with the time when they were made on the replica, and their size. For the work
    node.

    DIR is named as on the source, absolute or relative to the rule's only directory; without it that directory is
    listed. A directory that is no orphan is listed with the number of orphans beneath it. If the rule was never
    compared, it is compared first.
    """
    with daemon_of(config_file, state_dir) as node:
        asked = {"path": path, **page}
        found = None if refresh else node.orphans(name, asked)
        if found is None or found["compared"] is None:
            await_compare(node, node.begin_compare(name, {}))
            found = node.orphans(name, asked)
    if wants_json():
        document(found)
        return
    if found["items"]:
        heads = [words(key) for key in ("orphan_name", "orphan_made", "orphan_size", "orphan_count")]
        table(heads, [_row(item) for item in found["items"]])
    else:
        click.echo(words("no_orphans"))
    say(words("orphans_compared", time=_time(found["compared_ns"])))
    if found["after"] is not None:
        say(words("orphans_more", after=printable(found["after"])))


@orphans.command(short_help="Remove orphans from the replica.")
@click.argument("name", metavar="RULE", shell_complete=rules)
@click.argument("paths", metavar="PATH...", nargs=-1, required=True)
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Remove nothing; tell how many there are.")
@where
@json_option
def remove(
    name: str, paths: tuple[str, ...], yes: bool, dry_run: bool, config_file: str | None, state_dir: str | None
) -> None:
    """Remove orphans from the replica, named as on the source; of a directory that is no orphan, all beneath it. For
    the work node.

    The rule must replicate: it looks on the source once more, and sends the removals as any others, so the brake may
    hold them. If the rule has a history, i2 recover brings them back.

    Exit code 3 when some of them are still there.
    """
    with daemon_of(config_file, state_dir) as node:
        body = {"paths": list(paths)}
        found = node.remove_orphans(name, body | {"dry_run": True})
        if dry_run:
            _show(found, words("orphans_would", count=found["orphans"], bytes=size(found["bytes"])))
            return
        if not yes:
            _ask(found)
        result = _awaited(node, node.remove_orphans(name, body)["task"])
    _show(result, words("orphans_removed", count=result["removed"]))
    for each in result["left"]:
        say(f"{printable(each['path'])}: {each['cause']}")
    if result["left"]:
        raise click.exceptions.Exit(EXIT_DIFFERENT)


@orphans.command(short_help="Bring orphans of a replica to a directory.")
@click.argument("name", metavar="[PEER/]RULE", shell_complete=rules)
@click.argument("paths", metavar="PATH...", nargs=-1, required=True)
@click.option("--to", "to", metavar="DIR", required=True, shell_complete=directories, help="Where to, on this node.")
@where
@json_option
def fetch(name: str, paths: tuple[str, ...], to: str, config_file: str | None, state_dir: str | None) -> None:
    """Bring orphans of a replica to a directory, with all attributes. For the backup node, where they are.

    PATH is named as on either node. The replica keeps them. Any other object of the replica can be fetched as well; for
    an earlier state of it, see i2 recover.

    Exit code 3 when not all could be fetched.
    """
    with daemon_of(config_file, state_dir) as node:
        result = _awaited(node, node.fetch(name, {"to": os.path.abspath(to), "paths": list(paths)}))
    _show(result, words("orphans_fetched", count=result["files"], bytes=size(result["bytes"]), to=result["to"]))
    for each in result["failed"]:
        say(f"{printable(each['path'])}: {printable(each['message'])} [{each['code']}]")
    if not result["equal"]:
        raise click.exceptions.Exit(EXIT_DIFFERENT)


def _ask(found: Mapping[str, Any]) -> None:
    if not sys.stdin.isatty() or wants_json():
        from i2core.api import UsageError
        from i2core.config.words import bilingual

        raise UsageError(
            bilingual("orphans are removed only after a question", "删除孤儿文件前需要确认"),
            next_step=bilingual("add --yes", "请加 --yes"),
        )
    click.confirm(words("orphans_ask", count=found["orphans"], bytes=size(found["bytes"])), abort=True, err=True)


def _awaited(node: ControlClient, number: int) -> dict[str, Any]:
    try:
        return node.await_task(number)
    except KeyboardInterrupt:
        say(words("compare_goes_on", number=number))
        raise


def _show(result: Mapping[str, Any], line: str) -> None:
    if wants_json():
        document(result)
    else:
        click.echo(line)


def _row(item: Mapping[str, Any]) -> tuple[str, ...]:
    name = printable(item["path"]) + ("/" if item["directory"] else "")
    amount = "" if item["directory"] and item["orphan"] else size(item["size"])
    return name, _time(item["born_ns"]), amount, "" if item["orphan"] else str(item["orphans"])


def _time(at_ns: int | None) -> str:
    if at_ns is None:
        return ""
    return datetime.datetime.fromtimestamp(at_ns / 1e9).astimezone().isoformat(sep=" ", timespec="seconds")
