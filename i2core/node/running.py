"""A node while it runs: what its control API asks and tells it."""

from __future__ import annotations

import os
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs
import trio

from i2core import __version__
from i2core.api import Channel, Code, UsageError
from i2core.config.model import NodeConfig
from i2core.node.identity import Identity
from i2core.node.logbook import Logbook
from i2core.node.objectives import Objectives
from i2core.node.peer_book import PeerBook, PeerRole
from i2core.node.runner import RuleRunner
from i2core.node.speech import said
from i2core.node.trust import Trust
from i2core.pipeline.throttle import RateLimit
from i2core.registry import Registry
from i2core.rule.line import told
from i2core.rule.outgoing.spool import Quota

if TYPE_CHECKING:
    from i2core.rule.backup.service import BackupRuleStatus, BackupService


@attrs.define
class RunningNode:
    """A running node, as its control API sees it."""

    config: NodeConfig
    registry: Registry
    logbook: Logbook
    identity: Identity
    nursery: trio.Nursery
    runners: dict[str, RuleRunner] = attrs.field(factory=dict, init=False)
    memory: Quota = attrs.field(factory=lambda: Quota(0), init=False)
    """Of all rules together, as the config says: records that wait."""
    disk: Quota = attrs.field(factory=lambda: Quota(0), init=False)
    backup: BackupService | None = attrs.field(default=None, init=False)
    objectives: Objectives = attrs.field(factory=Objectives, init=False)
    limit: RateLimit = attrs.field(factory=RateLimit, init=False)
    """The bandwidth that all rules share."""
    ports: dict[Channel, int] = attrs.field(factory=dict, init=False)
    """Where this node listens."""
    peer_book: PeerBook = attrs.field(init=False)
    trust: Trust = attrs.field(init=False)
    _began_s: float = attrs.field(factory=time.monotonic, init=False)

    def __attrs_post_init__(self) -> None:
        self.peer_book = PeerBook(self.config.state_dir)
        self.trust = Trust(self.config, self.peer_book, partial(self.logbook.say, ""))

    def status(self) -> dict[str, Any]:
        """The node itself: who it is, how long it has run, what is wrong with its plugins."""
        return {
            "name": self.config.name,
            "version": __version__,
            "fingerprint": self.identity.fingerprint,
            "pid": os.getpid(),
            "uptime_seconds": round(time.monotonic() - self._began_s, 3),
            "config": str(self.config.path),
            "ports": {channel.value: port for channel, port in self.ports.items()},
            "plugin_problems": [str(problem) for problem in self.registry.problems],
        }

    def rules(self) -> list[dict[str, Any]]:
        """All rules: those this node sends, then those it receives."""
        sent = [
            runner.status.as_json() | self.objectives.figures(runner) | {"role": "work", "peer": self._backup_of(name)}
            for name, runner in self.runners.items()
        ]
        received = [_received_json(status) for status in self.backup.statuses()] if self.backup else []
        return sent + received

    def rules_of(self, peer: str) -> list[dict[str, Any]]:
        """The rules that are received from that work node."""
        statuses = self.backup.statuses() if self.backup else []
        return [_received_json(status) for status in statuses if status.peer == peer]

    async def reread_peers(self) -> dict[str, list[str]]:
        """Takes over what enrolment and revocation changed on disk: sessions of who is trusted no more end, rules that
        stopped because one side did not trust the other start. Gives the names that were gained and lost.

        Raises:
            UsageError: the file is damaged, or others may write it; nothing was changed.
        """
        change = await self.trust.refresh()
        for rule in self.config.rules:
            runner = self.runners.get(rule.name)
            waits = runner is not None and not runner.running and runner.status.code is Code.PEER_REFUSED
            # Also where nothing changed here: the backup node may have let this node in again.
            if runner is not None and waits and self.trust.named(PeerRole.BACKUP, rule.backup) is not None:
                runner.start(self.nursery)
        return {"gained": [name for _, name in change.gained], "lost": [name for _, name in change.lost]}

    async def start(self, name: str, *, compare: bool = False) -> bool:
        """Starts a rule; False when it runs already. With `compare` a run under way is ended first, what waits to be
        sent is dropped, and everything is compared with the replica."""
        runner = self._runner(name)
        if compare:
            await runner.stop()
        return runner.start(self.nursery, compare=compare)

    async def stop(self, name: str) -> bool:
        """Stops a rule and waits for its end; False when it did not run."""
        return await self._runner(name).stop()

    def release(self, name: str) -> bool:
        """Lets a held mass delete go on; False when nothing of that rule is held here."""
        if self.backup is None or all(status.name != name for status in self.backup.statuses()):
            if name in self.runners:
                node = self._backup_of(name)
                raise UsageError(
                    said("its deletes are held where its replica is", "删除暂停在其灾备端"),
                    obj=name,
                    next_step=said(
                        f"run i2 rule release {name} on {node}", f"请在 {node} 上执行 i2 rule release {name}"
                    ),
                )
            raise unknown_rule(name)
        return self.backup.release(name)

    def forget(self, name: str) -> bool:
        """Leaves the targets of a received rule to others; False when it was never received.

        Raises:
            UsageError: it is being received.
        """
        if self.backup is None:
            raise unknown_rule(name)
        return self.backup.forget(name)

    def _backup_of(self, name: str) -> str:
        return next((rule.backup for rule in self.config.rules if rule.name == name), "the backup node")

    def _runner(self, name: str) -> RuleRunner:
        if name in self.runners:
            return self.runners[name]
        for status in self.backup.statuses() if self.backup else []:
            if status.name == name:
                raise UsageError(
                    said("this node receives it, and does not run it", "本节点只接收该规则，不运行它"),
                    obj=name,
                    next_step=said(f"run the command on {status.peer}", f"请在 {status.peer} 上执行该命令"),
                )
        raise unknown_rule(name)


def unknown_rule(name: str) -> UsageError:
    """For a name that no rule here has."""
    return UsageError(
        said("no rule of this name here", "此处没有该名称的规则"),
        code=Code.RULE_UNKNOWN,
        obj=name,
        next_step=said("see i2 rule list", "参见 i2 rule list"),
    )


def _received_json(status: BackupRuleStatus) -> dict[str, Any]:
    """A rule that this node receives, in the keys of `RuleStatus.as_json`; None where only the work node knows."""
    return {
        "name": status.name,
        "role": "backup",
        "peer": status.peer,
        "state": "held" if status.held else "receiving",
        "percent": None,
        **told(
            Code.MASS_DELETE_HELD if status.held else None,
            obj=status.name if status.held else "",
            cause=status.held_reason if status.held else "",
            next_step=said(
                f"if it is meant: i2 rule release {status.name}; if not: put the files back on the work node, and "
                f"there i2 rule start {status.name} --compare",
                f"若确属本意，请执行 i2 rule release {status.name}；若非本意，请在工作机上恢复文件，并执行 "
                f"i2 rule start {status.name} --compare",
            )
            if status.held
            else "",
        ),
        "seq": status.applied_seq,
        "durable_seq": status.durable_seq,
        "lag_seconds": None,
        "lag_bytes": None,
        "spool_bytes": None,
        "bandwidth_bps": None,
        "reason": "held" if status.held else "none",
        "capture": None,
        "rpo_seconds": None,
        "rpo_actual_seconds": None,
        "rpo_broken": None,
        "held": status.held,
        "applied_records": status.applied_records,
        "applied_bytes": status.applied_bytes,
        "orphans": status.orphans,
    }
