"""Retries a driver's work on the backup node after passing errors: exhausted descriptors or memory, a file under a
lease.

They pass without an administrator. So no record is skipped and no rule stops: the same work is tried again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import trio

from i2core.api import Code, Line, in_thread
from i2core.posix.errnos import PASSING

T = TypeVar("T")
FIRST_WAIT_S = 0.05
LONGEST_WAIT_S = 5.0
REPORTED_WAIT_S = 1.0
"""Before a wait of this length it is reported: after some two seconds."""


async def patiently(work: Callable[[], T], say: Callable[[str], None], obj: Callable[[], str]) -> T:
    """The result of `work`, run in a worker thread. While it raises a passing error, it is called again, with growing
    waits: it must bear that. `obj` names its object for the log. The error is reported once (3626), and so is its end.

    Raises:
        OSError: one that does not pass.
    """
    wait_s, reported = FIRST_WAIT_S, False
    while True:
        try:
            done = await in_thread(work)
        except OSError as error:
            if error.errno not in PASSING:
                raise
            if not reported and wait_s >= REPORTED_WAIT_S:
                reported = True
                text = Code.REPLICA_WAITS.text
                line = f"{obj()}: {text.en}: {error.strerror} ({text.next_en}) [{Code.REPLICA_WAITS.value}]"
                say(Line(line, code=Code.REPLICA_WAITS, obj=obj(), cause=error.strerror or ""))
            await trio.sleep(wait_s)
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)
        else:
            if reported:
                say(f"{obj()}: continues")
            return done
