"""A root is one directory: what else has its name is not written, and two processes never have the same one."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, ExitStack, contextmanager
from pathlib import Path

import pytest
import trio
import trio.testing
from i2_sink_fs.allowed import make_directories
from i2_sink_fs.plugin import open_fs

from i2core.api import Batch, Code, Kind, Meta, NoConfig, Record, Sink, SinkContext, StopRule
from i2core.posix.target_locks import Claim, Taken, TargetLocks

FILE = Meta(0o100644, os.geteuid(), os.getegid(), 1_700_000_000_123_456_789)
CREATE = Batch(1, [Record(Kind.CREATE, 0, b"file", meta=FILE, data=b"data")])


class Place:
    """A target beneath a directory that is allowed, which may be the target itself."""

    def __init__(self, target: Path, allowed: Path) -> None:
        self.target, self.allowed = target, allowed
        self.known: dict[bytes, str] = {}

    def open(self) -> AbstractAsyncContextManager[Sink]:
        """A sink for the target."""
        context = SinkContext(roots=(os.fsencode(self.target),), allowed=(os.fsencode(self.allowed),), known=self.known)
        return open_fs(NoConfig(), context)

    async def written(self) -> None:
        """A rule has written there, and what is known of the target was kept."""
        async with self.open() as sink:
            assert (await sink.apply(CREATE)).failures == ()
            await sink.flush()
            self.known = {os.fsencode(self.target): sink.identities[0]}

    async def refused(self) -> None:
        """Nothing is opened, nor made."""
        with pytest.raises(StopRule) as stopped:
            async with self.open():
                pass
        assert (stopped.value.code, stopped.value.obj) == (Code.REPLICA_GONE, str(self.target))


@pytest.fixture(params=["within", "itself"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    allowed = tmp_path / "disk" / "backup"
    allowed.mkdir(parents=True)
    return Place(allowed / "data" if request.param == "within" else allowed, allowed)


async def test_the_root_of_before_is_opened_again(place: Place) -> None:
    await place.written()
    async with place.open() as sink:
        assert not sink.exchanged
        assert sink.identities == [place.known[os.fsencode(place.target)]]


@pytest.mark.parametrize("remakes", [False, True])
@pytest.mark.parametrize("how", ["moved", "removed"])
async def test_a_root_that_is_gone_from_its_directory_is_filled_again(place: Place, how: str, remakes: bool) -> None:
    """The new one may have the inode of the old one."""
    await place.written()
    if how == "moved":
        place.target.rename(place.target.parent / "moved")
    else:
        shutil.rmtree(place.target)
    if remakes:
        place.target.mkdir()
    async with place.open() as sink:
        assert sink.exchanged
        assert sink.identities != [place.known[os.fsencode(place.target)]]
        await sink.apply(CREATE)
        await sink.flush()
    assert (place.target / "file").read_bytes() == b"data"


@pytest.mark.parametrize("remakes", [False, True])
async def test_a_root_whose_directory_is_another_one_is_not_made(place: Place, remakes: bool) -> None:
    """As beneath a mount point without its disk."""
    await place.written()
    above = place.target.parent
    above.rename(above.with_name("elsewhere"))
    above.mkdir()
    if remakes:
        place.target.mkdir()
    await place.refused()
    assert place.target.exists() == remakes
    if remakes:
        place.target.rmdir()
    above.rmdir()
    await place.refused()
    above.with_name("elsewhere").rename(above)
    async with place.open() as sink:
        assert not sink.exchanged


async def moved(place: Place, sink: Sink) -> Callable[[], object]:
    place.target.rename(place.target.parent / "moved")
    return lambda: (place.target.parent / "moved").rename(place.target)


async def moved_above(place: Place, sink: Sink) -> Callable[[], object]:
    above = place.target.parent
    above.rename(above.with_name("moved"))
    return lambda: above.with_name("moved").rename(above)


async def exchanged(place: Place, sink: Sink) -> Callable[[], object]:
    back = await moved(place, sink)
    place.target.mkdir()

    def put_back() -> None:
        place.target.rmdir()
        back()

    return put_back


@pytest.mark.parametrize("act", [moved, moved_above, exchanged])
async def test_nothing_is_durable_in_a_root_that_left_its_place(
    place: Place, act: Callable[[Place, Sink], object]
) -> None:
    """Nor is anything written there; and where it comes back, it is the same."""
    await place.written()
    async with place.open() as sink:
        await sink.apply(Batch(2, [Record(Kind.CREATE, 0, b"second", meta=FILE, data=b"data")]))
        put_back = await act(place, sink)  # type: ignore[misc]
        with pytest.raises(StopRule) as stopped:
            await sink.flush()
        assert stopped.value.code is Code.REPLICA_GONE
        with pytest.raises(StopRule):
            await sink.apply(Batch(3, [Record(Kind.CREATE, 0, b"third", meta=FILE, data=b"data")]))
        put_back()
        await sink.apply(Batch(3, [Record(Kind.CREATE, 0, b"fourth", meta=FILE, data=b"data")]))
        await sink.flush()
    assert sorted(os.listdir(place.target)) == ["file", "fourth", "second"]


# ------------------------------------------------------------------------------------------ real disks


@contextmanager
def mounted(at: Path, shows: Path | None = None) -> Iterator[None]:
    """A file system in memory, or a bind mount of the directory that `at` then shows."""
    at.mkdir(exist_ok=True)
    what = ["-t", "tmpfs", "none"] if shows is None else ["--bind", shows]
    if subprocess.run(["mount", *what, at], check=False).returncode:  # noqa: S603, S607
        pytest.skip("nothing can be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", at], check=False)  # noqa: S603, S607


@pytest.mark.root
@pytest.mark.parametrize("target", ["disk", "disk/data", "disk/a/b"])
@pytest.mark.parametrize("remakes", [False, True])
async def test_nothing_is_made_on_the_bare_mount_point(tmp_path: Path, target: str, remakes: bool) -> None:
    (tmp_path / "disk").mkdir()
    for allowed in (tmp_path, tmp_path / "disk"):
        place = Place(tmp_path / target, allowed)
        with mounted(tmp_path / "disk"):
            await place.written()
        if remakes:
            place.target.mkdir(parents=True, exist_ok=True)
        before = sorted(tmp_path.rglob("*"))
        await place.refused()
        assert sorted(tmp_path.rglob("*")) == before
        with mounted(tmp_path / "disk"):
            await place.refused()  # another disk
        shutil.rmtree(tmp_path / "disk")
        (tmp_path / "disk").mkdir()


@pytest.mark.root
@pytest.mark.parametrize("target", ["point", "point/data", "point/a/b"])
@pytest.mark.parametrize("remakes", [False, True])
async def test_nothing_is_made_where_a_bind_mount_is_missing(tmp_path: Path, target: str, remakes: bool) -> None:
    """The mount point has the same device."""
    point, disk, other = (tmp_path / name for name in ("point", "disk", "other"))
    for each in (disk, other):
        each.mkdir()
    place = Place(tmp_path / target, tmp_path)
    with mounted(point, disk):
        await place.written()
    if remakes:
        place.target.mkdir(parents=True, exist_ok=True)
    await place.refused()
    assert place.target.exists() == (remakes or target == "point")
    with mounted(point, other):
        await place.refused()
    assert os.listdir(other) == []
    with mounted(point, disk):
        async with place.open() as sink:
            assert not sink.exchanged


@pytest.mark.root
async def test_nothing_is_written_where_a_bind_mount_hides_the_target(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    place = Place(tmp_path / "data", tmp_path)
    await place.written()
    with mounted(place.target, tmp_path / "other"):
        await place.refused()
    assert os.listdir(tmp_path / "other") == []
    with mounted(place.target, place.target):  # the same directory, as systemd shows it to a service
        async with place.open() as sink:
            assert not sink.exchanged


@pytest.mark.root
async def test_nothing_is_durable_on_a_disk_that_was_unmounted_lazily(tmp_path: Path) -> None:
    with ExitStack() as stack:
        stack.enter_context(mounted(tmp_path / "disk"))
        place = Place(tmp_path / "disk" / "data", tmp_path / "disk")
        await place.written()
        async with place.open() as sink:
            await sink.apply(CREATE)
            stack.close()
            with pytest.raises(StopRule) as stopped:
                await sink.flush()
            assert stopped.value.code is Code.REPLICA_GONE
    assert os.listdir(tmp_path / "disk") == []


# ------------------------------------------------------------------------------------------ two writers

LOCKED_BY_ANOTHER = """
import fcntl, os, sys
from pathlib import Path
sys.path.insert(0, {here!r})
import trio
from test_sink_fs_roots import Place
async def hold():
    async with Place(Path({target!r}), Path({target!r})).open():
        print("open", flush=True)
        await trio.to_thread.run_sync(sys.stdin.read)
