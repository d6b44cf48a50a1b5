"""Labels of a user's own, as a csv file or as folders."""

import pytest

from facemllm.core.errors import ConfigError, DatasetError
from facemllm.data import read_dataset


def test_csv_columns(layout):
    first, second = read_dataset("csv", layout("csv"))
    assert first.labels == {
        "expression": "happy",
        "age": 34.0,
        "pose": {"pan": 10.0, "tilt": -5.0},
        "attributes": {"beard": True},
        "action_units": {"AU12": True},
    }
    assert (first.box, first.identity, first.split) == ((1, 2, 30, 40), "ada", "train")
    assert (first.licence, first.consent) == ("own photos", "all agreed")
    assert first.provenance["vocabulary"] == "mine-3"
    assert second.cannot_tell == ("attributes/beard",)
    assert second.labels == {"expression": "sad", "action_units": {"AU12": False}}


def test_csv_names_and_labels_can_be_renamed(tmp_path, forge):
    forge.lines(tmp_path / "my.csv", "foto,laune", "a.jpg,froh", "b.jpg,sad")
    forge.lines(tmp_path / "facemllm.yaml", "columns: {foto: image, laune: expression}",
                "labels: {expression: {froh: happy}}")  # fmt: skip
    for name in "ab":
        forge.picture(tmp_path / f"{name}.jpg")
    assert [s.labels["expression"] for s in read_dataset("csv", tmp_path)] == ["happy", "sad"]
    forge.lines(tmp_path / "facemllm.yaml", "colums: {foto: image}")
    with pytest.raises(ConfigError, match=r"facemllm\.yaml has 1 error"):
        read_dataset("csv", tmp_path)


def test_csv_broken(layout, forge):
    root = layout("csv")
    rows = ["c.jpg,,,,,,,,,,,,", "a.jpg,x,,,,,,,,,,,", "a.jpg,,glad,,,,,,,,,,", "a.jpg,,,10,,,,,,,,,"]
    rows += [
        "a.jpg,,,,,,dev,,,,,,",
        "a.jpg,,,,,,,maybe,,,,,",
        "../a.jpg,,,,,,,,,,,,",
        ",,,,,,,,,,,,",
        "a.jpg",
    ]
    forge.append(root / "labels.csv", *rows)
    dataset = read_dataset("csv", root)
    assert len(dataset) == 2
    assert dataset.skipped.reasons == {
        "image not found": 1,
        "age is not a number": 1,
        "expression must be one of angry, disgust, fear, happy, sad, surprise, neutral, contempt": 1,
        "pose must have the keys pan and tilt, and may have roll": 1,
        "split is none of train, val, test": 1,
        "attributes/beard is neither yes nor no": 1,
        "no picture below the root": 2,
        "wrong number of fields": 1,
    }


def test_folders_with_and_without_splits(layout, tmp_path, forge):
    dataset = read_dataset("folder", layout("folder"))
    assert sorted((s.split, s.labels["expression"]) for s in dataset) == [
        ("test", "happy"), ("test", "sad"), ("train", "happy"), ("train", "sad"),
    ]  # fmt: skip
    flat = tmp_path / "flat"
    for label in ("male", "female"):
        forge.picture(flat / label / f"{label}.jpg")
    assert {s.labels["gender"] for s in read_dataset("folder", flat)} == {"male", "female"}


def test_folders_of_no_known_task(tmp_path, forge):
    forge.picture(tmp_path / "beard" / "1.jpg")
    with pytest.raises(DatasetError, match="which task the folders are labels of") as caught:
        read_dataset("folder", tmp_path)
    assert "task:" in caught.value.do
    forge.lines(tmp_path / "facemllm.yaml", "task: attributes")
    [sample] = read_dataset("folder", tmp_path)
    assert sample.labels == {"attributes": {"beard": True}}
