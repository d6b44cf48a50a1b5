"""RAF-DB, AffectNet, FER2013 csv and FER+: codes, and twins that are broken on purpose."""

import numpy as np
import pytest
from PIL import Image

from facemllm.core.errors import DatasetError
from facemllm.data import read_dataset
from facemllm.processing.reading import load_image


def by_id(dataset):
    return {sample.id: sample for sample in dataset}


def test_rafdb_codes_are_its_own(layout):
    found = by_id(read_dataset("rafdb", layout("rafdb")))
    first = found["basic/Image/aligned/train_00001_aligned.jpg"]
    # 5 is sadness there; 5 is surprise in FER2013.
    assert first.labels == {
        "expression": "sad", "ethnicity": "black", "age_range": (20, 39), "gender": "male",
    }  # fmt: skip
    unsure = found["basic/Image/aligned/train_00002_aligned.jpg"]
    assert unsure.cannot_tell == ("gender",)
    assert "gender" not in unsure.labels
    assert [sample.split for sample in found.values()] == ["train", "train", "test"]


def test_rafdb_broken(layout, forge):
    root = layout("rafdb")
    labels = root / "basic/EmoLabel/list_patition_label.txt"
    forge.append(labels, "train_00009.jpg 5", "test_0001.jpg 8", "photo.jpg 3", "train_00001.jpg")
    forge.lines(root / "basic/Annotation/manual/test_0001_manu_attri.txt", "1\t2")
    dataset = read_dataset("rafdb", root)
    assert len(dataset) == 2
    assert dataset.skipped.reasons == {
        "no five landmarks, gender, race and age group in its attribute file": 2,
        "unknown expression code": 1,
        "expected a name such as train_00001.jpg and a code": 2,
    }
    with pytest.raises(DatasetError, match="attribute file") as caught:
        read_dataset("rafdb", root, strict=True)
    assert "line 3" in caught.value.given


def test_affectnet_codes_box_and_missing_affect(layout):
    happy, contempt, none = read_dataset("affectnet", layout("affectnet"))
    assert happy.id == "1/a.jpg"
    assert happy.labels == {"expression": "happy", "affect": {"valence": 0.5, "arousal": 0.1}}
    assert happy.box == (10, 20, 110, 140)
    assert happy.landmarks.scheme == "ibug68-1"
    assert happy.landmarks.points[1] == (2.5, 3.5)
    assert contempt.labels["expression"] == "contempt"
    # Code 8 is none of the eight expressions, and -2 is no valence.
    assert none.labels == {}
    assert none.cannot_tell == ("expression",)
    assert none.split == "val"


def test_affectnet_arrays_mean_the_same_codes(layout):
    dataset = read_dataset("affectnet", layout("affectnet, arrays"))
    assert [sample.labels["expression"] for sample in dataset] == ["surprise"] * 3
    assert dataset[0].labels["affect"] == {"valence": 0.25, "arousal": -0.5}
    assert [sample.split for sample in dataset] == ["train", "train", "val"]


def test_affectnet_broken(layout, forge):
    root = layout("affectnet")
    bad = ["1/z.jpg,1,2,3,4,,1,0,0", "1/a.jpg,1,2,3,4,,10,-2,-2", "1/a.jpg,1,2,3,4,,11,0,0", "1/a.jpg,1"]
    bad += ["1/a.jpg,1,2,3,4,,1,x,0", "1/a.jpg,1,2,3,4,,1,1.5,0", "1/a.jpg,1,2,3,4,5;6,1,0,0"]
    forge.append(root / "Manually_Annotated_file_lists/training.csv", *bad)
    dataset = read_dataset("affectnet", root)
    assert len(dataset) == 3
    assert dataset.skipped.reasons == {
        "image not found": 1,
        "raters saw no face (code 10)": 1,
        "unknown expression code": 1,
        "wrong number of fields": 1,
        "valence or arousal is not a number": 1,
        "affect must have valence and arousal, each between -1 and 1": 1,
        "box or landmarks are not numbers": 1,
    }
    forge.lines(root / "Manually_Annotated_file_lists/training.csv", "subDirectory_filePath,expression")
    with pytest.raises(DatasetError, match="lacks columns"):
        read_dataset("affectnet", root)


def test_affectnet_arrays_broken_and_never_unpickled(layout):
    root = layout("affectnet, arrays")
    folder = root / "train_set/annotations"
    np.save(folder / "0_exp.npy", np.array([{"code": 1}], dtype=object), allow_pickle=True)
    (folder / "10_val.npy").unlink()
    dataset = read_dataset("affectnet", root)
    assert len(dataset) == 1
    assert dataset.skipped.reasons == {
        "unreadable annotation _exp.npy": 1,
        "no annotation of expression, valence or arousal": 1,
    }


