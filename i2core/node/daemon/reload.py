"""Applies edits of the config file while the node runs: some keys change live, the others are reported.

An edit with mistakes changes nothing, and all of its mistakes are reported. The directory of the file is watched,
because editors and deployment tools replace a file rather than write into it. SIGHUP reloads the file at once, also if
it cannot be watched.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping
from typing import Any

import attrs
import trio
from watchfiles import awatch

from i2core.api import Code, I2Error
from i2core.config.load import load
from i2core.config.mistakes import ConfigErrors
from i2core.config.model import BackupRole, NodeConfig, Rule
from i2core.config.words import bilingual
from i2core.node.daemon.limits import set_limits
from i2core.node.daemon.notify import notify, reloading
from i2core.node.daemon.running import RunningNode
from i2core.rule.life.report import Line
from i2core.tasks import background

DEBOUNCE_MS, STEP_MS = 1000, 250
"""The file is read once it was unchanged for so long; interval at which the watch checks."""

LIVE_OF_RULE = frozenset({"autostart", "bandwidth", "compare", "rpo_s", "scrub"})
LIVE_OF_WORK = frozenset({"bandwidth", "memory_limit", "disk_limit"})
RESTARTS_RULES = frozenset({"cache_dir"})
"""Keys of ``[work]`` that a rule reads when it starts."""
_KEYS = {
    "pairs": "paths",
    "filters": "exclude, file_types, filters",
    "codecs": "compress, encrypt",
    "rescan_s": "rescan",
    "rpo_s": "rpo",
    "consoles": "console",
    "peers": "peer",
    "keys": "key",
}
"""Keys in the file of attributes that have other names in the model."""


@attrs.frozen(kw_only=True)
class Edit:
    """The effect of an edited file on a running node. Keys have their names in the file."""

    config: NodeConfig
    """The new config in force: the running one, with all keys that may change live."""
    live: tuple[str, ...]
    """Keys that apply at once: ``work.bandwidth``, ``data1: bandwidth``."""
    restart: Mapping[str, tuple[str, ...]]
    """By rule: keys that apply when that rule is restarted."""
    node: tuple[str, ...]
    """Keys that apply when the node is restarted."""


def judge(running: NodeConfig, file: NodeConfig) -> Edit:
    """Sorts the differences between the config in force and the current file."""
    live: list[str] = []
    node = [key for key in _differences(running, file) if key not in ("path", "work", "rules", "backup")]
    backup = _with_recover(running.backup, file.backup)
    live += ["backup.peer.recover"] if backup != running.backup else []
    node += ["backup"] if backup != file.backup else []
    restart: dict[str, list[str]] = {}
    work = running.work
    if running.work is None or file.work is None:
        node += ["work"] if running.work is not file.work else []
    else:
        changed = _differences(running.work, file.work)
        taken = {key: getattr(file.work, key) for key in changed if key in LIVE_OF_WORK | RESTARTS_RULES}
        work = attrs.evolve(running.work, **taken)
        live += [f"work.{_key(key)}" for key in changed if key in LIVE_OF_WORK]
        node += [f"work.{_key(key)}" for key in changed if key not in taken]
        for rule in running.rules:
            restart[rule.name] = [f"work.{key}" for key in changed if key in RESTARTS_RULES]
    fresh = {rule.name: rule for rule in file.rules}
    rules: list[Rule] = []
    for rule in running.rules:
        edited = fresh.pop(rule.name, None)
        if edited is None:
            node.append(f"rule {rule.name}")
        else:
            changed = _differences(rule, edited)
            live += [f"{rule.name}: {_key(key)}" for key in changed if key in LIVE_OF_RULE]
            restart.setdefault(rule.name, []).extend(_key(key) for key in changed if key not in LIVE_OF_RULE)
        rules.append(edited or rule)
    node += [f"rule {name}" for name in fresh]
    return Edit(
        config=attrs.evolve(running, backup=backup, work=work, rules=tuple(rules)),
        live=tuple(live),
        restart={name: tuple(keys) for name, keys in restart.items() if keys},
        node=tuple(node),
    )


def _with_recover(running: BackupRole | None, file: BackupRole | None) -> BackupRole | None:
    """The running role with the rules that each of its peers may recover by the file: in a disaster nobody wants to
    restart the backup node for that."""
    if running is None or file is None:
        return running
    allowed = {peer.name: peer.recover for peer in file.peers}
    peers = [attrs.evolve(peer, recover=allowed.get(peer.name, ())) for peer in running.peers]
    return attrs.evolve(running, peers=tuple(peers))


def _differences(before: Any, after: Any) -> list[str]:
    return [
        field.name for field in attrs.fields(type(before)) if getattr(before, field.name) != getattr(after, field.name)
    ]


def _key(name: str) -> str:
    return _KEYS.get(name, name)


async def follow_config(node: RunningNode, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """Applies every edit of the node's config file until cancelled. Once started, SIGHUP reloads and no longer ends the
    process."""
    reader = _Reader(node)
    async with background() as nursery:
        await nursery.start(reader.on_signal)
        task_status.started()
        await reader.on_change()
        await trio.sleep_forever()


async def _set_at_end(stop: trio.Event) -> None:
    # A cancellation does not interrupt the watching thread: the thread polls this event.
    try:
        await trio.sleep_forever()
    finally:
        stop.set()


class _Reader:
    """Reads the file after a change, and logs the result once."""

    def __init__(self, node: RunningNode) -> None:
        self._node = node
        self._path = node.config.path.absolute()
        self._seen: NodeConfig | str = node.config
        self._reading = trio.Lock()

    async def on_change(self) -> None:
        """Reads the file at each change in its directory; returns if that cannot be watched."""
        stop = trio.Event()
        try:
            async with background() as nursery:
                nursery.start_soon(_set_at_end, stop)
                async for _ in awatch(
                    self._path.parent,
                    watch_filter=None,
                    debounce=DEBOUNCE_MS,
                    step=STEP_MS,
                    recursive=False,
                    stop_event=stop,
                ):
                    await self.read()
        except (OSError, RuntimeError) as error:
            # watchfiles raises either for a refusal by the kernel (the limit of watches, a removed directory).
            cause = str(error)
            text = bilingual(
                f"edits of {self._path} are not noticed automatically: {cause}",
                f"无法自动发现 {self._path} 的修改：{cause}",
            )
            step = bilingual("send SIGHUP after an edit", "修改后请发送 SIGHUP")
            line = Line(f"{text}; {step}", obj=str(self._path), cause=cause, next_step=step)
            self._node.logbook.say("", Code.USAGE, line)

    async def on_signal(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Reads the file at each SIGHUP."""
        with trio.open_signal_receiver(signal.SIGHUP) as signals:
            task_status.started()
            async for _ in signals:
                reloading()
                await self.read()
                notify("READY=1")

    async def read(self) -> None:
        """Reads the file, and applies it if it changed."""
        async with self._reading:
            try:
                file = await trio.to_thread.run_sync(load, self._path, self._node.registry)
            except I2Error as error:
                self._refuse(error)
                return
            if file == self._seen:
                return
            if isinstance(self._seen, str):
                text = bilingual("has no mistakes any more", "不再有错误")
                self._node.logbook.say("", None, Line(f"{self._path} {text}", obj=str(self._path)))
            self._seen = file
            self._take(judge(self._node.config, file))

    def _refuse(self, error: I2Error) -> None:
        if str(error) == self._seen:
            return
        self._seen = str(error)
        mistakes = error.mistakes if isinstance(error, ConfigErrors) else ()
        cause = "; ".join(map(str, mistakes)) or error.cause
        text = bilingual("the edited config was not applied, nothing changed", "修改后的配置未被采用，一切保持不变")
        gone = not self._path.exists()
        step = bilingual("put the file back", "请恢复该文件") if gone else bilingual("correct the file", "请更正该文件")
        line = Line(f"{text}: {cause}", obj=str(self._path), cause=cause, next_step=step)
        self._node.logbook.say("", Code.CONFIG_GONE if gone else Code.USAGE, line)

    def _take(self, edit: Edit) -> None:
        node, path = self._node, str(self._path)
        node.config = edit.config
        if edit.config.work is not None:
            node.budget.limit(memory=edit.config.work.memory_limit, disk=edit.config.work.disk_limit)
        set_limits(node)
        if edit.live:
            keys = ", ".join(edit.live)
            node.logbook.say(
                "", None, Line(bilingual(f"applied from {path}: {keys}", f"已采用 {path} 中的：{keys}"), obj=path)
            )
        for name, changed in edit.restart.items():
            keys = ", ".join(changed)
            cause = bilingual(f"changed in the config: {keys}", f"配置已修改：{keys}")
            step = bilingual(
                f"restart the rule: i2 rule stop {name}, i2 rule start {name}",
                f"请重启规则：i2 rule stop {name}，i2 rule start {name}",
            )
            node.logbook.say(name, None, Line(f"{cause}; {step}", obj=path, cause=cause, next_step=step))
        if edit.node:
            keys = ", ".join(edit.node)
            cause = bilingual(f"changed in the config: {keys}", f"配置已修改：{keys}")
            step = bilingual("restart the node", "请重启节点")
            node.logbook.say("", None, Line(f"{cause}; {step}", obj=path, cause=cause, next_step=step))
