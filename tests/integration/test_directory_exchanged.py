"""A directory of the replica is exchanged for another one: nothing is written into the other one, and what changes in
its place leads to its repair, also after a restart of the backup node."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import attrs
import pytest

from i2core.api import Change, Op, Place
from i2core.config.model import Brake, OrphanAction, Orphans, Rule
from i2core.testing.trees import compare_trees

from .pair import Nodes, open_nodes, until

USER = 1000
Exchange = Callable[[Nodes], None]


def fill(nodes: Nodes) -> None:
    """A user's directory, in which there are one of root, which he cannot enter, and one of his own."""
    home = nodes.source / "home"
    for name in ("private/deep", "pub/deep"):
        (home / name).mkdir(parents=True)
        (home / name / "file").write_text(name)
        (home / name / ".." / "other").write_text(name)
    (home / "private").chmod(0o700)
    for path in (home, home / "pub", home / "pub" / "deep"):
        os.chown(path, USER, USER)


def as_user(directory: Path, work: Callable[[int], None]) -> None:
    """Does something as the user, in an open directory; the directories above it are closed to him."""
    fd = os.open(directory, os.O_PATH)
    child = os.fork()
    if not child:
        try:
            os.setgroups([])
            os.setgid(USER)
            os.setuid(USER)
            work(fd)
        except BaseException:
            os._exit(1)
        os._exit(0)
    os.close(fd)
    assert os.waitpid(child, 0)[1] == 0, "the user may not do that"


def exchanged(nodes: Nodes) -> None:
    """He exchanges both."""

    def work(fd: int) -> None:
        for old, new in (("private", "passing"), ("pub", "private"), ("passing", "pub")):
            os.rename(old, new, src_dir_fd=fd, dst_dir_fd=fd)

    as_user(nodes.target / "home", work)


def replaced(nodes: Nodes) -> None:
    """He puts a directory of his own in the place of the one of root; that one is elsewhere in the replica."""

    def work(fd: int) -> None:
        os.rename("private", "taken", src_dir_fd=fd, dst_dir_fd=fd)
        os.mkdir("private", dir_fd=fd)
        os.mkdir("private/deep", 0o777, dir_fd=fd)

    as_user(nodes.target / "home", work)


def change(nodes: Nodes, *, tell: bool = True) -> None:
    """Changes of several kinds in and at both directories."""
    home = nodes.source / "home"
    (home / "private" / "new").write_text("secret")
    (home / "private" / "deep" / "file").write_text("changed")
    (home / "private" / "other").unlink()
    (home / "pub").chmod(0o775)
    if tell:
        nodes.capture.tell(
            Change(Op.CREATE, Place(0, b"home/private/new")),
            Change(Op.MODIFY, Place(0, b"home/private/deep/file")),
            Change(Op.REMOVE, Place(0, b"home/private/other")),
            Change(Op.ATTRIB, Place(0, b"home/pub")),
        )


@contextmanager
def held(top: Path) -> Iterator[set[int]]:
    """The inode numbers of all directories, which the user has open: so no other directory gets their numbers."""
    with ExitStack() as opened:
        found = set()
        for path in [top, *top.rglob("*")]:
            if path.is_dir():
                fd = os.open(path, os.O_PATH)
                opened.callback(os.close, fd)
                found.add(os.fstat(fd).st_ino)
        yield found


def inodes(top: Path) -> set[int]:
    """Those of all directories."""
    with held(top) as found:
        return found


def same(nodes: Nodes) -> bool:
    """Both directories are as on the source; what the user has moved away may be anywhere."""
    return all(
        compare_trees(nodes.source / "home" / name, nodes.target / "home" / name) == [] for name in ("private", "pub")
    )


EXCHANGES = pytest.mark.parametrize("exchange", [exchanged, replaced], ids=lambda each: each.__name__)


def rule(nodes: Nodes) -> Rule:
    """The brake is off: each of the few files here is a large share of them."""
    return nodes.rule(brake=Brake(share=1.0))


@pytest.mark.root
@EXCHANGES
async def test_by_a_user_while_the_rule_runs(tmp_path: Path, exchange: Exchange) -> None:
    async with open_nodes(tmp_path) as nodes:
        fill(nodes)
        async with nodes.running(rule(nodes)) as status:
            await until(lambda: same(nodes))
            of_root = (nodes.target / "home" / "private").stat().st_ino
            exchange(nodes)
            with held(nodes.target / "home" / "private") as strange:
                change(nodes)
                await until(lambda: same(nodes) and not status.doubtful)
                assert strange.isdisjoint(inodes(nodes.target / "home" / "private")), "the user has them open"
            pub = (nodes.target / "home" / "pub").stat()
            assert (pub.st_uid, pub.st_ino != of_root) == (USER, True), "that of root is not given away"


@pytest.mark.root
@EXCHANGES
async def test_by_a_user_while_the_backup_node_is_down(tmp_path: Path, exchange: Exchange) -> None:
    async with open_nodes(tmp_path) as nodes:
        fill(nodes)
        async with nodes.running(rule(nodes)):
            await until(lambda: same(nodes))
        of_root = (nodes.target / "home" / "private").stat().st_ino
        exchange(nodes)
        nodes.boot()
        with held(nodes.target / "home" / "private") as strange:
            async with nodes.running(rule(nodes)) as status:
                change(nodes)
                await until(lambda: same(nodes) and not status.doubtful)
            assert strange.isdisjoint(inodes(nodes.target / "home" / "private"))
        assert (nodes.target / "home" / "pub").stat().st_ino != of_root


