"""A replica of plain files as its history sees it: the contract of `i2core.api.present`.

    FsPresent ──▶ Handles    open objects, by number
    FsReplica ──▶ Folder     directories in which names are looked up, given and taken
                    ├── Plain       a directory of the replica, or of an object that is kept
                    ├── Top         the root directories, by their number
                    ├── Kept        objects that are kept whole (`Stores`: one directory for each file system)
                    └── Staged      staging files, where the sink has them (`Staging`)

No path is walked: each name is opened in its open directory, and a symlink is never followed. What is open keeps its
handle wherever it is moved. The sink keeps objects in the same stores (`keeping`).
"""
