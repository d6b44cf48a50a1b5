import json

import pytest
import torch

from facemllm.core.errors import ConfigError
from facemllm.encoders import RegionGuidedEncoder, create_encoder
from facemllm.ops.regions import REGIONS, region_boxes, region_pool
from facemllm.processing.alignment import canonical_landmarks

SIDE = 128


@pytest.fixture(scope="module")
def encoder() -> RegionGuidedEncoder:
    torch.manual_seed(0)
    return create_encoder("region-guided", base="timm/resnet10t", image_size=SIDE, layer=-2).eval()


def test_region_tokens_come_behind_the_bases_tokens(encoder):
    pixels = torch.randn(2, 3, SIDE, SIDE)
    with torch.no_grad():
        tokens, base = encoder(pixels), encoder.base(pixels)
    assert tokens.shape == (2, 64 + 5, 256) == (2, encoder.num_tokens, encoder.embed_dim)
    torch.testing.assert_close(tokens[:, :64], base)


def test_without_landmarks_crops_count_as_aligned(encoder):
    pixels = torch.randn(2, 3, SIDE, SIDE)
    points = torch.tensor(canonical_landmarks(SIDE, 1.3)).expand(2, 5, 2)
    with torch.no_grad():
        torch.testing.assert_close(encoder(pixels), encoder(pixels, points))
        moved = encoder(pixels, points * 0.8)
    assert (moved[:, :64] == encoder(pixels)[:, :64]).all()
    assert (moved[:, 64:] - encoder(pixels)[:, 64:]).abs().max() > 1e-3


def test_a_region_token_holds_the_features_of_its_box_and_its_name(encoder):
    pixels = torch.randn(1, 3, SIDE, SIDE)
    points = torch.tensor([[[40.0, 50], [90, 50], [64, 75], [45, 100], [85, 100]]])
    with torch.no_grad():
        grid = encoder.base(pixels).transpose(1, 2).reshape(1, 256, 8, 8)
        wanted = region_pool(grid, region_boxes(points / SIDE)) + encoder.names
        torch.testing.assert_close(encoder(pixels, points)[:, 64:], wanted)


def test_each_region_sees_its_own_part_of_the_face():
    """Light where the mouth is changes the mouth's token more than the brows'."""

    class Brightness(torch.nn.Module):
        embed_dim, num_tokens, image_size = 1, 256, SIDE
        mean = std = (0.5, 0.5, 0.5)

        def __init__(self):
            super().__init__()
            self.spec = {"name": "brightness"}

        def forward(self, pixel_values):
            return torch.nn.functional.avg_pool2d(pixel_values.mean(1), 8).flatten(1)[..., None]

    encoder = RegionGuidedEncoder(Brightness())
    dark = torch.zeros(1, 3, SIDE, SIDE)
    light = dark.clone()
    x, y = canonical_landmarks(SIDE, 1.3)[3:].mean(0).astype(int)
    light[:, :, y - 6 : y + 6, x - 12 : x + 12] = 1
    change = (encoder(light) - encoder(dark))[0, 256:, 0].tolist()
    by_name = dict(zip(REGIONS, change, strict=True))
    assert by_name["mouth"] > 0.2
    assert by_name["mouth"] > 3 * by_name["jaw"]
    assert by_name["eyes"] == by_name["brows"] == 0


def test_the_spec_builds_it_again(encoder):
    again = create_encoder(**json.loads(json.dumps(encoder.spec))).eval()
    again.load_state_dict(encoder.state_dict())
    pixels = torch.randn(1, 3, SIDE, SIDE)
    torch.testing.assert_close(again(pixels), encoder(pixels))


def test_what_the_regions_mean_is_learned(encoder):
    encoder(torch.randn(1, 3, SIDE, SIDE)).sum().backward()
    assert encoder.names.grad.abs().min() > 0


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"regions": ["ears"]}, "cannot guide by these regions"),
        ({"regions": ["eyes", "eyes"]}, "cannot guide by these regions"),
        ({"regions": []}, "cannot guide by these regions"),
        ({"select": "full"}, "no square grid"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, match):
    with pytest.raises(ConfigError, match=match):
        create_encoder("region-guided", base="timm/vit_tiny_patch16_224", image_size=32, depth=1, **options)
