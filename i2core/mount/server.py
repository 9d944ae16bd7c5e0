"""Reads the kernel's requests from ``/dev/fuse`` in some threads, and writes the answers.

Each thread waits for a request, answers it, and waits again, so nothing is handed from thread to thread. None of them
touches the event loop, and a slow read holds up one of them.
"""

from __future__ import annotations

import errno
import os
import select
import traceback
from collections.abc import Callable
from contextlib import suppress

from i2core.api.errors import I2Error
from i2core.api.records import Buffer
from i2core.mount.file_system import FileSystem
from i2core.mount.protocol import IN_HEAD, OUT_HEAD, REQUEST_BYTES, Op
from i2core.posix.errnos import READ_FAILED

REST_S = 5.0
"""A thread that had nothing to do for so long gives back what can be opened again."""
_AGAIN = (errno.EINTR, errno.EAGAIN, errno.ENOENT)
"""A request that another thread took, or that nobody waits for any more."""
_ENDED = (errno.ENODEV, errno.ECONNABORTED)
_SILENT = (Op.FORGET, Op.BATCH_FORGET)
"""Requests without an answer."""


class Server:
    """Serves one connection to the kernel. It ends when the file system is unmounted, or by `stop`."""

    def __init__(
        self,
        files: FileSystem,
        failed: Callable[[bytes, OSError], None],
        defect: Callable[[str], None],
    ) -> None:
        """`failed` is told of an object that could not be read, with its path; `defect` of an exception that nobody
        expected."""
        self._files = files
        self._failed, self._defect = failed, defect
        self._fuse = -1
        self._stop = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def begin(self, fuse: int) -> None:
        """The open ``/dev/fuse`` of a new mount, which is this object's from now on."""
        os.set_blocking(fuse, False)
        self._fuse = fuse

    def serve(self) -> None:
        """The work of one thread. Returns when the file system is unmounted, or after `stop`."""
        buffer = bytearray(REQUEST_BYTES)
        with select.epoll() as waiting:
            waiting.register(self._fuse, select.EPOLLIN | select.EPOLLEXCLUSIVE)  # a request wakes one thread
            waiting.register(self._stop, select.EPOLLIN)
            while True:
                ready = [fd for fd, _ in waiting.poll(REST_S)]
                if self._stop in ready:
                    return
                if not ready:
                    self._files.rest()
                elif not self._serve_one(buffer):
                    return

    def _serve_one(self, buffer: bytearray) -> bool:
        """Answers one request; False: the connection has ended."""
        try:
            length = os.readv(self._fuse, (buffer,))
        except OSError as error:
            return error.errno in _AGAIN
        try:
            self._answer(buffer, length)
        except OSError as error:  # an answer that the kernel refuses fails that request alone
            return error.errno not in _ENDED
        return True

    def stop(self) -> None:
        """Every thread returns when it has answered what it has."""
        os.eventfd_write(self._stop, 1)

    def close(self) -> None:
        """Ends the connection: whoever still uses the mount gets errors. No thread may be in `serve`."""
        if self._fuse >= 0:
            os.close(self._fuse)
        os.close(self._stop)
        self._files.close()

    def _answer(self, buffer: bytearray, length: int) -> None:
        _, operation, number, node, *_ = IN_HEAD.unpack_from(buffer)
        answer, code = self._outcome(operation, node, bytes(buffer[IN_HEAD.size : length]))
        if operation not in _SILENT:
            os.writev(self._fuse, (OUT_HEAD.pack(OUT_HEAD.size + len(answer), -code, number), answer))

    def _outcome(self, operation: int, node: int, body: bytes) -> tuple[Buffer, int]:
        """The answer, and 0; or none, and an errno."""
        try:
            perform = self._files.answers.get(operation)
            if perform is None:
                return b"", errno.ENOSYS
            return perform(node, body) or b"", 0
        except OSError as error:
            code = error.errno or errno.EIO
            if code in READ_FAILED and code != errno.ESTALE:
                self._failed(self._files.about(operation, node, body), error)
            return b"", code
        except I2Error as error:  # the root itself is gone
            self._failed(self._files.about(operation, node, body), OSError(errno.EIO, error.cause))
            return b"", errno.EIO
        except Exception:  # a defect must not leave a program waiting for ever
            with suppress(Exception):
                self._defect(traceback.format_exc())
            return b"", errno.EIO
