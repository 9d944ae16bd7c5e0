"""A rule's life. Here lie values and pure decisions (`status`, `states`, `life`, `rpo`, `line`); the rooms:

    work side                                                                     backup side
    work ──▶ live ──▶ mirror ──▶ reading          (each knows those behind it)    backup
             live ──▶ outgoing ═══ records ═══════════════ session ═════════════▶ ═ sink

Nothing in one side's rooms is known on the other: they meet in `i2core.wire` alone.
"""
