"""The history of a replica as segment files in one directory of the backup node.

`journal` is the driver. `store` carries out changes, with `writing` for frames and `manifest` for which segments there
are; `opening` decides what a crash has left. `shelf` knows what can be read, `reading` and `inspecting` read it by
`walk`. `home` is the directory, `reserve` the room for a full disk; `failures` classifies errors.
"""
