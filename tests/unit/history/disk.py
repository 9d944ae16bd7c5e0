"""A replica in memory with a power that can fail, and the sink that carries out steps.

Each record is carried out in primitive steps. A power cut leaves all that was flushed, a prefix of the later changes of
names, and any of the later changes of content, perhaps torn in the middle.
"""

from __future__ import annotations

import random
from typing import Any

from i2core.api.present import STAGING, STORE, TOP, Identity
from i2core.api.records import Meta
from i2core.history.model.grain import Grain
from i2core.testing.memory_replica import Inode, MemoryReplica, count

GRAIN = Grain(hole=4, block=8, wider=2, whole_every=4)
NAME_CHANGES = ("mv", "unlink", "link", "new")


class Disk(MemoryReplica):
    """`Replica` in memory. What is changed is logged until it is flushed."""

    def __init__(self, rng: random.Random, grain: Grain = GRAIN) -> None:
        self.rng = rng
        self.grain = grain
        super().__init__(hole=grain.hole)
        self.staged: set[bytes] = set()
        """Paths whose staging file the sink saw begin."""
        self.log: list[tuple[Any, ...]] = []
        self.durable: dict[Inode, tuple[Any, ...]] = {}
        self.changes = 0
        self.counts_links = False
        """Only while history is switched on: counting is slow here."""

    def inode(self, meta: Meta, target: bytes = b"") -> Inode:
        inode = super().inode(meta, target)
        inode.identity = Identity(1, self.rng.randrange(100), self._made)
        return inode

    def links(self, inode: Inode) -> int:
        return 1 if inode.is_dir or not self.counts_links else count(self.root, inode)

    def flush(self) -> None:
        """All that was done is durable."""
        self.log, self.durable = [], {}

        def keep(node: Inode) -> None:
            if node not in self.durable:
                state = (node.meta, bytes(node.data), set(node.alloc), dict(node.entries), node.accidental)
                self.durable[node] = state
                for child in node.entries.values():
                    keep(child)

        for top in (self.top, self.store, self.staging):
            keep(top)

    def do(self, *step: Any) -> None:
        self.log.append(step)
        self.changes += 1
        self.run(step)

    def run(self, step: tuple[Any, ...]) -> None:
        """Carries out a step without logging it."""
        if step[0] == "touch":
            node = step[1]
            node.meta = node.meta._replace(mtime_ns=10**6 + self.rng.randrange(10**6))
            node.accidental = True
        else:
            super().do(*step)

    def staged_for_good(self) -> dict[bytes, Inode]:
        """Durable staging files, except those that the sink has removed, replaced or moved by itself since."""
        names: dict[bytes, Inode] = self.durable[self.staging][3]
        gone = {step[1] for step in self.log if step[0] == "unlink" or (step[0] == "mv" and step[4] is self.staging)}
        again = {step[3] for step in self.log if step[0] == "new" and step[2] is self.staging}
        return {name: node for name, node in names.items() if node not in gone and name not in again}

    def cut_power(self) -> None:
        """The disk as the power cut leaves it."""
        rng = self.rng
        for step in self.log:
            for node in step:
                if isinstance(node, Inode) and node.is_dir and node not in self.durable:
                    node.entries.clear()
        for node, (meta, data, alloc, entries, accidental) in self.durable.items():
            node.meta, node.data, node.alloc = meta, bytearray(data), set(alloc)
            node.entries, node.accidental = dict(entries), accidental
        left = rng.randrange(sum(step[0] in NAME_CHANGES for step in self.log) + 1)
        for step in self.log:
            if step[0] in NAME_CHANGES:
                if left:
                    self.run(step)
                    left -= 1
            elif rng.random() < 0.6:
                torn = step[0] == "write" and rng.random() < 0.3
                self.run((*step[:3], step[3][: rng.randrange(len(step[3]) + 1)]) if torn else step)
        self.staged.clear()
        for handle in [handle for handle in self._open if handle not in (TOP, STORE, STAGING)]:
            del self._open[handle]

    # ---------------------------------------------------------------------- looking for paths

    def walk(self, path: bytes) -> Inode | None:
        node: Inode | None = self.root
        for name in path.split(b"/") if path else ():
            node = node.entries.get(name) if node is not None and node.is_dir else None
        return node

    def place(self, path: bytes) -> tuple[Inode, bytes] | None:
        above, _, name = path.rpartition(b"/")
        node = self.walk(above)
        return (node, name) if node is not None and node.is_dir else None
