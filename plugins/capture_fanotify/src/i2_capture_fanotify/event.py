"""Events of the kernel as values: `Event`, and `parse` for the bytes of one read of the group.

A mark covers a whole file system, so most events are about files outside of all roots. `parse` skips those as bytes, at
a third of the cost of an `Event`.

    event = event_len u32, version u8, reserved u8, metadata_len u16, mask u64, fd i32, pid i32, info*
    info  = type u8, pad u8, len u16, fsid 8 bytes, struct file_handle, [name, NUL, padding]

A *key* is fsid + file_handle in these bytes. It identifies one directory on one file system permanently, because a
handle contains the inode's generation."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from typing import NamedTuple

from i2_capture_fanotify import fanotify
from i2core.api import Code, StopRule

FSID_BYTES = 8
_VERSION = 3
_FID, _DFID_NAME, _OLD_DFID_NAME, _NEW_DFID_NAME = 1, 2, 10, 12
_EVENT_BYTES = 24
_event = struct.Struct("=IBxHQ8xBxH8xI").unpack_from
"""An event's head, and that of its first info."""
_PAD = bytes(16)
"""Padding after the last event, which may have no info."""
_info = struct.Struct("=BBH8xI").unpack_from
_HANDLE_AT = 20
"""Offset of the handle's own bytes in an info."""
_new = tuple.__new__
_OF_CONTENT = fanotify.MODIFY | fanotify.ATTRIB | fanotify.CREATE


class Event(NamedTuple):
    """One event. The kernel merges events of one object and name, so `mask` may contain several changes in
    unknown order, and an event may be at the position of the first of them."""

    mask: int
    directory: bytes | None
    """Key of the directory that holds the name; None if the object was changed only through its handle."""
    name: bytes
    """``b"."``: the directory itself."""
    target: bytes | None
    """Key of the object itself, if the group reports it."""
    to_directory: bytes | None = None
    to_name: bytes = b""
    """New directory and name, for RENAME."""


class Noise(NamedTuple):
    """Events to skip. The sets may change while `parse` runs."""

    directories: AbstractSet[bytes]
    """Keys of directories that are outside of all roots."""
    files: AbstractSet[bytes]
    """Keys of files that have no other name than the one of the event."""


def parse(buffer: bytes, noise: Noise) -> Iterator[Event]:
    """The events of one read, oldest first, without those of files in `noise` that are created, changed, moved or
    removed in directories in `noise`. Each event is checked only after the one before it was consumed.

    Raises:
        StopRule: the kernel uses another version of the format.
    """
    directories, files = noise
    at, total = 0, len(buffer)
    buffer += _PAD
    while at < total:
        length, version, head, mask, kind, size, handle_bytes = _event(buffer, at)
        if version != _VERSION:
            raise StopRule(f"fanotify events of version {version}", code=Code.CAPTURE_UNFIT, next_step="update i2")
        end = at + length
        if (
            kind == _DFID_NAME
            and not mask & fanotify.ONDIR
            and head == _EVENT_BYTES
            and buffer[at + 28 : at + 44 + handle_bytes] in directories
        ):
            # The second info, up to the end of the event, is the key of the file.
            second = at + _EVENT_BYTES + size
            if not mask & _OF_CONTENT or (buffer[second] == _FID and buffer[second + 4 : end] in files):
                at = end
                continue
        yield _parsed(buffer, at + head, end, mask)
        at = end


def _parsed(buffer: bytes, at: int, end: int, mask: int) -> Event:
    """The event with the infos in `buffer` from `at` to `end`."""
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
    return _new(Event, (mask, directory, name, target, to_directory, to_name))
