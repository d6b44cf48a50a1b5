"""A score on what the model was trained on carries a warning; one on other faces does not."""

import importlib.util
import json
from pathlib import Path

import pytest
from PIL import Image

from facemllm.data import FaceSample
from facemllm.evaluation import evaluate, supported_tasks
from facemllm.evaluation.overlap import find_overlap

_spec = importlib.util.spec_from_file_location("oracle", Path(__file__).with_name("oracle.py"))
_oracle = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_oracle)


class Trained(_oracle.Oracle):
    training_data = ({"dataset": "utkface", "split": "train", "samples": 4008},
                     {"dataset": "fer2013", "split": "train", "samples": 28322})  # fmt: skip


@pytest.mark.parametrize(
    ("dataset", "split", "word"),
    [
        ("utkface", "train", "also measured here"),
        ("utkface", "all", "also measured here"),
        ("utkface", None, "is not known"),
        ("ferplus", "test", "shares pictures with ferplus"),
        ("utkface", "test", None),
        ("fairface", "train", None),
    ],
)
def test_recorded_training_data_are_compared(dataset, split, word):
    found = find_overlap(Trained([]), [], dataset, split)
    assert found.known
    if word is None:
        assert found.warnings == []
    else:
        [warning] = found.warnings
        assert word in warning


def test_the_built_in_model_records_its_training(built_in):
    assert find_overlap(built_in, [], "fairface", "train").warnings
    assert not find_overlap(built_in, [], "fairface", "val").warnings
    nothing = find_overlap(object(), [], "fairface", "train")
    assert (nothing.known, nothing.warnings) == (False, [])


def test_copies_of_training_pictures_are_found_and_scored_apart(tmp_path):
    import numpy as np

    noise = np.random.default_rng(0)
    samples, training = [], []
    for index in range(30):
        small = Image.fromarray(noise.integers(0, 255, (9, 9, 3), dtype=np.uint8))
        picture = small.resize((96, 96), Image.Resampling.BICUBIC)
        picture.putpixel((0, 0), (index, 0, 7))
        picture.save(tmp_path / f"{index}.png")
        samples.append(FaceSample(id=f"{index}.png", image=str(tmp_path / f"{index}.png"), dataset="made",
                                  labels={"expression": "happy"}, licence="own"))  # fmt: skip
        if index < 10:  # seen in training, recompressed
            picture.save(tmp_path / f"seen{index}.jpg", quality=60)
            training.append((f"seen{index}", str(tmp_path / f"seen{index}.jpg")))

    def spoil(sample, question, text):  # right on what it has seen, wrong on the rest
        return text if int(sample.id.split(".")[0]) < 10 else "sad"

    report = evaluate(_oracle.Oracle(samples, spoil), samples, training_pictures=training, progress=False)
    assert report.summary["training_overlap"]["copies"] == {f"{i}.png": f"seen{i}" for i in range(10)}
    assert report.tasks["expression"]["accuracy"] == pytest.approx(1 / 3, abs=1e-5)
    assert report.tasks["expression"]["without_copies"]["accuracy"] == 0
    [warning] = report.summary["warnings"]
    assert warning.startswith("10 of the test pictures are copies")
    folder = report.save(tmp_path / "report", plots=False)
    assert warning in json.loads((folder / "report.json").read_text())["warnings"]
    assert warning in (folder / "report.md").read_text()
    assert warning in (folder / "report.html").read_text()


def expressions(dataset, labels):
    return [
        FaceSample(id=str(i), image="x", labels={"expression": label}, dataset=dataset, licence="own")
        for i, label in enumerate(labels)
    ]


def test_contempt_is_a_class_only_where_the_dataset_has_it(tmp_path):
    [without] = supported_tasks(expressions("fer2013", ["happy"]))
    assert "contempt" not in without.classes
    assert "contempt" in without.notes[0]
    [listed] = supported_tasks(expressions("ferplus", ["happy"]))  # though none of these faces shows it
    [found] = supported_tasks(expressions("mine", ["happy", "contempt"]))
    assert listed.classes[-1] == found.classes[-1] == "contempt"
    labels = [{"expression": "contempt" if i % 2 else "happy"} for i in range(20)]
    samples = _oracle.make_samples(tmp_path, labels)
    result = evaluate(_oracle.Oracle(samples), samples, progress=False).tasks["expression"]
    assert result["balanced_accuracy"] == 1
    assert sum(map(sum, result["confusion"])) == 20  # no face is left out
    said = evaluate(_oracle.Oracle(samples, lambda *_: "happy"), samples, progress=False).tasks["expression"]
    assert said["balanced_accuracy"] == 0.5
