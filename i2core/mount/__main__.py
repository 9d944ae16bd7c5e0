"""Mounts a directory of this machine, to try it by hand, until Ctrl-C or umount(8).

python -m i2core.mount [--everybody] [--fixed] [--writable] [--scratch DIRECTORY] TREE DIRECTORY
"""

from __future__ import annotations

import argparse
import os
import signal
from contextlib import closing

import trio

from i2core.mount.mounted import SCRATCH, mounted
from i2core.posix.tree import LocalTree


async def _run(tree: LocalTree, given: argparse.Namespace) -> None:
    options = {"everybody": given.everybody, "writable": given.writable, "scratch": given.scratch}
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with (
            mounted(tree, given.directory, print, **options) as mount,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(_until_ended, mount.ended, nursery.cancel_scope)
            async for _ in signals:
                nursery.cancel_scope.cancel()


async def _until_ended(ended: trio.Event, scope: trio.CancelScope) -> None:
    await ended.wait()
    scope.cancel()


def main() -> None:
    """Serves a directory of this machine."""
    parser = argparse.ArgumentParser(prog="python -m i2core.mount")
    for flag in ("--everybody", "--fixed", "--writable"):
        parser.add_argument(flag, action="store_true")
    parser.add_argument("--scratch", type=os.fsencode, default=SCRATCH)
    parser.add_argument("tree", type=os.fsencode)
    parser.add_argument("directory", type=os.fsencode)
    given = parser.parse_args()
    with closing(LocalTree(given.tree)) as tree:
        tree.is_fixed = given.fixed or given.writable
        trio.run(_run, tree, given)


if __name__ == "__main__":
    main()
