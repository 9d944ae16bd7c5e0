"""The daemon of a node: one process that serves its backup role, runs its rules, and answers on its control socket."""

from __future__ import annotations

import signal
from contextlib import AsyncExitStack
from functools import partial

import trio

from i2core.api import Channel, ClientTransport, DriverKind, ServerTransport, TransportContext
from i2core.config.model import BackupRole, NodeConfig, Rule, WorkRole
from i2core.config.options import structure_options
from i2core.node.allocator import keep_freed_memory
from i2core.node.control import serve_control
from i2core.node.identity import Identity
from i2core.node.lock import locked
from i2core.node.logbook import Logbook
from i2core.node.peers import reach, trusted
from i2core.node.runner import RuleRunner
from i2core.node.running import RunningNode
from i2core.registry import Registry
from i2core.rule.backup import BackupService
from i2core.rule.life import Life
from i2core.rule.work import WorkRule, run_rule
from i2core.tasks import background

END_SIGNALS = (signal.SIGTERM, signal.SIGINT)


async def run_node(config: NodeConfig, registry: Registry) -> None:
    """Runs a node until SIGTERM or SIGINT.

    The roles come up in this order: replicas can be written, rules exist, the control socket answers, rules start.

    Raises:
        UsageError: another daemon uses the state directory, or a port is taken; no rule was started.
    """
    keep_freed_memory()
    with locked(config.state_dir):
        logbook = Logbook(config.state_dir / "log")
        try:
            await _run(config, registry, logbook)
        finally:
            logbook.close()


async def _run(config: NodeConfig, registry: Registry, logbook: Logbook) -> None:
    identity = Identity.load_or_create(config.state_dir, config.name)
    for problem in registry.problems:
        logbook.say("", None, str(problem))
    async with AsyncExitStack() as drivers, background() as nursery:
        with trio.open_signal_receiver(*END_SIGNALS) as signals:
            node = RunningNode(config, registry, logbook, identity, nursery)
            if config.backup is not None:
                await _serve_backup(node, config.backup, drivers)
            if config.work is not None:
                await _add_rules(node, config.work, drivers)
            await nursery.start(serve_control, node, config.state_dir)
            for rule in config.rules:
                if rule.autostart:
                    node.start(rule.name)
            logbook.say("", None, f"{config.name} is up: {_roles(node)}")
            async for number in signals:
                logbook.say("", None, f"ending on {signal.Signals(number).name}")
                break


async def _serve_backup(node: RunningNode, role: BackupRole, drivers: AsyncExitStack) -> None:
    spec = node.registry.driver(DriverKind.SERVER_TRANSPORT, role.transport)
    context = _transport_context(node, trusted(role.peers), plaintext=role.plaintext)
    server: ServerTransport = await drivers.enter_async_context(spec.open(structure_options(spec, {}), context))
    node.backup = BackupService(
        role,
        registry=node.registry,
        state_dir=node.config.state_dir,
        say=node.logbook.say,
        node=node.config.name,
    )
    ports = {Channel.MIRROR: role.mirror_port, Channel.REPLICATION: role.replication_port}
    node.ports = await node.nursery.start(server.serve, role.listen, ports, node.backup.handle)


async def _add_rules(node: RunningNode, role: WorkRole, drivers: AsyncExitStack) -> None:
    spec = node.registry.driver(DriverKind.CLIENT_TRANSPORT, role.transport)
    context = _transport_context(node, trusted(role.peers), plaintext=role.plaintext)
    transport: ClientTransport = await drivers.enter_async_context(spec.open(structure_options(spec, {}), context))
    for rule in node.config.rules:
        node.runners[rule.name] = RuleRunner(rule.name, partial(_run_rule, node, rule, transport), node.logbook.say)


async def _run_rule(node: RunningNode, rule: Rule, transport: ClientTransport, life: Life) -> None:
    await run_rule(
        WorkRule(rule=rule, peer=reach(node.config, rule.backup), throttle=node.runners[rule.name].throttle),
        registry=node.registry,
        transport=transport,
        status=life.status,
        state_dir=node.config.state_dir / "rules",
        once=False,
        say=node.logbook.say,
        life=life,
    )


def _transport_context(node: RunningNode, peers: dict[str, str], *, plaintext: bool) -> TransportContext:
    return TransportContext(
        certificate=node.identity.certificate,
        key=node.identity.key,
        peers=peers,
        plaintext=plaintext,
        say=lambda line: node.logbook.say("", None, line),
    )


def _roles(node: RunningNode) -> str:
    roles = []
    if node.config.backup is not None:
        ports = ", ".join(f"{channel.value} {port}" for channel, port in node.ports.items())
        roles.append(f"backup role on {node.config.backup.listen} ({ports})")
    if node.config.work is not None:
        roles.append(f"work role with {len(node.runners)} rules")
    return "; ".join(roles)
