"""Repeats calls after passing errors: exhausted descriptors or memory. Nobody has to act on them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import trio

from i2core.posix.errnos import PASSING

T = TypeVar("T")
FIRST_WAIT_S = 0.05
LONGEST_WAIT_S = 5.0


async def patiently(work: Callable[[], T], say: Callable[[str], None]) -> T:
    """The result of `work`, run in a worker thread; while it raises a passing error it is called again, with growing
    waits. Its work must bear that. A long wait is reported once.

    Raises:
        OSError: one that does not pass.
    """
    wait_s = FIRST_WAIT_S
    while True:
        try:
            return await trio.to_thread.run_sync(work)
        except OSError as error:
            if error.errno not in PASSING:
                raise
            if wait_s >= 1 > wait_s / 2:
                say(f"the CDP directory waits: {error.strerror}")
        await trio.sleep(wait_s)
        wait_s = min(2 * wait_s, LONGEST_WAIT_S)
