"""Reports the daemon's state to the service manager by sd_notify(3), which is a datagram to a socket."""

from __future__ import annotations

import os
import socket
import time


def notify(*states: str) -> bool:
    """Sends states such as ``READY=1``; False if no service manager waits for them. Errors are ignored: the manager has
    its own time limits."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            # "@" means the NUL of the abstract namespace.
            sender.connect("\0" + address[1:] if address[0] == "@" else address)
            sender.send("\n".join(states).encode())
    except OSError:
        return False
    return True


def reloading() -> bool:
    """The config is being read again; ``READY=1`` marks the end."""
    return notify("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")
