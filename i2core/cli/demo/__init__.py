"""``i2 demo``: a work node and a backup node as real daemons on this host (`pair`), a workload that changes a tree
(`workload`), a view of it (`view`), and the proof at the end that both trees are equal (`verdict`)."""
