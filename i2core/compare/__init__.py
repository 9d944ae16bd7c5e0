"""Compares source and replica of a rule while it runs or is stopped, and changes nothing on either side.

    first look ──suspects──▶ second looks ──confirmed──▶ result ──▶ mend: the run of the rule repairs them

The first look is a survey, as in a mirror. What seems to differ may only have changed meanwhile, so it is looked at
again, until it stays as it is on the source and all earlier changes have reached the replica.
"""
