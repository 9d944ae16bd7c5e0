"""An interval tree that needs no tree: the node of an interval is computed, and kept as one number in its row.

The seqs are the nodes of a virtual binary tree (1 is a leaf, 2 above 1 and 3, 4 above 2 and 6, …). An interval belongs
to the topmost node that lies in it. All intervals that contain T belong to a node on the way from the top down to T,
about 40 of them, and at each of them one index seek finds those that reach far enough (the relational interval tree:
Kriegel, Pötke, Seidl, VLDB 2000). So a listing at T costs what it shows, and not how many names ever were in the
directory.
"""

from __future__ import annotations


def fork(since: int, until: int) -> int:
    """The node of the interval since <= T < until."""
    last = until - 1
    if not last:
        return 0
    before = max(since, 1) - 1
    shift = (before ^ last).bit_length() - 1
    return (last >> shift) << shift


def way(seq: int, most: int) -> tuple[list[int], list[int]]:
    """Nodes of intervals that can contain `seq`: those up to it, and those above it. `most`: no seq is larger."""
    node = step = 1 << max(most, seq).bit_length()
    below: list[int] = []
    above: list[int] = []
    while node != seq and step:
        (below if node < seq else above).append(node)
        step >>= 1
        node += step if node < seq else -step
    return [*below, seq], above
