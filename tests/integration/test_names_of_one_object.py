"""Objects with several names, of every type that can have them, are one object on the replica, at a cost per change
that does not grow with the number of names."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from i2core.api import Change, Lost, Op, Place
from i2core.config.model import Brake
from i2core.posix.tree import LocalTree
from i2core.rule.catalog.objects import Objects
from i2core.rule.source.transfer import Transfer
from i2core.wire.message_size import WHOLE_BYTES

from .pair import Nodes, open_nodes, until

LARGE = 5_000_000


def device(path: Path) -> None:
    """A device node."""
    os.mknod(path, stat.S_IFCHR | 0o644, os.makedev(1, 3))


def socket(path: Path) -> None:
    """A socket's name."""
    os.mknod(path, stat.S_IFSOCK | 0o644)


KINDS: dict[str, Callable[[Path], object]] = {
    "file": lambda path: path.write_text("content"),
    "large": lambda path: path.write_bytes(b"x" * LARGE),
    "symlink": lambda path: path.symlink_to("nowhere"),
    "fifo": os.mkfifo,
    "socket": socket,
    "device": device,
}
kinds = pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=pytest.mark.root) if kind == "device" else kind for kind in KINDS]
)


def link(nodes: Nodes, old: str, new: str) -> None:
    """Adds a name, and reports it."""
    os.link(nodes.source / old, nodes.source / new, follow_symlinks=False)
    nodes.capture.tell(Change(Op.CREATE, Place(0, new.encode())))


def one(top: Path, *names: str) -> bool:
    """True when all names exist and are one object."""
    try:
        return len({(top / name).lstat().st_ino for name in names}) == 1
    except FileNotFoundError:
        return False


@kinds
async def test_a_mirror_makes_one_object(tmp_path: Path, kind: str) -> None:
    async with open_nodes(tmp_path) as nodes:
        (nodes.source / "d").mkdir()
        KINDS[kind](nodes.source / "a")
        for name in ("b", "d/c"):
            os.link(nodes.source / "a", nodes.source / name, follow_symlinks=False)
        await nodes.run()
        assert one(nodes.target, "a", "b", "d/c")
        # Names that the replica has as objects of their own become one; so does what was one, and is no more.
        (nodes.target / "b").unlink()
        KINDS[kind](nodes.target / "b")
        (nodes.source / "d" / "c").unlink()
        KINDS[kind](nodes.source / "d" / "c")
        await nodes.run(keep=False)
        assert one(nodes.target, "a", "b")
        assert not one(nodes.target, "a", "d/c")


@kinds
async def test_live_names_are_one_object(tmp_path: Path, kind: str) -> None:
    async with open_nodes(tmp_path) as nodes:
        (nodes.source / "d").mkdir()
        KINDS[kind](nodes.source / "a")
        async with nodes.running():
            link(nodes, "a", "b")
            await until(lambda: one(nodes.target, "a", "b"))
            link(nodes, "b", "d/c")
            await until(lambda: one(nodes.target, "a", "b", "d/c"))
            # A change under one name, reported only for that name.
            os.utime(nodes.source / "b", ns=(10**18, 10**18), follow_symlinks=False)
            nodes.capture.tell(Change(Op.ATTRIB, Place(0, b"b")))
            await until(lambda: (nodes.target / "d" / "c").lstat().st_mtime_ns == 10**18)
            # A change under a name that is gone when it is reported.
            os.utime(nodes.source / "d" / "c", ns=(10**18 + 1, 10**18 + 1), follow_symlinks=False)
            (nodes.source / "d" / "c").unlink()
            nodes.capture.tell(Change(Op.ATTRIB, Place(0, b"d/c")), Change(Op.REMOVE, Place(0, b"d/c")))
            await until(lambda: not (nodes.target / "d" / "c").is_symlink() and not (nodes.target / "d" / "c").exists())
            await until(lambda: (nodes.target / "a").lstat().st_mtime_ns == 10**18 + 1)
            assert one(nodes.target, "a", "b")
            # Another object in its place, with one name.
            (nodes.source / "b").unlink()
            KINDS[kind](nodes.source / "b")
            nodes.capture.tell(*(Change(op, Place(0, b"b")) for op in (Op.REMOVE, Op.CREATE)))
            await until(lambda: (nodes.target / "b").is_symlink() or (nodes.target / "b").exists())
            await until(lambda: not one(nodes.target, "a", "b"))


