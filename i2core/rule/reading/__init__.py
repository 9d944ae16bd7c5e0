"""From the source to records: what is on disk, against what was sent before (`catalog`), read and drafted."""
