import json

import pytest
import torch
import transformers
from torch import nn

from facemllm.core.errors import CheckpointError, ConfigError
from facemllm.encoders import create_encoder

SMALL = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 2}
VISION = {**SMALL, "image_size": 32, "patch_size": 8}


TEXT = {**SMALL, "vocab_size": 50, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}


def make(kind: str) -> tuple[transformers.PreTrainedModel, nn.Module]:
    """A small model of a family, and its vision tower."""
    torch.manual_seed(0)
    if kind == "dinov2":
        config = transformers.Dinov2Config(
            hidden_size=32,
            mlp_ratio=2,
            num_hidden_layers=3,
            num_attention_heads=2,
            image_size=32,
            patch_size=8,
        )
        model = transformers.Dinov2Model(config).eval()
        return model, model
    families = {
        "clip": (transformers.CLIPConfig, transformers.CLIPModel),
        "siglip": (transformers.SiglipConfig, transformers.SiglipModel),
    }
    make_config, make_model = families[kind]
    model = make_model(make_config(text_config=TEXT, vision_config=VISION)).eval()
    return model, model.vision_model


@pytest.mark.parametrize(("kind", "prefix"), [("clip", 1), ("siglip", 0), ("dinov2", 1)])
@pytest.mark.parametrize("select", ["patch", "full"])
def test_tokens_are_the_hidden_states_of_the_checkpoints_tower(kind, prefix, select, tmp_path):
    model, tower = make(kind)
    model.save_pretrained(tmp_path)
    encoder = create_encoder(f"hf/{tmp_path}", layer=-2, select=select).eval()
    pixels = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        wanted = tower(pixel_values=pixels, output_hidden_states=True).hidden_states[-2]
        tokens = encoder(pixels)
    torch.testing.assert_close(tokens, wanted[:, prefix:] if select == "patch" else wanted)
    assert tokens.shape == (2, encoder.num_tokens, encoder.embed_dim)
    assert encoder.num_tokens == 16 + (prefix if select == "full" else 0)


def test_the_final_state_is_normalised(tmp_path):
    model, tower = make("dinov2")
    model.save_pretrained(tmp_path)
    encoder = create_encoder(f"hf/{tmp_path}", layer=None, select="full").eval()
    pixels = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(encoder(pixels), tower(pixel_values=pixels).last_hidden_state)


@pytest.mark.parametrize("kind", ["clip", "siglip", "dinov2"])
def test_another_size_interpolates_positions(kind, tmp_path):
    model, _ = make(kind)
    model.save_pretrained(tmp_path)
    encoder = create_encoder(f"hf/{tmp_path}", image_size=48)
    assert encoder(torch.randn(1, 3, 48, 48)).shape == (1, 36, 32)


def test_the_spec_builds_it_again_without_reading_the_checkpoint(tmp_path):
    model, _ = make("clip")
    model.save_pretrained(tmp_path / "gone")
    encoder = create_encoder(f"hf/{tmp_path / 'gone'}", select="full").eval()
    for file in (tmp_path / "gone").iterdir():
        file.unlink()
    again = create_encoder(**json.loads(json.dumps(encoder.spec))).eval()
    again.load_state_dict(encoder.state_dict())
    pixels = torch.randn(1, 3, 32, 32)
    torch.testing.assert_close(again(pixels), encoder(pixels))
    assert again.spec == encoder.spec


def test_mean_and_deviation_come_from_the_checkpoint_or_the_family(tmp_path):
    model, _ = make("clip")
    model.save_pretrained(tmp_path)
    assert create_encoder(f"hf/{tmp_path}").mean == (0.48145466, 0.4578275, 0.40821073)
    (tmp_path / "preprocessor_config.json").write_text(
        json.dumps({"image_mean": [0.1, 0.2, 0.3], "image_std": [1, 2, 3]})
    )
    encoder = create_encoder(f"hf/{tmp_path}")
    assert (encoder.mean, encoder.std) == ((0.1, 0.2, 0.3), (1.0, 2.0, 3.0))
    assert create_encoder("hf", config={"model_type": "siglip_vision_model", **VISION}).mean == (
        0.5,
        0.5,
        0.5,
    )


def test_a_checkpoint_that_lacks_weights_is_refused(tmp_path):
    from safetensors.torch import load_file, save_file

    model, _ = make("dinov2")
    model.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    weights.pop(next(name for name in weights if "layer.1" in name))
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="lacks weights"):
        create_encoder(f"hf/{tmp_path}")


def test_pickled_weights_are_refused(tmp_path):
    model, _ = make("dinov2")
    model.config.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="safetensors"):
        create_encoder(f"hf/{tmp_path}")


def test_a_text_model_has_no_vision_tower(tmp_path):
    transformers.LlamaConfig(**SMALL, vocab_size=50).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="no vision tower"):
        create_encoder(f"hf/{tmp_path}")


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="cannot load a vision tower"):
        create_encoder(f"hf/{tmp_path / 'nothing'}")


def test_options_that_do_not_fit_are_refused():
    config = {"model_type": "clip_vision_model", **VISION}
    with pytest.raises(ConfigError, match="no such layer"):
        create_encoder("hf", config=config, layer=-5)
    with pytest.raises(ConfigError, match="neither source nor config"):
        create_encoder("hf")
    with pytest.raises(ConfigError, match="cannot build a vision tower"):
        create_encoder("hf", config={"model_type": "nothing"})
    with pytest.raises(ConfigError, match="wrong options"):
        create_encoder("hf", colour=1)
