"""The times of records, as they reach the backup node: whatever the clocks of a work node do, they never go back, as
long as the node has what it noted."""

from __future__ import annotations

from typing import NamedTuple

from i2core.api import Batch
from i2core.testing.sim.machine import Machine, Violation


class _Newest(NamedTuple):
    seq: int
    time_ns: int


class RecordTimes:
    """The newest record of each work node, since it has lost something that it had noted."""

    def __init__(self, *, wanted: bool) -> None:
        """`wanted`: the rule wants a history; otherwise records have no times."""
        self._wanted = wanted
        self._newest: dict[tuple[str, int], _Newest] = {}

    def arrive(self, client: Machine, batch: Batch) -> None:
        """Records of a life of a work node are about to be applied; perhaps once more, and then with the same times.
        They may arrive after that life has ended, so each life is compared only with those of the same state.

        Raises:
            Violation: a time is less than that of a record before.
        """
        if batch.first_seq < 1:  # orphans are no records of the work node
            return
        node, key = client.name, (client.name, client.state)
        for seq, record in enumerate(batch.records, batch.first_seq):
            if bool(record.time_ns) is not self._wanted:
                raise Violation(f"record {seq} of {node} has the time {record.time_ns}")
            newest = self._newest.setdefault(key, _Newest(seq, record.time_ns))
            if seq > newest.seq and record.time_ns < newest.time_ns:
                raise Violation(f"record {seq} of {node} has the time {record.time_ns}, and {newest} came before")
            # A node that has lost its catalog numbers anew, where the replica is new as well.
            if seq > newest.seq or record.time_ns > newest.time_ns:
                self._newest[key] = _Newest(seq, record.time_ns)
