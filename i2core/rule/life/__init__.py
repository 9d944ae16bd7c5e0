"""The life of a rule: its states, its status, its recovery point, and how it is reported."""
