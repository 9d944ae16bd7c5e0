"""The world of one history: the machines and their disks, a network, applications, and the checks of all of them.

This module has only the objects. What happens to them is in others: `lives` (nodes start, run, die), `accidents`,
`witness` (compares the reports of the nodes with the disks), `course` (from the start to the verdict).
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from random import Random

import trio

from i2core.config.model import (
    Brake,
    CdpRetention,
    DriverChoice,
    MirrorOptions,
    OnError,
    OrphanAction,
    Orphans,
    Pair,
    Rule,
    Verify,
)
from i2core.testing.sim.application import Application
from i2core.testing.sim.chronicle import Chronicle
from i2core.testing.sim.clock import EPOCH_S, SimTime
from i2core.testing.sim.databases import Databases
from i2core.testing.sim.disk import Disk
from i2core.testing.sim.inode import Inode
from i2core.testing.sim.kernel import Kernel
from i2core.testing.sim.machine import running
from i2core.testing.sim.net import SimNet
from i2core.testing.sim.nodes import Node, WorkNode
from i2core.testing.sim.orphans import PlantedOrphans
from i2core.testing.sim.plan import Plan
from i2core.testing.sim.roots import Replicas
from i2core.testing.sim.seam import Seam
from i2core.testing.sim.service import SimService
from i2core.testing.sim.unread import Scarce, Unread

_STREAMS = (
    "clock",
    "net",
    "disk",
    "work",
    "foreign",
    "jitter",
    "threads",
    "capture",
    "sink",
    "unread",
    "scarce",
    "memory",
    "history",
)
SCAN_S = 3.0
"""The interval of the capture that scans."""
STATE = b"/sim/state"
"""The backup node's own directory."""
CDP = STATE + b"/cdp"
"""Where it keeps histories: on a disk of their own."""
_ASIDE = b"/sim/replica0/aside"
_INDEX = re.compile(re.escape(CDP.decode()) + "/([^/]+)/(index[^/]*)/?(.*)")
_SPARE_BYTES = 80 * 1024
"""Space for staging files beside the files that they replace, and for those of interrupted transfers."""


