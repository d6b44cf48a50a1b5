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


def own(tmp_path, forge, header, *rows):
    forge.lines(tmp_path / "my.csv", header, *rows)
    forge.picture(tmp_path / "a.jpg")
    return tmp_path


def test_a_misspelt_column_is_told_and_under_strict_refused(tmp_path, forge, caplog):
    root = own(tmp_path, forge, "image,agee,Expression,notes", "a.jpg,30,happy,x")
    [sample] = read_dataset("csv", root)
    assert sample.labels == {}
    assert "agee (did you mean age?), Expression (did you mean expression?), notes" in caplog.text
    with pytest.raises(DatasetError, match="columns of unknown names") as caught:
        read_dataset("csv", root, strict=True)
    assert "agee (did you mean age?)" in caught.value.given
    own(tmp_path, forge, "image,age,notes", "a.jpg,30,x")
    assert len(read_dataset("csv", root, strict=True)) == 1  # a column of another meaning is no mistake


@pytest.mark.parametrize(
    ("content", "what", "says"),
    [
        (b"image,age,age\na.jpg,3,4\n", "has a column twice", "age"),
        ("image,caption\na.jpg,Zo\u00eb\n".encode("latin1"), "is not in UTF-8", "line 2"),
        ("image,caption\na.jpg,x\n".encode("utf-16"), "is not in UTF-8", "line 1"),
        (b"picture,age\na.jpg,3\n", "has no column of pictures", "columns picture, age"),
        (b"Image,age\na.jpg,3\n", "has no column of pictures", "to image"),
        (b"image;age\na.jpg;3\n", "has no column of pictures", "commas"),
        (b"", "is empty", "without a line"),
    ],
)
def test_each_fault_of_a_csv_file_has_its_own_error(tmp_path, forge, content, what, says):
    forge.picture(tmp_path / "a.jpg")
    (tmp_path / "my.csv").write_bytes(content)
    with pytest.raises(DatasetError, match=f"my.csv {what}") as caught:
        read_dataset("csv", tmp_path)
    assert says in str(caught.value)


def test_several_csv_files_of_pictures_are_named(tmp_path, forge):
    root = own(tmp_path, forge, "image,age", "a.jpg,3")
    forge.lines(tmp_path / "other.csv", "person,height", "ada,170")
    assert len(read_dataset("csv", root)) == 1
    forge.lines(tmp_path / "second.csv", "image,age", "a.jpg,3")
    with pytest.raises(DatasetError, match="several csv files") as caught:
        read_dataset("csv", root)
    assert caught.value.given == "my.csv, second.csv"


def test_splits_in_capitals_and_incomplete_boxes(tmp_path, forge):
    root = own(tmp_path, forge, "image,split,x1,y1,x2,y2", "a.jpg,Train,1,2,30,40", "a.jpg,TEST,,,,",
               "a.jpg,val,1,2,,40")  # fmt: skip
    dataset = read_dataset("csv", root)
    assert [(sample.split, sample.box) for sample in dataset] == [("train", (1, 2, 30, 40)), ("test", None)]
    assert dataset.skipped.reasons == {"box is incomplete: it needs x1, y1, x2 and y2, or none of them": 1}


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
