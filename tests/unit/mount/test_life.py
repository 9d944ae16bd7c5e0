"""The life of a mount: it ends with its block, by umount(8), by SIGTERM; what a killed process leaves is cleared."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing

from i2core.api import Code, UsageError
from i2core.api.line import Line
from i2core.mount.device import top_mount
from i2core.mount.mounted import mounted
from i2core.posix.tree import LocalTree

pytestmark = pytest.mark.root
GUARD_S = 60.0


@pytest.fixture
def top(tmp_path: Path) -> Path:
    """A tree with one file."""
    made = tmp_path / "top"
    made.mkdir()
    (made / "file").write_bytes(b"content")
    return made


@contextmanager
def process(top: Path, point: bytes, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that serves the mount, once it is there."""
    command = [sys.executable, "-m", "i2core.mount", *options, str(top), os.fsdecode(point)]
    with subprocess.Popen(command) as made:  # noqa: S603
        try:
            until = time.monotonic() + GUARD_S
            while not os.path.exists(point + b"/file"):
                assert made.poll() is None, "it has ended"
                assert time.monotonic() < until, "nothing was mounted"
                time.sleep(0.02)
            yield made
        finally:
            made.kill()


async def test_it_is_there_during_the_block(top: Path, point: bytes, lines: list[Line]) -> None:
    async with mounted(LocalTree(bytes(top)), point, lines.append) as mount:
        assert os.listdir(mount.point) == [b"file"]
    assert top_mount(point) is None
    assert os.listdir(point) == []
    assert lines == []


async def test_a_block_that_is_cancelled_or_fails_leaves_nothing(top: Path, point: bytes, lines: list[Line]) -> None:
    with trio.CancelScope() as scope:
        async with mounted(LocalTree(bytes(top)), point, lines.append):
            scope.cancel()
            await trio.sleep_forever()
    with pytest.raises(ZeroDivisionError):
        async with mounted(LocalTree(bytes(top)), point, lines.append):
            raise ZeroDivisionError
    assert top_mount(point) is None


async def test_somebody_else_unmounts_it(top: Path, point: bytes, lines: list[Line]) -> None:
    async with mounted(LocalTree(bytes(top)), point, lines.append) as mount:
        await trio.run_process(["umount", os.fsdecode(point)])
        with trio.fail_after(GUARD_S):
            await mount.ended.wait()
    assert lines == []


async def test_several_mounts_at_once(top: Path, tmp_path: Path, lines: list[Line]) -> None:
    points = [tmp_path / f"point{number}" for number in range(3)]
    async with trio.open_nursery() as nursery:
        for each in points:
            each.mkdir()

            async def serve(each: Path = each, *, task_status: trio.TaskStatus[None]) -> None:
                async with mounted(LocalTree(bytes(top)), bytes(each), lines.append):
                    task_status.started()
                    await trio.sleep_forever()

            await nursery.start(serve)
        assert [(each / "file").read_bytes() for each in points] == [b"content"] * 3
        nursery.cancel_scope.cancel()
    assert [top_mount(bytes(each)) for each in points] == [None] * 3


async def test_who_uses_a_mount_is_told_when_it_ends(top: Path, point: bytes, lines: list[Line]) -> None:
    """They lose it: without a server they could only wait."""
    async with trio.open_nursery() as nursery:
        async with mounted(LocalTree(bytes(top)), point, lines.append):
            # Not with `cwd`: until the child is there, Python's lock is held, and the server waits for it.
            script = ["sh", "-c", 'cd "$0" && echo && exec sleep 1000', os.fsdecode(point)]
            user = await nursery.start(partial(trio.run_process, script, check=False, stdout=subprocess.PIPE))
            assert await user.stdout.receive_some() == b"\n"
            fd = os.open(point + b"/file", os.O_RDONLY)
        assert top_mount(point) is None
        with pytest.raises(OSError, match=r".*") as raised:
            os.pread(fd, 10, 3)
        assert raised.value.errno in (errno.ENOTCONN, errno.ECONNABORTED)
        with suppress(OSError):
            os.close(fd)
        user.kill()
    (line,) = lines
    assert line.code is Code.MOUNT_BUSY
    assert f"(pid {user.pid}, cwd)" in line
    assert f"(pid {os.getpid()}, {fd})" in line
    assert str(os.getppid()) not in line


def test_sigterm_unmounts_it(top: Path, point: bytes) -> None:
    with process(top, point) as server:
        server.send_signal(signal.SIGTERM)
        assert server.wait(GUARD_S) == 0
    assert top_mount(point) is None


