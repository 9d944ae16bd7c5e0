"""Several rules on one group: each hears of its own roots, whoever of them reads."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from i2_capture_fanotify import fanotify, listener, translate
from i2_capture_fanotify.capture import FanotifyCapture
from i2_capture_fanotify.config import FanotifyConfig
from i2_capture_fanotify.filesystem import FileSystem, Unsettled

from i2core.api import CaptureContext, Change, Lost, Op, Place

pytestmark = pytest.mark.root
Watch = Callable[..., Any]
Mounter = Callable[..., None]


def groups() -> int:
    """Notification groups of this process."""
    found = 0
    for fd in os.listdir("/proc/self/fd"):
        try:
            found += os.readlink(f"/proc/self/fd/{fd}") == "anon_inode:[fanotify]"
        except OSError:
            continue
    return found


@pytest.fixture
def roots(tmp_path: Path) -> list[Path]:
    found = [tmp_path / f"root{number}" for number in range(3)]
    for root in found:
        root.mkdir()
    return found


async def test_rules_share_a_group_and_hear_of_their_own(watch: Watch, roots: list[Path]) -> None:
    async with watch(roots[0]) as one, watch(roots[1]) as two, watch(roots[1], roots[2]) as three:
        assert groups() == 1
        for root in roots:
            (root / "file").touch()
        assert await one.drain() == [Change(Op.CREATE, Place(0, b"file"))]
        assert await two.drain() == [Change(Op.CREATE, Place(0, b"file"))]
        heard = [item for item in await three.drain() if b"drained" not in item.place.path]
        assert heard == [Change(Op.CREATE, Place(0, b"file")), Change(Op.CREATE, Place(1, b"file"))]
        (roots[0] / "file").rename(roots[2] / "moved")
        (roots[1] / "file").rename(roots[2] / "file")
        assert await one.drain() == [Change(Op.REMOVE, Place(0, b"file"))]
        assert await two.drain() == [Change(Op.REMOVE, Place(0, b"file"))]
        assert [item for item in await three.drain() if b"drained" not in item.place.path] == [
            Change(Op.CREATE, Place(1, b"moved")),
            Change(Op.RENAME, Place(0, b"file"), to=Place(1, b"file")),
        ]
    assert groups() == 0


async def test_a_rule_that_comes_and_goes_leaves_the_others_watched(watch: Watch, roots: list[Path]) -> None:
    async with watch(roots[0]) as one:
        async with watch(roots[1]) as two:
            (roots[0] / "a").touch()
            (roots[1] / "a").touch()
            assert await two.drain() == [Change(Op.CREATE, Place(0, b"a"))]
        (roots[0] / "b").touch()
        (roots[1] / "b").touch()
        assert await one.drain() == [Change(Op.CREATE, Place(0, b"a")), Change(Op.CREATE, Place(0, b"b"))]
        roots[0].rename(roots[0].with_name("aside"))
        assert "gone" in await one.until_lost(Place(0, b""))


async def test_a_file_system_is_watched_as_long_as_a_rule_needs_it(
    watch: Watch, roots: list[Path], mount: Mounter, monkeypatch: pytest.MonkeyPatch
) -> None:
    removed: list[int] = []
    unmark = fanotify.Group.unmark_filesystem

    def unmark_and_note(self: fanotify.Group, fd: int) -> None:
        removed.append(fd)
        unmark(self, fd)

    monkeypatch.setattr(fanotify.Group, "unmark_filesystem", unmark_and_note)
    mount("-t", "tmpfs", "none", roots[1])
    (roots[1] / "a").mkdir()
    async with watch(roots[0]):
        async with watch(roots[1]) as two:
            async with watch(roots[1] / "a"):
                pass
            assert removed == []
            (roots[1] / "file").touch()
            assert await two.drain() == [Change(Op.CREATE, Place(0, b"file"))]
        assert len(removed) == 1


async def test_who_waits_takes_over_from_who_was_cancelled(roots: list[Path]) -> None:
    contexts = [CaptureContext(roots=(os.fsencode(root),), wants_dir=lambda at, path: True) for root in roots]
    heard: list[list[Change | Lost]] = [[] for _ in roots]
    scopes = [trio.CancelScope() for _ in roots]
    more = trio.Event()

    async def listen(number: int) -> None:
        nonlocal more
        with FanotifyCapture(FanotifyConfig(), contexts[number]) as capture, scopes[number]:
            async for batch in capture.changes():
                heard[number] += [item for item in batch if item.place.path]
                more.set()
                more = trio.Event()

    async with trio.open_nursery() as nursery:
        for number in range(3):
            nursery.start_soon(listen, number)
        await trio.testing.wait_all_tasks_blocked(0.01)
        for number in range(3):
            (roots[2] / f"{number}").touch()
            with trio.fail_after(10):
                while not any(item.place.path == b"%d" % number for item in heard[2]):
                    await more.wait()
            if number < 2:
                scopes[number].cancel()
                await trio.testing.wait_all_tasks_blocked(0.01)
        assert heard[0] == heard[1] == []
        nursery.cancel_scope.cancel()
    assert groups() == 0


async def test_what_a_rule_does_not_fetch_is_bounded(
    watch: Watch, roots: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "MOST_WAITING", 10)
    async with watch(roots[0]) as one, watch(roots[1]) as two:
        for number in range(50):
            (roots[1] / f"{number}").touch()
        await one.drain()
        assert "not fetched" in await two.until_lost(Place(0, b""))
        assert two.tree.differences() == []


async def test_a_place_that_cannot_be_told_is_asked_for_again(
    watch: Watch, roots: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel says ENOMEM while the inode number of a directory that is gone is given to a new one."""
    (roots[0] / "dir").mkdir()
    link, left = FileSystem.link, [5]

    def fails(self: FileSystem, handle: bytes) -> object:
        if left[0]:
            left[0] -= 1
            raise Unsettled
        return link(self, handle)

    async with watch(roots[0]) as ears:
        monkeypatch.setattr(FileSystem, "link", fails)
        (roots[0] / "dir/one").touch()
        (roots[0] / "dir/two").touch()
        heard: list[Change | Lost] = []
        while len(heard) < 2:
            heard += await ears.hear()
        assert {*heard} == {Change(Op.CREATE, Place(0, b"dir/one")), Change(Op.CREATE, Place(0, b"dir/two"))}
        assert left == [0]


