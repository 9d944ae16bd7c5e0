"""Checks files that hold a secret. A file that other users can read is refused, as ssh refuses such keys."""

from __future__ import annotations

import os
import stat

from i2core.config.values import Wrong, quoted
from i2core.config.words import Words

OTHERS = stat.S_IRWXG | stat.S_IRWXO


def check_key_file(path: bytes) -> None:
    """Checks the file without reading it.

    Raises:
        Wrong: missing, not a regular file, not readable for this process, or open to group or others.
    """
    name = quoted(path)
    try:
        found = os.stat(path)
    except OSError as error:
        raise Wrong(Words(f"{name} cannot be used: {error.strerror}", f"{name} 无法使用：{error.strerror}")) from None
    if not stat.S_ISREG(found.st_mode):
        raise Wrong(Words(f"{name} is not a regular file", f"{name} 不是普通文件"))
    if found.st_mode & OTHERS:
        mode = f"{stat.S_IMODE(found.st_mode):04o}"
        raise Wrong(
            Words(
                f"{name} has mode {mode}: group or others can use the key",
                f"{name} 的权限为 {mode}：组或其他用户可以使用该密钥",
            ),
            Words("mode 0600 or 0400 (chmod 600)", "权限 0600 或 0400（chmod 600）"),
        )
    if not os.access(path, os.R_OK):
        raise Wrong(Words(f"{name} cannot be read by this user", f"当前用户无法读取 {name}"))
