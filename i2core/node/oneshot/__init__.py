"""A rule made from one command line, and run without a daemon."""