trio.run(hold)
"""


@contextmanager
def another_process(target: Path) -> Iterator[None]:
    """One that has the target open, and ends with the block."""
    code = LOCKED_BY_ANOTHER.format(here=str(Path(__file__).parent), target=str(target))
    argv, pipe = [sys.executable, "-c", code], subprocess.PIPE
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe) as process:  # noqa: S603
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == b"open\n"
            yield
        finally:
            process.stdin.close()
            process.wait()


@pytest.mark.parametrize("theirs", ["a/b", "a", "a/b/c"])
async def test_a_second_process_is_refused(tmp_path: Path, theirs: str, autojump_clock: trio.testing.MockClock) -> None:
    """The same target, one that holds it, and one that lies in it; a neighbour is not."""
    (tmp_path / "a" / "b" / "c").mkdir(parents=True)
    (tmp_path / "a" / "neighbour").mkdir()
    mine = Place(tmp_path / "a" / "b", tmp_path)
    with another_process(tmp_path / theirs):
        with pytest.raises(StopRule, match=r"process \d+ writes") as stopped:
            async with mine.open():
                pass
        assert (stopped.value.code, stopped.value.obj) == (Code.DUPLICATE_TASK, str(mine.target))
        if theirs == "a/b":
            async with Place(tmp_path / "a" / "neighbour", tmp_path).open():
                pass
    async with mine.open():
        pass


async def test_who_writes_a_target_is_found_behind_a_thousand_locks(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    """The kernel lists the locks made on each processor, the newest first, and a page of them at a time."""
    processors = os.sched_getaffinity(0)
    with another_process(tmp_path), ExitStack() as stack:
        stack.callback(os.sched_setaffinity, 0, processors)
        for processor in processors:
            os.sched_setaffinity(0, {processor})
            for _ in range(150):
                fcntl.flock(stack.enter_context(tempfile.TemporaryFile()), fcntl.LOCK_EX)
        with pytest.raises(StopRule, match=r"process \d+ writes"):
            async with Place(tmp_path, tmp_path).open():
                pass


@pytest.mark.root
@pytest.mark.parametrize(
    ("shown", "point", "mine", "theirs"),
    [
        ("a/b", "point", "point", "a"),
        ("a/b", "point", "point/c", "a"),
        ("a/b/c", "point", "point", "a"),
        ("a", "a/b", "a/b", "."),  # what contains the mount point is what it shows
        ("a", "point", "point/b", "a"),
    ],
)
async def test_a_second_process_is_refused_through_a_bind_mount(
    tmp_path: Path, shown: str, point: str, mine: str, theirs: str, autojump_clock: trio.testing.MockClock
) -> None:
    """In either order; a neighbour of the other target is not."""
    work = tmp_path / "work"
    (work / "a" / "b" / "c").mkdir(parents=True)
    (work / "neighbour").mkdir()
    with mounted(work / point, work / shown):
        for one, other in ((work / mine, work / theirs), (work / theirs, work / mine)):
            one.mkdir(exist_ok=True)
            with another_process(other), pytest.raises(StopRule) as stopped:
                async with Place(one, tmp_path).open():
                    pass
            assert stopped.value.code is Code.DUPLICATE_TASK
        with another_process(work / "neighbour"):
            async with Place(work / mine, tmp_path).open():
                pass


async def test_nothing_is_made_in_what_a_second_process_writes(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    mine = Place(theirs / "new" / "newer", tmp_path)
    with another_process(theirs):
        before = theirs.stat().st_mtime_ns
        with pytest.raises(StopRule, match=r"process \d+ writes") as stopped:
            async with mine.open():
                pass
        assert (stopped.value.code, stopped.value.obj) == (Code.DUPLICATE_TASK, str(mine.target))
        assert (os.listdir(theirs), theirs.stat().st_mtime_ns) == ([], before)
    async with mine.open():
        assert mine.target.is_dir()


async def test_one_that_is_about_to_end_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    claim, place, tries = TargetLocks.claim, Place(tmp_path, tmp_path), []

    def tried(self: TargetLocks, fd: int, say: Callable[[str], None]) -> Claim:
        try:
            return claim(self, fd, say)
        except Taken:
            tries.append(fd)
            fcntl.flock(_lock_of(place), fcntl.LOCK_UN)  # now that process has ended
            raise

    async with place.open():
        monkeypatch.setattr(TargetLocks, "claim", tried)
        async with place.open():  # with locks of its own, as another process has
            assert len(tries) == 1


def _lock_of(place: Place) -> int:
    """The descriptor by which this process has locked the target alone."""
    for name in os.listdir("/proc/self/fd"):
        try:
            text = Path(f"/proc/self/fdinfo/{name}").read_text()
        except OSError:
            continue
        if "FLOCK  ADVISORY  WRITE" in text and os.stat(int(name)).st_ino == place.target.stat().st_ino:
            return int(name)
    raise AssertionError("the target is not locked")


async def test_sinks_of_one_process_share_a_lock(tmp_path: Path) -> None:
    shared: dict[str, object] = {}
    root = os.fsencode(tmp_path)
    context = SinkContext(roots=(root,), allowed=(root,), shared=shared)
    async with open_fs(NoConfig(), context):
        async with open_fs(NoConfig(), context):
            pass
        with pytest.raises(BlockingIOError):
            fcntl.flock(fd := os.open(tmp_path, os.O_RDONLY), fcntl.LOCK_SH | fcntl.LOCK_NB)
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(fd)


async def test_no_descriptor_is_left_behind(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    place = Place(tmp_path / "x" / "y", tmp_path)
    for _ in range(3):
        await place.written()
    assert len(os.listdir("/proc/self/fd")) == before


# ------------------------------------------------------------------------------------------ races of start


def test_many_threads_make_the_same_directories(tmp_path: Path) -> None:
    """As many rules do whose targets share directories that are not there yet."""
    top = os.open(tmp_path, os.O_PATH)
    for number in range(20):
        start = threading.Barrier(8)
        failed: list[BaseException] = []

        def make(path: bytes, start: threading.Barrier = start, failed: list[BaseException] = failed) -> None:
            start.wait()
            try:
                os.close(make_directories(top, path))
            except BaseException as error:
                failed.append(error)

        shared = b"/".join(b"%d-%d" % (number, level) for level in range(15))
        threads = [threading.Thread(target=make, args=(shared + b"/%d" % index,)) for index in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failed == []
    os.close(top)
