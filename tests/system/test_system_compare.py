"""Compares by command: what differs, mending, kept results, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from i2core.testing.trees import compare_trees

from .test_system_daemon import Site, site

if TYPE_CHECKING:
    import subprocess

    from .commands import Commands

__all__ = ["site"]


class Work:
    """A running rule, and the commands of its work node."""

    def __init__(self, site: Site, i2: Commands, source: Path) -> None:
        self.site, self.i2, self.source = site, i2, source
        self.replica = site.replica("data1")

    def run(self, *arguments: str | Path, code: int = 0, node: str = "work") -> subprocess.CompletedProcess[str]:
        """Runs `i2`."""
        done = self.i2.run(*arguments, "--config", self.site.config(node))
        assert done.returncode == code, done.stdout + done.stderr
        return done

    def ask(self, *arguments: str | Path, code: int = 0) -> Any:
        """The JSON answer of a command."""
        return json.loads(self.run(*arguments, "--json", code=code).stdout)

    def settle(self) -> None:
        """Waits until both sides are equal."""
        self.i2.eventually("all has arrived", lambda: compare_trees(self.source, self.replica) == [])


@pytest.fixture
def work(site: Site, i2: Commands, source: Path) -> Work:
    site.prepare(site.rule("data1", source))
    site.start("backup")
    site.start("work")
    site.replicating("data1")
    work = Work(site, i2, source)
    work.settle()
    return work


def flip(path: Path) -> None:
    """Changes one byte of a file, and neither its size nor its time."""
    status = path.stat()
    with open(path, "r+b") as file:
        (byte,) = file.read(1)
        file.seek(0)
        file.write(bytes([byte ^ 1]))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_differences_are_found_and_mended(work: Work) -> None:
    equal = work.ask("compare", "data1", "--strict")
    assert equal["items"] == []
    assert equal["result"]["same"] == equal["result"]["objects"] > 0

    flip(work.replica / "d1" / "deep" / "f1")
    shutil.rmtree(work.replica / "d2")
    (work.replica / "mine").write_text("mine")
    found = work.ask("compare", "data1", "--strict", code=3)
    kinds = {Path(item["path"]).name: item["kind"] for item in found["items"]}
    assert kinds["f1"] == "different" and kinds["d2"] == "missing" and kinds["mine"] == "extra"
    assert [item["reasons"] for item in found["items"] if item["path"].endswith("f1")] == [["content"]]

    shown = work.run("compare", "data1", "--show", str(found["task"]["ident"]), "--kind", "extra").stdout
    assert shown.splitlines() == [f"only there  {work.source}/mine"]
    page = work.ask("compare", "data1", "--show", str(found["task"]["ident"]), "--limit", "1")
    assert len(page["items"]) == 1 and page["after"]

    mended = work.ask("compare", "data1", "--strict", "--mend", code=3)["result"]
    assert mended["mended"] == mended["missing"] + mended["different"] > 2
    assert mended["extra"] == mended["differs"] == 1
    (work.replica / "mine").unlink()
    work.ask("compare", "data1", "d1", "--mend")
    work.ask("compare", "data1", "--mend", code=0)
    work.settle()
    assert work.ask("compare", "data1", "--strict")["items"] == []
    assert len(work.ask("compare", "data1", "--list")) == 6


def test_a_stopped_rule_and_what_is_refused(work: Work, tmp_path: Path) -> None:
    work.run("rule", "stop", "data1")
    (work.source / "new").write_text("new")
    found = work.ask("compare", "data1", code=3)
    assert [(Path(item["path"]).name, item["kind"]) for item in found["items"] if item["reasons"] != ["time"]] == [
        ("new", "missing")
    ]
    assert "only a running rule can mend" in work.run("compare", "data1", "--mend", code=2).stderr
    assert "not beneath a source" in work.run("compare", "data1", tmp_path / "elsewhere", code=2).stderr
    assert "run the command on work" in work.run("compare", "data1", code=2, node="backup").stderr
    assert "no rule of this name" in work.run("compare", "none", code=2).stderr
    booked = work.ask("compare", "data1", "--when", "2099-01-01T00:00")
    assert work.ask("task", "show", str(booked["task"]))["progress"]["phase"] == "booked"
    work.run("task", "cancel", str(booked["task"]))


def test_orphans_are_listed_and_removed(work: Work) -> None:
    assert work.ask("orphans", "list", "data1")["items"] == []
    mine = work.replica / "d1" / "mine"
    (mine / "deep").mkdir(parents=True)
    (mine / "deep" / "file").write_text("12345")
    (work.replica / "single").write_text("123")
    found = work.ask("orphans", "list", "data1", "--refresh")["items"]
    assert [(Path(item["path"]).name, item["orphan"], item["size"]) for item in found] == [
        ("d1", False, 0) if item["directory"] else ("single", True, 3) for item in found
    ]
    assert len(found) == 2 and found[1]["born_ns"] > 0
    (inner,) = work.ask("orphans", "list", "data1", "d1")["items"]
    assert inner["path"] == str(work.source / "d1" / "mine") and inner["orphan"] and inner["directory"]
    (deep,) = work.ask("orphans", "list", "data1", work.source / "d1" / "mine" / "deep")["items"]
    assert (Path(deep["path"]).name, deep["size"]) == ("file", 5)

    to = work.site.place / "fetched"
    done = json.loads(work.run("orphans", "fetch", "data1", mine, "single", "--to", to, "--json", node="backup").stdout)
    assert done["equal"] and done["files"] == 2
    assert (to / "d1" / "mine" / "deep" / "file").read_text() == "12345"
    assert (to / "single").read_text() == "123" and not (to / "d2").exists()
    refused = work.run("orphans", "fetch", "data1", "single", "--to", work.replica, code=2, node="backup")
    assert "would change" in refused.stderr

    assert "add --yes" in work.run("orphans", "remove", "data1", "single", code=2).stderr
    assert work.ask("orphans", "remove", "data1", ".", "--dry-run")["orphans"] == 2
    assert "no orphan is known" in work.run("orphans", "remove", "data1", "d1/deep", "--yes", code=2).stderr
    inner_one = work.run("orphans", "remove", "data1", "d1/mine/deep", "--yes", code=2)
    assert "remove that directory as a whole" in inner_one.stderr
    assert (work.replica / "single").exists()
    (work.source / "single").write_text("the source has it by now")
    done = work.ask("orphans", "remove", "data1", "d1", "--yes")
    assert done == {"removed": 1, "left": []}
    assert not mine.exists()
    left = work.ask("orphans", "remove", "data1", "single", "--yes", code=3)
    assert left["removed"] == 0 and len(left["left"]) == 1
    work.settle()
    work.run("rule", "stop", "data1")
    assert "only a rule that replicates" in work.run("orphans", "remove", "data1", "single", "--yes", code=2).stderr


def test_a_scrub_heals_the_replica(site: Site, i2: Commands, source: Path) -> None:
    site.prepare(site.rule("data1", source, 'scrub = { rate = "1GB" }'))
    site.start("backup")
    node = site.start("work")
    site.replicating("data1")
    work = Work(site, i2, source)
    work.settle()

    def proved() -> float:
        found: float | None = work.ask("scrub", "data1")["proved_at"]
        return found or 0.0

    i2.eventually("the first pass is done", lambda: proved() > 0)
    first = proved()
    flip(work.replica / "d1" / "deep" / "f1")
    work.run("scrub", "data1", "--now")
    i2.eventually("the second pass is done", lambda: proved() > first)
    work.settle()
    assert compare_trees(source, work.replica) == []
    assert site.status("work", "data1")["held_back"] == 0
    assert "sent again" in (site.place / "work.state" / "log" / "node.jsonl").read_text()
    assert "none of these files is held back" in work.run("scrub", "data1", "--accept", "d1/deep/f1", code=2).stderr
    i2.finish(node)
    site.start("work")
    assert work.ask("scrub", "data1")["proved_at"] > first
