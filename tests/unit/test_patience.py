"""Work that meets a passing error is tried again until it succeeds, and a long wait is reported once."""

from __future__ import annotations

import errno
import os

import pytest
import trio.testing

from i2core.api import Code, Line
from i2core.posix.errnos import PASSING
from i2core.posix.patience import LONGEST_WAIT_S, patiently


class Refused:
    """Work that fails so many times."""

    def __init__(self, code: int, times: int) -> None:
        self._code, self._left = code, times
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        if self._left:
            self._left -= 1
            raise OSError(self._code, os.strerror(self._code))
        return "done"


@pytest.mark.parametrize("code", PASSING)
async def test_a_short_lack_is_waited_for_without_a_word(code: int, autojump_clock: trio.testing.MockClock) -> None:
    said: list[str] = []
    work = Refused(code, 5)
    assert await patiently(work, said.append, lambda: "/d") == "done"
    assert (work.calls, said) == (6, [])


async def test_a_long_lack_is_reported_once_and_so_is_its_end(autojump_clock: trio.testing.MockClock) -> None:
    said: list[str] = []
    began = trio.current_time()
    work = Refused(errno.EMFILE, 20)
    assert await patiently(work, said.append, lambda: "/d") == "done"
    assert work.calls == 21
    assert trio.current_time() - began <= 20 * LONGEST_WAIT_S
    waits, end = said
    assert isinstance(waits, Line)
    assert (waits.code, waits.obj, waits.cause) == (Code.REPLICA_WAITS, "/d", os.strerror(errno.EMFILE))
    assert end == "/d: continues"


async def test_any_other_error_is_raised_at_once() -> None:
    said: list[str] = []
    work = Refused(errno.ENOSPC, 1)
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        await patiently(work, said.append, lambda: "/d")
    assert (work.calls, said) == (1, [])
