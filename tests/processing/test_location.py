"""Coordinates to tokens and back."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facemllm.core.errors import TokenizationError
from facemllm.processing.location import LocationCodec

sizes = st.tuples(st.integers(1, 20_000), st.integers(1, 20_000))
fractions = st.floats(0, 1)


@given(bins=st.integers(1, 1000), size=sizes, points=st.lists(st.tuples(fractions, fractions), max_size=5))
def test_round_trip_is_exact_after_the_first(bins, size, points):
    codec = LocationCodec(bins)
    points = [(x * size[0], y * size[1]) for x, y in points]
    text = codec.encode_points(points, size)
    decoded = codec.decode_points(text, size)
    assert codec.encode_points(decoded, size) == text
    assert codec.decode_points(codec.encode_points(decoded, size), size) == decoded
    for point, back in zip(points, decoded, strict=True):
        for value, read, side in zip(point, back, size, strict=True):
            assert abs(value - read) <= 0.5 * side / bins * (1 + 1e-9)


@given(
    bins=st.integers(1, 1000),
    size=sizes,
    xs=st.tuples(fractions, fractions),
    ys=st.tuples(fractions, fractions),
)
def test_box_round_trip(bins, size, xs, ys):
    (x1, x2), (y1, y2) = sorted(xs), sorted(ys)
    codec = LocationCodec(bins)
    text = codec.encode_box((x1 * size[0], y1 * size[1], x2 * size[0], y2 * size[1]), size)
    assert codec.encode_box(codec.decode_box(text, size), size) == text


@pytest.mark.parametrize("point", [(-1, 5), (5, 11), (math.nan, 5), (math.inf, 5)])
def test_points_outside_are_refused(point):
    with pytest.raises(TokenizationError, match="outside of the picture"):
        LocationCodec().encode_points([point], (10, 10))


def test_points_outside_can_be_clipped_but_not_invented():
    codec = LocationCodec(10)
    assert codec.encode_points([(-3, 12)], (10, 10), clip=True) == "<loc_000><loc_009>"
    with pytest.raises(TokenizationError, match="outside of the picture"):
        codec.encode_points([(math.nan, 5)], (10, 10), clip=True)


@pytest.mark.parametrize(
    "text", ["<loc_001>", "<loc_001> and <loc_002>", "<loc_010><loc_001>", "<loc_1><loc_2>"]
)
def test_other_text_is_not_read_as_points(text):
    with pytest.raises(TokenizationError, match="cannot read location tokens"):
        LocationCodec(10).decode_points(text, (10, 10))


def test_wrong_boxes_and_bins():
    codec = LocationCodec(10)
    with pytest.raises(TokenizationError, match="wrong order"):
        codec.encode_box((5, 0, 4, 9), (10, 10))
    with pytest.raises(TokenizationError, match="cannot read a box"):
        codec.decode_box("<loc_005><loc_000><loc_004><loc_009>", (10, 10))
    with pytest.raises(TokenizationError, match="wrong number of location bins"):
        LocationCodec(1001)
