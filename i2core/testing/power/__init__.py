"""Power cuts on real file systems: a disk whose writes and flushes are recorded, and what a cut at any of them leaves.

`RecordedDisk` is a file system (ext4, xfs, btrfs) on a loop device on a file that a small FUSE server (`server`) keeps.
The server records each write and each flush. `crash_image` then makes the disk as it may be after a power cut at any
place of the record: all writes before the last flush, and of those after it any, in part as well. Linux and root only.
"""

from i2core.testing.power.disk import RecordedDisk, mounted_image, recorded_disk
from i2core.testing.power.record import Record, crash_image, read_record

__all__ = ["Record", "RecordedDisk", "crash_image", "mounted_image", "read_record", "recorded_disk"]
