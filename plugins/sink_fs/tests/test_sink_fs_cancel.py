"""Long questions end when nobody waits for the answer any more."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import pytest
import trio
from i2_sink_fs import content, reading

from i2core.api import Ask, Place, check_cancelled

if TYPE_CHECKING:
    from conftest import Replica

COUNT = 5
Question = Callable[["Replica"], Awaitable[object]]


def look(replica: Replica) -> Awaitable[object]:
    return replica.sink.look([Ask(Place(0, b"d%d" % number), (), every=True) for number in range(COUNT)])


def count(replica: Replica) -> Awaitable[object]:
    return replica.sink.count(Place(0, b""), 1 << 40)


def hashes(replica: Replica) -> Awaitable[object]:
    return replica.sink.hashes(Place(0, b"large"), 0, 1 << 16)


def hashes_of(replica: Replica) -> Awaitable[object]:
    return replica.sink.hashes_of([Place(0, b"d%d/f" % number) for number in range(COUNT)], 1)


@pytest.mark.parametrize("question", [look, count, hashes, hashes_of])
async def test_a_question_ends_with_its_session(
    replica: Replica, question: Question, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is cancelled at its second check."""
    for number in range(COUNT):
        (replica.root / f"d{number}").mkdir()
        (replica.root / f"d{number}" / "f").write_bytes(b"x")
    (replica.root / "large").write_bytes(b"x" * (COUNT * content._READ_BYTES))
    checks = 0
    before = len(os.listdir("/proc/self/fd"))

    def check() -> None:
        nonlocal checks
        checks += 1
        if checks == 2:
            trio.from_thread.run_sync(scope.cancel)
        check_cancelled()

    for module in (reading, content):
        monkeypatch.setattr(module, "check_cancelled", check)
    with trio.CancelScope() as scope:
        await question(replica)
    assert scope.cancelled_caught
    assert checks == 2
    assert len(os.listdir("/proc/self/fd")) == before
