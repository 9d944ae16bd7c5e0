"""Runs one rule in the foreground: opens its other end, draws its progress, ends it on Ctrl-C."""

from __future__ import annotations

import os
import signal
import tempfile
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import attrs
import trio

from i2core.api import ClientTransport, DriverKind, Peer, StreamHandler, TransportContext, UsageError
from i2core.cli.progress import Progress
from i2core.config.model import BackupRole, NodeConfig
from i2core.config.options import structure_options
from i2core.node.allocator import keep_freed_memory
from i2core.node.local import BackupProcess, backup_process
from i2core.node.lock import locked
from i2core.node.single import LOCAL, Single
from i2core.node.speech import said
from i2core.registry import Registry
from i2core.rule.backup.service import BackupService
from i2core.rule.line import Say
from i2core.rule.status import RuleStatus
from i2core.rule.work.runner import WorkRule, run_rule
from i2core.tasks import background

END_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@attrs.define
class Foreground:
    """One run of one rule. `config_file` is needed when the rule goes to another node, `state_dir` when it stays here
    and is live."""

    single: Single
    once: bool
    config_file: Path | None
    state_dir: Path
    status: RuleStatus = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.status = RuleStatus(name=self.single.rule.name)

    def run(self) -> bool:
        """Runs to the end; False when a signal came before the mirror was done.

        Raises:
            UsageError: nothing was touched.
            I2Error: the rule stopped.
        """
        keep_freed_memory()
        registry = Registry.load()
        _check_drivers(self.single, registry)
        if self.single.role is None:
            return self._to_node(registry)
        return self._to_directory(registry, self.single.role)

    def _to_directory(self, registry: Registry, role: BackupRole) -> bool:
        for root in role.allow_roots:
            # A daemon never makes these, for a disk that is not mounted must not go unnoticed; here the user named it.
            _make_directory(root)
        with ExitStack() as stack:
            if self.once:
                work, backup_dir = None, Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="i2-")))
            else:
                place = self.state_dir / "replicate" / self.single.rule.name
                stack.enter_context(locked(place))
                work, backup_dir = place / "work", place / "backup"

            def make_handler(say: Say) -> StreamHandler:
                return BackupService(role, registry=registry, state_dir=backup_dir, say=say, node=LOCAL).handle

            backup = stack.enter_context(backup_process(make_handler))
            peer = Peer(name=LOCAL, host=LOCAL, ports={}, fingerprint=None)
            return trio.run(partial(self._drive, registry, peer, work, backup.transport, backup))

    def _to_node(self, registry: Registry) -> bool:
        # Imported here: only this way needs configs and TLS, which take longer to import than a small mirror takes.
        from i2core.config.load import load
        from i2core.node.peers import reach

        if self.config_file is None:
            raise UsageError(
                said(
                    "the identity and the peers of this node are needed to reach another one",
                    "连接其他节点需要本节点的身份和对端信息",
                ),
                obj=self.single.rule.backup,
                next_step=said(
                    "give them with --config FILE, or name a directory on this host",
                    "请用 --config 文件 指定，或使用本机目录",
                ),
            )
        config = load(self.config_file, registry)
        peer = reach(config, self.single.rule.backup)
        with ExitStack() as stack:
            work = None
            if not self.once:
                work = config.state_dir / "replicate" / self.single.rule.name
                stack.enter_context(locked(work))
            return trio.run(self._over_network, registry, config, peer, work)

    async def _over_network(self, registry: Registry, config: NodeConfig, peer: Peer, work: Path | None) -> bool:
        from i2core.node.identity import Identity
        from i2core.node.peer_book import PeerBook
        from i2core.node.trust import Trust, TrustedTransport

        assert config.work is not None  # `reach` found the peer in it
        identity = Identity.load_or_create(config.state_dir, config.name)
        spec = registry.driver(DriverKind.CLIENT_TRANSPORT, config.work.transport)
        context = TransportContext(
            certificate=identity.certificate,
            key=identity.key,
            peers={},
            plaintext=config.work.plaintext,
        )
        trust = Trust(config, PeerBook(config.state_dir), lambda code, line: None)
        async with spec.open(structure_options(spec, {}), context) as transport:
            return await self._drive(registry, peer, work, TrustedTransport(transport, trust), None)

    async def _drive(
        self,
        registry: Registry,
        peer: Peer,
        state_dir: Path | None,
        transport: ClientTransport,
        backup: BackupProcess | None,
    ) -> bool:
        progress = Progress(self.status, once=self.once)
        ended_by_signal = False
        async with background() as nursery:
            nursery.start_soon(progress.run)
            if backup is not None:
                nursery.start_soon(backup.relay, progress.say)
            with trio.CancelScope() as scope:
                await nursery.start(_cancel_on_signal, scope)
                await run_rule(
                    WorkRule(rule=self.single.rule, peer=peer, release_step=_release_here() if backup else ""),
                    registry=registry,
                    transport=transport,
                    status=self.status,
                    state_dir=state_dir,
                    once=self.once,
                    say=progress.say,
                )
            ended_by_signal = scope.cancelled_caught
        return not ended_by_signal or (self.status.mirrored and not self.once)


def _make_directory(root: bytes) -> None:
    """Makes it where it is missing.

    Raises:
        UsageError: it cannot be made.
    """
    try:
        os.makedirs(root, exist_ok=True)
    except OSError as error:
        raise UsageError(
            said(f"cannot be made: {error.strerror}", f"无法创建：{error.strerror}"),
            obj=os.fsdecode(root),
            next_step=said(
                "choose a directory that this user may write, or run as root",
                "请选择当前用户可写的目录，或以 root 运行",
            ),
        ) from error


def _release_here() -> str:
    """The replica is a directory here, and no daemon has it."""
    return said(
        "end this with Ctrl-C; the same command, once the source is there, compares anew",
        "请用 Ctrl-C 结束；待源恢复后再次执行同一命令，将重新比较",
    )


async def _cancel_on_signal(
    scope: trio.CancelScope, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Cancels at the first signal. A second one finds the default handlers again: the way out of a hang."""
    with trio.open_signal_receiver(*END_SIGNALS) as signals:
        task_status.started()
        async for _ in signals:
            scope.cancel()
            return


def _check_drivers(single: Single, registry: Registry) -> None:
    """Finds every driver and its options' mistakes before anything is touched."""
    rule = single.rule
    choices = [(DriverKind.FILTER, choice) for choice in rule.filters]
    choices += [(DriverKind.CODEC, choice) for choice in rule.codecs]
    if rule.capture.name != "auto":
        choices.append((DriverKind.CAPTURE, rule.capture))
    if single.role is not None:
        choices.append((DriverKind.SINK, single.role.sink))
    for kind, choice in choices:
        spec = registry.driver(kind, choice.name)
        structure_options(spec, choice.options)
