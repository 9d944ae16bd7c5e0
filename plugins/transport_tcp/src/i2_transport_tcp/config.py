"""The limits of the TCP transport, configurable for slow links."""

from __future__ import annotations

import attrs
from attrs.validators import ge, gt


@attrs.frozen(kw_only=True)
class TcpConfig:
    """Options of both `tcp` drivers; the defaults fit a WAN as well."""

    connect_timeout_s: float = attrs.field(default=10.0, validator=gt(0))
    """Seconds for name resolution and the TCP connection, over all addresses of a name."""
    handshake_timeout_s: float = attrs.field(default=10.0, validator=gt(0))
    """Seconds from the TCP connection until both sides have proved their identity."""
    handshakes: int = attrs.field(default=256, validator=ge(1))
    """Unauthenticated connections that a server keeps. If one more comes, the oldest of the address with most is
    closed."""
