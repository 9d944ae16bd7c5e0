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
    """How a mirror compares files: by size and mtime, or by block hashes of the content on both ends."""

    TIME = "time"
    STRICT = "strict"


class OnError(enum.Enum):
    """How a mirror treats an unreadable file."""

    STOP = "stop"
    LOG = "log"


class First(enum.Enum):
    """Whether the target was seeded by hand before the first mirror."""

    AUTO = "auto"
    MANUAL = "manual"


class OrphanAction(enum.Enum):
    """How a mirror treats an entry of the replica that the source no longer has."""

    KEEP = "keep"
    DELETE = "delete"
    MOVE = "move"


class WhenFull(enum.Enum):
    """The action when a rule has as many automatic snapshots as it may keep."""

    ROTATE = "rotate"
    STOP = "stop"


class WhenHistoryFull(enum.Enum):
    """The action of a backup node when there is no more room for history."""

    SHORTEN = "shorten"
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
    """`brake = { share, window, least }`: the backup node holds a removal until it is released, when within a day more
    than `share` of a root's files are removed, and at least `least` files; or when nearly all files are removed without
    a pause of `window_s` seconds. A share of 1 turns the brake off."""

    share: float = 0.5
    window_s: float = 60.0
    least: int = 1000


@attrs.frozen(kw_only=True)
class SnapshotPlan:
    """`snapshot = { store, every, start, keep, when_full }` of a rule: what keeps its snapshots, and automatic ones."""

    store: str = "auto"
    """The driver; ``"auto"``: the one that the backup node chooses (`BackupRole.snapshot`)."""
    every_s: float | None = None
    """Seconds between two automatic snapshots, at least `SNAPSHOT_EVERY_S`; None: there are none."""
    start: datetime.datetime | None = None
    """Local wall-clock time of the first one, on the work node; None: one interval after the backup node has first
    heard of the plan."""
    keep: int = 24
    """So many automatic ones, 1 to 64."""
    when_full: WhenFull = WhenFull.ROTATE


SNAPSHOT_EVERY_S = 300.0
"""Automatic snapshots are not taken more often."""


@attrs.frozen(kw_only=True)
class ComparePlan:
    """`compare = { every, start, strict, mend }`: automatic compares of source and replica."""

    every_s: float
    """Seconds between the beginnings of two compares, at least 3600."""
    start: datetime.datetime | None = None
    """Local wall-clock time of one of them; None: one interval after the node starts."""
    strict: bool = False
    """True: contents are compared as well."""
    mend: bool = False
    """True: what is missing or different is sent."""


@attrs.frozen(kw_only=True)
class ScrubPlan:
    """`scrub = { within, rate }`: proves in the background that every byte of the replica equals the source."""

    within_s: float = 7 * 86400.0
    """Seconds from the beginning of one pass to that of the next, at least 3600."""
    rate: int = 20_000_000
    """Bytes a second that are read on each side at most, at least 1000."""


DETAILED_DAYS, DAILY, MONTHLY = (1, 3650), (0, 3650), (0, 1200)
"""The least and the most of each field of `CdpRetention`."""


@attrs.frozen(kw_only=True)
class CdpRetention:
    """`cdp = { detailed_days, daily, monthly }` of a rule: how long its history is kept, and in what detail."""

    detailed_days: int = 7
    """Days of which every change is kept."""
    daily: int = 30
    """Number of merged days before those."""
    monthly: int = 12
    """Number of merged spans of 30 days before those."""


@attrs.frozen(kw_only=True)
class HistoryTerms:
    """`cdp = { lock, grace, when_full }` of `[backup]`: what this node alone decides about each history that it keeps.
    A work node must not: with them it could clear its history, or fill this node's disk for years."""

    lock_s: float = 0.0
    """Age below which nobody may give up a moment; 0: no lock."""
    grace_s: float = 7 * 86400.0
    """How long a history is kept after its rule was removed."""
    when_full: WhenHistoryFull = WhenHistoryFull.SHORTEN


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
    """One `[[rule]]`: the protected paths and all options. An attribute for each key of the table, as the file has
    them."""

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
    inode_flags: bool = False
    """True: flags of chattr(1) and project ids are replicated as well."""
    rescan_s: float = 3600.0
    """Seconds between paced scans, which find changes without an event (mmap stores); 0 turns them off."""
    autostart: bool = True
    compare: ComparePlan | None = None
    scrub: ScrubPlan | None = None
    snapshot: SnapshotPlan | None = None
    cdp: CdpRetention | None = None
    bandwidth: tuple[BandwidthWindow, ...] = ()
    rpo_s: float | None = None
    """The recovery point objective: an alarm is reported when the oldest change that is not durable on the replica is
    older than so many seconds."""
    delete_target_with_rule: bool = False
    """True: removing the rule also removes the contents of its targets."""


