"""Sends the differences that a survey found. For the whole source this is a mirror."""
