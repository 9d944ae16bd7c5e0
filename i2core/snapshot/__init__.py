"""Snapshots of replicas: named past states, by hand or by schedule.

`catalog` has the snapshots of one rule, as they are noted on disk; `schedule` decides when one is due and which one
goes; `journal` is the store that works on any file system. What takes and removes them is in
`i2core.rule.backup.entry.snapshots`, since the replica must be at rest for it.
"""
