"""Measurements against what a user would install instead, and of speed; each is a command that writes a file."""