def test_umount_ends_its_server(top: Path, point: bytes) -> None:
    with process(top, point) as server:
        subprocess.run(["umount", point], check=True)  # noqa: S603, S607
        assert server.wait(GUARD_S) == 0


async def test_what_a_killed_server_left_is_cleared(top: Path, point: bytes, lines: list[Line]) -> None:
    with process(top, point) as server:
        server.kill()
        server.wait(GUARD_S)
        with pytest.raises(OSError, match=r".*") as raised:
            os.listdir(point)
        assert raised.value.errno == errno.ENOTCONN
    async with mounted(LocalTree(bytes(top)), point, lines.append):
        assert os.listdir(point) == [b"file"]
    assert top_mount(point) is None


async def test_a_mount_that_is_there_is_not_replaced(top: Path, point: bytes, lines: list[Line]) -> None:
    async with mounted(LocalTree(bytes(top)), point, lines.append):
        with pytest.raises(UsageError, match="something is mounted there"):
            async with mounted(LocalTree(bytes(top)), point, lines.append):
                pass
        assert os.listdir(point) == [b"file"]


AS_USER = """
import os, sys, trio
from i2core.mount.mounted import mounted
from i2core.posix.tree import LocalTree
import i2core.mount.device
os.setgroups([]), os.setgid(65534), os.setuid(65534)

async def main():
    top, point, outside = (os.fsencode(each) for each in sys.argv[1:])
    async with mounted(LocalTree(top), point, print):
        assert os.listdir(point) == [b"file"]
        print(open(point + b"/file").read())
    assert os.listdir(point) == []
    try:
        async with mounted(LocalTree(top), point, print, everybody=True):
            pass
    except i2core.mount.device.CannotMount as error:
        print(error)
    try:
        async with mounted(LocalTree(top), outside, print):
            pass
    except i2core.mount.device.CannotMount as error:
        print(error)

trio.run(main)
"""


@pytest.mark.skipif(not os.access("/usr/bin/fusermount3", os.X_OK), reason="fusermount3 (package fuse3) is missing")
def test_a_user_mounts_for_himself(top: Path, tmp_path: Path) -> None:
    """In a namespace of mounts of its own, where /dev/fuse is open to everybody, as udev makes it."""
    mine, outside = tmp_path / "mine", tmp_path / "outside"
    for each in (mine, outside):
        each.mkdir()
    os.chown(mine, 65534, 65534)
    for each in (tmp_path, *tmp_path.parents):
        if each != Path("/tmp") and each.is_relative_to("/tmp"):
            each.chmod(each.stat().st_mode | 0o011)
    device = tmp_path / "fuse"
    os.mknod(device, 0o020666, os.makedev(10, 229))
    device.chmod(0o666)
    script = 'mount --bind "$1" /dev/fuse && shift && exec "$@"'
    command = ["unshare", "--mount", "sh", "-c", script, "sh", str(device)]
    command += [sys.executable, "-c", AS_USER, str(top), str(mine), str(outside)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    assert done.returncode == 0, done.stderr
    content, everybody, refused = done.stdout.splitlines()
    assert content == "content"
    assert "only root may let other users in" in everybody
    assert "fusermount3" in refused and str(outside) in refused


NOBODY = "import os, sys; os.setgroups([]); os.setgid(65534); os.setuid(65534); print(open(sys.argv[1]).read())"


@pytest.mark.parametrize("everybody", [False, True])
async def test_other_users_are_kept_out(top: Path, point: bytes, lines: list[Line], everybody: bool) -> None:
    """Even where modes would let them in; if everybody may enter, modes and ACLs are checked."""
    (top / "secret").write_bytes(b"secret")
    (top / "secret").chmod(0o640)
    (top / "denied").write_bytes(b"denied")
    # u::rw- u:65534:--- g::r-- m::r-- o::r--
    acl = "0200000001000600ffffffff02000000feff000004000400ffffffff10000400ffffffff20000400ffffffff"
    os.setxattr(top / "denied", "system.posix_acl_access", bytes.fromhex(acl))
    for each in Path(os.fsdecode(point)).parents:
        if each != Path("/tmp") and each.is_relative_to("/tmp"):
            each.chmod(each.stat().st_mode | 0o011)
    async with mounted(LocalTree(bytes(top)), point, lines.append, everybody=everybody):
        read = {}
        for name in ("file", "secret", "denied"):
            command = [sys.executable, "-c", NOBODY, f"{os.fsdecode(point)}/{name}"]
            done = await trio.run_process(command, capture_stdout=True, capture_stderr=True, check=False)
            read[name] = done.returncode == 0
    assert read == {"file": everybody, "secret": False, "denied": False}
