"""Measured numbers into pages, between markers such as ``<!-- numbers -->`` and ``<!-- /numbers -->``."""

from __future__ import annotations

import re
from collections.abc import Mapping


def filled(text: str, blocks: Mapping[str, str]) -> tuple[str, int]:
    r"""Return a page with each block between its markers, and how many pairs of markers there were.

    Example:
        >>> filled("<!-- a -->old<!-- /a -->", {"a": "new"})
        ('<!-- a -->\nnew\n<!-- /a -->', 1)
    """
    pattern = re.compile(rf"(<!-- ({'|'.join(map(re.escape, blocks))}) -->).*?(<!-- /\2 -->)", re.DOTALL)
    return pattern.subn(lambda marks: f"{marks[1]}\n{blocks[marks[2]]}\n{marks[3]}", text)
