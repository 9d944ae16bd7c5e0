"""The index: SQLite files that are derived from the journal's frames, and can be made again from them.

    now.db          the present: which name leads to which object; batches, marks, the list of partitions
    rows-….db       partitions: rows about the past, split by `until`
    (memory)        the tail: rows that are in no partition yet

A partition has some 250,000 rows while it is filled: its B-trees then fit into memory, and the index writes a tenth of
what one large file would write. Merging makes larger ones.
"""
