"""``i2 demo``: a work node and a backup node as real daemons on this host (`pair`), a workload that changes a tree
(`workload`), a view of the figures (`view`), and the comparison of both trees at the end (`verdict`)."""
