"""A mirror makes the replica equal, sends only what differs, and again only then."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import attrs
import pytest

from i2core.api import BLOCK_BYTES
from i2core.config.model import MirrorOptions, Verify
from i2core.testing.trees import compare_trees

from .pair import Nodes, open_nodes, until

OWNS = os.geteuid() == 0
STRICT = MirrorOptions(verify=Verify.STRICT)


def fill(top: Path) -> None:
    """A tree with something of every kind, and names that only bytes can say."""
    (top / "sub" / "deep").mkdir(parents=True)
    (top / "empty").mkdir(mode=0o700)
    for name in (b"plain", b"new\nline", b"\xff\xfe\x80", b"n" * 255, b"-rf *", b" "):
        with open(os.path.join(os.fsencode(top), name), "wb") as file:
            file.write(name * 3)
    (top / "sub" / "none").touch(mode=0o600)
    (top / "sub" / "deep" / "blocks").write_bytes(os.urandom(5 * BLOCK_BYTES + 17))
    (top / "sub" / "large").write_bytes(os.urandom(5 * 1024 * 1024 + 1))
    with open(top / "sparse", "wb") as file:
        file.seek(20 * 1024 * 1024)
        file.write(b"end")
    (top / "link").symlink_to("sub/none")
    (top / "trap").symlink_to("/")
    os.link(top / "sub" / "none", top / "twin")
    os.mkfifo(top / "fifo")
    os.setxattr(top / "plain", "user.origin", b"\0\xff")
    os.chmod(top / "plain", 0o640 | stat.S_ISGID)
    for number, path in enumerate([*top.rglob("*"), top]):
        os.utime(path, ns=(1, 1_600_000_000_123_456_789 + number), follow_symlinks=False)


async def test_first_mirror_makes_both_equal_and_the_next_sends_nothing(tmp_path: Path) -> None:
    async with open_nodes(tmp_path) as nodes:
        fill(nodes.source)
        first = await nodes.run()
        assert compare_trees(nodes.source, nodes.target, owners=OWNS) == []
        assert first.skipped == []
        assert first.sent_files == first.listed_files == first.checked_files
        again = await nodes.run()
        assert (again.sent_files, again.sent_bytes) == (0, 0)
        strict = await nodes.run(nodes.rule(mirror=STRICT))
        assert (strict.sent_files, strict.sent_bytes) == (0, 0)
        assert compare_trees(nodes.source, nodes.target, owners=OWNS) == []
