"""Region pooling and point sampling against plain float64 references."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from facemllm.core.errors import ConfigError
from facemllm.ops import reference
from facemllm.ops.regions import REGIONS, region_boxes, region_pool, sample_points

FACE = torch.tensor([[[0.35, 0.4], [0.65, 0.4], [0.5, 0.55], [0.4, 0.7], [0.6, 0.7]]], dtype=torch.float64)


def bilinear(grid: Tensor, x: float, y: float) -> Tensor:
    """Read [D, h, w] in cells, where whole numbers are centres; beyond the border its value goes on."""
    height, width = grid.shape[1:]
    x, y = min(max(x, 0.0), width - 1.0), min(max(y, 0.0), height - 1.0)
    column, row = min(int(x), width - 2) if width > 1 else 0, min(int(y), height - 2) if height > 1 else 0
    total = torch.zeros(grid.shape[0], dtype=torch.float64)
    for i in (0, 1):
        for j in (0, 1):
            weight = (1 - abs(y - row - i)) * (1 - abs(x - column - j))
            if weight > 0:
                total += weight * grid[:, row + i, column + j].double()
    return total


def pool_reference(grid: Tensor, box: list[float], bins: int) -> Tensor:
    """The mean of 2x2 samples in each of bins x bins cells of a box, one after the other."""
    height, width = grid.shape[1:]
    x1, y1, x2, y2 = (min(max(value, 0.0), 1.0) for value in box)
    count = 2 * bins
    samples = [
        bilinear(
            grid,
            (x1 + (x2 - x1) * (j + 0.5) / count) * width - 0.5,
            (y1 + (y2 - y1) * (i + 0.5) / count) * height - 0.5,
        )
        for i in range(count)
        for j in range(count)
    ]
    return torch.stack(samples).mean(0)


boxes = st.lists(st.floats(-0.3, 1.3), min_size=4, max_size=4).map(
    lambda v: [min(v[0], v[2]), min(v[1], v[3]), max(v[0], v[2]), max(v[1], v[3])]
)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(boxes, min_size=1, max_size=4),
    st.integers(2, 7),
    st.integers(2, 7),
    st.integers(1, 4),
    st.integers(0, 99),
)
def test_pooling_agrees_with_the_reference(rows, height, width, bins, seed):
    grid = torch.randn(
        1, 3, height, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    pooled = region_pool(grid, torch.tensor([rows], dtype=torch.float64), bins=bins)
    wanted = torch.stack([pool_reference(grid[0], row, bins) for row in rows])
    torch.testing.assert_close(pooled[0], wanted, atol=1e-9, rtol=1e-9)
    specified = reference.region_pool(grid, torch.tensor([rows], dtype=torch.float64), bins=bins)
    torch.testing.assert_close(specified[0], wanted, atol=1e-9, rtol=1e-9)


def test_the_reference_can_tell_a_shift_of_half_a_cell():
    grid = torch.randn(1, 3, 6, 6, dtype=torch.float64)
    box = [0.2, 0.3, 0.6, 0.8]
    shifted = [value + 0.5 / 6 for value in box]
    wanted = pool_reference(grid[0], box, 3)
    assert (region_pool(grid, torch.tensor([[shifted]]))[0, 0] - wanted).abs().max() > 1e-3


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.floats(-0.2, 1.2), st.floats(-0.2, 1.2)), min_size=1, max_size=5),
    st.integers(2, 7),
    st.integers(2, 7),
)
def test_sampling_agrees_with_the_reference(points, height, width):
    grid = torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = sample_points(grid, torch.tensor([points], dtype=torch.float64))
    wanted = torch.stack([bilinear(grid[0], x * width - 0.5, y * height - 0.5) for x, y in points])
    torch.testing.assert_close(found[0], wanted, atol=1e-9, rtol=1e-9)
    specified = reference.sample_points(grid, torch.tensor([points], dtype=torch.float64))
    torch.testing.assert_close(specified[0], wanted, atol=1e-9, rtol=1e-9)


def test_each_picture_is_read_with_its_own_boxes():
    grid = torch.randn(3, 4, 5, 5)
    rows = torch.rand(3, 2, 4).sort(-1).values
    together = region_pool(grid, rows)
    for index in range(3):
        torch.testing.assert_close(
            together[index : index + 1], region_pool(grid[index : index + 1], rows[index : index + 1])
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_low_precision_is_as_good_as_the_reference(dtype):
    torch.manual_seed(0)
    grid, boxes = torch.randn(2, 5, 9, 7).to(dtype), torch.rand(2, 6, 4).sort(-1).values
    for op, of_reference, where in (
        (region_pool, reference.region_pool, boxes),
        (sample_points, reference.sample_points, boxes[..., :2]),
    ):
        exact = of_reference(grid.double(), where.double())
        ulp = torch.finfo(dtype).eps * grid.abs().max().double()
        limit = 2 * (of_reference(grid, where) - exact).abs().max() + ulp
        assert op(grid, where).dtype == dtype
        assert (op(grid, where) - exact).abs().max() <= limit
        assert (op(grid, where + 0.05) - exact).abs().max() > limit  # can fail


def test_gradients_are_exact():
    grid = torch.randn(1, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    rows = torch.tensor([[[0.1, 0.2, 0.7, 0.9]]], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda g: region_pool(g, rows), grid)
    assert torch.autograd.gradcheck(lambda g: sample_points(g, rows[..., :2]), grid)


def test_bfloat16_features_keep_their_type():
    grid = torch.randn(1, 2, 4, 4, dtype=torch.bfloat16)
    pooled = region_pool(grid, torch.tensor([[[0.0, 0.0, 1.0, 1.0]]]))
    assert pooled.dtype == torch.bfloat16
    torch.testing.assert_close(
        pooled, region_pool(grid.float(), torch.tensor([[[0.0, 0.0, 1.0, 1.0]]])).bfloat16()
    )


def test_regions_hold_their_landmarks_and_are_in_order():
    found = dict(zip(REGIONS, region_boxes(FACE)[0].tolist(), strict=True))
    for name, indices in {"eyes": (0, 1), "nose": (2,), "mouth": (3, 4)}.items():
        x1, y1, x2, y2 = found[name]
        for x, y in FACE[0, list(indices)].tolist():
            assert x1 < x < x2
            assert y1 < y < y2
    middles = [(found[name][1] + found[name][3]) / 2 for name in ("brows", "eyes", "nose", "mouth", "jaw")]
    assert middles == sorted(middles)


def test_regions_follow_shift_size_and_a_quarter_turn():
    base = region_boxes(FACE)
    torch.testing.assert_close(region_boxes(FACE * 200 + 7), base * 200 + 7)
    turned = torch.stack([-FACE[..., 1], FACE[..., 0]], -1)  # by 90 degrees
    x1, y1, x2, y2 = base.unbind(-1)
    torch.testing.assert_close(region_boxes(turned), torch.stack([-y2, x1, -y1, x2], -1))


@pytest.mark.parametrize("degrees", [10, 45, 130])
def test_a_tilted_head_has_larger_boxes_around_the_same_centres(degrees):
    turn = math.radians(degrees)
    matrix = torch.tensor(
        [[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]], dtype=torch.float64
    )
    base, tilted = region_boxes(FACE), region_boxes(FACE @ matrix.T)
    centres = (base[..., :2] + base[..., 2:]) / 2
    torch.testing.assert_close((tilted[..., :2] + tilted[..., 2:]) / 2, centres @ matrix.T)
    nose = list(REGIONS).index("nose")  # a square grows by |cos| + |sin|
    growth = abs(math.cos(turn)) + abs(math.sin(turn))
    side = tilted[0, nose, 2] - tilted[0, nose, 0]
    torch.testing.assert_close(side, growth * (base[0, nose, 2] - base[0, nose, 0]))


def test_a_profile_keeps_the_size_of_its_regions():
    profile = FACE.clone()
    profile[..., 0] = 0.5 + (profile[..., 0] - 0.5) * 0.1
    front, side = (b[..., 3] - b[..., 1] for b in (region_boxes(FACE), region_boxes(profile)))
    assert ((side / front) > 0.8).all()


@pytest.mark.parametrize(
    ("shape", "names"), [((1, 5, 2), ["ears"]), ((5, 2), ["eyes"]), ((1, 68, 2), ["eyes"])]
)
def test_unknown_regions_and_wrong_landmarks_are_refused(shape, names):
    with pytest.raises(ConfigError, match="cannot place face regions"):
        region_boxes(torch.zeros(shape), names)
