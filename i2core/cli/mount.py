"""``i2 mount``: shows a moment of a received rule as a file system."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from i2core.cli.completion import directories, rules
from i2core.cli.daemon import daemon_of, where
from i2core.cli.output import document, json_option, printable, wants_json
from i2core.cli.words import words

if TYPE_CHECKING:
    from i2core.api import I2Error


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

    \b
    Moments are written as
      2026-11-29T22:31:07.123456     in the work node's time zone
      2026-11-29T22:31:07+08:00      with a zone
      -90s, -2h, -1.5d               before now
    """
    body = {key: value for key, value in asked.items() if value is not None}
    with daemon_of(config_file, state_dir) as node:
        found = node.mount(name, body | {"dir": os.path.abspath(directory)})
        if not os.path.ismount(directory):
            node.cancel_task(found["task"])
            raise _unseen(directory)
    if wants_json():
        document(found)
    else:
        click.echo(words("mounted", moment=found["moment"], dir=printable(directory), number=found["task"]))


def _unseen(directory: str) -> I2Error:
    """A service may have mounts of its own, which the host does not see."""
    from i2core.api import Code, I2Error
    from i2core.config.words import bilingual

    return I2Error(
        bilingual(
            "the daemon has mounts of its own, which are not seen outside of it",
            "守护进程使用自己的挂载命名空间，其挂载在外部不可见",
        ),
        code=Code.SNAPSHOT_MOUNT,
        obj=directory,
        next_step=bilingual(
            "recover to a directory with i2 recover, or run the daemon outside of a service",
            "用 i2 recover 恢复到目录，或不以服务方式运行守护进程",
        ),
    )