def text_of(link: Path) -> str:
    """The text of a symlink that may be missing for a moment."""
    try:
        return os.readlink(link)
    except FileNotFoundError:
        return ""


async def test_symlinks_created_again_in_the_previous_inode(tmp_path: Path) -> None:
    """Its names were one object before and are one now, with another text."""
    async with open_nodes(tmp_path) as nodes:
        for number in range(8):
            (nodes.source / f"l{number}").symlink_to("old text")
            os.link(nodes.source / f"l{number}", nodes.source / f"m{number}", follow_symlinks=False)
        async with nodes.running(nodes.rule(brake=Brake(share=1))):
            for number in range(8):
                names = (f"l{number}", f"m{number}")
                times = (nodes.source / names[0]).lstat()
                for name in names:
                    (nodes.source / name).unlink()
                (nodes.source / names[0]).symlink_to("new text")
                os.utime(nodes.source / names[0], ns=(0, times.st_mtime_ns), follow_symlinks=False)
                os.link(nodes.source / names[0], nodes.source / names[1], follow_symlinks=False)
            nodes.capture.tell(Lost(Place(0, b""), "overflow"))
            for number in range(8):
                for name in (f"l{number}", f"m{number}"):
                    await until(lambda name=name: text_of(nodes.target / name) == "new text")  # type: ignore[misc]
                assert one(nodes.target, f"l{number}", f"m{number}")


async def counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: int) -> int:
    """The number of reads of source and catalog for creating and removing so many names of one file."""
    counts = Counter[str]()
    for owner, method in ((LocalTree, "lookup"), (Objects, "place"), (Objects, "row")):
        real = getattr(owner, method)

        def count(self: object, argument: object, real: Callable[..., object] = real) -> object:
            counts["calls"] += 1
            return real(self, argument)

        monkeypatch.setattr(owner, method, count)
    home = tmp_path / str(names)
    home.mkdir()
    async with open_nodes(home) as nodes:
        (nodes.source / "file").write_text("content")
        made = [f"link{number}" for number in range(names)]
        async with nodes.running(nodes.rule(brake=Brake(share=1))):
            for name in made:
                link(nodes, "file", name)
            await until(lambda: one(nodes.target, "file", *made))
            for name in made:
                (nodes.source / name).unlink()
            nodes.capture.tell(*(Change(Op.REMOVE, Place(0, name.encode())) for name in made))
            await until(lambda: os.listdir(nodes.target) == ["file"])
    monkeypatch.undo()
    return counts["calls"]


async def test_each_name_costs_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few, many = [await counted(tmp_path, monkeypatch, names) for names in (50, 400)]
    assert many < few * 8 * 1.5


async def test_directories_of_names_that_a_large_file_is_linked_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before a large file is opened, its name is taken by a file with another name. That one is sent in its place, and
    its other name becomes a link to it, in a directory that has not changed on the source."""
    async with open_nodes(tmp_path) as nodes:
        top = nodes.source
        (top / "d").mkdir()
        (top / "d" / "hard").write_text("content")
        os.utime(top / "d", ns=(10**18, 10**18))
        async with nodes.running() as status:
            real_begin = Transfer._begin

            def begin(self: Transfer) -> bool:
                monkeypatch.undo()
                (top / "name").unlink()
                os.link(top / "d" / "hard", top / "name")
                return real_begin(self)

            monkeypatch.setattr(Transfer, "_begin", begin)
            (top / "name").write_bytes(b"x" * 2 * WHOLE_BYTES)
            nodes.capture.tell(Change(Op.CREATE, Place(0, b"name")))
            await until(lambda: one(nodes.target, "name", "d/hard"))
            nodes.capture.tell(*(Change(op, Place(0, b"name")) for op in (Op.REMOVE, Op.CREATE)))
            await until(lambda: (nodes.target / "d").stat().st_mtime_ns == 10**18 and status.lag_seconds == 0)
