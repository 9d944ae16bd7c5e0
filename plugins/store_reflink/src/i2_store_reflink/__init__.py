"""Keeps snapshots as clones of the replica's files, which share their blocks with it (FICLONE, on xfs and btrfs).

`clone` copies a tree, `store` keeps the copies beside the replica, `fitness` says whether that is possible.
"""
