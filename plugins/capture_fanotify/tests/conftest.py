"""What the tests of this plugin share: file systems to mount, and ears for a capture."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from pathlib import Path

import pytest
import trio
from i2_capture_fanotify.capture import FanotifyCapture
from i2_capture_fanotify.config import FanotifyConfig
from i2_capture_fanotify.fanotify import Group
from i2_capture_fanotify.mounts import read_mounts

from i2core.api import Capture, CaptureContext, Change, Lost, Place
from i2core.testing.hinted import HintedTree

Run = Callable[..., str]
LET_GO_S = 10.0


@pytest.fixture
def run() -> Run:
    """``run(WORD, …)``: carries out a command and gives what it printed."""

    def command(*words: str | Path) -> str:
        done = subprocess.run([str(word) for word in words], check=False, capture_output=True, text=True)  # noqa: S603
        assert done.returncode == 0, f"{words}: {done.stderr}"
        return done.stdout

    return command


@pytest.fixture
def mount(run: Run) -> Iterator[Callable[..., None]]:
    """``mount(ARGUMENT, …)`` as the command, the mount point last; unmounts in the end what still is mounted."""
    points: list[str] = []

    def mount_it(*arguments: str | Path) -> None:
        run("mount", *arguments)
        points.append(os.path.realpath(arguments[-1]))

    try:
        yield mount_it
    finally:
        for point in reversed(points):
            while any(os.fsdecode(each.point) == point for each in read_mounts()):
                _unmount(run, point)


def _unmount(run: Run, point: str) -> None:
    """The kernel lets go of what a mark held a little after its descriptor was closed."""
    until = time.monotonic() + LET_GO_S
    while True:
        try:
            run("umount", point)
            return
        except AssertionError as error:
            if "busy" not in str(error) or time.monotonic() > until:
                raise
        time.sleep(0.05)


@pytest.fixture
def mount_image(tmp_path: Path, run: Run, mount: Callable[..., None]) -> Callable[[str, Path], Path]:
    """``mount_image("xfs", directory)``: a fresh file system of that kind, in a sparse file, mounted there."""

    def mount_it(kind: str, point: Path) -> Path:
        if shutil.which(f"mkfs.{kind}") is None:
            pytest.skip(f"mkfs.{kind} is not installed")
        image = tmp_path / f"{kind}-{point.name}.img"
        image.touch()
        os.truncate(image, 320 << 20)
        run(f"mkfs.{kind}", "-q", image)
        point.mkdir(exist_ok=True)
        mount("-o", "loop", image, point)
        return point

    return mount_it


class Ears:
    """Hears a capture batch by batch, when told to, and keeps a picture of the trees by what it heard."""

    def __init__(self, capture: Capture, context: CaptureContext, said: list[str], *, looks: bool) -> None:
        self.said = said
        self.inodes: list[tuple[bytes, int]] = []
        self.outside: list[int] = []
        self.tree = HintedTree(context.roots if looks else (), context.wants_dir)
        self._looks = looks
        self.unread = capture.unread
        self._batches = capture.changes()
        self._top = Path(os.fsdecode(context.roots[0]))
        self._drains = 0

    async def hear(self) -> Sequence[Change | Lost]:
        """The next batch. Inode numbers are kept in `inodes`, and what is only known by one in `outside`."""
        with trio.fail_after(10):
            batch = await anext(self._batches)
        for item in batch if self._looks else ():
            self.tree.apply(item)
        named: list[Change | Lost] = []
        for item in batch:
            if isinstance(item, Change) and item.inode and not item.place.path:
                self.outside.append(item.inode)
                continue
            if isinstance(item, Change) and item.inode:
                self.inodes.append((item.place.path, item.inode))
                item = item._replace(inode=0)  # noqa: PLW2901
            named.append(item)
        return named

    async def drain(self, within: Path | None = None) -> list[Change | Lost]:
        """All that is told up to now: up to the report of a mark, made in the first root or in a directory of it."""
        self._drains += 1
        mark = (within or self._top) / f"drained-{self._drains}"
        mark.touch()
        heard: list[Change | Lost] = []
        seen = False
        while not seen:
            batch = await self.hear()
            seen = any(isinstance(item, Change) and item.place.path.endswith(mark.name.encode()) for item in batch)
            heard += batch
        return [i for i in heard if not (isinstance(i, Change) and b"drained-" in i.place.path)]

    async def until_lost(self, place: Place) -> str:
        """The reason why this place was lost."""
        while True:
            for item in await self.hear():
                if isinstance(item, Lost) and item.place == place:
                    return item.reason


@pytest.fixture
def watch() -> Callable[..., AbstractAsyncContextManager[Ears]]:
    """``async with watch(ROOT, …) as ears``: watches these roots; `group` and `limit` as `FanotifyCapture` takes
    them, `wants_dir` as `CaptureContext`; without `looks` no picture is kept, which is slow for many names."""

    @asynccontextmanager
    async def run(
        *roots: Path,
        group: Group | None = None,
        limit: int = 65_536,
        wants_dir: Callable[[int, bytes], bool] = lambda root, path: True,
        looks: bool = True,
    ) -> AsyncIterator[Ears]:
        said: list[str] = []
        context = CaptureContext(
            roots=tuple(os.fsencode(root) for root in roots),
            wants_dir=wants_dir,
            say=said.append,
        )
        with FanotifyCapture(FanotifyConfig(cached_directories=limit), context, group) as capture:
            ears = Ears(capture, context, said, looks=looks)
            async with aclosing(ears._batches):  # type: ignore[type-var]
                yield ears

    return run
