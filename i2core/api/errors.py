"""Errors: the class says what the caller does next, the code says what happened.

I2Error
├── UsageError      the user corrects config or command; exit 2, nothing was changed
├── LinkError       try again later, with back-off
│   └── PeerRefused     the peer is reachable but does not accept us (or is not who it should be)
├── ProtocolError   drop the connection, connect again
└── StopRule        stop the rule; it needs a human
"""

from __future__ import annotations

from i2core.api.codes import Code

__all__ = ["Code", "I2Error", "LinkError", "PeerRefused", "ProtocolError", "StopRule", "UsageError"]


class I2Error(Exception):
    """An error with a code, the object it is about, its cause and what to do next."""

    code: Code = Code.INTERNAL
    exit_code = 1

    def __init__(self, cause: str, *, code: Code | None = None, obj: str = "", next_step: str = "") -> None:
        super().__init__(cause)
        if code is not None:
            self.code = code
        self.cause = cause
        self.obj = obj
        self.next_step = next_step

    def __str__(self) -> str:
        where = f"{self.obj}: " if self.obj else ""
        step = f" ({self.next_step})" if self.next_step else ""
        return f"{where}{self.cause}{step} [{self.code.value}]"


class UsageError(I2Error):
    """Config or command line is wrong; nothing was changed."""

    code = Code.USAGE
    exit_code = 2


class LinkError(I2Error):
    """The link to the peer is broken or cannot be made now."""

    code = Code.NETWORK


class PeerRefused(LinkError):
    """The peer answered and refused, or is not the pinned one."""

    code = Code.PEER_REFUSED


class ProtocolError(I2Error):
    """The peer sent what the protocol does not allow, or bytes were damaged."""

    code = Code.MESSAGE_TYPE


class StopRule(I2Error):
    """The rule stops with this code until someone acts."""

    code = Code.REPLICATE_FILE
