"""What every encoder of the package keeps to: a new one needs one line here."""

import json

import pytest
import torch

from facemllm.encoders import ENCODERS, VisionEncoder, create_encoder

DLIB = {"name": "dlib-face", "image_size": 64, "stages": 3}
TIMM = {"name": "timm/resnet10t", "image_size": 64}
SPECS = [
    DLIB,
    TIMM,
    {"name": "mirrored", "base": DLIB},
    {"name": "region-guided", "base": TIMM},
    {"name": "facemllm/facemllm-tiny"},
]
OTHERWISE = {"hf"}  # needs a configuration of transformers: tests/encoders/test_transformers_encoder.py


@pytest.fixture(params=SPECS, ids=lambda spec: spec["name"])
def encoder(request):
    torch.manual_seed(0)
    return create_encoder(**request.param).eval()


def pixels(encoder):
    side = encoder.image_size
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))


def test_none_is_left_out():
    families = {spec["name"].partition("/")[0] for spec in SPECS}
    assert families | OTHERWISE == set(ENCODERS)


def test_tokens_are_as_announced_and_not_all_alike(encoder):
    with torch.no_grad():
        tokens = encoder(pixels(encoder))
    assert isinstance(encoder, VisionEncoder)
    assert tokens.shape == (2, encoder.num_tokens, encoder.embed_dim)
    assert torch.isfinite(tokens).all()
    assert not torch.allclose(tokens[0], tokens[1])


def test_a_picture_is_read_the_same_alone(encoder):
    images = pixels(encoder)
    with torch.no_grad():
        torch.testing.assert_close(encoder(images[:1]), encoder(images)[:1], rtol=1e-3, atol=1e-4)


def test_its_spec_is_json_and_builds_it_again(encoder):
    again = create_encoder(**json.loads(json.dumps(encoder.spec))).eval()
    again.load_state_dict(encoder.state_dict())
    with torch.no_grad():
        assert torch.equal(again(pixels(encoder)), encoder(pixels(encoder)))


def test_every_parameter_gets_a_gradient(encoder):
    encoder.train()(pixels(encoder)).square().sum().backward()
    without = [name for name, parameter in encoder.named_parameters() if parameter.grad is None]
    assert without == []
