"""A check of a part of a file, or of its attributes, proves no more than that: its content may have changed unnoticed,
with the same size and time."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from i2core.api import Change, Lost, Op, Place
from i2core.rule.life.status import RuleStatus
from i2core.rule.live import large_files as slices
from i2core.rule.live import unproven
from i2core.testing.trees import compare_trees

from .pair import Nodes, open_nodes, until

SIZES = (10, 200_000)
"""Sizes of a file that is sent again as a whole, and of one whose blocks are compared."""


def change_unseen(path: Path) -> None:
    """Writes other content with the same size and time."""
    status = path.stat()
    path.write_bytes(os.urandom(status.st_size))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


async def settle(nodes: Nodes, status: RuleStatus, *changes: Change | Lost) -> None:
    """Reports these changes, and waits until they are processed and durable."""
    since = time.monotonic_ns()
    nodes.capture.tell(*changes)
    await until(lambda: (status.settled_ns or 0) > since)


@pytest.mark.parametrize("size", SIZES)
async def test_a_loss_after_a_report_of_attributes(tmp_path: Path, size: int) -> None:
    async with open_nodes(tmp_path) as nodes:
        file = nodes.source / "file"
        file.write_bytes(os.urandom(size))
        async with nodes.running() as status:
            change_unseen(file)
            file.chmod(0o600)
            await settle(nodes, status, Change(Op.ATTRIB, Place(0, b"file")))
            await settle(nodes, status, Lost(Place(0, b""), "on purpose"))
            assert compare_trees(nodes.source, nodes.target) == []


@pytest.mark.parametrize("size", SIZES)
async def test_a_restart_after_a_report_of_attributes(tmp_path: Path, size: int) -> None:
    """The report of the content was still in the kernel's queue."""
    async with open_nodes(tmp_path) as nodes:
        file = nodes.source / "file"
        file.write_bytes(os.urandom(size))
        async with nodes.running() as status:
            change_unseen(file)
            file.chmod(0o600)
            await settle(nodes, status, Change(Op.ATTRIB, Place(0, b"file")))
        async with nodes.running() as status:
            await settle(nodes, status, Change(Op.ATTRIB, Place(0, b"")))
            assert compare_trees(nodes.source, nodes.target) == []


async def test_a_loss_after_a_report_of_a_link(tmp_path: Path) -> None:
    async with open_nodes(tmp_path) as nodes:
        file = nodes.source / "file"
        file.write_bytes(os.urandom(10))
        async with nodes.running() as status:
            change_unseen(file)
            (nodes.source / "other").hardlink_to(file)
            await settle(nodes, status, Change(Op.CREATE, Place(0, b"other")))
            await settle(nodes, status, Lost(Place(0, b""), "on purpose"))
            assert compare_trees(nodes.source, nodes.target) == []


async def test_a_loss_after_a_report_of_exact_ranges(tmp_path: Path) -> None:
    async with open_nodes(tmp_path) as nodes:
        file = nodes.source / "file"
        file.write_bytes(os.urandom(200_000))
        async with nodes.running() as status:
            change_unseen(file)
            file.chmod(0o600)
            await settle(nodes, status, Change(Op.MODIFY, Place(0, b"file"), exact=True, first=0, length=10))
            await settle(nodes, status, Lost(Place(0, b""), "on purpose"))
            assert compare_trees(nodes.source, nodes.target) == []


async def test_attributes_alone_cost_no_content_once_nothing_more_can_be_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unproven, "PROVEN_AFTER_NS", 0)
    async with open_nodes(tmp_path) as nodes:
        file = nodes.source / "file"
        file.write_bytes(os.urandom(10))
        async with nodes.running() as status:
            file.chmod(0o600)
            await settle(nodes, status, Change(Op.ATTRIB, Place(0, b"file")))
            await settle(nodes, status, Change(Op.ATTRIB, Place(0, b"")))
            sent = status.sent_bytes
            await settle(nodes, status, Lost(Place(0, b""), "on purpose"))
            assert status.sent_bytes == sent
            assert compare_trees(nodes.source, nodes.target) == []


async def test_a_restart_after_the_tail_of_a_large_file_was_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slices, "SLICE_BYTES", 1 << 20)
    monkeypatch.setattr(slices, "QUIET_FACTOR", 1e9)
    async with open_nodes(tmp_path) as nodes:
        file = nodes.source / "file"
        file.write_bytes(os.urandom(8 << 20))
        async with nodes.running() as status:
            for _ in range(2):
                with file.open("r+b") as opened:
                    opened.write(os.urandom(10))  # seen by the first look, and not by that at the tail
                    opened.seek(0, os.SEEK_END)
                    opened.write(os.urandom(5 << 20))
                seq = status.durable_seq
                nodes.capture.tell(Change(Op.MODIFY, Place(0, b"file")))
                await until(lambda seq=seq: status.durable_seq > seq and status.durable_seq == status.seq)  # type: ignore[misc]
        async with nodes.running() as status:
            await settle(nodes, status, Change(Op.ATTRIB, Place(0, b"")))
            assert compare_trees(nodes.source, nodes.target) == []
