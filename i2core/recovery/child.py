"""The receiving end of a recovery as a process of its own: ``python -m i2core.recovery.child``.

One interpreter runs one thread at a time, so both ends in one process take several times as long. The parent may have
threads and a running event loop, as a daemon has: so the child is a new program, not a fork.

Its standard input is a Unix socket. The first message says what to serve; each later one brings a stream, as a
descriptor. Log lines go back the same way. The child ends when the parent closes the socket, or dies.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
from functools import partial

import trio

from i2core.api import Channel, Code
from i2core.posix.descriptors import raise_limit
from i2core.recovery.writer import MESSAGE_BYTES, Receiver, stream_of
from i2core.registry import Registry
from i2core.rule.backup.service import BackupService

_LINE_CHARS = 4000


async def serve(control: socket.socket, service: BackupService) -> None:
    """Serves the streams that come over the socket, until it is closed and all of them have ended."""
    async with trio.open_nursery() as nursery:
        while True:
            await trio.lowlevel.wait_readable(control)
            message, descriptors, _, _ = socket.recv_fds(control, MESSAGE_BYTES, 1)
            if not message:
                return
            for fd in descriptors:
                stream = stream_of(socket.socket(fileno=fd))
                nursery.start_soon(service.handle, stream, Channel.MIRROR, None)


def _say(control: socket.socket, rule: str, code: Code | None, line: str) -> None:
    fields = {"rule": rule, "code": None if code is None else int(code), "line": line[:_LINE_CHARS]}
    try:
        control.send(json.dumps(fields).encode(), socket.MSG_DONTWAIT)
    except OSError:
        return  # nobody reads it: a line is dropped rather than that the destination waits


def main() -> None:
    """Serves until standard input is closed."""
    # Ctrl-C reaches the whole foreground group, and systemd ends all processes of a service; the parent decides, and
    # closes the streams when it is ready.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    control = socket.socket(fileno=os.dup(0))
    raise_limit()
    receiver = Receiver.decode(control.recv(MESSAGE_BYTES))
    service = receiver.service(Registry.load(), partial(_say, control))
    gc.freeze()  # what is loaded by now stays: no collection has to visit it
    trio.run(serve, control, service)


if __name__ == "__main__":
    main()
