"""Opens a session: checks the greeting against the rights of the peer, opens sink and codecs, takes ownership of the
targets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from i2core.api import SESSION_CHANNELS, Channel, DriverKind, LinkError, SinkContext, in_thread
from i2core.config.model import BackupRole
from i2core.config.mounts import check_apart
from i2core.config.options import structure_options
from i2core.config.places import check_target
from i2core.drivers.select import Drivers, open_codecs
from i2core.posix.path_text import as_path
from i2core.rule.backup.entry.admission import Admission
from i2core.rule.backup.entry.codecs import codecs_of
from i2core.rule.backup.entry.owners import Claim
from i2core.rule.backup.entry.ownership import Ownership
from i2core.rule.backup.entry.replicas import Replicas
from i2core.rule.backup.entry.rewinds import refuse_turned_back
from i2core.rule.backup.entry.secret import node_secret
from i2core.rule.backup.replica.brake import stricter
from i2core.rule.backup.replica.recording import Open
from i2core.rule.backup.replica.replica import Replica
from i2core.rule.backup.session.durability import flush_window
from i2core.rule.backup.session.receive import OpenSession
from i2core.rule.backup.session.unflushed import Unflushed
from i2core.rule.backup.session.writer import ReplicaWriter
from i2core.rule.life.report import Say, code_in, of_peer
from i2core.wire.messages import Hello, limits_of

if TYPE_CHECKING:
    from i2core.rule.backup.entry.histories import Histories


class SessionOpening:
    """Opens the sessions of one backup role."""

    def __init__(
        self,
        role: BackupRole,
        drivers: Drivers,
        replicas: Replicas,
        ownership: Ownership,
        *,
        state_dir: Path,
        secret: bytes,
        say: Say,
        keeps_histories: bool = True,
    ) -> None:
        self._role = role
        self._drivers = drivers
        self._replicas = replicas
        self._ownership = ownership
        self._state_dir = state_dir
        self._secret = secret
        self._say = say
        self.admission = Admission()
        self._floor = None if role.brake is None else limits_of(role.brake)
        self._shared: dict[str, Any] = {}
        """Of all sinks of this process."""
        self._keeps_histories = keeps_histories

    @cached_property
    def histories(self) -> Histories:
        """The histories of this role. Imported now: a node whose rules want none loads nothing of it."""
        from i2core.rule.backup.entry.histories import Histories

        return Histories(self._role, self._drivers, state_dir=self._state_dir, shared=self._shared)

    @asynccontextmanager
    async def open(self, hello: Hello, who: str) -> AsyncIterator[OpenSession]:
        """The session with its sink, codecs and position, as the only one of its rule on its channel.

        Raises:
            StopRule, UsageError: the peer may not have this session.
            LinkError: the peer may try again later.
        """
        with self.admission.session(who, hello, await self._rules_of(hello, who)):
            claim = self._claim(hello, who)
            self._refuse_outside(claim)
            replica = self._replicas.of(claim.key)
            if claim.cdp or (self._keeps_histories and replica.position.cdp):
                self.histories.check(claim.targets)
            # An outdated node is refused before it can end the session of the replica's owner; a stranger is refused
            # before anything about it is stored.
            identities = await self._ownership.identities(claim, replica)
            self._refuse_older(claim)
            replica = self._replicas.keep(replica)
            replica.is_received = True
            replica.deletes.brake.limits = stricter(hello.brake, self._floor)
            self._end_earlier(hello, claim, replica)
            entered = False
            with self._replicas.session(claim.key, hello.channel, hello.epoch, replica):
                refuse_turned_back(replica.position)
                async with self._opened(hello, claim, replica, identities) as session:
                    await self._ownership.take(claim, replica, session.sink, session.writer)
                    others = [each for each in SESSION_CHANNELS if each.value != hello.channel]
                    end_others = partial(self._replicas.end_sessions, claim.key, others)
                    async with replica.recording.used(session.open_history, end_others):
                        entered = True
                        yield session
            if not entered:
                raise LinkError("a later session has taken its place")

    async def _rules_of(self, hello: Hello, who: str) -> set[str]:
        """The peer's rules that are known here."""
        rules = {replica.rule for replica in self._replicas.received() if replica.peer == who}
        if hello.rule not in rules:
            known = await in_thread(self._replicas.known)
            rules.update(each.rule for each in known if each.peer == who)
        return rules

    def _claim(self, hello: Hello, who: str) -> Claim:
        """The claim that the greeting makes."""
        targets = tuple(as_path(target) for target in hello.targets)
        wanted = hello.cdp if self._keeps_histories else None
        cdp = () if wanted is None else (wanted.detailed_days, wanted.daily, wanted.monthly)
        aside = as_path(hello.orphans.to or "")
        return Claim(
            who,
            hello.rule,
            hello.epoch,
            targets,
            aside,
            flags=hello.inode_flags,
            cdp=cdp,
            snapshot=attrs.asdict(hello.snapshot) if hello.snapshot is not None and self._keeps_histories else {},
            zone=hello.zone,
            sources=tuple(hello.sources),
        )

    def _refuse_outside(self, claim: Claim) -> None:
        """Checks that each path named by a peer lies within the directories in which the peer may write, and apart from
        the histories that this node keeps.

        Raises:
            UsageError: one does not (3571).
        """
        if self._role.cdp_dir is not None:
            for place in claim.places():
                check_apart(place, self._role.cdp_dir)
        own = next((peer.allow_roots for peer in self._role.peers if peer.name == claim.peer), ())
        if own or claim.aside:
            for place in claim.places():
                check_target(place, own or self._role.allow_roots)

    def _refuse_older(self, claim: Claim) -> None:
        """Checks that no session of a later epoch is being opened. The case that breaks without this: two nodes have
        one name, and opening takes a while; each ends the other's session before the epoch is noted, for ever.

        Raises:
            LinkError: there is one. It may still fail, so the peer tries again.
        """
        if claim.epoch < self._replicas.epoch(claim.key):
            raise LinkError("a session of a later epoch is being opened")

    def _end_earlier(self, hello: Hello, claim: Claim, replica: Replica) -> None:
        """Ends earlier sessions of the work node: it may reconnect before the broken link was noticed here. It opens
        the replication channel first."""
        begins = hello.channel == Channel.REPLICATION.value or hello.epoch > replica.position.epoch
        self._replicas.end_sessions(claim.key, SESSION_CHANNELS if begins else (Channel(hello.channel),))

    @asynccontextmanager
    async def _opened(
        self, hello: Hello, claim: Claim, replica: Replica, identities: dict[bytes, str]
    ) -> AsyncIterator[OpenSession]:
        spec = self._drivers.driver(DriverKind.SINK, self._role.sink.name)
        memory = await in_thread(replica.sink_memory, claim.targets)
        context = self._context(hello, claim, replica, identities, memory)
        config = structure_options(spec, self._role.sink.options)
        async with (
            open_codecs(self._drivers, codecs_of(hello, self._role.keys, self._drivers), hello.rule) as codecs,
            spec.open(config, context) as sink,
            replica.flushed_with(sink),
        ):
            window = flush_window(Channel(hello.channel), self._role.flush)
            writer = ReplicaWriter(sink, Unflushed(window.size), replica.recording)
            yield OpenSession(hello, codecs, sink, writer, replica, window, self.open_history(replica))

    def open_history(self, replica: Replica) -> Open:
        """How the history of the replica is opened."""
        return lambda durable: self.histories.open(replica, self.own_secret(), durable)

    def _context(
        self, hello: Hello, claim: Claim, replica: Replica, identities: dict[bytes, str], memory: Path
    ) -> SinkContext:
        say = of_peer(self._say, claim.peer)
        live = hello.channel == Channel.REPLICATION.value

        def applied(seq: int) -> None:
            # An interrupted mirror is compared again: its position within a batch is not needed, except by a history.
            if replica.recording.reported(seq) or live:
                replica.progress.mark(seq)

        return SinkContext(
            roots=claim.targets,
            allowed=self._role.allow_roots,
            applied=applied,
            say=lambda line: say(hello.rule, code_in(line), line),
            known=identities,
            shared=self._shared,
            spares=replica.deletes.brake.limits.on,
            flags=hello.inode_flags,
            memory=memory,
            asks=hello.channel == Channel.COMPARE.value,
            secret=self.own_secret(),
        )

    def own_secret(self) -> bytes:
        """The node's own secret, as `SinkContext.secret`; made when it is first needed. May block."""
        if not self._secret:
            self._secret = node_secret(self._state_dir)
        return self._secret
