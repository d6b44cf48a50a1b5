"""Two views of a face in one token."""

import pytest
import torch

from facemllm.core.errors import ConfigError
from facemllm.encoders import MirroredEncoder, create_encoder


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    base = create_encoder("dlib-face", image_size=128)
    return create_encoder("mirrored", base=base).eval()


@pytest.fixture(scope="module")
def images():
    return torch.randn(2, 3, 128, 128, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_the_first_half_is_the_base_and_the_second_the_mean_of_both_views(encoder, images):
    first, second = encoder(images).chunk(2, -1)
    torch.testing.assert_close(first, encoder.base(images))
    grids = [encoder.base(view).unflatten(1, (3, 3)) for view in (images, images.flip(-1))]
    torch.testing.assert_close(second.unflatten(1, (3, 3)), (grids[0] + grids[1].flip(2)) / 2)


@torch.no_grad()
def test_only_the_first_half_changes_in_a_mirror(encoder, images):
    before, after = (encoder(view).mean(1).chunk(2, -1) for view in (images, images.flip(-1)))
    torch.testing.assert_close(before[1], after[1])
    assert not torch.allclose(before[0], after[0], rtol=1e-2)


@torch.no_grad()
def test_a_layer_of_the_base_is_widened(encoder, images):
    weight = torch.randn(3, encoder.base.embed_dim)
    tokens, mirrored = encoder(images).mean(1), encoder(images.flip(-1)).mean(1)
    plain = encoder.base(images).mean(1) @ weight.T
    torch.testing.assert_close(tokens @ encoder.widened(weight, mirrors=False).T, plain)
    both = (plain + encoder.base(images.flip(-1)).mean(1) @ weight.T) / 2
    for features in (tokens, mirrored):
        torch.testing.assert_close(features @ encoder.widened(weight, mirrors=True).T, both)


def test_its_spec_builds_it_again(encoder, images):
    again = create_encoder(**encoder.spec).eval()
    again.load_state_dict(encoder.state_dict())
    assert torch.equal(again(images), encoder(images))
    assert isinstance(again, MirroredEncoder)


def test_tokens_that_are_no_grid_are_refused():
    base = create_encoder("timm/vit_tiny_patch16_224", image_size=32, select="full")
    with pytest.raises(ConfigError, match="square grid"):
        create_encoder("mirrored", base=base)