RECOVERY_PORT = 26831


@attrs.frozen(kw_only=True)
class PeerEntry:
    """A trusted node. `address` (work nodes only) is ``host`` or an IP; ports where they are not the defaults.
    Without a fingerprint it is trusted once it is enrolled, or in plaintext."""

    name: str
    fingerprint: str | None = None
    address: str | None = None
    mirror_port: int = 26832
    replication_port: int = 26833
    recovery_port: int = RECOVERY_PORT
    allow_roots: tuple[bytes, ...] = ()
    """For a work node, on the backup node: the directories in which its rules may write; empty: all of
    `allow_roots`."""
    recover: tuple[str, ...] = ()
    """For a work node, on the backup node: the received rules that it may recover, as ``RULE`` or ``PEER/RULE``."""
    recover_into: tuple[bytes, ...] = ()
    """For a backup node, on the work node: the directories in which it may recover when it is asked there."""


@attrs.frozen(kw_only=True)
class FlushWindow:
    """`flush = { after, bytes }`: live records are made durable together, once the first of them has waited so long or
    so many bytes have gathered. With a shorter window less is sent again after a crash, but each flush syncs the file
    system."""

    after_s: float = 0.2
    size: int = 8 << 20


CDP_DIR = b"/cdp"
"""Where histories are in the state directory, unless `cdp_dir` says otherwise."""


@attrs.frozen(kw_only=True)
class BackupRole:
    """`[backup]`: an attribute for each key."""

    listen: str = "0.0.0.0"  # noqa: S104 (a backup node serves its work nodes; peers are pinned)
    allow_roots: tuple[bytes, ...]
    mirror_port: int = 26832
    replication_port: int = 26833
    recovery_port: int | None = None
    """0: no recoveries by work nodes; None: the default port, if it is free."""
    plaintext: bool = False
    """Allow plaintext; only possible when `listen` is a loopback address."""
    transport: str = "tcp"
    sink: DriverChoice = DriverChoice(name="fs")
    flush: FlushWindow = FlushWindow()
    brake: Brake | None = None
    """A work node cannot loosen this: of this and a rule's own brake, the stricter one applies."""
    peers: tuple[PeerEntry, ...] = ()
    keys: Mapping[str, DriverChoice] = attrs.field(factory=dict)
    """Per rule name: the encryption codec, for rules whose batches arrive encrypted."""
    cdp_dir: bytes | None = None
    """Directory of the histories' journals and indexes. A config file always has one; None: no history is kept."""
    cdp: HistoryTerms = HistoryTerms()
    snapshot: DriverChoice = DriverChoice(name="auto")
    """`snapshot = { store }`: what keeps the snapshots of rules that name no store themselves."""
    scrub: ScrubPlan | None = None
    """Proves in the background that the journals of all histories are what was written."""


@attrs.frozen(kw_only=True)
class WorkRole:
    """`[work]`."""

    memory_limit: int = 256_000_000
    """Most bytes of changes in memory; above it, subtrees are only marked to be compared."""
    disk_limit: int = 4_096_000_000
    cache_dir: Path | None = None
    plaintext: bool = False
    transport: str = "tcp"
    peers: tuple[PeerEntry, ...] = ()
    bandwidth: tuple[BandwidthWindow, ...] = ()
    """Limits of the whole node, which its rules share."""


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
    """How many days the log is kept."""
    control_listen: str | None = None
    """Address of the control port; None: as the roles decide."""
    control_port: int | None = None
    """0: no control over the network; None: the default port of the role."""
    consoles: tuple[PeerEntry, ...] = ()
