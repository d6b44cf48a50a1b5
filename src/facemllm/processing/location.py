"""Boxes and landmarks <-> location tokens.

A coordinate is divided by the size of the picture and put into one of ``bins`` equal steps; it is read back
as the middle of its step. So one round trip moves a point by at most half a step, and every later one
moves it by nothing. Order is x before y, as everywhere in the library.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from facemllm.core.errors import TokenizationError
from facemllm.processing.special_tokens import MAX_LOCATION_BINS, location_tokens

_TOKEN = re.compile(r"<loc_(\d{3})>")


class LocationCodec:
    """Writes points of a picture as location tokens and reads them back.

    Args:
        bins: Steps along each side of the picture.

    Raises:
        TokenizationError: If ``bins`` is not within 1 and 1000.

    Example:
        >>> codec = LocationCodec(bins=100)
        >>> codec.encode_box((10, 20, 50, 80), size=(100, 200))
        '<loc_010><loc_010><loc_050><loc_040>'
        >>> codec.decode_box('<loc_010><loc_010><loc_050><loc_040>', size=(100, 200))
        (10.5, 21.0, 50.5, 81.0)
    """

    def __init__(self, bins: int = 100) -> None:
        if not 1 <= bins <= MAX_LOCATION_BINS:
            raise TokenizationError(
                "wrong number of location bins",
                given=bins,
                expected=f"1 to {MAX_LOCATION_BINS}",
                do="change bins",
            )
        self.bins = bins
        self.tokens = location_tokens(bins)

    def encode_points(
        self, points: Sequence[Sequence[float]], size: tuple[int, int], *, clip: bool = False
    ) -> str:
        """Return two tokens for each point.

        Args:
            points: (x, y) of each point, in pixels. Shape [P, 2].
            size: Width and height of the picture, in pixels.
            clip: Move points outside of the picture to its border; otherwise they are refused.

        Raises:
            TokenizationError: If a point is not finite, or is outside of the picture and not clipped.
        """
        return "".join(
            self._encode(value, side, clip) for point in points for value, side in _pairs(point, size)
        )

    def decode_points(self, text: str, size: tuple[int, int]) -> list[tuple[float, float]]:
        """Return the points (in pixels) that ``text`` spells; white space between tokens is allowed.

        Raises:
            TokenizationError: If ``text`` is anything but pairs of location tokens of this codec.
        """
        numbers = [int(number) for number in _TOKEN.findall(text)]
        if _TOKEN.sub("", text).strip() or len(numbers) % 2 or any(number >= self.bins for number in numbers):
            raise TokenizationError(
                "cannot read location tokens",
                given=repr(text),
                expected=f"pairs of tokens from {self.tokens[0]} to {self.tokens[-1]}, and nothing else",
                do="read boxes and landmarks with as many bins as they were written with",
            )
        width, height = size
        steps = [(number + 0.5) / self.bins for number in numbers]
        return [(x * width, y * height) for x, y in zip(steps[::2], steps[1::2], strict=True)]

    def encode_box(self, box: Sequence[float], size: tuple[int, int], *, clip: bool = False) -> str:
        """Return the four tokens of a box (x1, y1, x2, y2), in pixels.

        Raises:
            TokenizationError: If the corners are in the wrong order, or as for ``encode_points``.
        """
        x1, y1, x2, y2 = box
        if x2 < x1 or y2 < y1:
            raise TokenizationError(
                "box has its corners in the wrong order",
                given=tuple(box),
                expected="x1 <= x2 and y1 <= y2",
                do="pass (left, top, right, bottom); a box of (x, y, width, height) must be converted",
            )
        return self.encode_points([(x1, y1), (x2, y2)], size, clip=clip)

    def decode_box(self, text: str, size: tuple[int, int]) -> tuple[float, float, float, float]:
        """Return the box (x1, y1, x2, y2), in pixels, that ``text`` spells.

        Raises:
            TokenizationError: If ``text`` is not four location tokens with the corners in order.
        """
        points = self.decode_points(text, size)
        if len(points) != 2 or points[1][0] < points[0][0] or points[1][1] < points[0][1]:
            raise TokenizationError(
                "cannot read a box",
                given=repr(text),
                expected="four location tokens: left, top, right, bottom",
                do="treat the answer as unreadable",
            )
        return (*points[0], *points[1])

    def _encode(self, value: float, side: int, clip: bool) -> str:
        if clip and math.isfinite(value):
            value = min(max(value, 0), side)
        if side <= 0 or not 0 <= value <= side:  # also refuses NaN
            raise TokenizationError(
                "point is outside of the picture",
                given=f"coordinate {value}, picture side {side}",
                expected="pixels from 0 to the side of the picture",
                do="pass clip=True if points may lie outside",
            )
        return self.tokens[min(int(value / side * self.bins), self.bins - 1)]


def _pairs(point: Sequence[float], size: tuple[int, int]) -> zip[tuple[float, int]]:
    return zip((float(value) for value in point), size, strict=True)
