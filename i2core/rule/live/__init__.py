"""From what a capture marks to records on their way, and what becomes of those that may not have arrived."""
