"""Capture by inotify(7): the floor that works on any Linux host without any privilege.

`kernel` speaks to the kernel, `watches` knows which watch stands for which directory, `walk` places watches,
`translate` turns events into changes, `capture` runs them.
"""
