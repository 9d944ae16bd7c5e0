"""Small numbers for a small world: the product's limits, scaled down so that a file of some kilobytes is a large one.

Each limit keeps its relation to the others. A limit is set wherever a module under test has it, by its name.
"""

from __future__ import annotations

import xxhash

BLOCK = 1024
_ZEROS = xxhash.xxh3_128_digest(bytes(BLOCK))

LIMITS: dict[str, int | bytes] = {
    # content
    "BLOCK_BYTES": BLOCK,
    "READ_BYTES": 4 * BLOCK,
    "_READ_BYTES": 4 * BLOCK,
    "PIECE_BYTES": 2 * BLOCK,
    "WHOLE_BYTES": 8 * BLOCK,
    "ZERO_DIGEST": _ZEROS,
    "_ZERO_DIGEST": _ZEROS,
    "SLICE_BLOCKS": 6,
    "SLICE_BYTES": 6 * BLOCK,
    "SEND_BYTES": 3 * BLOCK,
    "RESUME_BYTES": 12 * BLOCK,
    "CHUNK_BLOCKS": 4,
    "INLINE_BLOCKS": 4,
    # batches and listings
    "JOB_BYTES": 8 * BLOCK,
    "JOB_RECORDS": 12,
    "BATCH_BYTES": 8 * BLOCK,
    "BATCH_RECORDS": 9,
    "CHUNK_ENTRIES": 5,
    "FIRST_FRAME_ENTRIES": 3,
    "FRAME_ENTRIES": 9,
    "WINDOW_BYTES": 24 * BLOCK,
    # what waits
    "MARKS": 8,
    "REMEMBERED": 8,
    "FOLD_AT": 12,
    "RANGES": 4,
    "ROOM_BYTES": 16 * BLOCK,
    "SEGMENT_BYTES": 8 * BLOCK,
    "FREE_BYTES": 4 * BLOCK,
    "_CACHED_DIRS": 4,
}
"""By name. A name that no module has is a mistake of this table (a test holds it to that)."""
