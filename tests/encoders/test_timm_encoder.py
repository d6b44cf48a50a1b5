import json

import pytest
import torch
from torch import nn

from facemllm.core.errors import ConfigError, RegistryError
from facemllm.encoders import VisionEncoder, create_encoder


@pytest.mark.parametrize(
    ("arch", "size", "tokens"),
    [
        ("resnet10t", 96, 9),  # a feature map
        ("vit_tiny_patch16_224", 96, 36),  # tokens, with one of class in front
        ("mobilenetv3_small_050", 64, 4),
        ("swin_tiny_patch4_window7_224", 64, 4),  # channels last
    ],
)
def test_any_layout_becomes_tokens(arch, size, tokens):
    encoder = create_encoder(f"timm/{arch}", image_size=size)
    out = encoder(torch.randn(2, 3, size, size))
    assert out.shape == (2, tokens, encoder.embed_dim) == (2, encoder.num_tokens, encoder.embed_dim)
    json.dumps(encoder.spec)


def test_tokens_are_timms_own_features_row_by_row():
    encoder = create_encoder("timm/resnet10t", image_size=96).eval()
    pixels = torch.randn(1, 3, 96, 96)
    with torch.no_grad():
        features = encoder.model.forward_features(pixels)  # [1, D, 3, 3]
        tokens = encoder(pixels)
    for row in range(3):
        for column in range(3):
            torch.testing.assert_close(tokens[:, 3 * row + column], features[:, :, row, column])


def test_channels_last_maps_are_not_transposed():
    encoder = create_encoder("timm/swin_tiny_patch4_window7_224", image_size=64).eval()
    pixels = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        features = encoder.model.forward_features(pixels)  # [1, 2, 2, D]
        torch.testing.assert_close(encoder(pixels), features.flatten(1, 2))


@pytest.mark.parametrize("select", ["patch", "full"])
def test_a_layer_of_a_transformer_is_what_its_block_gives(select):
    torch.manual_seed(0)
    encoder = create_encoder(
        "timm/vit_tiny_patch16_224", image_size=64, layer=-2, select=select, depth=4
    ).eval()
    assert len(encoder.model.blocks) == 3  # the last block is gone, so nothing stays untrained
    seen = []
    encoder.model.blocks[-1].register_forward_hook(lambda module, args, out: seen.append(out))
    with torch.no_grad():
        tokens = encoder(torch.randn(1, 3, 64, 64))
    assert tokens.shape == (1, 16 + (select == "full"), 192)
    torch.testing.assert_close(tokens, seen[0] if select == "full" else seen[0][:, 1:])


def test_a_layer_of_a_convolutional_network_is_a_stage():
    encoder = create_encoder("timm/resnet10t", image_size=64, layer=-2)
    assert (encoder.num_tokens, encoder.embed_dim) == (16, 256)
    names = {name for name, _ in encoder.named_parameters()}
    assert not any("layer4" in name for name in names)


def test_every_weight_learns():
    encoder = create_encoder("timm/vit_tiny_patch16_224", image_size=32, layer=-2, depth=2)
    encoder(torch.randn(2, 3, 32, 32)).sum().backward()
    assert [name for name, p in encoder.named_parameters() if p.grad is None] == []


def test_the_spec_builds_it_again():
    first = create_encoder("timm/vit_tiny_patch16_224", image_size=32, layer=-2, select="full", depth=3)
    again = create_encoder(**json.loads(json.dumps(first.spec)))
    again.load_state_dict(first.state_dict())
    pixels = torch.randn(1, 3, 32, 32)
    torch.testing.assert_close(first.eval()(pixels), again.eval()(pixels))
    assert again.spec == first.spec
    assert (again.mean, again.std, again.image_size) == (first.mean, first.std, 32)


def test_building_leaves_batch_norm_as_it_was():
    encoder = create_encoder("timm/resnet10t", image_size=64)
    assert encoder.training
    assert all(m.num_batches_tracked == 0 for m in encoder.modules() if isinstance(m, nn.BatchNorm2d))


def test_unknown_models_are_refused_with_a_hint():
    with pytest.raises(ConfigError, match=r"did you mean .*resnet50"):
        create_encoder("timm/resnet5o")


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"image_size": 8}, "pictures of this size|cannot build|does not fit the patches"),
        ({"layer": 40}, "no such layer"),
        ({"select": "class"}, "cannot select tokens"),
        ({"colour": 1}, "cannot build"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, match):
    with pytest.raises(ConfigError, match=match):
        create_encoder("timm/vit_tiny_patch16_224", **{"depth": 2, **options})


@pytest.mark.parametrize("arch", ["vit_tiny_patch16_224", "eva02_tiny_patch14_224"])
def test_a_size_that_patches_do_not_fill_is_refused(arch):
    with pytest.raises(ConfigError, match=r"last 1 pixels(?s:.)*pass image_size=112 or 1(28|26)"):
        create_encoder(f"timm/{arch}", image_size=113, depth=1)


def test_the_size_a_model_was_trained_at_is_taken_though_patches_do_not_fill_it():
    small = {"depth": 1, "embed_dim": 16, "num_heads": 2, "mlp_ratio": 1}
    first = create_encoder("timm/vit_so400m_patch14_siglip_384", **small)
    assert first.spec["image_size"] == 384
    assert create_encoder(**first.spec).num_tokens == first.num_tokens == 27**2


def test_what_pads_takes_any_size():
    assert create_encoder("timm/resnet10t", image_size=113).num_tokens == 16
    pads = {"dynamic_img_size": True, "dynamic_img_pad": True}
    assert create_encoder("timm/vit_tiny_patch16_224", image_size=113, depth=1, **pads).num_tokens == 64


def test_an_instance_passes_through_and_is_checked():
    encoder = create_encoder("timm/resnet10t", image_size=64)
    assert create_encoder(encoder) is encoder
    with pytest.raises(ConfigError, match="without embed_dim, num_tokens"):
        create_encoder(nn.Identity())
    with pytest.raises(ConfigError, match="with options"):
        create_encoder(encoder, image_size=3)


def test_a_users_own_encoder_is_accepted():
    class Mean(VisionEncoder):
        def __init__(self):
            super().__init__()
            self.embed_dim, self.num_tokens, self.image_size, self.spec = 3, 1, 8, {"name": "mean"}

        def forward(self, pixel_values):
            return pixel_values.mean((2, 3))[:, None]

    own = Mean()
    assert create_encoder(own) is own


def test_unknown_names_list_the_known_ones():
    with pytest.raises(RegistryError, match="region-guided"):
        create_encoder("region-guide")
