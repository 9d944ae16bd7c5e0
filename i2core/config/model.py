"""The configuration as values. docs/config.md is the reference of every key, default and unit."""

from __future__ import annotations

import datetime
import enum
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs


class PathMapping(enum.Enum):
    """How sources map to targets."""

    ONE_TO_ONE = "one-to-one"
    MANY_TO_ONE = "many-to-one"


class Verify(enum.Enum):
    """What a mirror compares: size and mtime, or block hashes of the content on both ends."""

    TIME = "time"
    STRICT = "strict"


class OnError(enum.Enum):
    """What an unreadable file does to a mirror."""

    STOP = "stop"
    LOG = "log"


class First(enum.Enum):
    """Whether the target was seeded by hand before the first mirror."""

    AUTO = "auto"
    MANUAL = "manual"


class OrphanAction(enum.Enum):
    """What happens to an entry of the replica that the source no longer has, when a mirror finds it."""

    KEEP = "keep"
    DELETE = "delete"
    MOVE = "move"


class WhenFull(enum.Enum):
    """What happens when a rule has as many automatic snapshots as it may keep."""

    ROTATE = "rotate"
    STOP = "stop"


@attrs.frozen(kw_only=True)
class Pair:
    """One source directory (or single file) and its target, both absolute."""

    source: bytes
    target: bytes


@attrs.frozen(kw_only=True)
class DriverChoice:
    """A driver by name with its own options (already built by cattrs from the driver's config class when loaded)."""

    name: str
    options: Mapping[str, Any] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class MirrorOptions:
    """`mirror = { verify, on_error, first }`."""

    verify: Verify = Verify.TIME
    on_error: OnError = OnError.LOG
    first: First = First.AUTO


@attrs.frozen(kw_only=True)
class Orphans:
    """`orphans = { action, to, archive }`. `to` is an absolute directory on the backup node."""

    action: OrphanAction = OrphanAction.KEEP
    to: bytes | None = None
    archive: bool = False
    """True: what the source deletes while replicating moves to `to` instead of being removed."""


@attrs.frozen(kw_only=True)
class Brake:
    """`brake = { share, window, least }`: a delete of more than `share` of a rule's files and at least `least`
    within `window_s` seconds is held at the backup node until released. A share of 1 turns the brake off."""

    share: float = 0.5
    window_s: float = 60.0
    least: int = 1000


@attrs.frozen(kw_only=True)
class SnapshotPlan:
    """`snapshot = { every, start, keep, when_full }`: automatic snapshots."""

    every_s: float
    """Seconds between two snapshots, at least 3600."""
    start: datetime.datetime | None = None
    """Local wall-clock time of the first one; None: one interval after the rule starts."""
    keep: int = 24
    """1 to 64."""
    when_full: WhenFull = WhenFull.ROTATE


@attrs.frozen(kw_only=True)
class CdpRetention:
    """`cdp = { detailed_days, daily, monthly }`: how long the journal keeps what."""

    detailed_days: int = 7
    """Days of which every change is kept."""
    daily: int = 30
    """Merged single days behind those."""
    monthly: int = 12
    """Merged spans of 30 days behind those."""


@attrs.frozen(kw_only=True)
class BandwidthWindow:
    """One `[[rule.bandwidth]]` or `[[work.bandwidth]]`. Where windows overlap, the lowest limit counts; outside all of
    them there is none."""

    days: frozenset[int]
    """0 is Monday, 6 is Sunday: the days on which the window begins."""
    first_minute: int
    end_minute: int
    """Minutes of the day, local time; an end before `first_minute` lies in the next day."""
    limit_bps: int
    """Bits a second on the wire; 0 stops the rule for that time."""


