"""Measurements against other packages and of speed; each is a command that writes a file."""
