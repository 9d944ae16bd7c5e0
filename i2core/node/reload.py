"""Takes edits of the config file while the node runs: what can change live does so, what cannot is said.

An edit with mistakes changes nothing, and all of its mistakes are told. The directory of the file is watched, because
editors and deployment tools replace a file rather than write into it. SIGHUP asks for the same at once, also where
nothing can be watched.
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
from i2core.config.model import NodeConfig, Rule
from i2core.node.limits import set_limits
from i2core.node.running import RunningNode
from i2core.node.speech import said
from i2core.rule.line import Line
from i2core.tasks import background

DEBOUNCE_MS, STEP_MS = 1000, 250
"""A file that is being written settles for so long before it is read; how often the watch looks up meanwhile."""

LIVE_OF_RULE = frozenset({"bandwidth", "rpo_s", "autostart"})
LIVE_OF_WORK = frozenset({"bandwidth", "memory_limit", "disk_limit"})
RESTARTS_RULES = frozenset({"cache_dir"})
"""Keys of ``[work]`` that each rule takes when it starts."""
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
"""Attributes of the model whose keys in the file have other names."""


@attrs.frozen(kw_only=True)
class Edit:
    """What an edited file means for a node that runs. Keys are named as in the file."""

    config: NodeConfig
    """In force from now on: the running one, with all that may change under it."""
    live: tuple[str, ...]
    """What counts at once: ``work.bandwidth``, ``data1: bandwidth``."""
    restart: Mapping[str, tuple[str, ...]]
    """By rule: what counts when that rule is started again."""
    node: tuple[str, ...]
    """What counts when the node is started again."""


def judge(running: NodeConfig, file: NodeConfig) -> Edit:
    """Sorts the differences between the config that is in force and the file as it is now."""
    live: list[str] = []
    node = [key for key in _differences(running, file) if key not in ("path", "work", "rules")]
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
        config=attrs.evolve(running, work=work, rules=tuple(rules)),
        live=tuple(live),
        restart={name: tuple(keys) for name, keys in restart.items() if keys},
        node=tuple(node),
    )


def _differences(before: Any, after: Any) -> list[str]:
    return [
        field.name for field in attrs.fields(type(before)) if getattr(before, field.name) != getattr(after, field.name)
    ]


def _key(name: str) -> str:
    return _KEYS.get(name, name)


async def follow_config(node: RunningNode) -> None:
    """Takes every edit of the node's config file until cancelled."""
    reader = _Reader(node)
    async with background() as nursery:
        nursery.start_soon(reader.on_signal)
        await reader.on_change()
        await trio.sleep_forever()


async def _set_at_end(stop: trio.Event) -> None:
    # The watching thread is not interrupted by a cancellation: it looks at this event now and then.
    try:
        await trio.sleep_forever()
    finally:
        stop.set()


class _Reader:
    """Reads the file when something says that it changed, and tells once what came of it."""

    def __init__(self, node: RunningNode) -> None:
        self._node = node
        self._path = node.config.path.absolute()
        self._seen: NodeConfig | str = node.config
        self._reading = trio.Lock()

    async def on_change(self) -> None:
        """Reads at each change in the file's directory; returns when that cannot be watched."""
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
            # watchfiles tells the kernel's refusals (a limit of watches, a directory that went) as either.
            cause = str(error)
            text = said(
                f"edits of {self._path} are not noticed by themselves: {cause}",
                f"无法自动发现 {self._path} 的修改：{cause}",
            )
            step = said("send SIGHUP after an edit", "修改后请发送 SIGHUP")
            line = Line(f"{text}; {step}", obj=str(self._path), cause=cause, next_step=step)
            self._node.logbook.say("", Code.USAGE, line)

    async def on_signal(self) -> None:
        """Reads at each SIGHUP."""
        with trio.open_signal_receiver(signal.SIGHUP) as signals:
            async for _ in signals:
                await self.read()

    async def read(self) -> None:
        """Reads the file, and carries out what it says if that is new."""
        async with self._reading:
            try:
                file = await trio.to_thread.run_sync(load, self._path, self._node.registry)
            except I2Error as error:
                self._refuse(error)
                return
            if file == self._seen:
                return
            if isinstance(self._seen, str):
                text = said("has no mistakes any more", "不再有错误")
                self._node.logbook.say("", None, Line(f"{self._path} {text}", obj=str(self._path)))
            self._seen = file
            self._take(judge(self._node.config, file))

    def _refuse(self, error: I2Error) -> None:
        if str(error) == self._seen:
            return
        self._seen = str(error)
        mistakes = error.mistakes if isinstance(error, ConfigErrors) else ()
        cause = "; ".join(map(str, mistakes)) or error.cause
        text = said("the edited config was not taken, nothing changed", "修改后的配置未被采用，一切保持不变")
        gone = not self._path.exists()
        step = said("put the file back", "请恢复该文件") if gone else said("correct the file", "请更正该文件")
        line = Line(f"{text}: {cause}", obj=str(self._path), cause=cause, next_step=step)
        self._node.logbook.say("", Code.CONFIG_GONE if gone else Code.USAGE, line)

    def _take(self, edit: Edit) -> None:
        node, path = self._node, str(self._path)
        node.config = edit.config
        if edit.config.work is not None:
            node.memory.limit, node.disk.limit = edit.config.work.memory_limit, edit.config.work.disk_limit
        set_limits(node)
        if edit.live:
            keys = ", ".join(edit.live)
            node.logbook.say(
                "", None, Line(said(f"taken from {path}: {keys}", f"已采用 {path} 中的：{keys}"), obj=path)
            )
        for name, changed in edit.restart.items():
            keys = ", ".join(changed)
            cause = said(f"changed in the config: {keys}", f"配置已修改：{keys}")
            step = said(
                f"restart the rule: i2 rule stop {name}, i2 rule start {name}",
                f"请重启规则：i2 rule stop {name}，i2 rule start {name}",
            )
            node.logbook.say(name, None, Line(f"{cause}; {step}", obj=path, cause=cause, next_step=step))
        if edit.node:
            keys = ", ".join(edit.node)
            cause = said(f"changed in the config: {keys}", f"配置已修改：{keys}")
            step = said("restart the node", "请重启节点")
            node.logbook.say("", None, Line(f"{cause}; {step}", obj=path, cause=cause, next_step=step))
