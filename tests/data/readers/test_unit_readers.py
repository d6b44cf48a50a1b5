"""DISFA, DISFA+ and BP4D: thresholds, folds, frame offsets, and broken twins."""

import pytest

from facemllm.core.errors import DatasetError
from facemllm.data import read_dataset
from facemllm.data.readers import bp4d, disfa
from facemllm.data.vocabularies import BP4D_UNITS, DISFA_UNITS


def test_folds_are_those_of_the_protocol():
    assert len(disfa.FOLDS) == 27
    assert len(bp4d.FOLDS) == 41
    assert sorted(list(disfa.FOLDS.values()).count(fold) for fold in (1, 2, 3)) == [9, 9, 9]
    assert sorted(list(bp4d.FOLDS.values()).count(fold) for fold in (1, 2, 3)) == [13, 14, 14]


def test_disfa_unit_counts_from_intensity_two(layout):
    dataset = read_dataset("disfa", layout("disfa"))
    active = next(sample for sample in dataset if sample.id == "img/SN001/1.jpg")
    assert active.labels["au_intensity"]["AU4"] == 1
    assert [unit for unit, present in active.labels["action_units"].items() if present] == ["AU6", "AU12"]
    assert set(active.labels["action_units"]) == set(DISFA_UNITS)
    # SN001 is in the list tested third, SN003 in the one tested first.
    assert {sample.identity: sample.fold for sample in dataset} == {"SN001": 3, "SN003": 1, "SN013": 2}


def test_disfa_offset_of_frames_is_explicit(layout):
    root = layout("disfa")
    # Label frame 2 is picture 1 where pictures are counted from 0, and picture 2 where they are from 1.
    with pytest.raises(DatasetError, match="do not fit the labels") as caught:
        read_dataset("disfa", root, first_frame=1)
    assert "first_frame" in caught.value.expected
    for folder in (root / "img").iterdir():
        for number in (2, 1, 0):
            (folder / f"{number}.jpg").rename(folder / f"{number + 1}.jpg")
    with pytest.raises(DatasetError, match="do not fit the labels"):
        read_dataset("disfa", root)
    dataset = read_dataset("disfa", root, first_frame=1)
    active = [sample.id for sample in dataset if sample.labels["action_units"]["AU12"]]
    assert active == ["img/SN001/2.jpg", "img/SN003/2.jpg", "img/SN013/2.jpg"]


def test_disfa_broken(layout, forge):
    root = layout("disfa")
    labels = root / "ActionUnit_Labels"
    forge.lines(labels / "SN001/SN001_au1.txt", "1,0", "3,0", "3,7")
    forge.lines(labels / "SN003/SN003_au2.txt", "1,0", "x")
    (labels / "SN013/SN013_au26.txt").unlink()
    (root / "img/SN013/0.jpg").unlink()
    (labels / "SN099").mkdir()
    dataset = read_dataset("disfa", root)
    assert dataset.skipped.reasons == {
        "files of the action units disagree on the frame": 1,
        "au_intensity must lie between 0 and 5": 1,
        "no frame and intensity of AU2": 2,
        "no label file of some action units": 1,
        "image not found": 1,
        "not one of the 27 people of the dataset": 1,
    }
    assert len(dataset) == 1 + 1 + 2
    with pytest.raises(DatasetError, match="disagree on the frame"):
        read_dataset("disfa", root, strict=True)


def test_disfaplus_reads_past_comments(layout):
    dataset = read_dataset("disfaplus", layout("disfaplus"))
    assert len(dataset) == 16
    raised = [sample for sample in dataset if sample.labels["action_units"]["AU1"]]
    assert {sample.id.rpartition("/")[2] for sample in raised} == {"001.jpg"}
    assert {sample.identity for sample in dataset} == {"SN001", "SN003", "SN025", "SN031"}
    assert set(disfa.FOLDS) >= {sample.identity for sample in dataset}, "all are people of DISFA"


def test_disfaplus_broken(layout, forge):
    root = layout("disfaplus")
    trial = "SN001/A1_AU1_TrailNo_1"
    forge.lines(
        root / "Labels" / trial / "AU2.txt", "# comment", "000.jpg 6", "001.jpg 0", "frame 0", "002.jpg 1"
    )
    (root / "Images/SN003/A1_AU1_TrailNo_1/001.jpg").unlink()
    dataset = read_dataset("disfaplus", root)
    assert dataset.skipped.reasons == {
        "not a frame and an intensity of 0 to 5": 2,
        "some action units have no label in this frame": 1,
        "image not found": 2,
    }


def test_bp4d_nine_is_not_coded(layout):
    dataset = read_dataset("bp4d", layout("bp4d"))
    whole, partly = dataset[0], dataset[1]
    assert whole.id == "img/F001/T1/2440.jpg"
    assert [unit for unit, present in whole.labels["action_units"].items() if present] == list(BP4D_UNITS[:3])
    assert partly.cannot_tell == ("action_units/AU14",)
    assert "AU14" not in partly.labels["action_units"]
    assert {sample.identity: sample.fold for sample in dataset} == {"F001": 3, "F007": 1, "M011": 2}
    assert whole.groups["gender"] == "female"


def test_bp4d_broken(layout, forge):
    root = layout("bp4d")
    table = root / "AUCoding/AU_OCC/F001_T1.csv"
    nines, zeros = ",".join("9" * 27), ",".join("0" * 27)
    forge.append(table, f"2440,{nines}", f"9999,{zeros}", f"x,{zeros}", f"2440,7,{zeros[2:]}", "2440,1")
    forge.lines(root / "AUCoding/AU_OCC/F099_T1.csv", "0,1")
    dataset = read_dataset("bp4d", root)
    assert len(dataset) == 6
    assert dataset.skipped.reasons == {
        "no action unit is coded in this frame": 1,
        "image not found": 1,
        "no frame or a wrong number of fields": 2,
        "a code is none of 0, 1 and 9": 1,
        "not the table of one of the 41 people and 8 tasks": 1,
    }
    forge.lines(table, "0,1,2", "2440,0,0")
    with pytest.raises(DatasetError, match="lacks columns"):
        read_dataset("bp4d", root)
