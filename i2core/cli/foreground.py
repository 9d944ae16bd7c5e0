"""Runs one rule in the foreground: opens its other end, shows its progress, ends it on Ctrl-C."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import attrs
import trio

from i2core.api import ClientTransport, DriverKind, I2Error, Peer, StreamHandler, TransportContext, UsageError
from i2core.cli.progress import Progress
from i2core.config.model import BackupRole, NodeConfig
from i2core.config.options import structure_options
from i2core.config.places import beneath, real
from i2core.config.words import bilingual
from i2core.drivers.select import check_drivers
from i2core.node.daemon.lock import locked
from i2core.node.daemon.memory import frozen_startup, keep_freed_memory
from i2core.node.oneshot.local import BackupProcess, backup_process
from i2core.node.oneshot.single import LOCAL, Single
from i2core.posix.descriptors import raise_limit
from i2core.posix.target_locks import Taken, TargetLocks
from i2core.registry import Registry
from i2core.rule.backup.entry.secret import SECRET_BYTES, node_secret
from i2core.rule.backup.service import BackupService, forget_positions, has_positions
from i2core.rule.life.report import Say
from i2core.rule.life.status import RuleStatus, State
from i2core.rule.work.runner import run_rule
from i2core.rule.work.work_rule import WorkRule
from i2core.tasks import background

END_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
LAST_S = 1.0
"""How long the last changes may take to become durable when a live run ends."""


@attrs.define
class Foreground:
    """One run of one rule. `config_file` is needed when the rule goes to another node, `state_dir` when it stays here
    and is live."""

    single: Single
    once: bool
    config_file: Path | None
    state_dir: Path
    compare: bool = False
    """Ignore everything that an earlier run left, and accept source and target as they are."""
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
        check_drivers(self.single.rule, registry)
        if self.single.role is not None:
            registry.driver(DriverKind.SINK, self.single.role.sink.name)
        with frozen_startup():
            if self.single.role is None:
                return self._to_node(registry)
            return self._to_directory(registry, self.single.role)

    def _to_directory(self, registry: Registry, role: BackupRole) -> bool:
        _keep_apart(self.state_dir, role.allow_roots)
        place = self.state_dir / "replicate" / self.single.rule.name
        if self.once or self.compare or not has_positions(place / "backup"):
            # A daemon never creates these: it would fill the mount point of a disk that is not mounted. Here the user
            # named them. A target that was written before is created again by the sink alone, when no disk can be
            # missing.
            for root in role.allow_roots:
                _make_directory(root)
        secret = _secret(self.state_dir / "replicate")
        with ExitStack() as stack:
            if self.once:
                work, backup_dir = None, Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="i2-")))
            else:
                stack.enter_context(locked(place))
                work, backup_dir = place / "work", place / "backup"
                if self.compare:
                    forget_positions(backup_dir)

            def make_handler(say: Say) -> StreamHandler:
                return BackupService(
                    role, registry=registry, state_dir=backup_dir, say=say, node=LOCAL, secret=secret
                ).handle

            raise_limit()  # the backup role inherits it
            backup = stack.enter_context(backup_process(make_handler))
            peer = Peer(name=LOCAL, host=LOCAL, ports={}, fingerprint=None)
            return trio.run(partial(self._drive, registry, peer, work, backup.transport, backup))

    def _to_node(self, registry: Registry) -> bool:
        # Imported here: only this branch needs configs and TLS, whose import takes longer than a small mirror.
        from i2core.config.load import load
        from i2core.node.pairing.peers import reach

        if self.config_file is None:
            raise UsageError(
                bilingual(
                    "the identity and the peers of this node are needed to reach another one",
                    "连接其他节点需要本节点的身份和对端信息",
                ),
                obj=self.single.rule.backup,
                next_step=bilingual(
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
            raise_limit()
            return trio.run(self._over_network, registry, config, peer, work)

    async def _over_network(self, registry: Registry, config: NodeConfig, peer: Peer, work: Path | None) -> bool:
        from i2core.node.pairing.identity import Identity
        from i2core.node.pairing.peer_book import PeerBook
        from i2core.node.pairing.trust import Trust, TrustedTransport

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
                await nursery.start(self._cancel_on_signal, scope)
                await run_rule(
                    WorkRule(
                        rule=self.single.rule,
                        peer=peer,
                        compare=self.compare,
                        release_step=_release_here() if backup else "",
                    ),
                    registry=registry,
                    transport=transport,
                    status=self.status,
                    state_dir=state_dir,
                    once=self.once,
                    say=progress.say,
                )
            ended_by_signal = scope.cancelled_caught
        return not ended_by_signal or (self.status.mirrored and not self.once)

    async def _cancel_on_signal(
        self, scope: trio.CancelScope, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Cancels after the first signal, once the last changes are durable. A second signal meets the default handlers
        and kills the process, in case it hangs."""
        # ``nohup`` sets SIGHUP to ignored for a run that must outlive its terminal, so an ignored SIGHUP stays ignored.
        # An ignored SIGINT is handled all the same: a shell script sets it for every background job, without intent.
        outlives = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        handled = [number for number in END_SIGNALS if not (outlives and number == signal.SIGHUP)]
        with trio.open_signal_receiver(*handled) as signals:
            task_status.started()
            async for _ in signals:
                break
        with trio.move_on_after(LAST_S):
            while self._has_last_changes():  # noqa: ASYNC110 (a status has no event)
                await trio.sleep(LAST_S / 50)
        scope.cancel()

    def _has_last_changes(self) -> bool:
        """True while the last changes are still being sent or flushed, and are likely to be durable in a moment."""
        self.status.look()
        return self.status.state is State.REPLICATING and self.status.behind


def _secret(directory: Path) -> bytes:
    """The secret of this user. If none can be stored, one for this run alone, which cannot resume the staging files of
    an earlier run."""
    try:
        return node_secret(directory)
    except I2Error:
        return os.urandom(SECRET_BYTES)


def _keep_apart(state_dir: Path, roots: Iterable[bytes]) -> None:
    """The state directory must not lie in a target: the mirror would remove it there as an extra file.

    Raises:
        UsageError: it does.
    """
    own = real(os.fsencode(state_dir.absolute()))
    for root in roots:
        if beneath(own, real(root)):
            raise UsageError(
                bilingual(f"the state directory {state_dir} lies in it", f"状态目录 {state_dir} 位于其中"),
                obj=os.fsdecode(root),
                next_step=bilingual("name another one with --state-dir", "请用 --state-dir 指定其他目录"),
            )


def _make_directory(root: bytes) -> None:
    """Creates the directory if it is missing.

    Raises:
        UsageError: it cannot be made.
        StopRule: it would lie in a target that another process writes; nothing is made.
    """
    locks = TargetLocks()
    try:
        claim = locks.claim_way(root, lambda line: None)
        try:
            os.makedirs(root, exist_ok=True)
        finally:
            locks.release(claim)
    except Taken as taken:
        raise taken.refuses(os.fsdecode(root)) from taken
    except OSError as error:
        raise UsageError(
            bilingual(f"cannot be made: {error.strerror}", f"无法创建：{error.strerror}"),
            obj=os.fsdecode(root),
            next_step=bilingual(
                "choose a directory that this user may write, or run as root",
                "请选择当前用户可写的目录，或以 root 运行",
            ),
        ) from error


def _release_here() -> str:
    """The next step for a held delete, when the replica is a local directory and no daemon can release it."""
    return bilingual(
        "if it is intended: run the same command with --brake off; if not: restore the files, and run it again",
        "若确属本意，请加上 --brake off 再次执行同一命令；若非本意，请恢复文件后再次执行",
    )
