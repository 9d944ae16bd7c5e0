"""Decides by excluded directories and file name patterns what a rule protects."""
