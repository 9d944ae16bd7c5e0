"""``i2 snapshot``: named past states of the rules that this backup node receives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from i2core.cli.completion import rules
from i2core.cli.daemon import daemon_of, where
from i2core.cli.output import document, json_option, printable, say, size, table, wants_json
from i2core.cli.words import words


@click.group(short_help="Take, list and remove snapshots of a received rule.")
def snapshot() -> None:
    """Take, list and remove snapshots of a received rule. For the backup node.

    A snapshot is the state of a replica between two batches of changes. It is kept until it is removed, by hand or by
    the rule's schedule: snapshot = { every = "1h", keep = 24 }. Read it with i2 mount --snapshot, and bring it back
    with i2 recover --snapshot.

    If several work nodes have a rule of that name, name it as PEER/RULE.
    """


@snapshot.command(short_help="Take a snapshot.")
@click.argument("name", metavar="[PEER/]RULE", shell_complete=rules)
@click.option("--tag", default="", metavar="TEXT", help="A note for people.")
@where
@json_option
def create(name: str, tag: str, config_file: str | None, state_dir: str | None) -> None:
    """Take a snapshot of the replica as it is now. The schedule does not remove it.

    Changes that the work node has not sent yet are not in it: see the lag in i2 rule status there.
    """
    with daemon_of(config_file, state_dir) as node:
        found = node.await_task(node.create_snapshot(name, tag))
    if wants_json():
        document(found)
        return
    click.echo(words("snapshot_taken", rule=name, number=found["number"], taken=found["taken"], store=found["store"]))
    if found["mirroring"]:
        say(words("snapshot_mixed"))


@snapshot.command("list", short_help="List the snapshots.")
@click.argument("name", metavar="[PEER/]RULE", shell_complete=rules)
@click.option("--space", is_flag=True, help="Measure the room that each alone needs; may look at all files.")
@where
@json_option
def list_(name: str, space: bool, config_file: str | None, state_dir: str | None) -> None:
    """List the snapshots, oldest first. Times are in the work node's time zone.

    A snapshot is missing when its store does not have it any more, for example because the history that it belongs to
    has ended.
    """
    with daemon_of(config_file, state_dir) as node:
        found = node.snapshots(name, space=space)
    if wants_json():
        document(found)
    elif not found:
        click.echo(words("snapshot_none", rule=name))
    else:
        keys = ["number", "snapshot_time", "seq", "snapshot_tag", "snapshot_store", "snapshot_by", "state"]
        keys += ["snapshot_used", *(["snapshot_bytes"] if space else [])]
        table([words(key) for key in keys], [_row(each, space) for each in found])


@snapshot.command(short_help="Remove a snapshot.")
@click.argument("name", metavar="[PEER/]RULE", shell_complete=rules)
@click.argument("number", type=click.IntRange(1))
@where
@json_option
def remove(name: str, number: int, config_file: str | None, state_dir: str | None) -> None:
    """Remove a snapshot for good. One that is mounted or being recovered is not removed (3551)."""
    with daemon_of(config_file, state_dir) as node:
        done = node.remove_snapshot(name, number)
    if wants_json():
        document({"number": number, "done": done})
    else:
        click.echo(words("snapshot_removed" if done else "snapshot_was_removed", rule=name, number=number))


def _row(found: Mapping[str, Any], space: bool) -> tuple[str, ...]:
    state = "mirroring" if found["state"] == "kept" and found["mirroring"] else found["state"]
    cells = (
        str(found["number"]),
        found["taken"] if found["taken_ns"] else "",
        str(found["seq"] if found["moment"] is None else found["moment"]),
        printable(found["tag"]),
        found["store"],
        words("snapshot_schedule" if found["automatic"] else "snapshot_hand"),
        words(f"snapshot_{state}"),
        str(found["used"] or ""),
    )
    return (*cells, "-" if found["bytes"] is None else size(found["bytes"])) if space else cells
