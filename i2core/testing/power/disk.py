"""Makes and mounts a disk whose writes are recorded, and mounts its crash images."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import attrs

from i2core.testing.power.record import SERVED, Record, read_record

SIZES = {"ext4": 16 << 20, "xfs": 300 << 20, "btrfs": 128 << 20}
"""The smallest that their mkfs makes, about."""


@attrs.frozen
class RecordedDisk:
    """A mounted file system on a disk that is recorded."""

    mount: Path
    base: Path
    """The disk's content before the first record."""
    record: Path
    kind: str

    @property
    def position(self) -> int:
        """How long the record is: what was promised until now is true for each cut from here on (`Record.end`)."""
        return self.record.stat().st_size

    def records(self) -> list[Record]:
        """All writes and flushes so far."""
        return read_record(self.record)


@contextmanager
def recorded_disk(home: Path, kind: str) -> Iterator[RecordedDisk]:
    """A new file system of that kind, mounted until the block ends. `home`: an empty directory for its files.

    Raises:
        OSError, subprocess.CalledProcessError: this host cannot do it: no root, no FUSE, no mkfs.
    """
    base, file, fuse, mount = (home / name for name in ("base", "file", "fuse", "mount"))
    with base.open("wb") as made:
        made.truncate(SIZES[kind])
    _run(f"mkfs.{kind}", "-q", str(base))
    shutil.copy(base, file)
    fuse.mkdir()
    mount.mkdir()
    with ExitStack() as stack:
        stack.enter_context(_served(fuse, file, home / "record"))
        device = _run("losetup", "--find", "--show", str(fuse / os.fsdecode(SERVED))).strip()
        stack.callback(partial(_run, "losetup", "--detach", device))
        _run("mount", "-t", kind, device, str(mount))
        stack.callback(partial(_run, "umount", str(mount)))
        yield RecordedDisk(mount, base, home / "record", kind)


@contextmanager
def _served(where: Path, file: Path, record: Path) -> Iterator[None]:
    """The FUSE server of one file."""
    fd = os.open("/dev/fuse", os.O_RDWR)
    try:
        options = f"fd={fd},rootmode=40000,user_id=0,group_id=0"
        _mount(b"recorded", bytes(where), b"fuse", options.encode())
        command = [sys.executable, "-m", "i2core.testing.power.server", str(fd), str(file), str(record)]
        server = subprocess.Popen(command, pass_fds=[fd])  # noqa: S603
    finally:
        os.close(fd)
    try:
        yield
    finally:
        _run("umount", "--lazy", str(where))
        server.wait(10)


@contextmanager
def mounted_image(image: Path, kind: str, mount: Path) -> Iterator[Path]:
    """Mounts a crash image, which recovers it, until the block ends."""
    mount.mkdir(exist_ok=True)
    _run("mount", "-t", kind, "-o", "loop", str(image), str(mount))
    try:
        yield mount
    finally:
        _run("umount", str(mount))


def _mount(source: bytes, target: bytes, kind: bytes, options: bytes) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(source, target, kind, 0, options):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), os.fsdecode(target))


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603
