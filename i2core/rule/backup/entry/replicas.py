"""The replicas of a backup node and their open sessions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import trio

from i2core.api import Channel
from i2core.rule.backup.entry.owners import Key
from i2core.rule.backup.replica.position import Position, PositionFile, known_positions
from i2core.rule.backup.replica.replica import Replica
from i2core.rule.life.report import Say, of_peer


class _Session(NamedTuple):
    """One that is open or opening."""

    scope: trio.CancelScope
    epoch: int


class Replicas:
    """Replicas by peer and rule: those in use since the start in memory, the others on disk."""

    def __init__(self, directory: Path, say: Say) -> None:
        """`directory`: where the positions are kept."""
        self._directory = directory
        self._say = say
        self._replicas: dict[Key, Replica] = {}
        self._sessions: dict[tuple[str, str, str], _Session] = {}

    def known(self) -> list[Position]:
        """The positions of all replicas, read from disk. Blocks."""
        return known_positions(self._directory)

    def received(self) -> list[Replica]:
        """Those that were received since the start, and those that wait for an administrator. One that somebody reads,
        or whose past was given up, is in memory as well, and none of them."""
        return [each for each in self._replicas.values() if each.is_received or each.position.rewind]

    def get(self, key: Key) -> Replica | None:
        """The replica if it is in memory."""
        return self._replicas.get(key)

    def of(self, key: Key) -> Replica:
        """The replica; if it is not in memory, it is read from disk, and not kept."""
        peer, rule = key
        return self._replicas.get(key) or Replica(rule, peer, self._directory, partial(of_peer(self._say, peer), rule))

    def keep(self, replica: Replica) -> Replica:
        """Keeps the replica in memory and returns it, or returns the one that another session has added first."""
        return self._replicas.setdefault((replica.peer, replica.rule), replica)

    def forget(self, key: Key) -> None:
        """Removes the position; the data stay.

        Raises:
            StopRule: it cannot be removed.
        """
        PositionFile(self._directory, *key).forget()
        self._replicas.pop(key, None)

    # ------------------------------------------------------------------------------------------ sessions

    def busy(self) -> set[Key]:
        """The keys with a session that is open or opening."""
        return {(peer, rule) for peer, rule, _ in self._sessions}

    def mirrors(self, key: Key) -> bool:
        """True while a mirror of this rule runs, or is about to."""
        return (*key, Channel.MIRROR.value) in self._sessions

    def epoch(self, key: Key) -> int:
        """The highest epoch of the sessions that are open or opening; 0: there are none."""
        return max((each.epoch for (*whose, _), each in self._sessions.items() if tuple(whose) == key), default=0)

    @contextmanager
    def session(self, key: Key, channel: str, epoch: int, replica: Replica) -> Iterator[None]:
        """Registers a session while it opens and is open. `end_sessions` cancels the body; the cancellation ends
        here."""
        session = (*key, channel)
        with trio.CancelScope() as scope:
            registered = self._sessions[session] = _Session(scope, epoch)
            try:
                yield
            finally:
                if self._sessions.get(session) is registered:
                    del self._sessions[session]
                self.rest(replica)
                if not replica.begun and key not in self.busy():
                    self._replicas.pop(key, None)

    def rest(self, replica: Replica) -> None:
        """Closes the replica's files when no session is open."""
        if (replica.peer, replica.rule) not in self.busy():
            replica.close_files()

    def end_sessions(self, key: Key, channels: Iterable[Channel]) -> None:
        """Ends the sessions on these channels. A thread that applies records cannot be stopped: take
        `Replica.apply_lock` to wait for it."""
        for channel in channels:
            session = self._sessions.get((*key, channel.value))
            if session is not None:
                session.scope.cancel()
