"""Decides by excluded directories and file name patterns which objects a rule protects."""
