"""A rule, by what its packages do; each imports those to its right and those below it:

    work side                                                                        backup side
    work ──▶ live ──▶ repair ──▶ mirror ──▶ survey ──▶ source ──▶ catalog              backup
                                     └────▶ outgoing ═══ records ═══ session ═════════▶ ═ sink

`life` below all of them holds values and pure decisions: states, status, recovery point. Neither side imports the
other: they share `i2core.wire`.
"""
