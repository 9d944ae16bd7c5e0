"""Compares the reports of the nodes with the disks: each ack, batch and session is also reported here."""

from __future__ import annotations

from i2core.api import Batch
from i2core.rule.backup.replica.state_files import rule_key
from i2core.testing.sim.chronicle import Chronicle
from i2core.testing.sim.drivers import Watch
from i2core.testing.sim.machine import Machine, Violation
from i2core.testing.sim.net import origin
from i2core.testing.sim.nodes import MEMORY_BYTES, Node, WorkNode
from i2core.testing.sim.promises import Promises
from i2core.testing.sim.record_times import RecordTimes
from i2core.testing.sim.world import World

_BATCH_BYTES = 24 * 1024
"""The largest size of a batch."""


class Witness:
    """The witness of one world. `watch` is passed to the backup node's sinks, so that they report to it."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._promises = Promises(world.kernel, world.targets)
        self._times = RecordTimes(wanted=world.plan.history)
        self.watch = Watch(
            enters=self._enters,
            applies=self._applies,
            applied=self._applied,
            cut=world.net.cut,
            exchanged=self._exchanged,
            lacks_a_root=world.replicas.lacks_a_root,
            chronicle=self._begins,
            begins_history=self._begins_history,
        )

    def peer(self, node: str) -> str:
        """The name of this work node on the backup node."""
        return node if self._world.plan.named else "local"

    def check_histories(self, most: int, when: str) -> None:
        """Reads so many moments of each open history.

        Raises:
            Violation: a moment is not what it was.
        """
        service = self._world.service
        found = [] if service is None else list(service.histories())
        for peer, history in found:
            self._world.chronicle(peer).check_at_rest(history, most, when)

    def _begins_history(self, directory: bytes) -> None:
        for peer in {self.peer(work.name) for work in self._world.works}:
            if rule_key(peer, "sim").encode() in directory:
                self._world.chronicle(peer).begin()

    def _begins(self, batch: Batch) -> Chronicle:
        assert self._world.service is not None
        peer = self.peer(_client().name)
        chronicle = self._world.chronicle(peer)
        chronicle.begins(dict(self._world.service.histories())[peer], batch)
        return chronicle

    def hear(self, node: WorkNode) -> None:
        """Notes which seqs the work node knows as durable."""
        if node.memory.used > MEMORY_BYTES + _BATCH_BYTES:
            raise Violation(f"{node.name} holds {node.memory.used} bytes in memory")
        if node.status is not None:
            self._promises.told(self.peer(node.name), node.status.durable_seq)

    def cut_power(self, node: Node) -> None:
        """The node's disks lose everything that was not synced.

        Raises:
            Violation: something is lost that was reported as durable.
        """
        chance = self._world.chances["disk"]
        if isinstance(node, WorkNode):
            for disk in node.disks:
                if not self._world.plan.strict:
                    # Content that was damaged under its old size and time is found only by a strict compare.
                    disk.sync_content()
                disk.power_cut(chance)
            return
        for work in self._world.works:
            self.hear(work)
        before = self._promises.look()
        for root, was in enumerate(before):
            if self._world.replicas.is_unopened(root):
                was.pop(b"", None)  # created again a moment ago: the durable objects are where the replica was moved
        for disk in node.disks:
            disk.power_cut(chance)
        self._promises.check(before)

    def promised(self) -> None:
        """A work node learns that more is durable."""
        if self._world.backup.machine is not None:
            self._world.backup.machine.promised()

    def _exchanged(self) -> None:
        """The backup node reports that a replica is another directory than before."""
        if not self._world.replicas.troubled:
            raise Violation("the backup node takes a replica for another one")
        self._forget()

    def _forget(self) -> None:
        """What was reported as durable is void."""
        assert self._world.service is not None
        for work in self._world.works:
            self.hear(work)
        self._promises.forget(self._world.service.statuses())

    def history_lacks(self, line: str, *, ended: bool) -> None:
        """The backup node reports that others have changed the replica. `ended`: it cannot tell any more what the
        replica holds, and another history begins.

        Raises:
            Violation: nobody has.
        """
        if not (self._world.tampered or self._world.replicas.troubled):
            raise Violation(line)
        if ended:
            self._forget()

    def _enters(self) -> None:
        assert self._world.service is not None
        self._world.replicas.opened()
        for work in self._world.works:
            self.hear(work)
        self._promises.enters(self._world.service.statuses())

    def _applies(self, batch: Batch) -> None:
        client = _client()
        if client.name not in self._world.databases.damaged:
            self._times.arrive(client, batch)
        self._world.replicas.known = True
        self._promises.applies(client, self.peer(client.name), batch)

    def _applied(self, batch: Batch) -> None:
        self._promises.applied(self.peer(_client().name), batch)


def _client() -> Machine:
    client = origin.get()
    assert client is not None
    return client
