"""Checks the capabilities of this host: each finding has a result, a reason and a next step. Reads only."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import resource
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs

from i2core.api import CaptureContext, DriverKind
from i2core.config.model import NodeConfig
from i2core.config.notices import notices
from i2core.config.words import bilingual
from i2core.node.daemon.plaintext import plaintext_risks
from i2core.registry import Registry

_CAPABILITIES = {
    # linux/capability.h: bit, purpose
    "CAP_CHOWN": (0, "owners on a replica"),
    "CAP_DAC_READ_SEARCH": (2, "reading every source file; fanotify"),
    "CAP_FOWNER": (3, "modes and times of files of other owners"),
    "CAP_SYS_ADMIN": (21, "fanotify; trusted attributes"),
    "CAP_MKNOD": (27, "device files on a replica"),
}
_SYS_OPENAT2 = 437
_NOFILE_WANTED = 4096
_FREE_WANTED_BYTES = 1_000_000_000


@attrs.frozen(kw_only=True)
class Finding:
    """The result of one check."""

    what: str
    works: bool
    why: str
    next_step: str = ""
    needed: bool = False
    """True: no rule can run here without it."""

    def as_json(self) -> dict[str, Any]:
        """The finding as ``i2 node doctor --json`` gives it."""
        return {
            "what": self.what,
            "works": self.works,
            "why": self.why,
            "next": self.next_step,
            "needed": self.needed,
        }


def examine(registry: Registry, config: NodeConfig | None) -> list[Finding]:
    """Checks this host; with a config its sources and directories, else ``/``."""
    return [
        _system(),
        *_captures(registry, config),
        *_drivers(registry),
        *_privileges(),
        *_limits(),
        _openat2(),
        *_space(config),
        *_plaintext(config),
        *_notices(config),
        *_plugins(registry),
    ]


def _system() -> Finding:
    works = platform.system() == "Linux"
    return Finding(
        what="system",
        works=works,
        why=f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        next_step="" if works else "run it on Linux",
        needed=True,
    )


def _captures(registry: Registry, config: NodeConfig | None) -> Iterator[Finding]:
    sources = {rule.name: tuple(pair.source for pair in rule.pairs) for rule in config.rules} if config else {}
    if not sources:
        sources = {"": (b"/",)}
    for rule, roots in sources.items():
        missing = [root for root in roots if not os.path.exists(root)]
        for root in missing:
            yield Finding(
                what=f"source of {rule}",
                works=False,
                why=f"{os.fsdecode(root)} is missing",
                next_step="mount or create it",
                needed=True,
            )
        found = [] if missing else list(_probes(registry, rule, roots))
        yield from found
        if not missing and not any(finding.works for finding in found):
            yield Finding(
                what=f"capture for {rule or '/'}",
                works=False,
                why="no capture works here",
                next_step="install a capture plugin",
                needed=True,
            )


def _probes(registry: Registry, rule: str, roots: tuple[bytes, ...]) -> Iterator[Finding]:
    directories = tuple(root if os.path.isdir(root) else os.path.dirname(root) for root in roots)
    for spec in sorted(registry.drivers(DriverKind.CAPTURE).values(), key=lambda spec: -spec.rank):
        what = f"capture {spec.name} for {rule or '/'}"
        if spec.probe is None:
            yield Finding(what=what, works=True, why=spec.summary)
            continue
        try:
            probe = spec.probe(CaptureContext(roots=directories))
        except Exception as error:  # a failure of a plugin is a finding, and must not end the other checks
            yield Finding(what=what, works=False, why=f"its probe failed: {error!r}", next_step="report it")
        else:
            yield Finding(what=what, works=probe.works, why=probe.why)


def _drivers(registry: Registry) -> Iterator[Finding]:
    """Without a sink and a transport nothing can be replicated."""
    for kind in (DriverKind.SINK, DriverKind.CLIENT_TRANSPORT, DriverKind.SERVER_TRANSPORT):
        names = registry.names(kind)
        yield Finding(
            what=kind.value.replace("_", " "),
            works=bool(names),
            why=", ".join(names) or "none is installed",
            next_step="" if names else "install its plugin",
            needed=True,
        )


def _privileges() -> Iterator[Finding]:
    effective = 0
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            effective = int(line.split()[1], 16)
    for name, (bit, use) in _CAPABILITIES.items():
        works = bool(effective >> bit & 1)
        yield Finding(
            what=name,
            works=works,
            why=f"needed for: {use}",
            next_step="" if works else "run as root, or accept the limitation",
        )


def _limits() -> Iterator[Finding]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = soft == resource.RLIM_INFINITY or soft >= _NOFILE_WANTED
    yield Finding(
        what="open files",
        works=enough,
        why=f"limit {soft}, hard limit {hard}",
        next_step="" if enough else f"ulimit -n {_NOFILE_WANTED}",
    )
    for name in ("max_user_watches", "max_queued_events"):
        path = Path("/proc/sys/fs/inotify") / name
        try:
            yield Finding(what=f"inotify {name}", works=True, why=path.read_text().strip())
        except OSError as error:
            yield Finding(what=f"inotify {name}", works=False, why=error.strerror or str(error))


def _openat2() -> Finding:
    """Calls it with a bad size: EINVAL shows that it exists, ENOSYS or EPERM (an old seccomp profile) that it does
    not."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall(_SYS_OPENAT2, -100, b".", None, 0)
    number = ctypes.get_errno()
    works = number == errno.EINVAL
    return Finding(
        what="openat2",
        works=works,
        why="paths are resolved by the kernel" if works else f"{os.strerror(number)}: paths are resolved step by step",
        next_step="" if works else "nothing to do, it is only slower",
    )


def _space(config: NodeConfig | None) -> Iterator[Finding]:
    places = {}
    if config is not None:
        places["state_dir"] = config.state_dir
        for root in config.backup.allow_roots if config.backup else ():
            places[f"allow_roots {os.fsdecode(root)}"] = Path(os.fsdecode(root))
    for what, place in places.items():
        existing = place
        while not existing.exists():
            existing = existing.parent
        free = shutil.disk_usage(existing).free
        writable = os.access(existing, os.W_OK | os.X_OK)
        works = writable and free >= _FREE_WANTED_BYTES
        yield Finding(
            what=what,
            works=works,
            why=f"{free / 1e9:.1f} GB free" if writable else f"{existing} cannot be written",
            next_step="" if works else ("free space" if writable else "run as its owner, or choose another directory"),
            needed=not writable,
        )


def _notices(config: NodeConfig | None) -> Iterator[Finding]:
    for notice in notices(config) if config is not None else ():
        rule = f" of {notice.rule}" if notice.rule else ""
        yield Finding(what=notice.key + rule, works=False, why=notice.cause, next_step=notice.next_step)


def _plaintext(config: NodeConfig | None) -> Iterator[Finding]:
    for key, risk in plaintext_risks(config) if config is not None else ():
        yield Finding(
            what=key, works=False, why=risk, next_step=bilingual("remove it, and use TLS", "删除该键，使用 TLS")
        )


def _plugins(registry: Registry) -> Iterator[Finding]:
    for problem in registry.problems:
        yield Finding(what=f"plugin {problem.plugin}", works=False, why=str(problem), next_step="i2 plugins list")
    if not registry.problems:
        names = ", ".join(entry.name for entry in registry.plugins)
        yield Finding(what="plugins", works=True, why=names or "none")