async def test_a_place_that_can_never_be_told_is_a_loss(
    watch: Watch, roots: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    (roots[0] / "dir").mkdir()
    monkeypatch.setattr(translate, "TRY_FOR_S", 0.05)

    def fails(self: FileSystem, handle: bytes) -> object:
        raise Unsettled

    async with watch(roots[0]) as ears:
        monkeypatch.setattr(FileSystem, "link", fails)
        (roots[0] / "dir/one").touch()
        assert "place" in await ears.until_lost(Place(0, b""))
        monkeypatch.undo()
        (roots[0] / "dir/two").touch()
        assert Change(Op.CREATE, Place(0, b"dir/two")) in await ears.drain()


async def test_directories_that_come_and_go_outside_are_no_loss(
    watch: Watch, mount_image: Callable[[str, Path], Path], tmp_path: Path
) -> None:
    top = mount_image("ext4", tmp_path / "point")
    root, other = top / "root", top / "other"
    root.mkdir()
    other.mkdir()
    async with watch(root) as ears:
        for _ in range(20):
            for _ in range(100):
                (other / "p/q").mkdir(parents=True)
                (other / "p/q/f").touch()
                (other / "p/q/f").unlink()
                (other / "p/q").rmdir()
                (other / "p").rmdir()
            assert await ears.drain() == []


async def test_what_is_not_read_yet_is_known(watch: Watch, roots: list[Path]) -> None:
    """The replica is not up to date while the kernel holds a change. What happens outside does not count."""
    async with watch(roots[0]) as one, watch(roots[1]) as two:
        for each in (one, two):
            await each.drain()
            while each.unread():
                await each.hear()
        for number in range(100):
            (roots[2] / f"other{number}").touch()
        assert not one.unread()
        (roots[0] / "file").touch()
        assert one.unread()
        assert not two.unread()
        assert Place(0, b"file") in [item.place for item in await one.hear()]
        assert not one.unread()


async def test_asking_leaves_what_it_has_read_to_the_one_who_waits(roots: list[Path]) -> None:
    contexts = [CaptureContext(roots=(os.fsencode(root),), say=print) for root in roots]
    heard: dict[int, list[bytes]] = {}

    async def listen(number: int, capture: FanotifyCapture) -> None:
        heard[number] = [item.place.path for item in await anext(aiter(capture.changes()))]

    with FanotifyCapture(FanotifyConfig(), contexts[0]) as one, FanotifyCapture(FanotifyConfig(), contexts[1]) as two:
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                for number, capture in enumerate((one, two)):
                    nursery.start_soon(listen, number, capture)
                await trio.testing.wait_all_tasks_blocked()
                for root in roots[:2]:
                    (root / "file").touch()
                assert one.unread()
                assert two.unread()
        assert heard == {0: [b"file"], 1: [b"file"]}
