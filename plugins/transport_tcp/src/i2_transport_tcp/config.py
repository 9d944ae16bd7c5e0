"""The limits of the TCP transport, in one place so that a slow link can have longer ones."""

from __future__ import annotations

import attrs
from attrs.validators import ge, gt


@attrs.frozen(kw_only=True)
class TcpConfig:
    """Options of both `tcp` drivers; the defaults fit a WAN as well."""

    connect_timeout_s: float = attrs.field(default=10.0, validator=gt(0))
    """Seconds for name resolution and the TCP connection, over all addresses of a name."""
    handshake_timeout_s: float = attrs.field(default=10.0, validator=gt(0))
    """Seconds from the TCP connection until both sides have proved who they are."""
    handshakes: int = attrs.field(default=256, validator=ge(1))
    """Connections that a server keeps before they have proved who they are; one more ends the oldest."""
