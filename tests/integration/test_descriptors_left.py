"""A run that is ended in the middle of a walk or a mirror leaves no descriptor open, not even until its memory is
freed."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from i2core.api import Lost, Place
from i2core.rule.outgoing.outgoing import Outgoing
from i2core.wire.session import Session

from .pair import open_nodes


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Disables the garbage collector, so that nothing is freed by chance."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def descriptors(beneath: Path) -> list[str]:
    """The files that this process has open there."""
    found = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{fd}"))
        except FileNotFoundError:  # that of the listing itself
            continue
    return [path for path in found if path.startswith(str(beneath))]


def fill(top: Path) -> None:
    for directory in range(5):
        (top / f"d{directory}").mkdir()
        for file in range(5):
            (top / f"d{directory}" / f"f{file}").write_text("x")


@pytest.mark.usefixtures("no_collector")
async def test_in_the_middle_of_a_walk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_nodes(tmp_path) as nodes:
        fill(nodes.source)
        with trio.CancelScope() as scope:
            async with nodes.running():

                def keep(*_: object) -> None:
                    scope.cancel()

                monkeypatch.setattr(Outgoing, "keep", keep)
                monkeypatch.setattr("i2core.wire.message_size.BATCH_RECORDS", 1)
                for file in range(5):
                    (nodes.source / "d0" / f"f{file}").write_text("other")
                nodes.capture.tell(Lost(Place(0, b""), "on purpose"))
                await trio.sleep_forever()
        assert scope.cancelled_caught
        assert descriptors(nodes.source) == []


@pytest.mark.usefixtures("no_collector")
async def test_in_the_middle_of_a_mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_nodes(tmp_path) as nodes:
        fill(nodes.source)
        monkeypatch.setattr("i2core.wire.message_size.BATCH_RECORDS", 2)
        with trio.CancelScope() as scope:

            async def send(self: Session, packed: object) -> None:
                scope.cancel()
                await trio.sleep_forever()

            monkeypatch.setattr(Session, "send", send)
            await nodes.run()
        assert scope.cancelled_caught
        assert descriptors(nodes.source) == []


@pytest.mark.usefixtures("no_collector")
async def test_in_the_middle_of_a_listing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_nodes(tmp_path) as nodes:
        fill(nodes.source)
        monkeypatch.setattr("i2core.rule.survey.lister.CHUNK_ENTRIES", 2)
        monkeypatch.setattr("i2core.rule.survey.lister.FIRST_FRAME_ENTRIES", 1)
        with trio.CancelScope() as scope:

            async def post(self: Session, *_: object) -> object:
                scope.cancel()
                return await trio.sleep_forever()

            monkeypatch.setattr(Session, "post", post)
            await nodes.run()
        assert scope.cancelled_caught
        assert descriptors(nodes.source) == []
