"""The replica as plain files on a local file system.

`system` binds three system calls, `paths` resolves names beneath a root, `attributes` and `content` handle what a file
carries, `removal` and `aside` take objects away, `apply` turns records into calls, `sink` is the driver.
"""
