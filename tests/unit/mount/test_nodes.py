"""What the server remembers for the kernel: no more than the kernel does."""

from __future__ import annotations

import errno

import pytest

from i2core.api.records import Entry
from i2core.mount.idle import Idle
from i2core.mount.nodes import Nodes, Root, Several
from i2core.testing.memory_disk import MemoryDisk
from i2core.testing.memory_tree import MemoryTree

DIRECTORY, FILE = 0o40755, 0o100644


@pytest.fixture
def nodes() -> Nodes:
    disk = MemoryDisk()
    disk.roots[b"/root"] = disk.directory(b"/root")
    return Nodes({b"": Root(0, MemoryTree(disk, b"/root"))})


def _entry(name: bytes, ino: int, mode: int = FILE, dev: int = 1) -> Entry:
    return Entry(name, mode, 0, 0, 0, 0, ino=ino, dev=dev)


def test_what_the_kernel_forgets_is_forgotten(nodes: Nodes) -> None:
    top = nodes.get(1)
    directory = nodes.found(top, _entry(b"d", 2, DIRECTORY))
    for number in range(100):
        file = nodes.found(directory, _entry(b"%d" % number, 10 + number))
        assert nodes.found(directory, _entry(b"%d" % number, 10 + number)) is file
        assert file.path == b"d/%d" % number
    for number in range(3, 103):
        nodes.forget(number, 1)
    assert len(nodes) == 102
    for number in range(3, 103):
        nodes.forget(number, 1)
    nodes.forget(directory.id, 1)
    nodes.forget(1, 1)
    assert len(nodes) == 1
    assert top.children is None
    with pytest.raises(OSError, match="Stale") as raised:
        nodes.get(directory.id)
    assert raised.value.errno == errno.ESTALE


def test_a_name_of_another_object_is_another_node(nodes: Nodes) -> None:
    top = nodes.get(1)
    first = nodes.found(top, _entry(b"name", 5))
    assert nodes.found(top, _entry(b"name", 5, DIRECTORY)) is not first
    second = nodes.found(top, _entry(b"name", 6))
    assert second.id != first.id
    nodes.forget(first.id, 1)
    assert nodes.found(top, _entry(b"name", 6)) is second


def test_names_of_one_object_have_one_inode_number(nodes: Nodes) -> None:
    top = nodes.get(1)
    one, two, other, elsewhere = (
        nodes.found(top, entry)
        for entry in (_entry(b"one", 5), _entry(b"two", 5), _entry(b"other", 6), _entry(b"elsewhere", 5, dev=2))
    )
    assert one.ino == two.ino
    assert len({one.ino, other.ino, elsewhere.ino}) == 3


class Held(Several):
    """Something that is open."""

    def __init__(self) -> None:
        super().__init__({})
        self.is_closed = False

    def close(self) -> None:
        self.is_closed = True


def test_only_some_objects_stay_open() -> None:
    idle, held = Idle[Held](3), [Held() for _ in range(5)]
    for node, each in enumerate(held):
        idle.give(node // 2, each)
    assert [each.is_closed for each in held] == [True, True, False, False, False]
    assert idle.take(0) is None
    assert idle.take(1) is held[3], "the one that was used last"
    assert idle.take(1) is held[2]
    idle.give(1, held[3])
    idle.close()
    assert [each.is_closed for each in held] == [True, True, False, True, True]
