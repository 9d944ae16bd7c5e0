"""How objects are opened: the flags of open(2), by what the descriptor is for.

Nothing in a tree is followed: a symlink is data. Only the path to the top of a tree is the administrator's, and may
hold some (`BASE`).
"""

from __future__ import annotations

import os

BASE = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
"""A directory by a path that may hold symlinks, or ``..``."""
DIRECTORY = BASE | os.O_NOFOLLOW
"""A directory of a tree, to reach what is beneath it: search permission is enough."""
READABLE = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
"""A directory of a tree whose names are read, or that is locked or synced."""
OBJECT = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
"""Any object of a tree, to change its attributes."""
CONTENT = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""A file whose content is read. If a FIFO or a device has its name by now, opening does not block."""
NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
"""A file that is not there yet."""
