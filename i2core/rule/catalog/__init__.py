"""The catalog: what the replica holds, as last sent. On disk, one database for each rule."""
