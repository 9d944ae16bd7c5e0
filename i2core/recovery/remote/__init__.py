"""A recovery between two nodes: the engine runs on the backup node, its destination is on the work node.

    backup node                                        work node
    Recovery ─▶ FarEnd ─▶ Caller ══ calls, answers ══▶ Served ─▶ LocalEnd
                  └──── sessions ══ own connections ═▶ pipe ───▶ the process that writes

The work node has made all connections. Nothing that the backup node says leads outside of the destination which the
work node was told by its own administrator.
"""
