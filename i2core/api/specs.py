"""What a plugin hands to core: `DriverSpec`, and the context that core hands to the driver it opens."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import attrs

from i2core.api.drivers import Channel
from i2core.api.present import Replica

API_VERSION = 1
"""A plugin names the version that it was written for (`DriverSpec.api`); another one is reported and left out."""


class DriverKind(enum.Enum):
    """The places where a driver fits; the value is the word in config, messages and hooks."""

    CAPTURE = "capture"
    FILTER = "filter"
    CODEC = "codec"
    CLIENT_TRANSPORT = "client_transport"
    SERVER_TRANSPORT = "server_transport"
    SINK = "sink"
    JOURNAL = "journal"
    SNAPSHOT_STORE = "snapshot_store"


@attrs.frozen
class NoConfig:
    """The config class of a driver that has no options."""


@attrs.frozen
class Probe:
    """What a probe found: whether the driver works for these roots here, and why (not), in one line."""

    works: bool
    why: str


@attrs.frozen(kw_only=True)
class DriverSpec:
    """One driver that a plugin offers.

    Example::

        DriverSpec(kind=DriverKind.CODEC, name="zstd", config=ZstdConfig, summary="Zstandard", open=open_zstd)
    """

    kind: DriverKind
    name: str
    """The word in the config, lower case."""
    summary: str
    open: Callable[[Any, Any], AbstractAsyncContextManager[Any]]
    """``open(config, context)``: an async context manager that gives the driver and closes it at its end."""
    config: type = NoConfig
    """A frozen attrs class; cattrs builds it from the driver's TOML table."""
    example: Mapping[str, Any] = attrs.field(factory=dict, eq=False)
    """Options with which the driver opens on any host: what ``i2 plugins check`` takes when it is given none."""
    platforms: tuple[str, ...] = ("linux",)
    """Values of `sys.platform` on which the driver can work."""
    rank: int = 0
    """For ``"auto"``: of the drivers whose probe works, the highest rank is taken."""
    probe: Callable[[Any], Probe] | None = None
    """Captures and snapshot stores: ``probe(context)``: can it work for these roots, here, now? Reads only, leaves no
    trace. May block."""
    replica: Callable[[Any, SinkContext], AbstractAsyncContextManager[Replica]] | None = None
    """Sinks that can keep a history: ``replica(config, context)`` opens the same replica for it, with the same checks
    and locks as `open`. One process may have both open. None: there is no history with this driver."""
    tended: bool = False
    """Snapshot stores: `SnapshotStore.tend` is to be called while there are snapshots."""
    api: int = API_VERSION


@attrs.frozen(kw_only=True)
class CaptureContext:
    """For captures. `roots` are absolute directories; `Place.root` indexes them."""

    roots: tuple[bytes, ...]
    wants_dir: Callable[[int, bytes], bool] = lambda root, path: True
    """False for a directory (root index, path beneath it) that the rule excludes: need not be watched."""
    say: Callable[[str], None] = lambda line: None
    """One line for the logbook: a choice made, a limit met."""


@attrs.frozen(kw_only=True)
class FilterContext:
    """For filters: the rule's source directories, absolute."""

    roots: tuple[bytes, ...]


@attrs.frozen(kw_only=True)
class CodecContext:
    """For codecs: the rule's name, bound into keys and messages."""

    rule: str


@attrs.frozen(kw_only=True)
class SinkContext:
    """For sinks. `roots` are the absolute target directories; `allowed` the directories they must lie beneath."""

    roots: tuple[bytes, ...]
    allowed: tuple[bytes, ...]
    applied: Callable[[int], None] = lambda seq: None
    """Called after each record with its seq, from any thread. So it is known how far a batch was applied even when
    nobody waited for its end."""
    say: Callable[[str], None] = lambda line: None
    known: Mapping[bytes, str] = attrs.field(factory=dict)
    """By root: its `Sink.identities` when the rule last wrote there. A new root has no entry."""
    shared: dict[str, Any] = attrs.field(factory=dict)
    """One for all sinks that a process opens for its rules: for what they have in common."""
    spares: bool = False
    """True: a directory that is not empty is removed by a record of its own (REMOVE). A batch ends before a record that
    would replace one (`Applied.blocked`). A sink may ignore this."""
    flags: bool = False
    """True: the rule carries inode flags and project ids."""
    memory: Path | None = None
    """A file in which the sink may keep what it knows of these roots, also with further files whose names begin with
    its name. It is there as long as the rule owns the roots. None: the sink remembers nothing when it is closed."""
    asks: bool = False
    """True: the sink only answers, for somebody who repairs nothing. A file that is known to be wrong stays so, even if
    its content is asked for."""
    secret: bytes = attrs.field(default=b"", repr=False)
    """This node's alone, and the same after restarts: nobody else can guess a name that a sink derives from it, and the
    sink finds that name again."""


@attrs.frozen(kw_only=True)
class TransportContext:
    """For transports: this node's identity, and whom it trusts.

    `certificate` and `key` are PEM files (the key 0600); None on a loopback-only plaintext node.
    `peers` maps a pinned certificate fingerprint (``"sha256:<64 hex digits>"``) to the peer's name. Trust changes while
    nodes run: a server asks `peers` at each connection, and keeps no copy.
    """

    certificate: Path | None
    key: Path | None
    peers: Mapping[str, str]
    guest: Callable[[Channel, str], bool] = lambda channel, fingerprint: False
    """Whether a peer that `peers` does not have may come in on this channel now. It has proved that it owns the
    certificate with that fingerprint (lower case), and nothing else: the handler decides."""
    revoked: Mapping[str, str] = attrs.field(factory=dict)
    """Fingerprint → name of peers whose trust was revoked; changes like `peers`. A server's log says so of them."""
    plaintext: bool = False
    """The config allows plaintext; a transport still refuses it on any address that is not loopback."""
    say: Callable[[str], None] = lambda line: None
