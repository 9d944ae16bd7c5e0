"""A walk reaches names that were removed after it listed them, and whose removal was processed already."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from i2core.api import Change, Lost, Op, Place
from i2core.rule.live.found import Found
from i2core.rule.live.reconcile import Reconciler
from i2core.testing.trees import compare_trees
from i2core.wire import message_size

from .pair import open_nodes, until


@pytest.mark.parametrize("come", [os.link, os.rename], ids=["link", "rename"])
async def test_names_that_other_files_had_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, come: Callable[[Path, Path], None]
) -> None:
    monkeypatch.setattr(message_size, "BATCH_RECORDS", 1)
    bring = Reconciler.bring_walked
    async with open_nodes(tmp_path) as nodes:
        top, numbers = nodes.source, range(10)
        for number in numbers:
            for name in ("file", "name"):
                (top / f"{name}{number}").write_text(f"{name} {number}")

        def bring_first(self: Reconciler, found: Found, *arguments: Any) -> None:
            place = found.place
            if place.path.startswith(b"name"):  # what another object has taken comes last: all are listed
                monkeypatch.setattr(Reconciler, "bring_walked", bring)
                for other in {f"name{number}" for number in numbers} - {place.path.decode()}:
                    (top / other).unlink()
                    trio.from_thread.run_sync(nodes.capture.tell, Change(Op.REMOVE, Place(0, other.encode())))
            bring(self, found, *arguments)

        async with nodes.running() as status:
            for number in numbers:
                (top / f"name{number}").unlink()
                come(top / f"file{number}", top / f"name{number}")
            monkeypatch.setattr(Reconciler, "bring_walked", bring_first)
            nodes.capture.tell(Lost(Place(0, b""), "on purpose"))
            await until(lambda: Reconciler.bring_walked is bring)
            since = time.monotonic_ns()
            await until(lambda: (status.settled_ns or 0) > since)
            assert compare_trees(nodes.source, nodes.target) == []


async def test_a_directory_whose_name_is_a_file_by_then(tmp_path: Path) -> None:
    """The hint of a new directory has its name after an exchange of two directories above. It begins a walk at a place
    where the replica has a file after the exchange was repeated there."""
    async with open_nodes(tmp_path) as nodes:
        top = nodes.source
        for name in ("a", "b"):
            (top / name).mkdir()
        (top / "a" / "e").write_text("file")
        async with nodes.running() as status:
            (top / "a" / "e").unlink()
            (top / "a" / "e").mkdir()
            for old, new in (("b", "passing"), ("a", "b"), ("passing", "a")):
                (top / old).rename(top / new)
            (top / "b" / "e" / "inside").write_text("inside")
            since = time.monotonic_ns()
            renames = [
                Change(Op.RENAME, Place(0, old), is_dir=True, to=Place(0, new))
                for old, new in ((b"b", b"passing"), (b"a", b"b"), (b"passing", b"a"))
            ]
            made = [Change(Op.REMOVE, Place(0, b"b/e")), Change(Op.CREATE, Place(0, b"b/e"), is_dir=True)]
            nodes.capture.tell(*made, *renames)
            await until(lambda: (status.settled_ns or 0) > since)
            assert compare_trees(nodes.source, nodes.target) == []
