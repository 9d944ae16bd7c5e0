"""Keeps snapshots as read-only subvolumes of btrfs, each made in a moment.

`subvolume` has the ioctls, `store` keeps the snapshots beside the replica, `fitness` says whether that is possible.
"""
