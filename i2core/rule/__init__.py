"""A rule's life. Work side: `catalog` (what the replica holds, as sent), `reconcile` (a hint becomes records),
`mirror` (list, compare, send), `work` (the runner). Backup side: `backup` (the session's other end), `brake`.
`status` and `states` are values and pure decisions."""
