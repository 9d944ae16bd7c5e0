"""An open capture with an ear on it, in an application's tree."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import attrs
import pytest
import trio
from i2_capture_inotify.capture import InotifyCapture, open_capture
from i2_capture_inotify.config import InotifyConfig

from i2core.api import CaptureContext, Change, Lost, Op, Place
from i2core.testing.hinted import HintedTree

WITHIN_S = 10.0


@attrs.define
class Ear:
    """What a capture said so far, with the picture that a source would have of it."""

    capture: InotifyCapture
    context: CaptureContext
    said: list[str]
    heard: list[Change | Lost] = attrs.field(factory=list)
    tree: HintedTree = attrs.field(init=False)
    more: trio.Event = attrs.field(factory=trio.Event)

    def __attrs_post_init__(self) -> None:
        self.tree = HintedTree(self.context.roots, self.context.wants_dir)

    async def listen(self) -> None:
        async for batch in self.capture.changes():
            for item in batch:
                self.tree.apply(item)
            self.heard += batch
            self.more.set()
            self.more = trio.Event()

    async def until(self, wanted: Callable[[list[Change | Lost]], object]) -> None:
        """Waits until what was heard is as wanted."""
        with trio.move_on_after(WITHIN_S):
            while not wanted(self.heard):
                await self.more.wait()
            return
        raise AssertionError("heard only:\n" + "\n".join(map(str, self.heard[-60:])))

    async def until_named(self, path: bytes, root: int = 0) -> None:
        """Waits for a change that names exactly this place."""
        await self.until(lambda heard: any(isinstance(i, Change) and i.place == Place(root, path) for i in heard))

    async def until_lost(self, path: bytes = b"", root: int = 0) -> None:
        """Waits for a Lost of exactly this place."""
        await self.until(lambda heard: any(isinstance(i, Lost) and i.place == Place(root, path) for i in heard))

    async def until_known(self) -> None:
        """Waits until the picture is the tree."""
        with trio.move_on_after(WITHIN_S):
            while self.tree.differences():
                await self.more.wait()
            return
        raise AssertionError("\n".join(self.tree.differences()) + "\nheard:\n" + "\n".join(map(str, self.heard[-60:])))

    def forget(self) -> None:
        """What is heard from now on is new."""
        self.heard.clear()

    def ops(self) -> list[tuple[Op, bytes, bytes | None]]:
        """The changes heard: op, path, new path."""
        return [(i.op, i.place.path, i.to and i.to.path) for i in self.heard if isinstance(i, Change)]


Listening = Callable[..., AbstractAsyncContextManager[Ear]]


@asynccontextmanager
async def open_ear(
    *roots: Path,
    config: InotifyConfig | None = None,
    wants_dir: Callable[[int, bytes], bool] = lambda root, path: True,
    deaf: bool = False,
) -> AsyncIterator[Ear]:
    said: list[str] = []
    context = CaptureContext(roots=tuple(bytes(r) for r in roots), wants_dir=wants_dir, say=said.append)
    async with open_capture(config or InotifyConfig(), context) as capture, trio.open_nursery() as nursery:
        ear = Ear(capture, context, said)
        if not deaf:
            nursery.start_soon(ear.listen)
        yield ear
        nursery.cancel_scope.cancel()


@pytest.fixture
def listening() -> Listening:
    """``async with listening(root, …) as ear``: a capture of these roots that is listened to (unless `deaf`)."""
    return open_ear
