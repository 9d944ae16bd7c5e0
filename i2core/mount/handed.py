"""A mount that the command makes, where the daemon has mounts of its own: what a hardened service mounts, nobody
outside of it sees. The command mounts where its user looks, and the daemon serves it.

    command                                        daemon
      listens on a socket in the state directory
      POST …/mounts {"socket": NAME}   ─────────▶  connects
      the directory, open              ─────────▶  may it be there? (`open_point`)
                                       ◀─────────  yes
      mounts; the open /dev/fuse       ─────────▶  serves it

Only the daemon's user can enter the state directory, so nobody else can be at either end.
"""

from __future__ import annotations

import os
import re
import secrets
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from i2core.mount.device import CannotMount

LIMIT_S = 30.0
NAME = re.compile(r"mount-[0-9a-f]{32}\.sock")
_YES = b"y"


class Command:
    """The command's end. Blocks."""

    def __init__(self, listener: socket.socket, name: str) -> None:
        self._listener, self.name = listener, name

    def serve(self, directory: int, make: Callable[[], int]) -> None:
        """Hands over the directory and, if the daemon agrees, what `make` gives: the open ``/dev/fuse`` of the mount.

        Raises:
            OSError: the daemon does not come, or refuses: it tells why itself.
            CannotMount: as `make`.
        """
        connection, _ = self._listener.accept()
        with connection:
            connection.settimeout(LIMIT_S)
            socket.send_fds(connection, [b"d"], [directory])
            if connection.recv(1) != _YES:
                return
            fuse = make()
            try:
                socket.send_fds(connection, [b"f"], [fuse])
            finally:
                os.close(fuse)


@contextmanager
def listening(state_dir: Path) -> Iterator[Command]:
    """The command's end, with a socket in the daemon's state directory for as long as the block runs."""
    name = f"mount-{secrets.token_hex(16)}.sock"
    fd = os.open(state_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            os.fchmod(listener.fileno(), 0o600)
            listener.settimeout(LIMIT_S)
            listener.bind(f"/proc/self/fd/{fd}/{name}")
            try:
                if not os.geteuid():  # the daemon may be another user's
                    os.chown(name, os.fstat(fd).st_uid, -1, dir_fd=fd, follow_symlinks=False)
                listener.listen(1)
                yield Command(listener, name)
            finally:
                with suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=fd)
    finally:
        os.close(fd)


class Handed:
    """The daemon's end. Blocks."""

    def __init__(self, connection: socket.socket) -> None:
        """Receives the directory.

        Raises:
            CannotMount: it does not come.
        """
        self._connection = connection
        self.directory = self._receive()

    @classmethod
    def connect(cls, state_dir: Path, name: str) -> Handed:
        """Connects to the command.

        Raises:
            CannotMount: there is none.
        """
        if NAME.fullmatch(name) is None:
            raise CannotMount("no such socket", obj=name)
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(LIMIT_S)
        fd = os.open(state_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            connection.connect(f"/proc/self/fd/{fd}/{name}")
            return cls(connection)
        except OSError as error:
            connection.close()
            raise CannotMount(f"the command has gone: {error.strerror}", obj=name) from error
        except BaseException:
            connection.close()
            raise
        finally:
            os.close(fd)

    def mount(self) -> int:
        """Agrees to the directory; the open ``/dev/fuse`` of the mount.

        Raises:
            CannotMount: the command could not mount; it tells why itself.
        """
        self._connection.sendall(_YES)
        return self._receive()

    def _receive(self) -> int:
        try:
            _, received, _, _ = socket.recv_fds(self._connection, 1, 1)
        except OSError as error:
            raise CannotMount(f"the command has gone: {error.strerror}") from error
        if not received:
            raise CannotMount("the command could not mount")
        os.set_inheritable(received[0], False)
        return received[0]

    def close(self) -> None:
        """The connection ends."""
        self._connection.close()
