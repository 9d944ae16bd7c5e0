"""Serves trees as a read-only file system, through FUSE: a moment of the past, or a directory of this machine.

    kernel ⇄ /dev/fuse ⇄ Server (threads) ──▶ FileSystem (one answer for each request) ──▶ Tree

`mounted` is the way in. `protocol` has the kernel's messages, `nodes` what the kernel knows of, `objects` opens it,
`listing` reads directories, `server` has the threads. `device` mounts and unmounts, `point` decides where, `layer` puts
a throw-away layer above that can be written, `users` finds out who uses a mount.
"""