@pytest.mark.parametrize("header", ["fer2013, csv", "fer2013, icml csv"])
def test_both_csv_headers_of_fer2013(layout, header):
    dataset = read_dataset("fer2013", layout(header), strict=True)
    assert [sample.labels["expression"] for sample in dataset] == ["happy", "angry", "neutral", "sad"]
    assert [sample.split for sample in dataset] == ["train", "train", "validation", "test"]
    assert {sample.size for sample in dataset} == {(48, 48)}
    # The picture is in the row that the reference names.
    grey = [np.asarray(load_image(sample.image))[0, 0, 0] for sample in dataset]
    assert grey == [10, 20, 30, 40]


def test_the_header_of_icml_face_data_has_leading_spaces(layout):
    root = layout("fer2013, icml csv")
    assert (root / "icml_face_data.csv").read_text().startswith("emotion, Usage, pixels\n")
    assert len(read_dataset("fer2013", root)) == 4


def test_fer2013_csv_broken(layout, forge):
    root = layout("fer2013, csv")
    good = forge.pixels()
    rows = [f"7,{good},Training", f"x,{good},Training", f"3,{good},Test", "3,1 2 3,Training", f"3,{good}"]
    forge.append(root / "fer2013.csv", *rows, f"3,{good.replace('7', 'x', 1)},Training")
    dataset = read_dataset("fer2013", root)
    assert len(dataset) == 4
    assert dataset.skipped.reasons == {
        "unknown emotion code": 2,
        "unknown Usage": 1,
        "not 48x48 pixels": 1,
        "wrong number of fields": 1,
        "a pixel is not a number": 1,
    }
    assert "fer2013.csv, line 6: unknown emotion code" in str(dataset.skipped)


def test_folders_of_fer2013_are_preferred(layout, forge):
    root = layout("fer2013, csv")
    forge.picture(root / "train/happy/1.png")
    assert [sample.id for sample in read_dataset("fer2013", root)] == ["train/happy/1.png"]


@pytest.mark.parametrize("kind", ["ferplus", "ferplus, folders"])
def test_ferplus_takes_what_most_raters_said(layout, kind):
    happy, contempt, unknown, sad = read_dataset("ferplus", layout(kind))
    assert happy.labels == {"expression": "happy", "expression_votes": {"neutral": 1, "happy": 9}}
    assert contempt.labels["expression"] == "contempt"
    assert unknown.cannot_tell == ("expression",)
    assert (sad.labels["expression"], sad.split) == ("sad", "test")


def test_ferplus_rows_belong_to_the_pictures_of_the_same_row(layout):
    dataset = read_dataset("ferplus", layout("ferplus"))
    assert [np.asarray(load_image(sample.image))[0, 0, 0] for sample in dataset] == [10, 20, 30, 40]


def test_ferplus_broken(layout, forge):
    root = layout("ferplus, folders")
    rows = [
        "Training,,5,5,0,0,0,0,0,0,0,0",
        "Training,,0,0,0,0,0,0,0,0,0,10",
        "Training,,x,0,0,0,0,0,0,0,0,0",
    ]
    rows += ["Training,,10,0,0,0,0,0,0,0,0,0", "Train,a.png,10,0,0,0,0,0,0,0,0,0", "Training,a.png,10"]
    rows += ["Training,a.png,0,0,0,0,0,0,0,0,0,0"]
    forge.append(root / "fer2013new.csv", *rows)
    assert read_dataset("ferplus", root).skipped.reasons == {
        "raters disagree: no single most frequent label": 1,
        "most raters saw no face": 1,
        "votes are not whole numbers": 1,
        "no image name: the publishers took the picture out": 1,
        "unknown Usage": 1,
        "wrong number of fields": 1,
        "not the votes of at most 10 raters": 1,
    }


def test_ferplus_notices_that_the_two_files_are_in_different_order(layout, forge):
    root = layout("ferplus")
    head, *rows = (root / "fer2013.csv").read_text().splitlines()
    forge.lines(root / "fer2013.csv", head, *rows[::-1])
    with pytest.raises(DatasetError, match="in different order"):
        read_dataset("ferplus", root, strict=True)
    forge.lines(root / "fer2013.csv", head, *rows, rows[0])
    assert "has fewer rows than the pictures" in str(read_dataset("ferplus", root).skipped)


def test_a_picture_in_a_row_is_a_picture(layout):
    sample = read_dataset("fer2013", layout("fer2013, csv"))[0]
    image = load_image(sample.image)
    assert isinstance(image, Image.Image)
    assert image.size == (48, 48)
