"""The history of a replica: every past state of it can be read and restored.

    records ──▶ plan ──▶ journal (frames) ──▶ driver        what is lost is durable before it is lost
                            │
                            └────▶ index ──▶ read           any moment, in time that does not depend on its age
                                     ▲
                        retention ───┤                      the past is thinned out
                        recovery ────┤                      a crash is undone
                        rewind ──────┘                      the replica is turned back

Each name is a package here. `record` opens a history and writes it. `model` has the values that
all of them speak in, and `moments` finds the moment that a person means. Imports go one way (see `pyproject.toml`):

    ask | rewind → record → recovery | retention → read → journal → plan | index → model

`i2core.api.present` is how it asks a replica and changes it by itself; what records do to it, the sink keeps whole as
the plan says (`Batch.keeps`). `i2core.rule.backup.replica.recording` opens it for a received rule.

Objects are known by numbers of their own (`oid`), not by paths or inodes. Rows say what was: "until seq s, X was Y".
Such a row stays true whatever happens later. Nothing here touches a disk but the SQLite files of the index.
"""
