"""Sets and reads an object's metadata: owner, extended attributes, mode, modification time, in this order.

chown(2) clears setuid, setgid and file capabilities, so the owner is set first. An access ACL rewrites the group bits,
so the mode is set after it. The time is set last, since all other steps may change it.

A `target` is an open fd, or, for what must not be opened (symlinks, FIFOs, devices), the `proc_path` of an O_PATH fd:
the functions of `os` take both.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable

from i2_sink_fs.traits import Traits
from i2core.api import Code, Line, Meta, Times, Xattrs

_ACL_ACCESS = "system.posix_acl_access"
_INHERITED = ("system.posix_acl_", "security.")
"""Attributes that a new object may get from its directory."""
_UNSUPPORTED = (errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.EINVAL)
_CAP_CHOWN = 0
_READ_WRITE = stat.S_IRUSR | stat.S_IWUSR


def can_chown() -> bool:
    """True when this process may change owners: CAP_CHOWN is effective (capabilities(7))."""
    with open("/proc/self/status", "rb") as status:
        for line in status:
            if line.startswith(b"CapEff:"):
                return bool(int(line.split()[1], 16) >> _CAP_CHOWN & 1)
    return os.geteuid() == 0


class NoRoomForAttribute(Exception):
    """One object's attributes exceed what the file system keeps per object; the disk is not full."""


class Attributes:
    """Sets the metadata of objects; reports once for each kind what this process or file system cannot set."""

    def __init__(
        self, say: Callable[[str], None], traits: Callable[[int], Traits | None] = lambda device: None
    ) -> None:
        """`traits`: of the file system with this device number, as far as known."""
        self.owns = can_chown()
        self._say = say
        self._traits = traits
        self._said: set[str] = set()

    @property
    def sets_owner(self) -> bool:
        """False when an object was met whose owner cannot be set here."""
        return self.owns and "owner" not in self._said

    def unsupported(self, kind: str, place: str) -> None:
        """Notes that objects of this kind cannot be made or set here; only the first one is reported."""
        if kind not in self._said:
            self._said.add(kind)
            place = place or "."  # the replica's root
            code = Code.ATTRIBUTE_UNSUPPORTED
            line = f"{place}: {code.text.en}: {kind} ({code.text.next_en}; reported once) [{code.value}]"
            self._say(Line(line, code=code, obj=place, cause=kind))

    def settle(self, target: int | bytes, found: os.stat_result, meta: Meta, place: str, *, fresh: bool) -> None:
        """Makes the metadata of `target`, now `found`, exactly `meta`; calls only for what differs.

        `fresh`: we have just made it, so it has no attributes but those of its directory. The object itself is asked:
        the owner of the directory may give it a default ACL at any moment, and the mode would then widen what that one
        grants.

        Raises:
            OSError, NoRoomForAttribute: something could not be set for a reason other than this process's rights.
        """
        mode, rewritten, late = found.st_mode, False, None
        if found.st_uid != meta.uid or found.st_gid != meta.gid:
            if self.owns:
                try:
                    os.chown(target, meta.uid, meta.gid)
                except OSError as error:
                    if error.errno not in _UNSUPPORTED:  # EINVAL: an id that this user namespace does not map
                        raise
                    self.unsupported("owner", place)
                rewritten = bool(mode & (stat.S_ISUID | stat.S_ISGID))  # which of them are left depends on the object
            else:
                self.unsupported("owner", place)
        wanted = meta.xattrs
        if fresh and not wanted:
            wanted = () if _inherited(target) else None
        if wanted is not None:
            mine = found.st_uid == os.geteuid() and not stat.S_ISLNK(mode)
            if mine and mode & _READ_WRITE != _READ_WRITE:
                os.chmod(target, stat.S_IMODE(mode) | _READ_WRITE)  # user.* asks for the right to read and to write
                rewritten = True
            touched, late = self._set_xattrs(target, wanted, place)
            rewritten |= touched
        if (rewritten or (mode ^ meta.mode) & 0o7777) and not stat.S_ISLNK(mode):
            os.chmod(target, meta.mode & 0o7777)
        os.utime(target, ns=(meta.mtime_ns, meta.mtime_ns))
        traits = self._traits(found.st_dev)
        if traits is not None and traits.times.kept(meta.mtime_ns) != meta.mtime_ns:
            self.unsupported(_of_times(traits.times, meta.mtime_ns), place)
        if late is not None:
            raise late

    def _set_xattrs(self, target: int | bytes, wanted: Xattrs, place: str) -> tuple[bool, Exception | None]:
        """Makes the attributes exactly `wanted`. Returns whether that may have changed the mode, and the first error:
        one attribute that cannot be set keeps nothing else from being set."""
        try:
            present = os.listxattr(target)
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise
            present = []
        rewritten = False
        late: Exception | None = None
        left = set(present)
        for raw, value in wanted:
            name = os.fsdecode(raw)
            try:
                if name in left:
                    left.discard(name)
                    if os.getxattr(target, name) == value:
                        continue
                os.setxattr(target, name, value)
                rewritten |= name == _ACL_ACCESS
            except OSError as error:
                late = late or self._judge(error, target, name, place)
        for name in left:
            try:
                os.removexattr(target, name)
                rewritten |= name == _ACL_ACCESS
            except OSError as error:
                if error.errno != errno.ENODATA:
                    late = late or self._judge(error, target, name, place)
        return rewritten, late

    def _judge(self, error: OSError, target: int | bytes, name: str, place: str) -> Exception | None:
        space = name.partition(".")[0]
        if error.errno in _UNSUPPORTED and not (space == "user" and error.errno == errno.EACCES):
            self.unsupported(f"extended attributes {name if space == 'system' else space + '.*'}", place)
            return None
        if error.errno in (errno.ENOSPC, errno.E2BIG) and os.statvfs(target).f_bavail:
            # ext4 keeps an object's attributes in one block and returns ENOSPC when they do not fit.
            return NoRoomForAttribute(f"the file system has no room for its attribute {name!r}")
        return error


def _inherited(target: int | bytes) -> bool:
    """True when a new object has got attributes from its directory."""
    try:
        return any(name.startswith(_INHERITED) for name in os.listxattr(target))
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
        return False


def _of_times(times: Times, time_ns: int) -> str:
    """What of a time a file system cannot hold."""
    if time_ns > times.latest_ns:
        return f"modification times after {_year(times.latest_ns)}"
    if time_ns < times.second_ns:
        return f"modification times before {_year(times.earliest_ns)}"
    return f"modification times finer than {times.grain_ns / 1e9:g} s"


def _year(time_ns: int) -> int:
    """The year, as near as matters for words: of years that no calendar of the library reaches, too."""
    return 1970 + time_ns // (31_556_952 * 10**9)