class World:
    """All objects of a history, an attribute for each. It decides nothing. More methods than a class should have: most
    of them make or find one of these objects."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.trace: list[str] = []
        self.violation = ""
        """The first broken promise that was found where it could not be raised."""
        self.chances = {name: Random(f"{name} {plan.seed}") for name in _STREAMS}  # noqa: S311 (no secrets)
        self.clock = SimTime(self.chances["clock"])
        self.databases = Databases()
        self.databases.sqlite.elsewhere = self._of_backup
        self.net = SimNet(self.chances["net"], named=plan.named)
        self.service: SimService | None = None
        """The service of the backup node's present or last life."""
        self.tampered = False
        self.fills_history = False
        """A rule may stop because the disk of the histories is full."""
        self._chronicles: dict[str, Chronicle] = {}

        self.kernel = self._booted()
        disks = [self._disk(20, b"/sim/replica0"), self._disk(21, b"/sim/replica1")]
        self.unread = self.kernel.unread = Unread(self.chances["unread"], without=self.kernel.root.disk)
        self.scarce = self.kernel.scarce = Scarce(self.chances["scarce"])
        self.stops_unread = False
        """A rule may stop because of objects that it cannot read."""
        self.fills_work = False
        """A rule may stop because the work node's disk is full."""
        self.backup = Node("backup", [*disks, self._disk(22, STATE)])
        if plan.keeps_history:
            self.kernel.mkdir(CDP)
            self.backup.disks.append(self._disk(23, CDP))
        self.targets = [b"/sim/replica%d/data" % root for root in range(plan.roots)]
        for path in (*self.targets, _ASIDE):
            self.kernel.mkdir(path)
        self.replicas = Replicas(self.kernel, self.targets, disks)
        self.outside_changes = self.kernel.root.disk.changes
        self.works = [self.work_node(1)]
        self.applications = [self.application(self.works[0])]
        self._stranger = Application(self.kernel, self.targets, _ASIDE, self.chances["foreign"], keeps_times=True)
        self.meddle(plan.foreign)
        self.orphans = PlantedOrphans()
        self._prepare()

    def _prepare(self) -> None:
        """The replica as somebody has left it, with the room that the plan gives."""
        if self.plan.keeps_orphans:
            self.orphans.plant(self.kernel, self.targets, self.owner.roots)
            self._keep_meddled()
        if self.plan.narrow:
            self._leave_little_room()

    def _of_backup(self, path: str) -> Path | str | None:
        """As `Sqlite.elsewhere`: in the directory of its present life."""
        if path in ("", ":memory:"):
            machine = running.get()
            return path if machine is not None and machine.name == self.backup.name else None
        if not path.startswith(STATE.decode() + "/"):
            return None
        return self._index(path) or self.databases.directory("backup") / os.path.basename(path)

    def _index(self, path: str) -> Path | None:
        """Where on this host the backup node has what belongs to the index of a history; None: it is something else."""
        found = _INDEX.fullmatch(path)
        return self.databases.directory("backup") / "-".join(found.groups()[:2]) / found[3] if found else None

    def _on_host(self, path: bytes) -> bytes | None:
        """As `Descriptors.hosts`."""
        if path.startswith(bytes(self.databases.home) + b"/"):
            return path
        if not path.startswith(CDP + b"/"):
            return None
        index, machine = self._index(os.fsdecode(path)), running.get()
        if index is not None and machine is not None:
            machine.step()
        return None if index is None else bytes(index)

    @property
    def seam(self) -> Seam:
        """The replacements for this world."""
        return Seam(
            kernel=self.kernel,
            clock=self.clock,
            sqlite=self.databases.sqlite,
            chance=self.chances["jitter"],
            threads=self.chances["threads"],
            slowness=self.plan.slowness,
        )

    @property
    def owner(self) -> WorkNode:
        """The work node that may write."""
        return self.works[-1]

    def close(self) -> None:
        """Removes the files of the history."""
        self.databases.close()

    def say(self, line: str) -> None:
        """Adds a line to the trace, without anything that differs from run to run."""
        line = line.replace(str(self.databases.home), "/sim/databases")
        self.trace.append(f"{self.now():.3f} {line}")

    @staticmethod
    def now() -> float:
        """Simulated seconds."""
        return trio.current_time() if trio.lowlevel.in_trio_run() else 0.0

    def _clock_ns(self) -> int:
        machine = running.get()
        return int((EPOCH_S + self.now() + (machine.wall_offset_s if machine else 0.0)) * 1e9)

    def _booted(self) -> Kernel:
        """A kernel with the directories on which disks are mounted."""
        kernel = Kernel(Disk(1, self._clock_ns), hosts=self._on_host)
        for name in (b"", b"/work1", b"/work2", b"/replica0", b"/replica1", b"/state", b"/outside", b"/outside/within"):
            kernel.mkdir(b"/sim" + name)
        return kernel

    def _disk(self, device: int, path: bytes) -> Disk:
        disk = Disk(device, self._clock_ns)
        self.kernel.mount(path, disk)
        return disk

    def work_node(self, epoch: int) -> WorkNode:
        """A work node with that epoch, on its own disk."""
        plan, home = self.plan, b"/sim/work%d" % epoch
        node = WorkNode(f"work{epoch}", [self._disk(9 + epoch, home)], epoch=epoch)
        sources = [home + b"/source%d" % root for root in range(plan.roots)]
        for path in (home + b"/outside", home + b"/cache", *sources):
            self.kernel.mkdir(path)
        node.roots = [self.kernel.find(source) for source in sources]
        node.rule = Rule(
            name="sim",
            backup="backup",
            pairs=tuple(Pair(source=s, target=t) for s, t in zip(sources, self.targets, strict=True)),
            capture=DriverChoice(name=plan.capture, options={"interval": SCAN_S} if plan.capture == "scan" else {}),
            mirror=MirrorOptions(
                verify=Verify.STRICT if plan.strict else Verify.TIME,
                on_error=OnError.STOP if plan.stops else OnError.LOG,
            ),
            orphans=Orphans(action=OrphanAction.KEEP if plan.keeps_orphans else OrphanAction.DELETE),
            brake=Brake(share=1.0),
            rescan_s=plan.rescan_s,
            cdp=CdpRetention() if plan.history else None,
        )
        return node

    def application(self, node: WorkNode) -> Application:
        """The application that works on its sources, and has worked for a while already."""
        assert node.rule is not None
        sources = [pair.source for pair in node.rule.pairs]
        outside = b"/sim/%s/outside" % node.name.encode()
        application = Application(self.kernel, sources, outside, self.chances["work"], keeps_times=not self.plan.strict)
        for _ in range(self.plan.before):
            self.say(f"before: {application.work()}")
        node.disks[0].sync()
        return application

    def meddle(self, count: int) -> None:
        """Somebody else works on the replica."""
        for _ in range(count):
            self.say(f"on the replica: {self._stranger.work()}")
        self._keep_meddled()

    def _leave_little_room(self) -> None:
        """Fills the targets, so that only another name fits on their disks."""
        for target in self.targets:
            self.say(f"on the replica: {self._stranger.leave(target)}")
        self._keep_meddled()
        for disk in self.backup.disks[: len(self.targets)]:
            disk.capacity_bytes = disk.used_bytes + 4 * disk.page_bytes

    def chronicle(self, peer: str) -> Chronicle:
        """What is recorded of the history of the rule of that peer."""
        if peer not in self._chronicles:
            self._chronicles[peer] = Chronicle(self, peer)
        return self._chronicles[peer]

    def make_room(self) -> None:
        """Gives the replicas' disks room. If it is scarce in this history, there is room for the content of the
        sources, but not also for what somebody has left on the targets."""
        for disk in self.backup.disks:
            disk.capacity_bytes = None
        if self.plan.narrow:
            for disk, target, source in zip(self.backup.disks, self.targets, self.owner.roots, strict=False):
                others = disk.used_bytes - _held_bytes(self.replicas.now(target))
                disk.capacity_bytes = others + _held_bytes(source) + _SPARE_BYTES

    def lay_trap(self) -> None:
        """Somebody else creates a symlink that leads out of the replica."""
        self.say(f"on the replica: {self._stranger.lay_trap()}")
        self._keep_meddled()

    def exchange(self) -> None:
        """Somebody else exchanges two directories of the replica."""
        self.say(f"on the replica: {self._stranger.exchange()}")
        self._keep_meddled()

    def _keep_meddled(self) -> None:
        """Syncs changes by others, since the product need not make them durable."""
        for disk in self.backup.disks:
            disk.sync()
        for chronicle in self._chronicles.values():
            chronicle.doubt()


def _held_bytes(root: Inode | None) -> int:
    """The space that a tree takes."""
    found: set[Inode] = set()
    waiting = [] if root is None else [root]
    while waiting:
        inode = waiting.pop()
        found.add(inode)
        waiting += inode.entries.values()
    return sum(inode.disk.page_bytes * (1 + len(inode.pages)) for inode in found)
