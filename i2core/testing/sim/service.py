"""The backup role of a simulated node, which also shows the histories that it has open."""

from __future__ import annotations

from collections.abc import Iterator

from i2core.history.record.history import History
from i2core.rule.backup.service import BackupService


class SimService(BackupService):
    """The real one."""

    def histories(self) -> Iterator[tuple[str, History]]:
        """Those that are open, each with the peer whose rule it is of."""
        for replica in self._replicas.received():
            history = replica.recording.current
            if history is not None:
                yield replica.peer, history

    def is_recording(self, peer: str) -> bool:
        """The history of this peer's rule is open, if it has begun: at rest it is, since a session is."""
        recordings = [replica.recording for replica in self._replicas.received() if replica.peer == peer]
        return all(recording.current is not None for recording in recordings if recording.begun)
