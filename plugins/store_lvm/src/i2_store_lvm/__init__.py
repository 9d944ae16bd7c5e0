"""Keeps snapshots as LVM snapshots of the volumes that the replica is on, classic or thin.

`commands` runs the tools of LVM, `volumes` reads what they report, `origins` finds the volumes of a replica, `store`
takes, mounts, extends and removes the snapshots.
"""
