"""A FUSE server of one file, which records each write and each flush before it answers: a process of its own.

    python server.py FUSE_FD FILE RECORD

It speaks the kernel's protocol (linux/fuse.h, 7.31) itself: one file needs a dozen messages, and no library.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
import sys

from i2core.testing.power.record import FLUSH, SERVED, WRITE_HEAD

_IN = struct.Struct("<IIQQIIII")
_OUT = struct.Struct("<IiQ")
_ATTR = struct.Struct("<6Q10I")
_INIT_OUT = struct.Struct("<4I2H2I2HI28x")
_STATFS_OUT = struct.Struct("<5Q4I24x")
_READ = struct.Struct("<QQI")
_WRITE_BYTES = 40
_LOOKUP, _FORGET, _GETATTR, _SETATTR, _OPEN, _READ_OP, _WRITE, _STATFS = 1, 2, 3, 4, 14, 15, 16, 17
_RELEASE, _FSYNC, _FLUSH, _INIT, _OPENDIR, _RELEASEDIR, _DESTROY, _BATCH_FORGET = 18, 20, 25, 26, 27, 29, 38, 42
_ROOT, _FILE = 1, 2
_MOST_WRITE = 1 << 20
_BIG_WRITES, _MAX_PAGES = 1 << 5, 1 << 22


class Server:
    """Answers the kernel until the file system is unmounted."""

    def __init__(self, fuse: int, file: int, record: int) -> None:
        self._fuse, self._file, self._record = fuse, file, record

    def serve(self) -> None:
        """Returns when it is unmounted."""
        while True:
            try:
                message = os.read(self._fuse, _MOST_WRITE + 4096)
            except OSError as error:
                if error.errno in (errno.EINTR, errno.EAGAIN, errno.ENOENT):
                    continue
                return  # ENODEV: unmounted
            _, opcode, unique, node, *_ = _IN.unpack_from(message)
            if opcode in (_FORGET, _BATCH_FORGET):
                continue
            code, answer = 0, b""
            try:
                answer = self._answer(opcode, node, message[_IN.size :])
            except OSError as error:
                code = -(error.errno or errno.EIO)
            os.write(self._fuse, _OUT.pack(_OUT.size + len(answer), code, unique) + answer)

    def _answer(self, opcode: int, node: int, body: bytes) -> bytes:
        if opcode == _INIT:
            flags = _BIG_WRITES | _MAX_PAGES
            return _INIT_OUT.pack(7, 31, 1 << 17, flags, 16, 12, _MOST_WRITE, 1, _MOST_WRITE // 4096, 0, 0)
        if opcode == _LOOKUP:
            if body.rstrip(b"\0") != SERVED:
                raise OSError(errno.ENOENT, "")
            return struct.pack("<4Q2I", _FILE, 0, 3600, 3600, 0, 0) + self._attributes(_FILE)
        if opcode in (_GETATTR, _SETATTR):
            return struct.pack("<QII", 3600, 0, 0) + self._attributes(node)
        if opcode in (_OPEN, _OPENDIR):
            return struct.pack("<QII", 1, 0, 0)
        if opcode == _READ_OP:
            _, offset, size = _READ.unpack_from(body)
            return os.pread(self._file, size, offset)
        if opcode == _WRITE:
            return self._write(body)
        if opcode == _FSYNC:
            os.write(self._record, FLUSH)
            return b""
        if opcode == _STATFS:
            return _STATFS_OUT.pack(1 << 20, 1 << 20, 1 << 20, 10, 10, 4096, 255, 4096, 0)
        if opcode in (_RELEASE, _RELEASEDIR, _FLUSH, _DESTROY):
            return b""
        raise OSError(errno.ENOSYS, "")

    def _write(self, body: bytes) -> bytes:
        _, offset, size = _READ.unpack_from(body)
        data = body[_WRITE_BYTES : _WRITE_BYTES + size]
        os.write(self._record, WRITE_HEAD.pack(1, offset, size) + data)
        os.pwrite(self._file, data, offset)
        return struct.pack("<II", size, 0)

    def _attributes(self, node: int) -> bytes:
        size = os.fstat(self._file).st_size if node == _FILE else 4096
        mode = stat.S_IFREG | 0o600 if node == _FILE else stat.S_IFDIR | 0o700
        return _ATTR.pack(node, size, size // 512, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)


def main(fuse_fd: str, file: str, record: str) -> None:
    """Serves the file."""
    kept = os.open(file, os.O_RDWR)
    written = os.open(record, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    Server(int(fuse_fd), kept, written).serve()


if __name__ == "__main__":
    main(*sys.argv[1:])
