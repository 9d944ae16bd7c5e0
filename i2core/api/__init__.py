"""All that a plugin may import: contracts, values, hook specifications and errors.

The contract of a journal is a package of its own, `i2core.api.journal`, which only its drivers and its users import.

A plugin imports from here, from `i2core.posix` where it works on a local tree, and from `i2core.testing` in its tests;
from nowhere else in core.
"""

from i2core.api.changes import Change, Lost, Op, Place
from i2core.api.drivers import (
    DATA_CHANNELS,
    SESSION_CHANNELS,
    Applied,
    Ask,
    Capture,
    Channel,
    ClientTransport,
    Codec,
    Failure,
    Filter,
    Peer,
    Seen,
    ServerTransport,
    Sink,
    StreamHandler,
    Times,
)
from i2core.api.errors import (
    Code,
    I2Error,
    LinkError,
    PeerRefused,
    ProtocolError,
    StopRule,
    UsageError,
)
from i2core.api.hooks import hookimpl, hookspec
from i2core.api.line import Line
from i2core.api.names import NamePages
from i2core.api.records import (
    BLOCK_BYTES,
    Batch,
    Buffer,
    Entry,
    Kind,
    Meta,
    Record,
    Xattrs,
    xattr_digest,
)
from i2core.api.specs import (
    API_VERSION,
    CaptureContext,
    CodecContext,
    DriverKind,
    DriverSpec,
    FilterContext,
    NoConfig,
    Probe,
    SinkContext,
    TransportContext,
)
from i2core.api.threads import check_cancelled, in_thread
from i2core.net.crowd import Crowd, neighbourhood

__all__ = [
    "API_VERSION",
    "BLOCK_BYTES",
    "DATA_CHANNELS",
    "SESSION_CHANNELS",
    "Applied",
    "Ask",
    "Batch",
    "Buffer",
    "Capture",
    "CaptureContext",
    "Change",
    "Channel",
    "ClientTransport",
    "Code",
    "Codec",
    "CodecContext",
    "Crowd",
    "DriverKind",
    "DriverSpec",
    "Entry",
    "Failure",
    "Filter",
    "FilterContext",
    "I2Error",
    "Kind",
    "Line",
    "LinkError",
    "Lost",
    "Meta",
    "NamePages",
    "NoConfig",
    "Op",
    "Peer",
    "PeerRefused",
    "Place",
    "Probe",
    "ProtocolError",
    "Record",
    "Seen",
    "ServerTransport",
    "Sink",
    "SinkContext",
    "StopRule",
    "StreamHandler",
    "Times",
    "TransportContext",
    "UsageError",
    "Xattrs",
    "check_cancelled",
    "hookimpl",
    "hookspec",
    "in_thread",
    "neighbourhood",
    "xattr_digest",
]
