"""An application whose changes a capture watches: a separate process, in a session of its own, that works on files.

async with open_application() as app:
    await app.do(("mkdir", b"/srv/a"), ("write", b"/srv/a/file", b"content"))
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from i2core.testing import file_ops
from i2core.testing.file_ops import Step


class Application:
    """The child process; see `i2core.testing.file_ops` for the verbs."""

    def __init__(self, process: trio.Process) -> None:
        self._process = process
        self._answer = b""

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._process.pid

    async def do(self, *steps: Step) -> None:
        """Has the child carry out the steps; returns when the last one is done.

        Raises:
            OSError: a step failed, or the child ended.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        await self._process.stdin.send_all(repr(list(steps)).encode() + b"\n")
        while b"\n" not in self._answer:
            part = await self._process.stdout.receive_some()
            if not part:
                raise OSError("the application ended")
            self._answer += bytes(part)
        line, _, self._answer = self._answer.partition(b"\n")
        error = ast.literal_eval(line.decode())
        if error is not None:
            raise OSError(error)


@asynccontextmanager
async def open_application() -> AsyncIterator[Application]:
    """Starts the child process, and ends it at the end of the body."""
    process = await trio.lowlevel.open_process(
        [sys.executable, "-I", "-X", "utf8", file_ops.__file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        yield Application(process)
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
            assert process.stdin is not None and process.stdout is not None
            await process.stdin.aclose()
            await process.stdout.aclose()
