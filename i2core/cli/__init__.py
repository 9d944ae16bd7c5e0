"""The `i2` command: one module per command group, imported only when it is used."""
