"""What of the past is kept, and how the rest is given up.

    clock, lock ──▶ policy ──▶ kept ──▶ merge ──▶ sweep          objective: what the config promises, and what is there

First it is decided which moments stay (`policy`), by a clock that no jump can hurry. Then rows without a kept moment
are left out (`merge`), and at last objects are deleted that no row names any more (`sweep`). All that gives up
something of the past for good is in this package.
"""
