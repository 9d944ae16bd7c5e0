"""The scrub proves contents, heals the replica, and sends nothing of a source that is damaged."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from i2core.api import Code, Entry, Place
from i2core.compare import scrub as scrub_module
from i2core.compare.proofs import Proofs
from i2core.compare.scrub import Scrub
from i2core.config.model import MirrorOptions, ScrubPlan, Verify
from i2core.testing.trees import compare_trees

from .comparing import ends_of, flip
from .pair import Nodes, open_nodes, until

PLAN = ScrubPlan(rate=10**12)
LARGE = 3 << 20


class Scrubbed:
    """A rule that is scrubbed."""

    def __init__(self, nodes: Nodes) -> None:
        self.nodes = nodes
        self.proofs = Proofs(None)
        self.scrub = Scrub(self.proofs, nodes.say)
        nodes.holds_back = self.proofs.holds

    async def whole_pass(self) -> None:
        """One pass."""
        self.scrub.begin()
        while await self.scrub.part(ends_of(self.nodes), PLAN):
            pass


def fill(source: Path) -> None:
    """Some directories with files."""
    for number in range(5):
        (source / f"d{number}" / "e").mkdir(parents=True)
        (source / f"d{number}" / "small").write_bytes(os.urandom(100 + number))
        (source / f"d{number}" / "e" / "middle").write_bytes(os.urandom(200_000))
    (source / "d0" / "large").write_bytes(os.urandom(LARGE))
    (source / "empty").touch()


@pytest.mark.parametrize("name", ["d1/small", "d2/e/middle", "d0/large"])
async def test_a_byte_that_flips_on_the_replica_is_healed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(scrub_module, "PART_DIRECTORIES", 3)
    async with open_nodes(tmp_path) as nodes:
        fill(nodes.source)
        scrubbed = Scrubbed(nodes)
        async with nodes.running():
            await scrubbed.whole_pass()
            assert scrubbed.scrub.figures.files == 12
            first_ns = scrubbed.scrub.proved_ns
            assert first_ns is not None
            flip(nodes.target / name, 50)
            await scrubbed.whole_pass()
            await until(lambda: compare_trees(nodes.source, nodes.target) == [])
            assert scrubbed.scrub.figures.healed == 1
            lines = [line for _, code, line in nodes.said if code is Code.FILE_CHECKSUM]
            assert len(lines) == 1 and name in lines[0]
            assert (scrubbed.scrub.proved_ns or 0) > first_ns
            assert scrubbed.proofs.held_count == 0


@pytest.mark.parametrize("name", ["d1/small", "d2/e/middle", "d0/large"])
async def test_a_byte_that_flips_on_the_source_is_not_sent(tmp_path: Path, name: str) -> None:
    async with open_nodes(tmp_path) as nodes:
        fill(nodes.source)
        scrubbed = Scrubbed(nodes)
        async with nodes.running():
            await scrubbed.whole_pass()
            flip(nodes.source / name, 50)
            good = (nodes.target / name).read_bytes()
            # What else differs in that directory is repaired, which compares all of it.
            (nodes.target / name).parent.joinpath("extra").touch()
            os.chmod((nodes.target / name).parent, 0o700)
            for _ in range(2):
                await scrubbed.whole_pass()
            assert scrubbed.proofs.held_count == 1
            lines = [line for _, code, line in nodes.said if code is Code.SOURCE_CONTENT]
            assert len(lines) == 1 and name in lines[0]
            await until(lambda: nodes.view.carried(2**62))
            assert (nodes.target / name).read_bytes() == good
        # Nor does a mirror that compares contents.
        strict = nodes.rule(mirror=MirrorOptions(verify=Verify.STRICT))
        await nodes.run(strict, compare=True)
        assert (nodes.target / name).read_bytes() == good
        async with nodes.running():
            assert scrubbed.proofs.release(Place(0, os.fsencode(name)))
            assert nodes.view.differ([Place(0, os.fsencode(name))])
            await until(lambda: (nodes.target / name).read_bytes() == (nodes.source / name).read_bytes())


async def test_what_was_never_proved_is_held_back(tmp_path: Path) -> None:
    """Which side has changed is not known."""
    async with open_nodes(tmp_path) as nodes:
        fill(nodes.source)
        scrubbed = Scrubbed(nodes)
        async with nodes.running():
            flip(nodes.target / "d1" / "small")
            await scrubbed.whole_pass()
            assert [held.place for held in scrubbed.proofs.held()] == [Place(0, b"d1/small")]
            assert any("not known" in line for _, code, line in nodes.said if code is Code.SOURCE_CONTENT)
            flip(nodes.target / "d1" / "small")  # as it was
            await scrubbed.whole_pass()
            assert scrubbed.proofs.held_count == 0


def test_a_file_that_is_written_is_not_held_any_more(tmp_path: Path) -> None:
    proofs = Proofs(tmp_path / "proofs")
    entry = Entry(b"f", 0o100644, 0, 0, 2**64 - 1, 2**70, 1, ino=2**64 - 1)
    place = Place(0, b"d/f")
    assert proofs.hold(place, entry, 1) and not proofs.hold(place, entry, 2)
    proofs.close()
    proofs = Proofs(tmp_path / "proofs")
    assert proofs.holds(place, entry) and proofs.held_count == 1
    assert not proofs.holds(place, entry._replace(mtime_ns=1))
    proofs.prove(0, [(entry, b"digest")], 5)
    assert not proofs.holds(place, entry)
    assert proofs.proved(0, entry) == b"digest"
    assert proofs.proved(0, entry._replace(size=1)) is None
    proofs.forget_before(6)
    assert proofs.proved(0, entry) is None
    proofs.close()


async def test_a_pass_goes_on_where_it_was_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrub_module, "PART_DIRECTORIES", 2)
    async with open_nodes(tmp_path) as nodes:
        fill(nodes.source)
        scrubbed = Scrubbed(nodes)
        async with nodes.running():
            scrubbed.scrub.begin()
            for _ in range(3):
                assert await scrubbed.scrub.part(ends_of(nodes), PLAN)
            again = Scrub(scrubbed.proofs, nodes.say)
            parts = 0
            while await again.part(ends_of(nodes), PLAN):
                parts += 1
            assert parts == 3  # eleven directories, two at a time
            assert again.proved_ns is not None
            assert scrubbed.scrub.figures.files + again.figures.files == 12
