"""The disk fails, is full, is not there, or somebody else has had a hand in it."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

from i2core.api import StopRule
from i2core.api.journal import Journal, JournalFull, Mark, MarkKind, Position
from i2core.testing.journal.trial import Trial, payloads, prove


@pytest.fixture
def home(trial: Trial) -> Path:
    """The journal's directory."""
    return Path(os.fsdecode(trial.context.directory))


def _failing(call: Callable[..., Any], code: int, times: int = 1 << 30) -> Callable[..., Any]:
    """The call fails so often, then works."""
    left = [times]

    def failing(*args: Any, **keywords: Any) -> Any:
        if left[0]:
            left[0] -= 1
            raise OSError(code, os.strerror(code))
        return call(*args, **keywords)

    return failing


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
async def test_full_disk_changes_nothing(trial: Trial, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    async with trial.open() as journal:
        await journal.append(trial.group(b"one"))
        before = journal.tip, journal.end, journal.segments
        again = trial.group(b"two", b"three")
        monkeypatch.setattr(os, "pwritev", _failing(os.pwritev, code))
        with pytest.raises(JournalFull) as caught:
            await journal.append(again)
        assert caught.value.code.value == 3549
        with pytest.raises(JournalFull):
            await journal.roll()
        with pytest.raises(JournalFull, match="3534"):
            await journal.mark([Mark(1, 1, MarkKind.DAY)])
        assert (journal.tip, journal.end, journal.segments) == before
        monkeypatch.undo()
        await journal.append(again)
        await journal.roll()
    async with trial.open() as journal:
        assert await payloads(journal) == [b"one", b"two", b"three"]
        await prove(journal)


async def test_half_a_group_on_a_full_disk_is_no_frame(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first frame of a group fits, the second does not, and then power fails."""
    async with trial.open() as journal:
        write, written = os.pwritev, [0]

        def short(fd: int, buffers: list[Any], offset: int) -> int:
            written[0] += 1
            if written[0] > 1:
                raise OSError(errno.ENOSPC, "full")
            return write(fd, buffers[:4], offset)

        monkeypatch.setattr(os, "pwritev", short)
        with pytest.raises(JournalFull):
            await journal.append(trial.group(b"one", b"two"))
        monkeypatch.undo()
    async with trial.open() as journal:
        assert await payloads(journal) == []


async def test_frames_of_a_group_that_failed_are_none(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of three frames were written, and could not be cut off. The next group ends where the second one begins."""
    async with trial.open() as journal:
        write, seq = os.pwritev, trial.seq
        written = iter([6])

        def short(fd: int, buffers: list[Any], offset: int) -> int:
            if not (count := next(written, 0)):
                raise OSError(errno.ENOSPC, "full")
            return write(fd, buffers[:count], offset)

        with monkeypatch.context() as patch:
            patch.setattr(os, "pwritev", short)
            patch.setattr(os, "ftruncate", _failing(os.ftruncate, errno.EIO))
            with pytest.raises(JournalFull):
                await journal.append(trial.group(b"first", b"second", b"third"))
        trial.seq = seq
        await journal.append(trial.group(b"other"))
        tip = journal.tip
    async with trial.open(kept=tip) as journal:
        assert await payloads(journal) == [b"other"]
        await prove(journal, [tip])


async def test_a_failed_sync_is_never_tried_again(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    """After it nobody knows what is on the disk: nothing is appended before the journal is opened again."""
    async with trial.open() as journal:
        await journal.append(trial.group(b"one"))
        monkeypatch.setattr(os, "fdatasync", _failing(os.fdatasync, errno.EIO, times=1))
        for _ in range(2):
            with pytest.raises(StopRule) as caught:
                await journal.append(trial.group(b"two"))
            assert not isinstance(caught.value, JournalFull)
        assert caught.value.code.value == 3549
        assert await payloads(journal) == [b"one"]
        for change in (journal.roll(), journal.annotate(b""), journal.cut(Position(1, 0))):
            with pytest.raises(StopRule):
                await change


async def _changed(journal: Journal, change: str) -> None:
    run = [segment.number for segment in journal.segments[:2]]
    match change:
        case "merge":
            async with journal.merge(run) as merge:
                await merge.commit()
        case "drop":
            await journal.drop(run)
        case "cut":
            await journal.cut(journal.end)
        case "roll":
            await journal.roll()
        case _:
            await journal.mark([Mark(1, 1, MarkKind.DAY)])


@pytest.mark.parametrize("change", ["merge", "drop", "cut", "roll", "mark"])
async def test_a_sync_that_fails_behind_the_new_manifest(
    trial: Trial, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """The manifest has its name, and nobody knows whether that is durable: whichever it is, its segments are there."""
    async with trial.open() as journal:
        for number in range(3):
            await journal.append(trial.group(b"%d" % number))
            await journal.roll()
        await journal.append(trial.group(b"3"))
        sync, rename, renamed = os.fsync, os.rename, list[bytes]()

        def failing(fd: int) -> None:
            if renamed:
                raise OSError(errno.EIO, "failed")
            sync(fd)

        def noted(old: bytes, new: bytes, **where: Any) -> None:
            rename(old, new, **where)
            if change != "merge" or renamed or len(os.listdir(trial.context.directory + b"/segments")) > 4:
                renamed.append(new)

        with monkeypatch.context() as patch, pytest.raises(StopRule):
            patch.setattr(os, "fsync", failing)
            patch.setattr(os, "rename", noted)
            await _changed(journal, change)
        assert renamed
        with pytest.raises(StopRule):
            await journal.append(trial.group(b"never"))
    async with trial.open() as journal:
        left = [b"2", b"3"] if change in ("merge", "drop") else [b"0", b"1", b"2", b"3"]
        assert await payloads(journal) == left
        await prove(journal)


async def test_what_no_sync_vouches_for_is_written_again(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel shows pages that it failed to write, and takes them for clean: a sync alone would not store them."""
    async with trial.open() as journal:
        await journal.append(trial.group(b"one"))
        await journal.append(trial.group(b"two"))
        unsure = journal.end.offset
        await journal.append(trial.group(b"three", b"four"))
    written: list[int] = []
    write = os.pwritev
    monkeypatch.setattr(os, "pwritev", lambda fd, data, at: written.append(at) or write(fd, data, at))  # type: ignore[func-returns-value]
    async with trial.open() as journal:
        assert unsure in written
        assert len(await payloads(journal)) == 4


async def test_the_reserve_lets_a_full_disk_be_emptied(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every write fails while the reserve is there."""
    async with trial.open(reserve_bytes=1 << 20) as journal:
        for number in range(4):
            await journal.append(trial.group(b"%d" % number))
            await journal.roll()
        reserve, write = trial.context.directory + b"/reserve", os.pwritev

        def full(fd: int, buffers: list[Any], offset: int) -> int:
            if os.path.exists(reserve):
                raise OSError(errno.ENOSPC, "full")
            return write(fd, buffers, offset)

        monkeypatch.setattr(os, "pwritev", full)
        run = [segment.number for segment in journal.segments[1:3]]
        with pytest.raises(JournalFull):
            await journal.append(trial.group(b"more"))
        async with journal.merge(run) as merge:
            await merge.write([])
            await merge.commit()
        assert (await journal.space()).reserve_bytes == 1 << 20, "it was not filled up again"
        await journal.drop([journal.segments[0].number])
        assert await payloads(journal) == [b"3"]
        monkeypatch.undo()
        await prove(journal)


@pytest.mark.parametrize("name", ["open", "pwritev", "pread"])
@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENOMEM])
async def test_passing_lack_passes(
    trial: Trial,
    said: list[str],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    code: int,
    autojump_clock: MockClock,
) -> None:
    async with trial.open() as journal:
        await journal.append(trial.group(b"one"))
        for work in (
            lambda: journal.append(trial.group(b"two")),
            journal.roll,
            lambda: journal.read(Position(1, 0), 1),
            lambda: journal.inspect(1),
            lambda: journal.annotate(b"note"),
            lambda: journal.cut(journal.end),
        ):
            with monkeypatch.context() as patch:
                patch.setattr(os, name, _failing(getattr(os, name), code, times=9))
                await work()
        assert await payloads(journal) == [b"one", b"two"]
        await prove(journal)
    with monkeypatch.context() as patch:
        patch.setattr(os, name, _failing(getattr(os, name), code, times=9))
        async with trial.open() as journal:
            assert journal.tip.number == 2
    assert any("3626" in line for line in said)


async def test_a_read_error_is_told(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    async with trial.open() as journal:
        (placed,) = await journal.append(trial.group(b"one"))
        monkeypatch.setattr(os, "pread", _failing(os.pread, errno.EIO))
        with pytest.raises(StopRule, match="3536"):
            await journal.read(placed.at, 1)
        with pytest.raises(StopRule, match="3536"):
            await journal.inspect(1)


async def test_nothing_is_written_into_another_directory(trial: Trial, home: Path) -> None:
    async with trial.open() as journal:
        await journal.append(trial.group(b"one"))
        home.rename(home.with_name("away"))
        with pytest.raises(StopRule, match=r"not there.*\[3533\]"):
            await journal.append(trial.group(b"two"))
        home.mkdir()
        with pytest.raises(StopRule, match=r"not there.*\[3533\]"):
            await journal.append(trial.group(b"two"))
        assert not list(home.iterdir())
        home.rmdir()
        home.with_name("away").rename(home)
        await journal.append(trial.group(b"three"))
        assert await payloads(journal) == [b"one", b"three"]


async def test_a_directory_that_is_not_mounted_is_not_begun_anew(trial: Trial, home: Path) -> None:
    async with trial.open() as journal:
        identity = journal.identity
    shutil.move(home, home.with_name("away"))
    home.mkdir(0o700)
    with pytest.raises(StopRule, match="mount"):
        async with trial.open(known=identity):
            pass
    assert not list(home.iterdir())


async def test_hostile_local_users(trial: Trial, home: Path, tmp_path: Path) -> None:
    """Loose modes are taken back; a symlink is not followed."""
    home.mkdir()
    home.chmod(0o777)
    async with trial.open() as journal:
        await journal.append(trial.group(b"one"))
        assert stat.S_IMODE(home.stat().st_mode) == 0o700
        for path in home.rglob("*"):
            assert not stat.S_IMODE(path.stat().st_mode) & 0o077, path
    link = tmp_path / "link"
    link.symlink_to(home)
    with pytest.raises(StopRule):
        async with trial.open(directory=bytes(link)):
            pass
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes((home / "manifest").read_bytes())
    (home / "manifest").unlink()
    (home / "manifest").symlink_to(elsewhere)
    with pytest.raises(StopRule):
        async with trial.open():
            pass
    (home / "manifest").unlink()
    os.mkfifo(home / "manifest")
    with pytest.raises(StopRule):
        async with trial.open():
            pass


@pytest.mark.root
async def test_the_directory_of_another_user_is_refused(trial: Trial, home: Path) -> None:
    home.mkdir(0o700)
    os.chown(home, 12345, 12345)
    with pytest.raises(StopRule, match="another user"):
        async with trial.open():
            pass


async def test_another_version_is_refused(trial: Trial, home: Path) -> None:
    async with trial.open():
        pass
    content = (home / "manifest").read_bytes()
    (home / "manifest").write_bytes(content.replace(b"i2-cdp 1 ", b"i2-cdp 2 ", 1))
    with pytest.raises(StopRule, match=r"version 2.*\[3543\]"):
        async with trial.open():
            pass


async def test_a_damaged_manifest_is_refused(trial: Trial, home: Path) -> None:
    """Each byte of it; some make another version of it."""
    async with trial.open():
        pass
    content = (home / "manifest").read_bytes()
    for place in range(len(content)):
        (home / "manifest").write_bytes(content[:place] + bytes([content[place] ^ 2]) + content[place + 1 :])
        with pytest.raises(StopRule, match=r"\[(3531|3543)\]"):
            async with trial.open():
                pass


async def test_a_manifest_that_names_what_is_not_there(trial: Trial, home: Path) -> None:
    """The last segment's file is gone, or another's is in its place."""
    async with trial.open() as journal:
        await journal.append(trial.group(b"one"))
        await journal.roll()
        await journal.append(trial.group(b"two"))
    shutil.copy(home / "segments" / "1.seg", home / "segments" / "2.seg")
    with pytest.raises(StopRule, match="3535"):
        async with trial.open():
            pass
    (home / "segments" / "2.seg").unlink()
    with pytest.raises(StopRule, match="3535"):
        async with trial.open():
            pass


async def test_cancelled_before_its_turn_nothing_happens(trial: Trial) -> None:
    async with trial.open() as journal:
        with trio.CancelScope() as scope:
            scope.cancel()
            await journal.append(trial.group(b"never"))
        assert scope.cancelled_caught
        assert journal.tip.number == 0


async def test_small_disk(trial: Trial, small_disk: Path) -> None:
    """A real full disk: appended until there is no room, merged with the reserve, appended again."""
    directory = small_disk / "cdp"
    trial.context = attrs.evolve(trial.context, directory=bytes(directory), reserve_bytes=1 << 20)
    async with trial.open(segment_bytes=256 * 1024) as journal:
        kept = 0
        with pytest.raises(JournalFull):
            while True:
                await journal.append(trial.group(os.urandom(100_000)))
                kept += 1
        trial.back_to(journal)
        assert len(await payloads(journal)) == kept
        run = [segment.number for segment in journal.segments[:-1]]
        small = attrs.evolve(trial, seq=1, time_ns=10**18)
        async with journal.merge(run[:8]) as merge:
            await merge.write(small.group(os.urandom(900_000)))
            await merge.commit()
        await journal.append(trial.group(os.urandom(100_000)))
        await prove(journal)
    async with trial.open() as journal:
        await prove(journal)
