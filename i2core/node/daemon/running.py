"""A running node: the queries and commands of its control API."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs
import trio

from i2core import __version__
from i2core.api import Channel, Code, UsageError
from i2core.config.model import NodeConfig
from i2core.config.words import bilingual
from i2core.history.moments.zones import zone_or_local
from i2core.limits.throttle import RateLimit
from i2core.node.control.errors import unknown_rule
from i2core.node.daemon.compares import Compares
from i2core.node.daemon.journal_scrub import JournalScrub
from i2core.node.daemon.objectives import Objectives
from i2core.node.daemon.past import ReceivedPast, ReceivedRule
from i2core.node.daemon.recoveries import Recoveries
from i2core.node.daemon.rule_runner import RuleRunner
from i2core.node.daemon.scrubs import NOT_SCRUBBED, Scrubs
from i2core.node.daemon.tasks import Tasks
from i2core.node.logs.logbook import Logbook
from i2core.node.pairing.identity import Identity
from i2core.node.pairing.peer_book import PeerBook, PeerRole
from i2core.node.pairing.trust import Trust
from i2core.posix.path_text import as_path
from i2core.registry import Registry
from i2core.rule.life.report import report_fields
from i2core.rule.life.status import Received
from i2core.rule.outgoing.spool import Budget

if TYPE_CHECKING:
    from i2core.rule.backup.entry.passes import HistoryFigures
    from i2core.rule.backup.entry.rule_snapshots import RuleSnapshots
    from i2core.rule.backup.service import BackupRuleStatus, BackupService


@attrs.define
class RunningNode:
    """A running node, as its control API sees it: an attribute for each part of the node."""

    config: NodeConfig
    registry: Registry
    logbook: Logbook
    identity: Identity
    nursery: trio.Nursery
    runners: dict[str, RuleRunner] = attrs.field(factory=dict, init=False)
    budget: Budget = attrs.field(factory=Budget, init=False)
    """Of all rules for waiting records, from the config."""
    backup: BackupService | None = attrs.field(default=None, init=False)
    objectives: Objectives = attrs.field(factory=Objectives, init=False)
    limit: RateLimit = attrs.field(factory=RateLimit, init=False)
    """The bandwidth that all rules share."""
    ports: dict[Channel, int] = attrs.field(factory=dict, init=False)
    """The ports on which this node listens."""
    peer_book: PeerBook = attrs.field(init=False)
    trust: Trust = attrs.field(init=False)
    tasks: Tasks = attrs.field(init=False)
    """Long operations."""
    compares: Compares = attrs.field(init=False)
    """The compares of its rules, and their results."""
    journal_scrub: JournalScrub = attrs.field(init=False)
    scrubs: Scrubs = attrs.field(init=False)
    """Proves in the background that replicas are equal."""
    recoveries: Recoveries = attrs.field(init=False)
    _began_s: float = attrs.field(factory=time.monotonic, init=False)

    def __attrs_post_init__(self) -> None:
        self.peer_book = PeerBook(self.config.state_dir)
        self.trust = Trust(self.config, self.peer_book, partial(self.logbook.say, ""))
        self.tasks = Tasks(self.config.state_dir / "tasks", self.logbook.say)
        self.compares = Compares(self.config.state_dir / "compares", self.nursery, self.tasks, self.logbook.say)
        self.journal_scrub = JournalScrub(self.config.state_dir)
        self.scrubs = Scrubs(self.config.state_dir / "scrubs", self.compares, self.logbook.say)
        self.recoveries = Recoveries(self)

    def status(self) -> dict[str, Any]:
        """The node itself: name, version, uptime, problems of plugins."""
        return {
            "name": self.config.name,
            "version": __version__,
            "fingerprint": self.identity.fingerprint,
            "pid": os.getpid(),
            "uptime_seconds": round(time.monotonic() - self._began_s, 3),
            "config": str(self.config.path),
            "ports": {channel.value: port for channel, port in self.ports.items()},
            "mounts": os.readlink("/proc/self/ns/mnt") if os.path.exists("/proc/self/ns/mnt") else "",
            "plugin_problems": [str(problem) for problem in self.registry.problems],
        }

    def rules(self) -> list[dict[str, Any]]:
        """All rules: those this node sends, then those it receives."""
        sent = [
            runner.status.as_json()
            | self.objectives.figures(runner)
            | self.scrubs.figures(name)
            | {"role": "work", "peer": self._backup_of(name), "history": None}
            for name, runner in self.runners.items()
        ]
        return sent + self._received_rules()

    def rules_of(self, peer: str) -> list[dict[str, Any]]:
        """The rules that are received from that work node."""
        return [rule for rule in self._received_rules() if rule["peer"] == peer]

    def _received_rules(self) -> list[dict[str, Any]]:
        proved_at = self.journal_scrub.proved_at
        return [
            _received_json(status) | {"proved_at": proved_at(status.peer, status.name)}
            for status in (self.backup.statuses() if self.backup else [])
        ]

    async def reread_peers(self) -> dict[str, list[str]]:
        """Loads the changes of enrolment and revocation from disk: sessions of revoked peers end, rules that stopped
        because one side did not trust the other start. Returns the names gained and lost.

        Raises:
            UsageError: the file is damaged, or others may write it; nothing was changed.
        """
        change = await self.trust.refresh()
        for rule in self.config.rules:
            runner = self.runners.get(rule.name)
            waits = runner is not None and not runner.running and runner.status.code is Code.PEER_REFUSED
            # Also if nothing changed here: the backup node may trust this node again.
            waits = waits and not self.recoveries.holds(rule.name)
            if runner is not None and waits and self.trust.named(PeerRole.BACKUP, rule.backup) is not None:
                runner.start(self.nursery)
        return {"gained": [name for _, name in change.gained], "lost": [name for _, name in change.lost]}

    async def start(self, name: str, *, compare: bool = False) -> bool:
        """Starts a rule; False when it runs already. With `compare` a current run is ended first, unsent changes
        are dropped, and everything is compared with the replica.

        Raises:
            UsageError: a recovery writes its source (3670).
        """
        runner = self._runner(name)
        self.recoveries.refuse_start(next(rule for rule in self.config.rules if rule.name == name))
        if compare:
            await runner.stop()
        return runner.start(self.nursery, compare=compare)

    async def stop(self, name: str) -> bool:
        """Stops a rule and waits for its end; False when it did not run."""
        return await self._runner(name).stop()

    async def release(self, name: str) -> bool:
        """Releases a held mass delete of ``RULE`` or ``PEER/RULE``, or its replica that was turned back; False if
        nothing of that rule is held here.

        Raises:
            UsageError: no such rule is received here; or several peers have one and `name` has no peer; or its replica
                is being turned back.
        """
        peer, rule = peer_and_rule(name)
        received = self.backup.statuses() if self.backup is not None else []
        if self.backup is None or all(each.name != rule or peer not in (None, each.peer) for each in received):
            if name in self.runners:
                node = self._backup_of(name)
                raise UsageError(
                    bilingual("its deletes are held on the node of its replica", "删除暂停在其灾备机"),
                    obj=name,
                    next_step=bilingual(
                        f"run i2 rule release {name} on {node}", f"请在 {node} 上执行 i2 rule release {name}"
                    ),
                )
            raise unknown_rule(name)
        return await self.backup.release(rule, peer)

    def forget(self, name: str) -> bool:
        """Frees the targets of a received ``RULE`` or ``PEER/RULE`` for others; False if it was never received.

        Raises:
            UsageError: it is being received; or several peers have one of that name and `name` has no peer.
        """
        if self.backup is None:
            raise unknown_rule(name)
        peer, rule = peer_and_rule(name)
        return self.backup.forget(rule, peer)

    async def hand_over(self, name: str, to: str) -> bool:
        """Allows another rule, ``PEER/RULE``, to take the targets of a received ``RULE`` or ``PEER/RULE``; False if
        that was never received.

        Raises:
            UsageError: this node receives nothing, or does not trust the new owner; or several peers have a rule of
            that
                name and `name` has no peer.
        """
        if self.backup is None or self.config.backup is None:
            raise unknown_rule(name)
        heir, heir_rule = peer_and_rule(to)
        known = heir is not None and self.trust.named(PeerRole.WORK, heir) is not None
        if heir is None or not (known or self.config.backup.plaintext):
            raise UsageError(
                bilingual("no work node of this name is trusted here", "此处没有该名称的受信任工作机"),
                obj=heir or to,
                next_step=bilingual("see i2 node peers", "参见 i2 node peers"),
            )
        peer, rule = peer_and_rule(name)
        return await self.backup.hand_over(rule, peer, heir, heir_rule)

    @asynccontextmanager
    async def past(self, name: str) -> AsyncIterator[ReceivedPast]:
        """The history of a received ``RULE`` or ``PEER/RULE``, open for as long as the block runs.

        Raises:
            UsageError: no such rule is received here, or it has no history; or several peers have one of that name and
                `name` has no peer.
            StopRule: it cannot be opened.
        """
        backup, received = self._received(name)
        async with backup.history(received.rule, received.peer) as history:
            yield ReceivedPast(history=history, **attrs.asdict(received, recurse=False))

    @asynccontextmanager
    async def snapshots(self, name: str) -> AsyncIterator[tuple[ReceivedRule, RuleSnapshots]]:
        """The snapshots of a received ``RULE`` or ``PEER/RULE``, to be used in the block.

        Raises:
            UsageError: no such rule is received here; or several peers have one of that name and `name` has no peer.
        """
        backup, received = self._received(name)
        with backup.snapshots.of((received.peer, received.rule)) as snapshots:
            yield received, snapshots

    def received(self, name: str) -> ReceivedRule:
        """A received ``RULE`` or ``PEER/RULE``.

        Raises:
            UsageError: as `snapshots`.
        """
        return self._received(name)[1]

    def _received(self, name: str) -> tuple[BackupService, ReceivedRule]:
        peer, rule = peer_and_rule(name)
        position = None if self.backup is None else self.backup.position(rule, peer)
        if self.backup is None or position is None:
            raise unknown_rule(name)
        return self.backup, ReceivedRule(
            peer=position.peer,
            rule=rule,
            targets=tuple(as_path(target) for target in position.targets),
            sources=tuple(as_path(source) for source in position.sources),
            zone=zone_or_local(position.zone),
        )

    def history_figures(self, past: ReceivedPast) -> HistoryFigures | None:
        """What an open history keeps, against what was promised."""
        assert self.backup is not None
        return self.backup.history_figures(past.rule, past.peer)

    def _backup_of(self, name: str) -> str:
        return next((rule.backup for rule in self.config.rules if rule.name == name), "the backup node")

    def sent_rule(self, name: str) -> str:
        """The name, if it is that of a rule that this node sends.

        Raises:
            UsageError: it is none.
        """
        self._runner(name)
        return name

    def _runner(self, name: str) -> RuleRunner:
        if name in self.runners:
            return self.runners[name]
        for status in self.backup.statuses() if self.backup else []:
            if status.name == name:
                raise UsageError(
                    bilingual("this node only receives it, and does not run it", "本节点只接收该规则，不运行它"),
                    obj=name,
                    next_step=bilingual(f"run the command on {status.peer}", f"请在 {status.peer} 上执行该命令"),
                )
        raise unknown_rule(name)


def peer_and_rule(name: str) -> tuple[str | None, str]:
    """``PEER/RULE``, or a rule alone: neither name contains a slash."""
    peer, slash, rule = name.partition("/")
    return (peer, rule) if slash else (None, name)


def _received_json(status: BackupRuleStatus) -> dict[str, Any]:
    """A rule that this node receives, with the keys of `RuleStatus.as_json`; None if only the work node has the
    value."""
    return {
        "name": status.name,
        "role": "backup",
        "peer": status.peer,
        "state": status.state.value,
        "percent": None,
        **_what_is_wrong(status),
        "seq": status.applied_seq,
        "durable_seq": status.durable_seq,
        "lag_seconds": None,
        "lag_bytes": None,
        "spool_bytes": None,
        "bandwidth_bps": None,
        "reason": "held" if status.held else "fault" if status.state is Received.STOPPED else "none",
        "capture": None,
        "rpo_seconds": None,
        "rpo_actual_seconds": None,
        "rpo_broken": None,
        "held": status.held,
        "skipped": None,
        "doubtful": None,
        "applied_records": status.applied_records,
        "applied_bytes": status.applied_bytes,
        "orphans": status.orphans,
        "history": None if status.history is None else status.history.as_json(),
        **NOT_SCRUBBED,
    }


def _what_is_wrong(status: BackupRuleStatus) -> dict[str, Any]:
    """What is held, or the fault of a received rule, by `report_fields`."""
    if status.turned_back:
        return report_fields(
            Code.TURNED_BACK,
            obj=status.name,
            cause=bilingual(
                f"the replica was turned back to {status.turned_back}; its work node is refused",
                f"灾备数据已回退到 {status.turned_back}；其工作机被拒绝",
            ),
            next_step=bilingual(
                f"if the source is to be mirrored over it: i2 rule release {status.peer}/{status.name}, and on the "
                f"work node i2 rule start {status.name}",
                f"若确需用源端覆盖，请执行 i2 rule release {status.peer}/{status.name}，并在工作机上执行 "
                f"i2 rule start {status.name}",
            ),
        )
    if status.held:
        return report_fields(
            Code.MASS_DELETE_HELD,
            obj=status.name,
            cause=status.held_reason,
            next_step=bilingual(
                f"if it is intended: i2 rule release {status.peer}/{status.name}; if not: restore the files on the "
                f"work node, and there i2 rule start {status.name} --compare",
                f"若确属本意，请执行 i2 rule release {status.peer}/{status.name}；"
                f"若非本意，请在工作机上恢复文件，并执行 i2 rule start {status.name} --compare",
            ),
        )
    fault = status.fault
    if fault is None:
        return report_fields(None)
    return report_fields(fault.code, obj=fault.obj or status.name, cause=fault.cause, next_step=fault.next_step)
