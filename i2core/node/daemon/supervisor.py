"""The daemon of a node: one process that serves its backup role, runs its rules, and answers on its control socket."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from contextlib import AsyncExitStack
from functools import partial

import attrs
import trio

from i2core.api import (
    Channel,
    ClientTransport,
    Code,
    DriverKind,
    ServerTransport,
    StreamHandler,
    TransportContext,
    UsageError,
)
from i2core.config.model import RECOVERY_PORT, BackupRole, NodeConfig, WorkRole
from i2core.config.notices import notices
from i2core.config.options import structure_options
from i2core.limits.throttle import Throttle
from i2core.node.daemon.compare_schedule import keep_comparing
from i2core.node.daemon.control_api import serve_control
from i2core.node.daemon.control_port import ControlPort, control_place
from i2core.node.daemon.limits import keep_limits, set_limits
from i2core.node.daemon.lock import locked
from i2core.node.daemon.memory import frozen_startup, keep_freed_memory
from i2core.node.daemon.notify import notify
from i2core.node.daemon.plaintext import plaintext_risks
from i2core.node.daemon.recovery_link import RecoveryLink
from i2core.node.daemon.reload import follow_config
from i2core.node.daemon.rewind_api import resume_rewinds
from i2core.node.daemon.rule_runner import RuleRunner
from i2core.node.daemon.running import RunningNode
from i2core.node.daemon.work_rules import Reach, work_rule
from i2core.node.logs.logbook import Logbook
from i2core.node.pairing.enrolment import Enrolment
from i2core.node.pairing.identity import Identity
from i2core.node.pairing.token import TokenShelf
from i2core.node.pairing.trust import TrustedTransport
from i2core.registry import Registry
from i2core.rule.backup.service import BackupService
from i2core.rule.life.life import Life
from i2core.rule.life.report import Line, code_in
from i2core.rule.work.runner import run_rule
from i2core.tasks import background

END_SIGNALS = (signal.SIGTERM, signal.SIGINT)


async def run_node(config: NodeConfig, registry: Registry) -> None:
    """Runs a node until SIGTERM or SIGINT.

    Start order: the backup role, the rules, the control socket; then the rules start to run.

    Raises:
        UsageError: another daemon uses the state directory, or a port is taken; no rule was started.
    """
    keep_freed_memory()
    with frozen_startup(), locked(config.state_dir):
        logbook = Logbook(config.state_dir / "log", keep_days=config.log_days)
        try:
            await _run(config, registry, logbook)
        finally:
            logbook.close()


async def _run(config: NodeConfig, registry: Registry, logbook: Logbook) -> None:
    identity = Identity.load_or_create(config.state_dir, config.name)
    for problem in registry.problems:
        logbook.say("", Code.PLUGIN_BROKEN, str(problem))
    for notice in notices(config):
        text = f"{notice.key}: {notice.cause}"
        line = Line(text, code=Code.NO_EFFECT, obj=notice.key, cause=notice.cause, next_step=notice.next_step)
        logbook.say(notice.rule, Code.NO_EFFECT, line)
    for key, risk in plaintext_risks(config):
        logbook.say("", None, Line(f"{key}: {risk}", obj=key, cause=risk))
    async with AsyncExitStack() as drivers, background() as nursery:
        with trio.open_signal_receiver(*END_SIGNALS) as signals:
            node = RunningNode(config, registry, logbook, identity, nursery)
            if config.backup is not None:
                await _serve_backup(node, config.backup, drivers)
            if config.work is not None:
                await _add_rules(node, config.work, drivers)
            await nursery.start(serve_control, node, config.state_dir)
            await resume_rewinds(node)
            await _open_control_port(node, drivers)
            set_limits(node)
            nursery.start_soon(keep_limits, node)
            await nursery.start(follow_config, node)
            nursery.start_soon(node.objectives.watch, lambda: node.config.rules, node.runners, logbook.say)
            nursery.start_soon(logbook.keep_tidy)
            node.recoveries.take_up()
            for rule in config.rules:
                if rule.autostart and not node.recoveries.holds(rule.name):
                    await node.start(rule.name)
            if node.recoveries.link is not None:
                nursery.start_soon(node.recoveries.link.wait_for_orders)
            logbook.say("", None, f"{config.name} is up: {_roles(node)}")
            notify("READY=1", f"STATUS={_roles(node)}")
            async for number in signals:
                notify("STOPPING=1")
                logbook.say("", None, f"ending on {signal.Signals(number).name}")
                break


async def _serve_backup(node: RunningNode, role: BackupRole, drivers: AsyncExitStack) -> None:
    context = _transport_context(node, node.trust.callers, plaintext=role.plaintext)
    server = await _open_server(node, role.transport, context, drivers)
    node.backup = BackupService(
        role,
        registry=node.registry,
        state_dir=node.config.state_dir,
        say=node.logbook.say,
        node=node.config.name,
    )
    node.nursery.start_soon(node.backup.passes.run)
    if role.scrub is not None:
        node.nursery.start_soon(node.journal_scrub.run, node, role.scrub)
    node.nursery.start_soon(node.backup.snapshots.run)
    ports = {Channel.MIRROR: role.mirror_port, Channel.REPLICATION: role.replication_port}
    handler: StreamHandler = node.trust.guarded(node.backup.handle)
    node.ports |= await node.nursery.start(server.serve, role.listen, ports, handler)
    await _open_recovery_port(node, role, drivers)


async def _open_recovery_port(node: RunningNode, role: BackupRole, drivers: AsyncExitStack) -> None:
    """Opens the recovery port, unless the config turns it off. In plaintext there is none: it gives data away.

    Raises:
        UsageError: the config asks for a port that cannot be bound.
    """
    if role.recovery_port == 0 or role.plaintext:
        return
    context = _transport_context(node, node.trust.callers, plaintext=False)
    handler: StreamHandler = node.trust.guarded(node.recoveries.port.handle)
    ports = {Channel.RECOVERY: role.recovery_port or RECOVERY_PORT}
    try:
        server = await _open_server(node, role.transport, context, drivers)
        node.ports |= await node.nursery.start(server.serve, role.listen, ports, handler)
    except UsageError as error:
        if role.recovery_port is not None:
            raise
        # Replication does not need it: a default port that cannot be bound must not stop replication.
        node.logbook.say("", Code.USAGE, f"no recoveries by work nodes: {error}")


async def _add_rules(node: RunningNode, role: WorkRole, drivers: AsyncExitStack) -> None:
    spec = node.registry.driver(DriverKind.CLIENT_TRANSPORT, role.transport)
    context = _transport_context(node, {}, plaintext=role.plaintext)
    opened: ClientTransport = await drivers.enter_async_context(spec.open(structure_options(spec, {}), context))
    transport = TrustedTransport(opened, node.trust)
    node.compares.ends = Reach(node, transport).ends
    for rule in node.config.rules:
        node.scrubs.open(rule.name)
    node.nursery.start_soon(keep_comparing, node)
    node.nursery.start_soon(node.scrubs.run, lambda: node.config.rules)
    node.recoveries.link = RecoveryLink(node, transport)
    for rule in node.config.rules:
        run = partial(_run_rule, node, rule.name, transport)
        node.runners[rule.name] = RuleRunner(rule.name, run, node.logbook.say, Throttle([node.limit]))


async def _run_rule(node: RunningNode, name: str, transport: ClientTransport, life: Life) -> None:
    role = node.config.work
    assert role is not None
    node.budget.limit(memory=role.memory_limit, disk=role.disk_limit)
    await run_rule(
        attrs.evolve(work_rule(node, name), compare=node.runners[name].take_compare()),
        registry=node.registry,
        transport=transport,
        status=life.status,
        state_dir=node.config.state_dir / "rules",
        once=False,
        say=node.logbook.say,
        life=life,
    )


async def _open_control_port(node: RunningNode, drivers: AsyncExitStack) -> None:
    """Opens the control port, if the config has one.

    Raises:
        UsageError: the config asks for an address that cannot be bound.
    """
    config = node.config
    place = control_place(config)
    if place is None:
        return
    enrolment = Enrolment(config.name, node.trust, node.peer_book, TokenShelf(config.state_dir))
    port = ControlPort(config.state_dir, node.trust, enrolment, node.rules_of)
    context = attrs.evolve(_transport_context(node, node.trust.controllers, plaintext=False), guest=port.guest)
    role = config.backup or config.work
    try:
        server = await _open_server(node, role.transport if role else "tcp", context, drivers)
        node.ports |= await node.nursery.start(server.serve, place.host, {Channel.CONTROL: place.port}, port.handle)
    except UsageError as error:
        if place.wanted:
            raise
        # Replication does not need it: a default port that cannot be bound must not stop replication.
        node.logbook.say("", Code.USAGE, f"no control over the network: {error}")
    else:
        node.logbook.say("", None, f"control on {place.host} port {node.ports[Channel.CONTROL]}")


async def _open_server(
    node: RunningNode, name: str, context: TransportContext, drivers: AsyncExitStack
) -> ServerTransport:
    spec = node.registry.driver(DriverKind.SERVER_TRANSPORT, name)
    server: ServerTransport = await drivers.enter_async_context(spec.open(structure_options(spec, {}), context))
    return server


def _transport_context(node: RunningNode, peers: Mapping[str, str], *, plaintext: bool) -> TransportContext:
    return TransportContext(
        certificate=node.identity.certificate,
        key=node.identity.key,
        peers=peers,
        revoked=node.trust.revoked,
        plaintext=plaintext,
        say=lambda line: node.logbook.say("", code_in(line), line),
    )


def _roles(node: RunningNode) -> str:
    roles = []
    if node.config.backup is not None:
        ports = ", ".join(f"{channel.value} {port}" for channel, port in node.ports.items())
        roles.append(f"backup role on {node.config.backup.listen} ({ports})")
    if node.config.work is not None:
        roles.append(f"work role with {len(node.runners)} rules")
    return "; ".join(roles)
