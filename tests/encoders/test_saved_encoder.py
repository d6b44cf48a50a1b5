import json

import pytest
import torch

from facemllm.core.errors import CheckpointError
from facemllm.encoders import create_encoder


def test_it_is_the_encoder_of_the_model_and_says_what_builds_it_again(built_in):
    encoder = create_encoder("facemllm/facemllm-tiny").eval()
    pixels = torch.randn(2, 3, encoder.image_size, encoder.image_size)
    with torch.no_grad():
        assert torch.equal(encoder(pixels), built_in.encoder(pixels))
    assert encoder.spec == built_in.encoder.spec


def test_of_a_folder_with_region_tokens_around_it(small_model, tmp_path):
    small_model.save_pretrained(tmp_path)
    points = [[0.3, 0.35], [0.7, 0.35], [0.5, 0.5], [0.35, 0.7], [0.65, 0.7]]
    base = {"name": "facemllm", "source": str(tmp_path)}
    encoder = create_encoder("region-guided", base=base, points=points).eval()
    side = encoder.image_size
    pixels, landmarks = torch.randn(1, 3, side, side), torch.tensor([points]) * side
    with torch.no_grad():
        assert torch.equal(encoder.base(pixels), small_model.encoder(pixels))
        torch.testing.assert_close(encoder(pixels), encoder(pixels, landmarks))
        assert not torch.equal(encoder(pixels), encoder(pixels, landmarks * 0.8))
    again = create_encoder(**json.loads(json.dumps(encoder.spec)))
    again.load_state_dict(encoder.state_dict())
    with torch.no_grad():
        assert torch.equal(again.eval()(pixels), encoder(pixels))


def test_without_weights_it_is_the_architecture_alone(small_model, tmp_path):
    small_model.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    assert create_encoder("facemllm", source=tmp_path, pretrained=False).spec == small_model.encoder.spec
    with pytest.raises(CheckpointError, match="do not fill the encoder"):
        create_encoder("facemllm", source=tmp_path)


def test_what_is_no_model_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="no encoder to take over"):
        create_encoder("facemllm/nowhere")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="no encoder to take over"):
        create_encoder("facemllm", source=tmp_path)


def test_a_torn_file_is_refused(small_model, tmp_path):
    small_model.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"torn")
    with pytest.raises(CheckpointError, match="cannot read weights"):
        create_encoder("facemllm", source=tmp_path)
