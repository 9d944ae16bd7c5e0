"""The replica as plain files on a local file system.

`sink` is the driver. `apply` carries out records with `objects`, `files` and `names`, which use `placing` and
`settling`. `kept` is what stays from call to call. `allowed`, `roots`, `directories` and `paths` find directories, and
`known` tells which are the right ones; `private` manages the private directories, `staging` the staging files in them;
`attributes`, `flags` and `content` handle metadata and content; `removal` and `aside` remove objects; `outcome`
classifies errors.
"""
