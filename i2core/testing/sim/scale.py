"""The product's limits scaled down for a small world: a file of some kilobytes is a large file there.

Each limit keeps its relation to the others. A limit is set, by its name, in each module under test that has it.
"""

from __future__ import annotations

import xxhash

from i2core.history.model.grain import Grain

BLOCK = 1024
_ZEROS = xxhash.xxh3_128_digest(bytes(BLOCK))

LIMITS: dict[str, int | bytes | tuple[float, float] | list[bytearray] | Grain] = {
    # content
    "BLOCK_BYTES": BLOCK,
    "READ_BYTES": 4 * BLOCK,
    "_READ_BYTES": 4 * BLOCK,
    "_idle_buffers": [],  # of that size; else the next user of the process would read by a small one
    "PIECE_BYTES": 2 * BLOCK,
    "WHOLE_BYTES": 8 * BLOCK,
    "ZERO_DIGEST": _ZEROS,
    "SLICE_BLOCKS": 6,
    "SLICE_BYTES": 6 * BLOCK,
    "SEND_BYTES": 3 * BLOCK,
    "RESUME_BYTES": 12 * BLOCK,
    "CHUNK_BLOCKS": 4,
    "INLINE_BLOCKS": 4,
    # batches and listings
    "BATCH_BYTES": 8 * BLOCK,
    "BATCH_RECORDS": 9,
    "NAMES_BYTES": 12 * 70,
    "PAGE_BYTES": 3 * 70,
    "ANSWER_BYTES": 5 * 70,
    "MESSAGE_BYTES": 9 * BLOCK,
    "FRAME_LIMIT": 10 * BLOCK,
    "CHUNK_ENTRIES": 5,
    "FIRST_FRAME_ENTRIES": 3,
    "FRAME_ENTRIES": 9,
    "WINDOW_BYTES": 24 * BLOCK,
    "LEAST_BYTES": 8 * BLOCK,
    # waiting data
    "RETRY_S": (0.5, 8.0),
    "MARKS": 8,
    "REMEMBERED": 8,
    "COALESCE_AT": 12,
    "RANGES": 4,
    "ROOM_BYTES": 16 * BLOCK,
    "SEGMENT_BYTES": 8 * BLOCK,
    "FREE_BYTES": 4 * BLOCK,
    "_CACHED_DIRS": 4,
    # histories
    "GRAIN": Grain(hole=512, block=2 * BLOCK, wider=4, whole_every=4),
    "FRAME_OLD_BYTES": 4 * BLOCK,
    "TAIL_ROWS": 12,
    "PARTITION_ROWS": 60,
}
"""The limits by name. A name that no module has is a mistake in this table, which a test finds."""
