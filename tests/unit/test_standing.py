"""What distinguishes a directory from any other: after a reboot, on file systems with little information, and with a
reused inode number."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from i2core.posix import syscalls
from i2core.posix.identity import Identity, Standing, identity

DISK, OTHER = 0xF5_0001, 0xF5_0002


def standing(path: Path) -> Standing:
    """The standing of a directory, by its path."""
    fd = os.open(path, os.O_PATH)
    try:
        return Standing.of(fd)
    finally:
        os.close(fd)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (Identity(DISK, 2, 7), Identity(DISK, 2, 7), True),
        (Identity(DISK, 2, 7), Identity(DISK, 3, 7), False),
        (Identity(DISK, 2, 7), Identity(DISK, 2, 8), False),  # the inode was used again
        (Identity(DISK, 2, 7), Identity(OTHER, 2, 7), False),  # a snapshot of the same subvolume
        (Identity(0, 128, 7), Identity(0, 128, 7), True),  # XFS, whose device has another number after a reboot
        (Identity(0, 128, 7), Identity(0, 128, 8), False),
        (Identity(DISK, 2, 0), Identity(DISK, 2, 0), True),  # no time of birth
        (Identity(DISK, 2, 0), Identity(DISK, 2, 7), True),  # a kernel with the time of birth was started
        (Identity(0, 2, 0), Identity(DISK, 3, 7), False),
    ],
)
def test_comparing_two_identities(one: Identity, other: Identity, same: bool) -> None:
    assert one.is_same(other) is same
    assert other.is_same(one) is same


def test_a_directory_keeps_its_identity_when_it_moves(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    before = standing(tmp_path / "one")
    (tmp_path / "above").mkdir()
    (tmp_path / "one").rename(tmp_path / "above" / "other")
    after = standing(tmp_path / "above" / "other")
    assert before.here.is_same(after.here)
    assert not before.above.is_same(after.above)
    assert standing(tmp_path).here == before.above


def test_a_directory_that_is_created_again_is_another(tmp_path: Path) -> None:
    """Unless the file system has no time of birth, and gives it the same inode number."""
    path = tmp_path / "one"
    path.mkdir()
    before = standing(path)
    path.rmdir()
    path.mkdir()
    after = standing(path)
    if before.here.born_ns or before.here.inode != after.here.inode:
        assert not before.here.is_same(after.here)
    assert after.may_follow(before)


def test_who_may_follow(tmp_path: Path) -> None:
    """Only one in the same directory, when neither is the root of a file system."""
    here, above = Identity(DISK, 5, 1), Identity(DISK, 4, 1)
    before = Standing(here, above, mounted=False)
    other = Identity(DISK, 6, 2)
    assert Standing(other, above, mounted=False).may_follow(before)
    assert not Standing(other, above, mounted=True).may_follow(before)
    assert not Standing(other, above, mounted=False).may_follow(before._replace(mounted=True))
    assert not Standing(other, Identity(OTHER, 4, 1), mounted=False).may_follow(before)


def test_a_mounted_file_system_is_known_as_such() -> None:
    proc, root = standing(Path("/proc")), standing(Path("/"))
    assert proc.mounted
    assert root.here == root.above


def test_before_linux_5_8_the_device_tells_of_mounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syscalls, "_statx", None)
    assert standing(Path("/proc")).mounted
    assert not standing(tmp_path).mounted


@pytest.mark.root
def test_a_bind_mount_is_known_as_such(tmp_path: Path) -> None:
    """It has the device of what is above it. What is within it is no mount."""
    (tmp_path / "disk" / "within").mkdir(parents=True)
    (tmp_path / "point").mkdir()
    bare = standing(tmp_path / "point")
    subprocess.run(["mount", "--bind", tmp_path / "disk", tmp_path / "point"], check=True)  # noqa: S603, S607
    try:
        bound, within = standing(tmp_path / "point"), standing(tmp_path / "point" / "within")
    finally:
        subprocess.run(["umount", "-l", tmp_path / "point"], check=True)  # noqa: S603, S607
    assert (bare.mounted, bound.mounted, within.mounted) == (False, True, False)
    assert bound.above == bare.above == standing(tmp_path).here
    assert not bare.may_follow(bound)
    assert not bound.may_follow(bare)


def test_text_and_back(tmp_path: Path) -> None:
    found = standing(tmp_path)
    assert Standing.decode(found.encode()) == found
    for damaged in ("", "1 2 3", found.encode() + " 1", "x" + found.encode()[1:].replace(" ", "-")):
        with pytest.raises(ValueError, match=r"."):
            Standing.decode(damaged)


def test_an_id_that_is_only_the_devices_number_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    status = tmp_path.stat()
    packed = os.minor(status.st_dev) & 0xFF | os.major(status.st_dev) << 8 | (os.minor(status.st_dev) & ~0xFF) << 12
    fd = os.open(tmp_path, os.O_PATH)
    for told, counts in ((packed, 0), (packed + 1, packed + 1)):
        fields = os.statvfs(tmp_path)
        answer = type("Answer", (), {"f_fsid": told, "f_bsize": fields.f_bsize})
        monkeypatch.setattr(os, "statvfs", lambda target, answer=answer: answer)
        assert identity(fd).filesystem == counts
        monkeypatch.undo()
    os.close(fd)
