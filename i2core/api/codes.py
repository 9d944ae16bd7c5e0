"""Codes of all that can be reported: their numbers. `Code.text` has level and words, in English and Chinese.

3519-3591 are the numbers administrators know from the manual, all 57 of them; 3600 and up are ours. A number is never
used again for another meaning, and the gaps in the manual's row stay empty. docs/codes.md shows the table.
"""

from __future__ import annotations

import enum

from i2core.api.code_texts import TEXTS, CodeText, Level

__all__ = ["FIRST_OF_OURS", "Code", "CodeText", "Level"]

FIRST_OF_OURS = 3600


class Code(enum.IntEnum):
    """What happened, as a stable number; `text` has the words."""

    RULE_RESTARTED = 3519
    MIRROR_DONE = 3520
    NETWORK = 3522
    MIRROR_CANCELLED = 3523
    CONNECTION_STATE = 3524
    ILLEGAL_TASK = 3525
    CONFIG_GONE = 3526
    VOLUME_GROUP = 3527
    LOGICAL_VOLUME = 3528
    RULE_UNKNOWN = 3529
    FILE_CHECKSUM = 3530
    CDP_DESCRIPTION = 3531
    CDP_DESCRIPTION_READ = 3533
    CDP_DESCRIPTION_WRITE = 3534
    CDP_INCOMPLETE = 3535
    CDP_READ = 3536
    CDP_INDEX_READ = 3540
    CDP_RESTORE_WRITE = 3541
    CDP_VERSION = 3543
    WRITE_FRAGMENT = 3545
    VERSION_MISMATCH = 3546
    TIME_STAMP = 3547
    CDP_INDEX_WRITE = 3548
    CDP_DATA_WRITE = 3549
    CDP_INDEX_DAMAGED = 3550
    SNAPSHOT_REMOVE = 3551
    SEQUENCE = 3554
    REPLICATE_FILE = 3555
    VOLUME_CREATE = 3556
    VOLUME_FORMAT = 3557
    OPEN_SOURCE = 3559
    READ_SOURCE = 3560
    OPEN_REPLICA = 3563
    THREAD = 3564
    MESSAGE_TYPE = 3565
    VOLUME_GROUP_EXTEND = 3566
    RENAME_RECEIVED = 3568
    CDP_CONFIG = 3570
    ILLEGAL_PATH = 3571
    DUPLICATE_TASK = 3572
    SNAPSHOT_CREATE = 3573
    SAVE_ATTRIBUTES = 3574
    DUPLICATE_MESSAGE = 3575
    MOUNTED_TWICE = 3576
    MIRROR_LIST_WRITE = 3578
    MIRROR_LIST_READ = 3579
    CDP_DATABASE = 3580
    COMPRESS = 3581
    DECOMPRESS = 3582
    SNAPSHOT_MOUNT = 3583
    NAME_LOG = 3585
    ENCRYPT = 3586
    DECRYPT = 3587
    LOCKED = 3588
    MIRROR_FILE_WRITE = 3589
    MIRROR_FILE_READ = 3590
    READ_ATTRIBUTES = 3591

    USAGE = 3600
    INTERNAL = 3601
    PEER_REFUSED = 3602
    MASS_DELETE_HELD = 3603
    CAPTURE_LOST = 3604
    CAPTURE_UNFIT = 3605
    REPLICA_FULL = 3606
    SOURCE_GONE = 3607
    ATTRIBUTE_UNSUPPORTED = 3608
    PLUGIN_BROKEN = 3609
    WORK_FULL = 3610
    RPO_BROKEN = 3611
    RPO_HOLDS = 3612
    BANDWIDTH_ZERO = 3613
    STALLED = 3614
    SHORT = 3615
    REPLICA_UNFIT = 3616
    FLAGS_LEFT = 3618
    REPLICA_NO_INODES = 3624
    MESSAGE_TOO_LONG = 3625
    REPLICA_WAITS = 3626
    PEER_LIMIT = 3628
    NO_EFFECT = 3632
    CATALOG_DAMAGED = 3636
    STATE_UNUSABLE = 3637
    RIGHT_AGAIN = 3638
    TASK_INTERRUPTED = 3639
    HISTORY_GAP = 3645
    HISTORY_ENDED = 3646
    SOURCE_EXCHANGED = 3620
    REPLICA_GONE = 3621
    REPLICA_EXCHANGED = 3622
    POSITION_DAMAGED = 3623

    @property
    def text(self) -> CodeText:
        """Level and words of this code."""
        return TEXTS[self]
