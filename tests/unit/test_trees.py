"""The oracle finds each kind of difference, and none between equal trees."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from i2core.testing.trees import compare_trees


def make(top: Path) -> None:
    (top / "d" / "deep").mkdir(parents=True)
    (top / "f").write_bytes(b"content")
    (top / "d" / "g").write_bytes(b"x" * 200_000)
    os.link(top / "f", top / "d" / "f2")
    (top / "l").symlink_to("f")
    os.mkfifo(top / "p")
    with (top / "sparse").open("wb") as file:
        file.truncate(8 << 20)
    Path(os.fsdecode(os.fsencode(top) + b"/\xff\n")).write_bytes(b"odd name")
    os.setxattr(top / "f", "user.a", b"1")
    for path in sorted(top.rglob("*"), reverse=True):
        os.utime(path, ns=(1, 10**18 + 1), follow_symlinks=False)
    os.utime(top, ns=(1, 10**18 + 1))


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        make(tmp_path / name)
    return tmp_path / "a", tmp_path / "b"


def test_equal_trees_have_no_differences(pair: tuple[Path, Path]) -> None:
    assert compare_trees(*pair) == []
    assert compare_trees(os.fsencode(pair[0]), pair[1]) == []


def quietly(path: Path, change: Callable[[Path], object]) -> None:
    """Changes an object, then restores its mtime and its directory's."""
    change(path)
    for each in (path, path.parent):
        if os.path.lexists(each):
            os.utime(each, ns=(1, 10**18 + 1), follow_symlinks=False)


def swap_for_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def swap_for_copy(path: Path) -> None:
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)


def relink(path: Path) -> None:
    path.unlink()
    path.symlink_to("F")


def turn_into_socket(path: Path) -> None:
    path.unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


CHANGES: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "content": ("f", lambda p: p.write_bytes(b"CONTENT"), "content differs"),
    "content behind the first block": ("d/g", lambda p: p.write_bytes(b"x" * 199_999 + b"y"), "content differs"),
    "size": ("d/g", lambda p: os.truncate(p, 5), "size 200000 became 5"),
    "mode": ("d/deep", lambda p: p.chmod(0o1700), "mode 0755 became 1700"),
    "mtime": ("d/deep", lambda p: os.utime(p, ns=(1, 10**18)), "mtime 1000000000000000001 became 1000000000000000000"),
    "mtime of a symlink": ("l", lambda p: os.utime(p, ns=(1, 2), follow_symlinks=False), "mtime"),
    "attribute changed": ("f", lambda p: os.setxattr(p, "user.a", b"2"), "attribute 'user.a'"),
    "extra attribute": ("d", lambda p: os.setxattr(p, "user.b", b""), "attribute 'user.b' None became b''"),
    "attribute missing": ("f", lambda p: os.removexattr(p, "user.a"), "attribute 'user.a'"),
    "missing": ("p", Path.unlink, "missing (a FIFO)"),
    "extra": ("new", Path.mkdir, "extra (a directory)"),
    "left over": (".i2-staging-1", Path.mkdir, "left over"),
    "type": ("f", swap_for_directory, "a file became a directory"),
    "special type": ("p", turn_into_socket, "a FIFO became a socket"),
    "hard link": ("d/f2", swap_for_copy, "hard links"),
    "symlink text": ("l", relink, "symlink text b'f' became b'F'"),
    "holes": ("sparse", lambda p: p.write_bytes(bytes(8 << 20)), "holes were filled"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_each_difference_is_reported(pair: tuple[Path, Path], what: str) -> None:
    name, change, words = CHANGES[what]
    (change if what.startswith("mtime") else lambda path: quietly(path, change))(pair[1] / name)
    found = compare_trees(*pair)
    assert any(line.startswith(f"'{name}': ") and words in line for line in found), found


@pytest.mark.root
def test_owners_and_devices(pair: tuple[Path, Path]) -> None:
    a, b = pair
    quietly(b / "f", lambda path: os.chown(path, 5, 6))
    for top, minor in ((a, 3), (b, 5)):
        quietly(top / "null", lambda path, minor=minor: os.mknod(path, 0o020600, os.makedev(1, minor)))  # type: ignore[misc]
    assert compare_trees(a, b) == [
        "'d/f2': owner 0:0 became 5:6",
        "'f': owner 0:0 became 5:6",
        "'null': device 0x103 became 0x105",
    ]
    assert compare_trees(a, b, owners=False) == ["'null': device 0x103 became 0x105"]


def test_a_tree_that_is_gone_is_a_difference(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (difference,) = compare_trees(tmp_path / "a", tmp_path / "b")
    assert "vanished" in difference