@pytest.mark.root
async def test_what_a_user_has_put_there_goes_through_the_brake(tmp_path: Path) -> None:
    """A few files do not count."""
    async with open_nodes(tmp_path) as nodes:
        fill(nodes)
        for number in range(200):
            (nodes.source / f"{number}").touch()
        async with nodes.running(nodes.rule()) as status:
            await until(lambda: same(nodes))
            replaced(nodes)
            (nodes.target / "home" / "private" / "theirs").touch()
            change(nodes)
            await until(lambda: same(nodes) and not status.doubtful)
            assert not status.held


@pytest.mark.root
@EXCHANGES
@pytest.mark.parametrize("boot", [False, True], ids=["running", "restarted"])
async def test_by_a_user_before_a_mirror(tmp_path: Path, exchange: Exchange, boot: bool) -> None:
    async with open_nodes(tmp_path) as nodes:
        fill(nodes)
        async with nodes.running(rule(nodes)):
            await until(lambda: same(nodes))
        of_root = (nodes.target / "home" / "private").stat().st_ino
        exchange(nodes)
        change(nodes, tell=False)
        if boot:
            nodes.boot()
        async with nodes.running(rule(nodes), compare=True) as status:
            await until(lambda: same(nodes) and not status.doubtful)
        assert (nodes.target / "home" / "pub").stat().st_ino != of_root


async def test_nothing_is_sent_into_it_and_it_counts_as_unverified(tmp_path: Path) -> None:
    """As long as it cannot be repaired: a directory of the replica that nobody may write in, not even this sink."""
    async with open_nodes(tmp_path) as nodes:
        (nodes.source / "d").mkdir()
        (nodes.source / "d" / "file").write_text("first")
        async with nodes.running(rule(nodes)) as status:
            await until(lambda: compare_trees(nodes.source, nodes.target) == [])
            (nodes.target / "d").rename(tmp_path / "was")
            (nodes.target / "d").mkdir()
            seen: list[tuple[list[str], int]] = []
            nodes.capture.tell(Change(Op.CREATE, Place(0, b"d/new")))
            (nodes.source / "d" / "new").write_text("new")

            def repaired() -> bool:
                seen.append((sorted(os.listdir(nodes.target / "d")), status.doubtful))
                return compare_trees(nodes.source, nodes.target) == [] and not status.doubtful

            await until(repaired)
            assert os.listdir(tmp_path / "was") == ["file"], "nor into the one that was moved away"


async def test_by_an_administrator_it_is_compared_and_kept(tmp_path: Path) -> None:
    """In a directory that no user can change: so what is there is not sent again, as far as it is right."""
    async with open_nodes(tmp_path) as nodes:
        (nodes.source / "top" / "d" / "deep").mkdir(parents=True)
        for name in ("x", "y", "deep/z", "deep/gone"):
            (nodes.source / "top" / "d" / name).write_text(name * 30_000)
        deleting = attrs.evolve(rule(nodes), orphans=Orphans(action=OrphanAction.DELETE))
        async with nodes.running(deleting) as status:
            await until(lambda: compare_trees(nodes.source, nodes.target) == [])
            restored = nodes.target / "top"
            restored.rename(tmp_path / "was")
            copied = nodes.target / "top"
            _copy(tmp_path / "was", copied)
            (copied / "d" / "deep" / "gone").unlink()
            (copied / "d" / "deep" / "extra").write_text("extra")
            kept = (copied / "d" / "deep" / "z").stat().st_ino, (copied / "d").stat().st_ino
            (nodes.source / "top" / "d" / "x").write_text("changed")
            nodes.capture.tell(Change(Op.MODIFY, Place(0, b"top/d/x")))
            await until(lambda: compare_trees(nodes.source, nodes.target) == [] and not status.doubtful)
            assert ((copied / "d" / "deep" / "z").stat().st_ino, (copied / "d").stat().st_ino) == kept


def _copy(source: Path, target: Path) -> None:
    """With the times, as ``cp -a`` does."""
    target.mkdir()
    for path in source.iterdir():
        if path.is_dir():
            _copy(path, target / path.name)
        else:
            (target / path.name).write_bytes(path.read_bytes())
    for made in [target, *target.iterdir()]:
        status = (source / made.relative_to(target)).stat()
        os.utime(made, ns=(status.st_atime_ns, status.st_mtime_ns))
        made.chmod(stat.S_IMODE(status.st_mode))


async def test_a_directory_that_was_renamed_or_made_again_is_the_right_one(tmp_path: Path) -> None:
    """By records, across a restart: nothing is compared because of them."""
    async with open_nodes(tmp_path) as nodes:
        for name in ("a/b", "gone"):
            (nodes.source / name).mkdir(parents=True)
            (nodes.source / name / "file").write_text(name)
        async with nodes.running(rule(nodes)):
            await until(lambda: compare_trees(nodes.source, nodes.target) == [])
            (nodes.source / "a").rename(nodes.source / "c")
            (nodes.source / "a" / "b").mkdir(parents=True)
            nodes.capture.tell(
                Change(Op.RENAME, Place(0, b"a"), is_dir=True, to=Place(0, b"c")),
                Change(Op.CREATE, Place(0, b"a"), is_dir=True),
            )
            await until(lambda: compare_trees(nodes.source, nodes.target) == [])
        nodes.boot()
        async with nodes.running(rule(nodes)) as status:
            for name in ("a/b/new", "c/b/new"):
                (nodes.source / name).write_text(name)
                nodes.capture.tell(Change(Op.CREATE, Place(0, os.fsencode(name))))
            await until(lambda: compare_trees(nodes.source, nodes.target) == [] and not status.doubtful)
        assert not [line for _, _, line in nodes.said if "another directory" in line]
