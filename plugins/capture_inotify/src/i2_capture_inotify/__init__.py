"""Capture by inotify(7), which works on any Linux host without privileges.

`kernel` calls the kernel, `watches` maps watches to directories, `walk` places watches, `translate` turns events into
changes, `events` holds those that must wait, `unwatched` reports the trees without a watch, `capture` runs them.
"""
