"""The history of a replica: every past state of it can be read and restored.

    records ──▶ plan ──▶ frame ──▶ journal (plugin)         what is lost is durable before it is lost
                           │
                           └─────▶ index ──▶ past           any moment, in time that does not depend on its age
                                     ▲       difference
                                     │       pages (the log)
                                     │
                     merge, sweep ───┤                      the past is thinned out
                     undo ───────────┤                      a crash is undone
                     rewind ─────────┘                      the replica is turned back

Beside these: which moments are kept (`retention`, by a `clock` that no jump can hurry, `lock`, `objective`), the moment
that a person means (`moments`, `zones`), and the proof that nothing was changed (`verify`).

No sink is connected to it yet: `i2core.api.present` is the contract by which one will be.

Objects are known by numbers of their own (`oid`), not by paths or inodes. Rows say what was: "until seq s, X was Y".
Such a row stays true whatever happens later. Nothing here touches a disk but the SQLite files of the index.
"""
