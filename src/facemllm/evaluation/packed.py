"""What was said about thousands of pictures, held in little memory: what repeats is held once.

Every picture of an evaluation is asked the same questions. Kept as dictionaries, 40 answers with the
probabilities of their options cost 12 KB a picture, nearly all of it keys and boxes around numbers.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from sys import intern
from typing import Any

Packed = tuple[Any, Any]
"""Shape, shared by all values that have it, and leaves: an array of floats, or a tuple."""

_LEAF = None
_shapes: dict[Any, Any] = {}


def pack(value: Any) -> Packed:
    """Return a value of nested dictionaries with text keys, packed.

    Example:
        >>> one, other = pack({"How old?": "34"}), pack({"How old?": "50"})
        >>> one[0] is other[0], unpack(other)
        (True, {'How old?': '50'})
    """
    leaves: list[Any] = []
    shape = _split(value, leaves)
    shape = _shapes.setdefault(shape, shape)
    if leaves and all(type(leaf) is float for leaf in leaves):
        return shape, array("d", leaves)
    return shape, tuple(intern(leaf) if type(leaf) is str else leaf for leaf in leaves)


def unpack(packed: Packed) -> Any:
    """Return what was packed, equal to it, in the order it had."""
    shape, leaves = packed
    return _join(shape, iter(leaves))


def _split(value: Any, leaves: list[Any]) -> Any:
    if not isinstance(value, dict):
        leaves.append(value)
        return _LEAF
    return tuple((key, _split(one, leaves)) for key, one in value.items())


def _join(shape: Any, leaves: Iterator[Any]) -> Any:
    if shape is _LEAF:
        return next(leaves)
    return {key: _join(one, leaves) for key, one in shape}
