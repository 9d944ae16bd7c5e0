"""What the kernel says, as values: `Event`, and `parse` of what one read of the group gave.

    event = event_len u32, version u8, reserved u8, metadata_len u16, mask u64, fd i32, pid i32, info*
    info  = type u8, pad u8, len u16, fsid 8 bytes, struct file_handle, [name, NUL, padding]

A *key* is fsid + file_handle as they stand there: it names one directory on one file system for ever, since a handle
carries the inode's generation.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from i2core.api import Code, StopRule

FSID_BYTES = 8
_VERSION = 3
_FID, _DFID_NAME, _OLD_DFID_NAME, _NEW_DFID_NAME = 1, 2, 10, 12
_event = struct.Struct("=IBBHQii").unpack_from
_info = struct.Struct("=BBH8xI").unpack_from
_HANDLE_AT = 20
"""Where the handle's own bytes begin in an info."""


class Event(NamedTuple):
    """One event. The kernel merges events of one object and name, so that `mask` may hold several happenings in no
    known order, and an event may stand where the first of them happened."""

    mask: int
    directory: bytes | None
    """Key of the directory that holds the name; None when the object was changed by its handle alone."""
    name: bytes
    """``b"."``: the directory itself."""
    target: bytes | None
    """Key of the object itself, where the group reports it."""
    to_directory: bytes | None = None
    to_name: bytes = b""
    """New directory and name, for RENAME."""


def parse(buffer: bytes) -> list[Event]:
    """The events of one read, oldest first.

    Raises:
        StopRule: the kernel speaks another version of the format.
    """
    events: list[Event] = []
    add = events.append
    at, total = 0, len(buffer)
    while at < total:
        length, version, _, head, mask, _, _ = _event(buffer, at)
        if version != _VERSION:
            raise StopRule(f"fanotify events of version {version}", code=Code.CAPTURE_UNFIT, next_step="update i2")
        end = at + length
        at += head
        directory: bytes | None = None
        to_directory: bytes | None = None
        target: bytes | None = None
        name = to_name = b""
        while at < end:
            kind, _, size, handle_bytes = _info(buffer, at)
            names = at + _HANDLE_AT + handle_bytes
            if kind in (_DFID_NAME, _OLD_DFID_NAME):
                directory = buffer[at + 4 : names]
                name = buffer[names : at + size].rstrip(b"\0")
            elif kind == _FID:
                target = buffer[at + 4 : names]
            elif kind == _NEW_DFID_NAME:
                to_directory = buffer[at + 4 : names]
                to_name = buffer[names : at + size].rstrip(b"\0")
            at += size
        add(Event(mask, directory, name, target, to_directory, to_name))
    return events
