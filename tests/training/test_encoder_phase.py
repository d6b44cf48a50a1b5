"""Encoder and heads, trained together on labelled faces."""

import numpy as np
import pytest
import torch

from facemllm.core.errors import ConfigError
from facemllm.data import FaceSample
from facemllm.encoders import create_encoder
from facemllm.model import FaceMLLM
from facemllm.training import encoder_phase
from facemllm.training.augment import augment, centre_views, normalise
from facemllm.training.crops import MARGIN, CropSet
from facemllm.training.encoder_phase import pretrain_encoder
from facemllm.training.parallel import Processes
from facemllm.training.progress import RunLog
from facemllm.training.recipe import EncoderPhase

SIDE = 64


BASE = {"name": "dlib-face", "image_size": SIDE, "stages": 3}


@pytest.fixture
def train(small_llm, faces, tmp_path):
    """Run a short phase on an encoder and return the model with its heads."""

    def run(encoder, **changes):
        torch.manual_seed(0)
        model = FaceMLLM.from_parts(
            encoder=create_encoder(**encoder), connector="mlp", language_model=small_llm
        )
        phase = {"steps": 30, "batch_size": 8, "lr": 3e-3, "ema": 0.5, "tasks": ("expression", "pose")}
        phase |= {"data": [{"dataset": "d"}]}
        log = RunLog(tmp_path / "log.jsonl")
        phase = EncoderPhase.model_validate(phase | changes)
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        pretrain_encoder(model, phase, [(faces, 1.0)], folder=folder, log=log, seed=0, progress=False)
        return model

    return run


@pytest.fixture
def faces():
    """Bright faces are happy, dark ones sad."""
    side = SIDE + 2 * MARGIN
    pixels = np.random.default_rng(0).integers(0, 90, (16, side, side, 3)).astype(np.uint8)
    pixels[::2] += 150
    samples = tuple(
        FaceSample(
            id=str(row),
            image="x.jpg",
            labels={"expression": ("happy", "sad")[row % 2], "pose": {"pan": 30.0, "tilt": 0.0}},
            dataset="d",
            licence="t",
        )
        for row in range(16)
    )
    return CropSet("d", samples, pixels)


@torch.no_grad()
def outputs(model, faces):
    images = centre_views(torch.from_numpy(faces.pixels), SIDE)
    features = model.encoder(normalise(images, model.encoder.mean, model.encoder.std))
    return {task: head(features) for task, head in model.heads.items()}


@pytest.mark.parametrize("batch_norm", [False, True])
def test_heads_learn_and_only_convolutions_are_left(train, faces, batch_norm):
    model = train(BASE, batch_norm=batch_norm)
    said = model.heads["expression"].predict(outputs(model, faces)["expression"])
    assert said == [sample.labels["expression"] for sample in faces.samples]
    assert set(model.encoder.state_dict()) == set(create_encoder(**BASE).state_dict())
    assert not model.heads.training
    assert set(model.config.heads) == {"expression", "pose"}


def test_one_view_is_trained_and_both_are_read(train, faces):
    plain, mirrored = (train(spec) for spec in (BASE, {"name": "mirrored", "base": BASE}))
    turned = CropSet("d", faces.samples, faces.pixels[:, :, ::-1].copy())
    one, other = outputs(plain, faces), outputs(plain, turned)
    both = outputs(mirrored, faces)
    torch.testing.assert_close(both["pose"], one["pose"])  # which way it looks, from the picture as it is
    torch.testing.assert_close(both["expression"], (one["expression"] + other["expression"]) / 2)


def test_a_part_of_a_batch_is_changed_as_it_is_in_the_whole(faces):
    pixels = torch.from_numpy(faces.pixels)
    whole, flips = augment(pixels, SIDE, torch.Generator().manual_seed(3))
    for keep in (slice(0, None, 2), slice(1, None, 3), slice(15, None, 16)):
        part, again = augment(pixels, SIDE, torch.Generator().manual_seed(3), keep=keep)
        torch.testing.assert_close(part, whole[keep], rtol=0, atol=1e-6)
        assert torch.equal(flips, again)
    assert not torch.allclose(part, whole[:1])


def test_a_batch_with_less_than_a_picture_for_each_process_is_refused(train, monkeypatch):
    class Nine(Processes):
        def __init__(self):
            super().__init__()
            self.count = 9

    monkeypatch.setattr(encoder_phase, "Processes", Nine)
    with pytest.raises(ConfigError, match=r"cannot be divided\n.*8 pictures a step, 9 processes"):
        train(BASE)
