"""What errors of system calls mean for an object of a tree: one set for each meaning, for both nodes and the drivers.

A set says what the caller does next. The same errno may mean different things in different calls: then it is in more
than one set, and the caller that knows the call chooses.
"""

from __future__ import annotations

import errno

GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
"""The path does not lead to an object of the tree, or no longer. ENOENT: the name, or a directory above it, is missing.
ENOTDIR: a directory above it was replaced by something else. ELOOP: by a symlink, and no symlink is followed."""

SCARCE = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
"""Descriptors or memory have run out for the moment."""

PASSING = (*SCARCE, errno.EAGAIN, errno.EINTR, errno.ESTALE)
"""Passing errors, which say nothing about the object: the work is tried again. EAGAIN: another program has a lease on
the file. ESTALE: a network file system has lost its handle."""

FULL = (errno.ENOSPC, errno.EDQUOT)
"""There is no room: on the disk, in a quota, or (ENOSPC) in a directory or for the attributes of one object."""

BROKEN = (errno.EIO, errno.EROFS, errno.EUCLEAN)
"""The file system fails as a whole, and a person must look at it. EROFS: it turns read-only after an error. EUCLEAN: it
has found its own structures damaged."""

READ_FAILED = (*PASSING, *BROKEN)
"""A read failed. The content may exist, so it is never taken as empty."""

UNFIT = (errno.ENAMETOOLONG, errno.EFBIG, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EILSEQ)
"""The file system does not support the request; waiting does not help. EINVAL, EILSEQ: a name with bytes that it cannot
store."""

NOT_EMPTY = (errno.ENOTEMPTY, errno.EEXIST)
"""A directory has something in it; POSIX allows either of both."""

OTHER_TYPE = (errno.EISDIR, errno.ENOTDIR, *NOT_EMPTY)
"""rename(2) cannot replace the present object: it is a directory, or a directory is to replace a non-directory."""
