"""A rule's open drivers: chosen by its config, and chained so that several act as one."""
