"""Small numbers for a small world: the product's limits, scaled down so that a file of some kilobytes is a large one.

Each limit keeps its relation to the others. A limit is set in the module that defines it, and in all that imported it.
"""

from __future__ import annotations

from typing import Any

import xxhash

BLOCK = 1024
_ZEROS = xxhash.xxh3_128_digest(bytes(BLOCK))

LIMITS: dict[str, dict[str, Any]] = {
    "i2core.api.records": {"BLOCK_BYTES": BLOCK},
    "i2core.pipeline.blocks": {"READ_BYTES": 4 * BLOCK, "PIECE_BYTES": 2 * BLOCK, "ZERO_DIGEST": _ZEROS},
    "i2core.rule.drafting": {"WHOLE_BYTES": 8 * BLOCK},
    "i2core.rule.content": {
        "SLICE_BLOCKS": 6,
        "SLICE_BYTES": 6 * BLOCK,
        "SEND_BYTES": 3 * BLOCK,
        "RESUME_BYTES": 12 * BLOCK,
    },
    "i2core.rule.catalog": {"CHUNK_BLOCKS": 4},
    "i2core.rule.reconcile": {"JOB_BYTES": 8 * BLOCK, "JOB_RECORDS": 12},
    "i2core.rule.mirror": {
        "CHUNK_ENTRIES": 5,
        "FIRST_FRAME_ENTRIES": 3,
        "FRAME_ENTRIES": 9,
        "BATCH_BYTES": 8 * BLOCK,
        "BATCH_RECORDS": 9,
    },
    "i2core.rule.live": {"MARKS": 8},
    "i2core.rule.outbox": {"ROOM_BYTES": 16 * BLOCK},
    "i2core.rule.spool": {"SEGMENT_BYTES": 8 * BLOCK, "FREE_BYTES": 4 * BLOCK},
    "i2core.rule.dirty": {"FOLD_AT": 50, "RANGES": 4},
    "i2core.wire.listing": {"INLINE_BLOCKS": 4},
    "i2core.wire.session": {"WINDOW_BYTES": 24 * BLOCK},
    "i2_sink_fs.content": {"_READ_BYTES": 4 * BLOCK, "_ZERO_DIGEST": _ZEROS},
    "i2_sink_fs.paths": {"_CACHED_DIRS": 4},
}
"""By module and name. A name that a module does not have is a mistake of this table (a test holds it to that)."""
