"""The times of records, as they reach the backup node: whatever the clocks of a work node do, they never go back."""

from __future__ import annotations

from typing import NamedTuple

from i2core.api import Batch
from i2core.testing.sim.machine import Violation


class _Newest(NamedTuple):
    seq: int
    time_ns: int


class RecordTimes:
    """The newest record of each work node."""

    def __init__(self, *, wanted: bool) -> None:
        """`wanted`: the rule wants a history; otherwise records have no times."""
        self._wanted = wanted
        self._newest: dict[str, _Newest] = {}

    def forget(self, node: str) -> None:
        """The node has lost what it had noted, or some of it."""
        self._newest.pop(node, None)

    def arrive(self, node: str, batch: Batch) -> None:
        """Records of the node are about to be applied; perhaps once more, and then with the same times.

        Raises:
            Violation: a time is less than that of a record before.
        """
        if batch.first_seq < 1:  # orphans are no records of the work node
            return
        for seq, record in enumerate(batch.records, batch.first_seq):
            if bool(record.time_ns) is not self._wanted:
                raise Violation(f"record {seq} of {node} has the time {record.time_ns}")
            newest = self._newest.setdefault(node, _Newest(seq, record.time_ns))
            if seq > newest.seq and record.time_ns < newest.time_ns:
                raise Violation(f"record {seq} of {node} has the time {record.time_ns}, and {newest} came before")
            # A node that has lost its catalog numbers anew, where the replica is new as well.
            if seq > newest.seq or record.time_ns > newest.time_ns:
                self._newest[node] = _Newest(seq, record.time_ns)
