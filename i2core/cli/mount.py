"""``i2 mount``: shows a moment of a received rule as a file system."""

from __future__ import annotations

import os
import threading
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from i2core.cli.completion import directories, rules
from i2core.cli.daemon import daemon_of, where
from i2core.cli.output import document, json_option, printable, wants_json
from i2core.cli.words import words

if TYPE_CHECKING:
    from i2core.node.control.client import ControlClient


@click.command(short_help="Show a moment of a received rule as a file system.")
@click.argument("name", metavar="[PEER/]RULE", shell_complete=rules)
@click.argument("directory", metavar="DIR", shell_complete=directories)
@click.option("--at", metavar="MOMENT", help="The moment; default: now.")
@click.option("--at-seq", type=click.IntRange(0), help="The state after the change of this number (see i2 cdp log).")
@click.option("--snapshot", type=click.IntRange(1), help="A snapshot instead of a moment (see i2 snapshot list).")
@click.option("--nearest", type=click.Choice(["before", "after"]), help="Take a neighbour of a moment that is gone.")
@click.option("--writable", is_flag=True, help="What is written is kept in a layer above, and thrown away at the end.")
@click.option("--everybody", is_flag=True, help="Let every user in, as far as modes and ACLs allow.")
@where
@json_option
def mount(name: str, directory: str, config_file: str | None, state_dir: str | None, **asked: Any) -> None:
    """Show a moment of a received rule as a file system on DIR, an empty directory. For the backup node.

    Nothing is copied before it is read, and the replica is not changed. The daemon serves the mount; it ends with
    umount DIR, with the daemon, or with i2 task cancel. A rule with several directories has one in DIR for each.

    If the daemon is a service with mounts of its own, this command mounts, and the daemon serves it. It can then not be
    written, and umount DIR is needed also after the daemon has ended.

    \b
    Moments are written as
      2026-11-29T22:31:07.123456     in the work node's time zone
      2026-11-29T22:31:07+08:00      with a zone
      -90s, -2h, -1.5d               before now
    """
    body = {key: value for key, value in asked.items() if value is not None}
    body["dir"] = os.path.abspath(directory)
    with daemon_of(config_file, state_dir) as node:
        if _sees_other_mounts(node):
            from i2core.node.daemon.paths import find_state_dir

            state = find_state_dir(Path(config_file) if config_file else None, Path(state_dir) if state_dir else None)
            found = _mounted_here(node, name, body, state)
        else:
            found = node.mount(name, body)
    if wants_json():
        document(found)
    else:
        click.echo(words("mounted", moment=found["moment"], dir=printable(directory), number=found["task"]))


def _sees_other_mounts(node: ControlClient) -> bool:
    """A service may have mounts of its own: what it mounts, nobody outside of it sees."""
    theirs = node.status().get("mounts")
    return bool(theirs) and theirs != os.readlink("/proc/self/ns/mnt")


def _mounted_here(node: ControlClient, name: str, body: dict[str, Any], state_dir: Path) -> dict[str, Any]:
    """This command mounts, and the daemon serves it."""
    import trio

    from i2core.mount.device import mount_fuse
    from i2core.mount.handed import listening
    from i2core.mount.point import clear_dead, open_point

    point = os.fsencode(os.path.realpath(body["dir"]))
    trio.run(clear_dead, point)
    directory = open_point(point, ())
    try:
        with listening(state_dir) as command:

            def make() -> int:
                return trio.run(partial(mount_fuse, directory, point, everybody=bool(body.get("everybody"))))

            failed: list[Exception] = []

            def serve() -> None:
                try:
                    command.serve(directory, make)
                except Exception as error:  # told below, unless the daemon knows better
                    failed.append(error)

            thread = threading.Thread(target=serve, daemon=True)
            thread.start()
            try:
                return node.mount(name, body | {"socket": command.name})
            except Exception:
                if failed:
                    raise failed[0] from None
                raise
    finally:
        os.close(directory)
