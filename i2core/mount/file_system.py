"""Answers the kernel's requests about trees: what is asked, and not how it comes or in which thread.

Each method answers one kind of request, with the bytes of the answer, or None where none is due. It blocks, may be
called by several threads at once, and raises `OSError` with the errno of the answer.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import count

from i2core.api.records import Buffer, Entry, Xattrs
from i2core.api.tree import OpenDirectory, OpenFile, Tree
from i2core.mount import protocol
from i2core.mount.listing import Listing
from i2core.mount.nodes import Node, Nodes, Root
from i2core.mount.objects import Objects
from i2core.mount.protocol import Init, Op, Opened

_FIXED_S, _CHANGING_S = 365 * 86_400, 1
"""How long the kernel may remember names and attributes."""
_SEEK_DATA, _SEEK_HOLE = 3, 4
_BACKGROUND, _CONGESTED = 64, 48
"""Reads ahead that the kernel has under way at a time; the number from which it holds back."""
_NAME_BYTES = 255
_DOTS = (b".", b"..")

Answer = Callable[[int, bytes], Buffer | None]


class _File:
    """An open file, which is used by one thread at a time."""

    __slots__ = ("file", "lock")

    def __init__(self, file: OpenFile) -> None:
        self.file = file
        self.lock = threading.Lock()


class _Folder:
    """A directory that is being read."""

    __slots__ = ("directory", "listing")

    def __init__(self, directory: OpenDirectory) -> None:
        self.directory = directory
        self.listing = Listing(directory)


class FileSystem:
    """One mount's view of its trees.

    A method for each kind of request; the others are steps that several of them share. All go by the same nodes and
    handles."""

    def __init__(
        self, trees: Mapping[bytes, Tree], failed: Callable[[bytes, OSError], None], hidden: tuple[bytes, ...] = ()
    ) -> None:
        """`trees` by their names in the top directory; one with an empty name is the top itself. `failed` is told which
        name of a directory could not be read while others could. Attributes whose names begin like one of `hidden` are
        not shown."""
        self._nodes = Nodes({name: Root(number, tree) for number, (name, tree) in enumerate(trees.items())})
        self._objects = Objects(self._nodes)
        self._failed = failed
        self._hidden = hidden
        self._files: dict[int, _File] = {}
        self._folders: dict[int, _Folder] = {}
        self._handles = count(1)
        self._is_fixed = all(tree.is_fixed for tree in trees.values())
        self._opens_nothing = False
        self.answers: Mapping[int, Answer] = {
            Op.INIT: self.init,
            Op.LOOKUP: self.lookup,
            Op.FORGET: self.forget,
            Op.BATCH_FORGET: self.forget_many,
            Op.GETATTR: self.attributes,
            Op.READLINK: self.link,
            Op.OPEN: self.open,
            Op.READ: self.read,
            Op.LSEEK: self.seek,
            Op.RELEASE: self.release,
            Op.OPENDIR: self.open_directory,
            Op.READDIR: self.names,
            Op.READDIRPLUS: self.entries,
            Op.RELEASEDIR: self.release_directory,
            Op.GETXATTR: self.xattr,
            Op.LISTXATTR: self.xattr_names,
            Op.STATFS: self.space,
        }

    def top(self) -> Entry:
        """The top directory."""
        return self._objects.entry(self._nodes.get(protocol.ROOT_ID))

    def about(self, operation: int, node: int, body: bytes) -> bytes:
        """The path of what a request is about, for people."""
        try:
            shown = self._nodes.get(node).shown
        except OSError:
            return b"node %d" % node
        return shown + b"/" + body.rstrip(b"\0") if operation == Op.LOOKUP else shown

    def rest(self) -> None:
        """Closes what nobody uses: a file system with an open directory cannot be unmounted."""
        self._objects.close()

    def close(self) -> None:
        """Closes what is open. No thread may be in a call."""
        for file in self._files.values():
            file.file.close()
        for folder in self._folders.values():
            folder.listing.close()
            folder.directory.close()
        self._files, self._folders = {}, {}
        self._objects.close()

    # ------------------------------------------------------------------------------------------ the mount

    def init(self, _node: int, body: bytes) -> Buffer:
        """Agrees on the protocol and its options."""
        _, minor, read_ahead, offered = protocol.INIT_IN.unpack_from(body)
        wanted = Init.ASYNC_READ | Init.PARALLEL_DIROPS | Init.POSIX_ACL | Init.MAX_PAGES
        wanted |= Init.DO_READDIRPLUS | Init.READDIRPLUS_AUTO
        wanted |= Init.CACHE_SYMLINKS if self._is_fixed else Init.AUTO_INVAL_DATA
        self._opens_nothing = bool(offered & Init.NO_OPEN_SUPPORT)
        pages = protocol.READ_BYTES // 4096
        return protocol.INIT_OUT.pack(
            protocol.MAJOR,
            min(minor, protocol.MINOR),
            max(read_ahead, protocol.READ_BYTES),
            offered & wanted,
            _BACKGROUND,
            _CONGESTED,
            4096,
            1,
            pages,
            0,
            0,
        )

    def space(self, _node: int, _body: bytes) -> Buffer:
        """Nothing is told of blocks: df(1) leaves the mount out, and no monitoring takes it for a full disk."""
        return protocol.STATFS_OUT.pack(0, 0, 0, 0, 0, 4096, _NAME_BYTES, 4096, 0)

    # ------------------------------------------------------------------------------------------ names and attributes

    def lookup(self, node: int, body: bytes) -> Buffer:
        """Where a name leads to."""
        parent, name = self._nodes.get(node), body.rstrip(b"\0")
        entry = self._entry_in(parent, name)
        if entry is not None:
            return self._known(parent, entry)
        if not parent.is_fixed:
            raise _error(errno.ENOENT)
        return protocol.pack_entry(0, _FIXED_S, protocol.NOTHING)

    def _entry_in(self, parent: Node, name: bytes) -> Entry | None:
        if parent.root is not None and parent.is_top and parent.tree.only not in (None, name):
            return None
        with self._objects.directory(parent) as directory:
            return directory.entry(name)

    def _known(self, parent: Node, entry: Entry) -> bytes:
        """The kernel gets to know a name."""
        node = self._nodes.found(parent, entry)
        return protocol.pack_entry(node.id, _valid_s(node), _attributes(node, entry))

    def forget(self, node: int, body: bytes) -> None:
        """The kernel needs a node no longer."""
        self._nodes.forget(node, *protocol.FORGET_IN.unpack_from(body))

    def forget_many(self, _node: int, body: bytes) -> None:
        """As `forget`, for several."""
        number, _ = protocol.BATCH_FORGET_IN.unpack_from(body)
        at = protocol.BATCH_FORGET_IN.size
        for node, times in protocol.FORGET_ONE.iter_unpack(body[at : at + number * protocol.FORGET_ONE.size]):
            self._nodes.forget(node, times)

    def attributes(self, node: int, body: bytes) -> Buffer:
        """What lstat(2) tells."""
        flags, _, handle = protocol.GETATTR_IN.unpack_from(body)
        found = self._nodes.get(node)
        file = self._files.get(handle) if flags & protocol.GETATTR_HANDLE else None
        if file is not None:
            with file.lock:
                entry = file.file.entry()
        else:
            entry = self._objects.entry(found)
        return protocol.ATTR_OUT.pack(_valid_s(found), 0, 0) + _attributes(found, entry)

    def link(self, node: int, _body: bytes) -> Buffer:
        """A symlink's text."""
        return self._objects.entry(self._nodes.get(node)).target

    def xattr(self, node: int, body: bytes) -> Buffer:
        """The value of an extended attribute."""
        size, _ = protocol.XATTR_IN.unpack_from(body)
        wanted = body[protocol.XATTR_IN.size :].split(b"\0", 1)[0]
        for name, value in self._xattrs(self._nodes.get(node)):
            if name == wanted:
                return _fitting(value, size)
        raise _error(errno.ENODATA)

    def xattr_names(self, node: int, body: bytes) -> Buffer:
        """The names of all extended attributes."""
        size, _ = protocol.XATTR_IN.unpack_from(body)
        return _fitting(b"".join(name + b"\0" for name, _ in self._xattrs(self._nodes.get(node))), size)

    def _xattrs(self, node: Node) -> Xattrs:
        if node.plain:
            return ()
        with self._objects.above(node) as (directory, name):
            found = directory.xattrs(name)
        if found is None:
            raise _error(errno.EACCES)
        return tuple(pair for pair in found if not pair[0].startswith(self._hidden)) if self._hidden else found

    # ------------------------------------------------------------------------------------------ files

    def open(self, node: int, body: bytes) -> Buffer:
        """Opens a regular file. Pages that the kernel has are good as long as the file has not changed.

        ENOSYS says that no file needs to be opened, and the kernel asks no more: all trees are fixed.
        """
        if self._is_fixed and self._opens_nothing:
            raise _error(errno.ENOSYS)
        flags, _ = protocol.OPEN_IN.unpack_from(body)
        if flags & os.O_ACCMODE != os.O_RDONLY:
            raise _error(errno.EROFS)
        found = self._nodes.get(node)
        file = self._objects.open_file(found)
        handle = next(self._handles)
        self._files[handle] = _File(file)
        if found.is_fixed:
            return protocol.OPEN_OUT.pack(handle, Opened.KEEP_CACHE, 0)
        entry = file.as_opened()
        state = (entry.size, entry.mtime_ns, entry.ctime_ns)
        before, found.opened = found.opened, state
        return protocol.OPEN_OUT.pack(handle, Opened.KEEP_CACHE if before == state else 0, 0)

    def read(self, node: int, body: bytes) -> Buffer:
        """A range of a file."""
        handle, offset, size = protocol.READ_IN.unpack_from(body)
        with self._file(node, handle) as file:
            return file.read(offset, size)

    def seek(self, node: int, body: bytes) -> Buffer:
        """Where data, or a hole, begins."""
        handle, offset, whence = protocol.LSEEK_IN.unpack_from(body)
        if whence not in (_SEEK_DATA, _SEEK_HOLE):
            raise _error(errno.EINVAL)
        with self._file(node, handle) as file:
            found = (file.next_data if whence == _SEEK_DATA else file.next_hole)(offset)
        if found is None:
            raise _error(errno.ENXIO)
        return protocol.LSEEK_OUT.pack(found)

    @contextmanager
    def _file(self, node: int, handle: int) -> Iterator[OpenFile]:
        """The file that a handle means; one of a fixed tree may have none."""
        if not handle:
            with self._objects.file(self._nodes.get(node)) as file:
                yield file
            return
        opened = self._files.get(handle)
        if opened is None:
            raise _error(errno.EBADF)
        with opened.lock:
            yield opened.file

    def release(self, _node: int, body: bytes) -> Buffer:
        """Closes a file."""
        (handle,) = protocol.HANDLE_IN.unpack_from(body)
        self._files.pop(handle).file.close()
        return b""

    # ------------------------------------------------------------------------------------------ directories

    def open_directory(self, node: int, _body: bytes) -> Buffer:
        """Opens a directory."""
        found = self._nodes.get(node)
        handle = next(self._handles)
        self._folders[handle] = _Folder(self._objects.open_directory(found))
        return protocol.OPEN_OUT.pack(handle, Opened.KEEP_CACHE | Opened.CACHE_DIR if found.is_fixed else 0, 0)

    def names(self, node: int, body: bytes) -> Buffer:
        """Names in a directory."""
        return self._listed(self._nodes.get(node), body, plus=False)

    def entries(self, node: int, body: bytes) -> Buffer:
        """Names in a directory with what they lead to: the kernel knows them without asking for each."""
        return self._listed(self._nodes.get(node), body, plus=True)

    def _listed(self, node: Node, body: bytes, *, plus: bool) -> Buffer:
        handle, offset, room = protocol.READ_IN.unpack_from(body)
        listing = self._folders[handle].listing
        answer = bytearray()
        for number in range(offset, len(_DOTS)):
            unknown = protocol.pack_entry(0, 0, protocol.NOTHING) if plus else b""
            answer += unknown + protocol.pack_name(_DOTS[number], node.ino, stat.S_IFDIR, number + 1)
        at = max(0, offset - len(_DOTS))
        with listing.lock:
            for number, (name, entry, error) in enumerate(listing.since(at), at + len(_DOTS) + 1):
                if error is not None:
                    self._failed(node.shown + b"/" + name, error)
                elif entry is None:
                    continue
                if len(answer) + _room_of(name, plus=plus) > room:
                    break
                answer += self._item(node, name, entry, number, plus=plus)
        return answer

    def _item(self, parent: Node, name: bytes, entry: Entry | None, offset: int, *, plus: bool) -> bytes:
        """A name in an answer. One that could not be read is listed, and the error is for whoever asks about it."""
        if entry is None:
            unknown = protocol.pack_entry(0, 0, protocol.NOTHING) if plus else b""
            return unknown + protocol.pack_name(name, (1 << 64) - 1, 0, offset)
        ino = self._nodes.root_of(parent, name).ino(entry)
        known = self._known(parent, entry) if plus else b""
        return known + protocol.pack_name(name, ino, entry.mode, offset)

    def release_directory(self, _node: int, body: bytes) -> Buffer:
        """Closes a directory."""
        (handle,) = protocol.HANDLE_IN.unpack_from(body)
        folder = self._folders.pop(handle)
        folder.listing.close()
        folder.directory.close()
        return b""


def _valid_s(node: Node) -> int:
    return _FIXED_S if node.is_fixed else _CHANGING_S


def _attributes(node: Node, entry: Entry) -> bytes:
    """A fixed tree has no times of change: a moment has its own number there."""
    return protocol.pack_attributes(entry, node.ino, entry.mtime_ns if node.is_fixed else entry.ctime_ns)


def _room_of(name: bytes, *, plus: bool) -> int:
    """What a name needs in an answer."""
    return (protocol.ENTRY_BYTES if plus else 0) + protocol.NAME_BYTES + (len(name) + 7) // 8 * 8


def _fitting(value: bytes, room: int) -> bytes:
    """An attribute's value, or its length if no room was given."""
    if not room:
        return protocol.XATTR_SIZE_OUT.pack(len(value), 0)
    if len(value) > room:
        raise _error(errno.ERANGE)
    return value


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))
