"""Plans records: what each of them destroys, and what becomes of objects that lose a name.

    record ──▶ plan ──▶ naming | contents | staging ──▶ capture ──▶ step (rows, old bytes, changes of the catalog)
                                                          │
                                                          └──────▶ view (the replica as it will be)

Planning changes nothing and writes nothing. So a batch can be planned as a whole while the one before it is carried
out, and a plan can be dropped.
"""
