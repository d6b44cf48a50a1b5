"""Real parts, made once: a small model with random weights, and a real portrait."""

import os
from importlib.resources import files
from pathlib import Path

import pytest
import torch
from hypothesis import settings

# CI repeats the same examples, so that a red build is a change's own doing; HYPOTHESIS_PROFILE=search looks
# for new ones.
settings.register_profile("repeat", derandomize=True, deadline=None)
settings.register_profile("search", max_examples=1000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeat"))

QUESTIONS = ["How old is this person?", "What is the expression of this person?", "Is the person smiling?"]


@pytest.fixture(scope="session")
def portrait() -> str:
    return str(files("facemllm") / "assets" / "portrait.jpg")


@pytest.fixture
def small_llm():
    from facemllm.language import tiny_language_model

    texts = [f"{question} {answer}" for question in QUESTIONS for answer in ("34", "happy", "yes", "no")]
    return tiny_language_model(texts, hidden_size=48, layers=2, heads=4, vocab_size=600)


@pytest.fixture
def small_model(small_llm):
    from facemllm.model import FaceMLLM

    torch.manual_seed(0)
    return FaceMLLM.from_parts(encoder="dlib-face", connector="mlp", language_model=small_llm)


@pytest.fixture
def built_in():
    from facemllm.model import AutoFaceMLLM

    return AutoFaceMLLM.from_pretrained("facemllm-tiny")


@pytest.fixture
def faces_root(tmp_path: Path, portrait: str) -> Path:
    """A folder laid out as UTKFace, with variations of one real face."""
    from PIL import Image, ImageEnhance

    from facemllm.faces import detect_faces

    photo = Image.open(portrait).convert("RGB")
    x1, y1, x2, y2 = detect_faces(photo)[0].box
    face = photo.crop((round(x1 - 20), round(y1 - 20), round(x2 + 20), round(y2 + 20))).resize((128, 128))
    folder = tmp_path / "data" / "utkface"
    folder.mkdir(parents=True)
    for index in range(24):
        image = ImageEnhance.Brightness(face).enhance(0.7 + 0.03 * index).rotate(index - 12)
        age = 20 + 2 * index
        image.save(folder / f"{age}_{index % 2}_{index % 5}_2017010913{index:011d}.jpg.chip.jpg")
    return tmp_path / "data"
