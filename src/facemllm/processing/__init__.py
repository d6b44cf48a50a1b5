"""Pixels and tokens, in one place because they must agree."""
