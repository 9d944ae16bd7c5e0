"""What a history consists of: its rows, changes of the catalog and log records, and the sizes that they are built on.

All other packages speak in these values, so they lie below all of them, and know neither a disk nor a database.
"""
