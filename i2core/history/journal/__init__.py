"""From a plan to the bytes of a frame, and from the journal to the index.

    plan ──▶ packing ──▶ frame ──▶ journal (driver) ──▶ take_in ──▶ index

Rows reach the index through frames alone, live as well as at start-up. So what a crash took from the index is in the
journal. `verify` proves that the journal is what was written. The driver's side is `i2core.api.journal`.
"""
