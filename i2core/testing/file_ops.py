"""What an application does to files, by name: so that a test can have another process do it.

A capture may rightly ignore what its own process does, so a test that checks one lets a child work on the tree.
This module is that child when it is run as a script: it reads one Python literal a line, a list of
``(verb, argument, …)``, carries the steps out in order, and answers each line with the repr of None or of an error
text. It needs the standard library alone, so that it starts fast. All paths are absolute bytes.
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
    """The file's content becomes `data`; the file is made when it is missing."""
    with open(path, "wb") as file:
        file.write(data)


def append(path: bytes, data: bytes) -> None:
    """`data` goes behind the file's end."""
    with open(path, "ab") as file:
        file.write(data)


def pwrite(path: bytes, offset: int, data: bytes) -> None:
    """`data` goes to `offset` of a file that exists."""
    fd = os.open(path, os.O_WRONLY)
    try:
        os.pwrite(fd, data, offset)
    finally:
        os.close(fd)


def makedirs(path: bytes) -> None:
    """As ``mkdir -p``."""
    os.makedirs(path, exist_ok=True)


def exchange(one: bytes, other: bytes) -> None:
    """Both names swap their objects in one step, renameat2(2)."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(_AT_FDCWD, one, _AT_FDCWD, other, _RENAME_EXCHANGE):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), one)


def lone_tree(path: bytes, depth: int) -> None:
    """A chain of `depth` directories as fast as they can be made, with a file in each."""
    for _ in range(depth):
        os.mkdir(path)
        write(path + b"/file", b"in " + path[-8:])
        path += b"/deeper"


def attempt(verb: str, *arguments: Any) -> None:
    """Another step, whose failure does not matter."""
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
}


def carry_out(steps: Iterable[Step]) -> None:
    """Does the steps in order.

    Raises:
        OSError: a step failed; those before it are done.
    """
    for verb, *arguments in steps:
        VERBS[verb](*arguments)


def main() -> None:
    """Serves steps from standard input until it ends."""
    for line in sys.stdin:
        try:
            carry_out(ast.literal_eval(line))
            answer = None
        except OSError as error:
            answer = f"{error!r}"
        print(repr(answer), flush=True)


if __name__ == "__main__":
    main()
