"""Writes the history of a replica while it is replicated, and opens it for everybody who reads the past.

    records ──▶ Recorder ──▶ plan ──▶ FrameWriter ──▶ journal     durable before anything is lost
                   │                      └─────────▶ index       readers know it
                   └──▶ sink.apply (keeps)
                            │
                            └──▶ settle: who made what; or, after a failure, the frame is cut short

`open_history` makes replica, journal and index agree again after a crash; `History` is what it gives. Whoever reads and
whoever writes are in worker threads, and take turns (`Turns`). The journal is awaited while nobody has the turn.
"""
