"""From a TOML file to a `NodeConfig`, or to all of its mistakes at once. docs/config.md is the reference of the keys.

Loading changes nothing: it reads the file, and checks on disk whether sources and key files exist.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from i2core.api import DriverKind
from i2core.config import choices, values
from i2core.config.checks import check_node, unique_names
from i2core.config.choices import Context, InstalledDrivers
from i2core.config.lines import Lines
from i2core.config.mistakes import ConfigErrors, Mistake
from i2core.config.model import (
    CDP_DIR,
    RECOVERY_PORT,
    BackupRole,
    DriverChoice,
    FlushWindow,
    NodeConfig,
    PeerEntry,
    WorkRole,
)
from i2core.config.options import structure_options
from i2core.config.places import beneath, check_target
from i2core.config.rules import read_brake, read_history_terms, read_rule, read_scrub, read_window
from i2core.config.table import Report, Table
from i2core.config.values import quoted
from i2core.config.words import Words, both

__all__ = ["ConfigErrors", "InstalledDrivers", "Mistake", "check_target", "load", "structure_options"]

DEFAULT_STATE_DIR = b"/var/lib/i2"
MEGABYTE = 1_000_000
LEAST_FLUSH_S = 0.01
_LOOPBACK = both("127.0.0.1, ::1, localhost")


def _plaintext_refused(address: str) -> Words:
    return Words(
        f"plaintext is refused on {quoted(address)}, which is not a loopback address",
        f"{quoted(address)} 不是本机回环地址，拒绝明文传输",
    )


def load(
    path: Path,
    registry: InstalledDrivers,
    *,
    look_at_disk: bool = True,
    look_further: Callable[[NodeConfig, Report], None] | None = None,
) -> NodeConfig:
    """The configuration in that file.

    `look_at_disk` False skips the checks that depend on the current state of this host (sources exist, key files are
    private). Commands that only need names use it, and work while a disk is missing. `look_further` reports further
    mistakes that matter to the command that runs the node.

    Raises:
        ConfigErrors: (a `UsageError`) the file cannot be read, is not TOML, or has mistakes; all of them are reported.
    """
    file = str(path)
    text = _text(path, file)
    try:
        data = tomllib.loads(text)
        lines = Lines(text)
    except ValueError as error:  # also for a number of thousands of digits, which does not raise TOMLDecodeError
        raise ConfigErrors([_syntax(file, text, str(error))]) from None
    except RecursionError:
        raise ConfigErrors([Mistake(file, 0, "", Words("is nested too deeply", "嵌套过深"))]) from None
    report = Report(file, lines)
    config = read_node(data, path, report, registry, look_at_disk=look_at_disk)
    if look_further is not None:
        look_further(config, report)
    if mistakes := report.mistakes():
        raise ConfigErrors(mistakes)
    return config


def _text(path: Path, file: str) -> str:
    try:
        raw = path.read_bytes()
    except OSError as error:
        why = error.strerror or str(error)
        raise ConfigErrors([Mistake(file, 0, "", Words(f"cannot be read: {why}", f"无法读取：{why}"))]) from None
    try:
        # Editors on Windows start a file with a byte order mark, which TOML does not allow.
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigErrors([Mistake(file, line, "", Words("is not UTF-8", "不是 UTF-8 编码"))]) from None


def _syntax(file: str, text: str, cause: str) -> Mistake:
    found = re.fullmatch(r"(.*) \(at (?:line ([0-9]+), column ([0-9]+)|end of document)\)", cause, re.DOTALL)
    what, line, column = found.groups() if found else (cause, None, None)
    if line is None:
        where = Words(", at the end of the file", "，位于文件末尾")
        return Mistake(
            file,
            text.rstrip("\n").count("\n") + 1,
            "",
            Words(f"TOML syntax: {what}{where.en}", f"TOML 语法：{what}{where.zh}"),
        )
    return Mistake(
        file, int(line), "", Words(f"TOML syntax: {what}, column {column}", f"TOML 语法：{what}，第 {column} 列")
    )


def read_node(
    data: Mapping[str, Any], path: Path, report: Report, registry: InstalledDrivers, *, look_at_disk: bool
) -> NodeConfig:
    """The configuration with its valid values; mistakes are in `report`."""
    context = Context(registry=registry, report=report, look_at_disk=look_at_disk)
    top = Table(data, (), report)
    node = top.table("node")
    state_dir = node.take("state_dir", values.directory_below_root, DEFAULT_STATE_DIR)
    backup = _backup(top.table("backup"), state_dir, context) if "backup" in top else None
    work = _work(top.table("work"), context) if "work" in top else None
    top.known |= {"backup", "work"}
    consoles = _peers(node, "[[node.console]]", lambda entry: _peer(entry, False), context, "console")
    placed = [read_rule(table, context) for table in top.tables("rule", "[[rule]]")]
    config = NodeConfig(
        path=path,
        name=node.need("name", values.name, ""),
        state_dir=_path(state_dir),
        backup=backup,
        work=work,
        rules=tuple(rule.rule for rule in placed),
        log_days=node.take("log_days", values.whole(1, 3650), 90),
        control_listen=node.take("control_listen", values.host, None),
        control_port=node.take("control_port", values.whole(0, 65535), None),
        consoles=consoles,
    )
    if backup is not None and config.control_port in _data_ports(backup):
        node.wrong(
            "control_port",
            Words(
                f"{config.control_port} is a data port already: they must differ",
                f"{config.control_port} 已是数据端口：必须不同",
            ),
        )
    if backup is None and work is None and not placed:
        top.wrong("", Words("a node needs [work], [backup] or both", "节点需要 [work]、[backup] 或两者"))
    check_node(config, placed, report, look_at_disk=look_at_disk)
    return config


def _data_ports(role: BackupRole) -> set[int]:
    """The ports other than the one for control that the config names."""
    return {role.mirror_port, role.replication_port, *([role.recovery_port] if role.recovery_port else [])}


def _path(path: bytes) -> Path:
    return Path(os.fsdecode(path))


def _backup(table: Table, state_dir: bytes, context: Context) -> BackupRole:
    plaintext = table.take("plaintext", values.flag, False)
    listen = table.take("listen", values.host, "0.0.0.0")  # noqa: S104 (peers are pinned)
    if plaintext and not values.is_loopback(listen):
        table.wrong("listen", _plaintext_refused(listen), _LOOPBACK)
    roots = [root for _, root in table.items("allow_roots", values.directory_below_root)]
    if not table.data.get("allow_roots"):
        table.wrong(
            "allow_roots",
            Words("is missing: a backup node needs a directory for replicas", "缺少：灾备机需要允许写入的目录"),
        )
    mirror_port, replication_port = _ports(table)
    recovery_port = table.take("recovery_port", values.whole(0, 65535), None)
    _recovery_port_apart(table, recovery_port, (mirror_port, replication_port))
    cdp_dir = table.take("cdp_dir", values.directory_below_root, state_dir + CDP_DIR)
    flush = table.table("flush")
    table.known.add("brake")
    peers = _peers(table, "[[backup.peer]]", lambda entry: _sender(entry, plaintext, roots), context)
    table.known.add("scrub")
    return BackupRole(
        listen=listen,
        allow_roots=tuple(roots),
        mirror_port=mirror_port,
        replication_port=replication_port,
        recovery_port=recovery_port,
        plaintext=plaintext,
        transport=choices.driver_name(table, "transport", DriverKind.SERVER_TRANSPORT, "tcp", context),
        sink=choices.driver(table, "sink", DriverKind.SINK, "fs", context),
        flush=FlushWindow(
            after_s=flush.take("after", values.duration(LEAST_FLUSH_S), 0.2),
            size=flush.take("bytes", values.size(MEGABYTE), 8 << 20),
        ),
        brake=read_brake(table.table("brake")) if "brake" in table else None,
        peers=peers,
        keys=_keys(table, context),
        cdp_dir=cdp_dir,
        cdp=read_history_terms(table.table("cdp")),
        snapshot=choices.snapshot_store(table.table("snapshot"), context),
        scrub=read_scrub(table.table("scrub")) if "scrub" in table else None,
    )


def _keys(table: Table, context: Context) -> dict[str, DriverChoice]:
    """By the rules that are encrypted with them."""
    entries = table.tables("key", "[[backup.key]]")
    names = [(entry.path, entry.need("rule", values.name, "")) for entry in entries]
    unique_names(names, Words("key for rule", "规则密钥"), context.report, "rule")
    return {
        name: choices.encryption(entry, context, besides=["rule"])
        for entry, (_, name) in zip(entries, names, strict=True)
    }


def _work(table: Table, context: Context) -> WorkRole:
    plaintext = table.take("plaintext", values.flag, False)
    cache_dir = table.take("cache_dir", values.directory_below_root, None)
    return WorkRole(
        memory_limit=table.take("memory_limit", values.size(MEGABYTE), 256 * MEGABYTE),
        disk_limit=table.take("disk_limit", values.size(MEGABYTE), 4096 * MEGABYTE),
        cache_dir=None if cache_dir is None else _path(cache_dir),
        plaintext=plaintext,
        transport=choices.driver_name(table, "transport", DriverKind.CLIENT_TRANSPORT, "tcp", context),
        peers=_peers(table, "[[work.peer]]", lambda entry: _reached(entry, plaintext), context),
        bandwidth=tuple(read_window(window) for window in table.tables("bandwidth", "[[work.bandwidth]]")),
    )


def _ports(table: Table) -> tuple[int, int]:
    mirror = table.take("mirror_port", values.port, 26832)
    replication = table.take("replication_port", values.port, 26833)
    if mirror == replication:
        key = "replication_port" if "replication_port" in table else "mirror_port"
        table.wrong(key, Words(f"both ports are {mirror}: they must differ", f"两个端口都是 {mirror}：必须不同"))
    return mirror, replication


def _recovery_port_apart(table: Table, port: int | None, others: tuple[int, int]) -> None:
    if port in others:
        message = Words(f"{port} is a data port already: they must differ", f"{port} 已是数据端口：必须不同")
        table.wrong("recovery_port", message)


def _peer(table: Table, unproved: bool) -> PeerEntry:
    """Name and fingerprint; `unproved`: the fingerprint may be left out."""
    read = table.take if unproved else table.need
    found = read("fingerprint", values.fingerprint, "")
    return PeerEntry(name=table.need("name", values.name, ""), fingerprint=found or None)


def _sender(table: Table, unproved: bool, roots: Sequence[bytes]) -> PeerEntry:
    """A peer that sends rules; `roots` are the directories in which any such peer may write."""
    own = table.items("allow_roots", values.directory_below_root)
    for place, root in own:
        if not any(beneath(root, above) for above in roots):
            message = Words(
                f"{quoted(root)} is outside allow_roots of [backup]",
                f"{quoted(root)} 不在 [backup] 的 allow_roots 之内",
            )
            table.report.add(place, message)
    recover = table.items("recover", values.received_rule)
    return attrs.evolve(
        _peer(table, unproved),
        allow_roots=tuple(root for _, root in own),
        recover=tuple(rule for _, rule in recover),
    )


def _reached(table: Table, plaintext: bool) -> PeerEntry:
    """A peer that this node connects to."""
    address = table.need("address", values.host, "")
    if plaintext and address and not values.is_loopback(address):
        table.wrong("address", _plaintext_refused(address), _LOOPBACK)
    mirror, replication = _ports(table)
    recovery_port = table.take("recovery_port", values.port, RECOVERY_PORT)
    _recovery_port_apart(table, recovery_port, (mirror, replication))
    into = table.items("recover_into", values.directory_below_root)
    # Without a fingerprint the peer is trusted once it is enrolled.
    return attrs.evolve(
        _peer(table, True),
        address=address,
        mirror_port=mirror,
        replication_port=replication,
        recovery_port=recovery_port,
        recover_into=tuple(directory for _, directory in into),
    )


def _peers(
    table: Table, example: str, read: Callable[[Table], PeerEntry], context: Context, key: str = "peer"
) -> tuple[PeerEntry, ...]:
    entries = table.tables(key, example)
    peers = [read(entry) for entry in entries]
    named = [(entry.path, peer.name) for entry, peer in zip(entries, peers, strict=True)]
    pinned = [(entry.path, peer.fingerprint or "") for entry, peer in zip(entries, peers, strict=True)]
    unique_names(named, Words("peer", "对端"), context.report)
    unique_names(pinned, Words("peer with fingerprint", "对端指纹"), context.report, "fingerprint")
    return tuple(peers)