@attrs.frozen(kw_only=True)
class Rule:
    """One `[[rule]]`: what is protected, and how."""

    name: str
    backup: str
    pairs: tuple[Pair, ...]
    """With mapping many-to-one, `target` already holds the full source path beneath the rule's one target."""
    mapping: PathMapping = PathMapping.ONE_TO_ONE
    filters: tuple[DriverChoice, ...] = ()
    """From `exclude` and `file_types`: the glob filter with its options."""
    capture: DriverChoice = DriverChoice(name="auto")
    mirror: MirrorOptions = MirrorOptions()
    codecs: tuple[DriverChoice, ...] = ()
    """In the order in which they encode: compression before encryption."""
    orphans: Orphans = Orphans()
    brake: Brake = Brake()
    rescan_s: float = 3600.0
    """Seconds between paced scans that find what no event tells (mmap stores); 0 turns them off."""
    autostart: bool = True
    snapshot: SnapshotPlan | None = None
    cdp: CdpRetention | None = None
    bandwidth: tuple[BandwidthWindow, ...] = ()
    rpo_s: float | None = None
    """The recovery point objective: an alarm when what is not durable on the replica is older than so many seconds."""
    delete_target_with_rule: bool = False
    """True: removing the rule also removes what lies beneath its targets."""


@attrs.frozen(kw_only=True)
class PeerEntry:
    """A trusted node. `address` (work nodes only) is ``host`` or an IP; ports where they are not the defaults.
    Without a fingerprint it is trusted once it is enrolled, or in plaintext."""

    name: str
    fingerprint: str | None = None
    address: str | None = None
    mirror_port: int = 26832
    replication_port: int = 26833


@attrs.frozen(kw_only=True)
class FlushWindow:
    """`flush = { after, bytes }`: live records are made durable together, when the first of them has waited so long or
    so many bytes have gathered. A shorter window means that less is sent again after a crash; each costs a sync of the
    file system."""

    after_s: float = 0.2
    size: int = 8 << 20


@attrs.frozen(kw_only=True)
class BackupRole:
    """`[backup]`."""

    listen: str = "0.0.0.0"  # noqa: S104 (a backup node serves its work nodes; peers are pinned)
    allow_roots: tuple[bytes, ...]
    mirror_port: int = 26832
    replication_port: int = 26833
    plaintext: bool = False
    """Allow plaintext; only possible when `listen` is a loopback address."""
    transport: str = "tcp"
    sink: DriverChoice = DriverChoice(name="fs")
    flush: FlushWindow = FlushWindow()
    peers: tuple[PeerEntry, ...] = ()
    keys: Mapping[str, DriverChoice] = attrs.field(factory=dict)
    """Per rule name: the encryption codec, for rules whose batches arrive encrypted."""
    cdp_dir: bytes | None = None
    """Where the journals are kept; None: beside the replicas."""


@attrs.frozen(kw_only=True)
class WorkRole:
    """`[work]`."""

    memory_limit: int = 256_000_000
    """Bytes of changes kept in memory before subtrees are only marked for compare."""
    disk_limit: int = 4_096_000_000
    cache_dir: Path | None = None
    plaintext: bool = False
    transport: str = "tcp"
    peers: tuple[PeerEntry, ...] = ()
    bandwidth: tuple[BandwidthWindow, ...] = ()
    """Limits of the node as a whole, which its rules share."""


@attrs.frozen(kw_only=True)
class NodeConfig:
    """A whole config file."""

    path: Path
    name: str
    state_dir: Path
    backup: BackupRole | None = None
    work: WorkRole | None = None
    rules: tuple[Rule, ...] = ()
    log_days: int = 90
    """How long the logbook keeps its lines."""
    control_listen: str | None = None
    """Where the control port listens; None: where the roles decide."""
    control_port: int | None = None
    """0: no control over the network; None: the roles' port."""
    consoles: tuple[PeerEntry, ...] = ()

    @property
    def dormant(self) -> tuple[str, ...]:
        """Keys that are set and were checked, but that nothing carries out in this version: for the node to say so
        at its start, lest somebody counts on them in an emergency."""
        found = ["backup.cdp_dir"] if self.backup is not None and self.backup.cdp_dir is not None else []
        for key in ("snapshot", "cdp", "delete_target_with_rule"):
            if any(getattr(rule, key) for rule in self.rules):
                found.append(f"rule.{key}")
        return tuple(found)
