"""The capture of choice for root: fanotify(7) with one mark per file system, whatever the number of directories.

`fanotify`, `handle` and `mounts` speak with the kernel, `event` reads what it says; `directories` finds the place of
a directory's handle, `roots` knows where the rule's roots are; `capture` puts them together.
"""
