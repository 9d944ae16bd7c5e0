"""File operations of an application, by name, so that a test can have another process carry them out.

A capture may ignore the changes of its own process, so a test of a capture has a child process work on the tree. Run as
a script, this module is that child: from each line it reads a Python literal, a list of ``(verb, argument, …)``. It
carries out the steps in order, and answers with the repr of None or of an error text. It needs only the standard
library, so that it starts fast. All paths are absolute bytes.
"""

from __future__ import annotations

import ast
import ctypes
import os
import shutil
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

Step = tuple[Any, ...]
"""``(verb, argument, …)``; the verbs are the keys of `VERBS`."""

_RENAME_EXCHANGE = 2
_AT_FDCWD = -100


def write(path: bytes, data: bytes) -> None:
    """Replaces the content of a file, which is created if it is missing."""
    with open(path, "wb") as file:
        file.write(data)


def append(path: bytes, data: bytes) -> None:
    """Appends `data` to a file."""
    with open(path, "ab") as file:
        file.write(data)


def pwrite(path: bytes, offset: int, data: bytes) -> None:
    """Writes `data` at `offset` of an existing file."""
    fd = os.open(path, os.O_WRONLY)
    try:
        os.pwrite(fd, data, offset)
    finally:
        os.close(fd)


def makedirs(path: bytes) -> None:
    """As ``mkdir -p``."""
    os.makedirs(path, exist_ok=True)


def exchange(one: bytes, other: bytes) -> None:
    """Exchanges the objects of both names in one step, by renameat2(2)."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(_AT_FDCWD, one, _AT_FDCWD, other, _RENAME_EXCHANGE):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), one)


def lone_tree(path: bytes, depth: int) -> None:
    """Creates a chain of `depth` directories as fast as possible, with a file in each."""
    for _ in range(depth):
        os.mkdir(path)
        write(path + b"/file", b"in " + path[-8:])
        path += b"/deeper"


_held: list[int] = []


def hold(path: bytes) -> None:
    """Opens a file for appending, for `write_held`."""
    _held.append(os.open(path, os.O_WRONLY | os.O_APPEND))


def hold_unnamed(directory: bytes, name: bytes) -> None:
    """Creates a file without a name on the directory's file system (O_TMPFILE), for `write_held`, then gives it one."""
    _held.append(os.open(directory, os.O_TMPFILE | os.O_WRONLY, 0o600))
    os.link(b"/proc/self/fd/%d" % _held[-1], name, src_dir_fd=_held[-1], follow_symlinks=True)


def write_held(data: bytes) -> None:
    """Writes `data` to the file that was opened last, whatever name it has now."""
    os.write(_held[-1], data)


def let_go() -> None:
    """Closes the file that was opened last."""
    os.close(_held.pop())


def attempt(verb: str, *arguments: Any) -> None:
    """Carries out another step, which may fail."""
    with suppress(OSError):
        VERBS[verb](*arguments)


VERBS: dict[str, Callable[..., object]] = {
    "attempt": attempt,
    "write": write,
    "append": append,
    "pwrite": pwrite,
    "truncate": os.truncate,
    "chmod": os.chmod,
    "utime": os.utime,
    "setxattr": os.setxattr,
    "link": os.link,
    "symlink": os.symlink,
    "mkdir": os.mkdir,
    "makedirs": makedirs,
    "lone_tree": lone_tree,
    "mkfifo": os.mkfifo,
    "rename": os.rename,
    "exchange": exchange,
    "unlink": os.unlink,
    "rmdir": os.rmdir,
    "rmtree": shutil.rmtree,
    "hold": hold,
    "hold_unnamed": hold_unnamed,
    "write_held": write_held,
    "let_go": let_go,
}


def carry_out(steps: Iterable[Step]) -> None:
    """Carries out the steps in order.

    Raises:
        OSError: a step failed; the steps before it were carried out.
    """
    for verb, *arguments in steps:
        VERBS[verb](*arguments)


def main() -> None:
    """Carries out the steps from standard input until it ends."""
    for line in sys.stdin:
        try:
            carry_out(ast.literal_eval(line))
            answer = None
        except OSError as error:
            answer = f"{error!r}"
        print(repr(answer), flush=True)


if __name__ == "__main__":
    main()
