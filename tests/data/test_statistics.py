import numpy as np
import pytest
from PIL import Image

from facemllm.data import FaceSample, Statistics
from facemllm.data.figures import draw_all, draw_sheet, plots_of


def face(number, **fields):
    fields = {"labels": {}, "dataset": "mine", "licence": "own", "image": f"{number}.jpg", **fields}
    return FaceSample(id=str(number), **fields)


@pytest.fixture
def found():
    samples = []
    for n in range(4):
        gender = "male" if n < 3 else "female"
        labels = {"gender": gender, "age": 10.0 * n, "attributes": {"bald": n < 2}}
        groups = {"gender": gender, "place": "xy"[n % 2]}
        split = "train" if n else "test"
        samples.append(face(n, labels=labels, groups=groups, split=split, identity=str(n // 2)))
    return Statistics(
        [*samples, face(9, cannot_tell=("gender",), licence="CC BY 4.0", consent="asked")]
    ).to_dict()


def test_counts_by_hand(found):
    assert found["samples"] == 5
    assert found["identities"] == 2
    assert found["splits"] == {"None": 1, "test": 1, "train": 3}
    assert found["labels"]["gender"]["counts"] == {"female": 1, "male": 3}
    assert found["labels"]["gender"]["by_split"]["test"] == {"male": 1}
    assert found["labels"]["age"]["counts"] == {"0 to 9": 1, "10 to 19": 1, "20 to 29": 1, "30 to 39": 1}
    assert found["named"]["attributes"]["bald"] == {"n": 4, "true": 2, "share": 0.5}
    assert found["cannot_tell"] == {"gender": 1}
    assert found["crossed_groups"]["gender x place"] == {"female / y": 1, "male / x": 2, "male / y": 1}
    assert found["licences"] == {"own": 4, "CC BY 4.0": 1}
    assert found["consent"] == {"not stated": 4, "asked": 1}


def test_balance_is_one_for_even_labels_and_small_for_uneven_ones(found):
    assert found["labels"]["age"]["balance"] == 1.0
    # -(3/4 log 3/4 + 1/4 log 1/4) / log 2
    assert found["labels"]["gender"]["balance"] == pytest.approx(0.811, abs=1e-3)
    assert found["labels"]["gender"]["largest_to_smallest"] == 3.0


def test_angles_are_ordered_by_value():
    samples = [
        face(n, labels={"pose": {"pan": pan, "tilt": 0.0}}) for n, pan in enumerate((-90, -15, 0, 15, 90))
    ]
    counts = Statistics(samples).to_dict()["labels"]["pan"]["counts"]
    assert list(counts) == ["-90 to -76", "-15 to -1", "0 to 14", "15 to 29", "90 to 104"]


def test_plots_say_that_gender_is_perceived(found):
    titles = {name: title for name, title, _ in plots_of(found)}
    assert titles["labels_gender.png"] == "labels: perceived gender"
    assert titles["labels_age.png"] == "labels: age"


def test_plots_and_a_sheet_are_drawn(found, tmp_path):
    saved = draw_all(found, tmp_path)
    assert {path.name for path in saved} >= {
        "labels_gender.png",
        "group_place.png",
        "true_labels_attributes.png",
    }
    assert all(Image.open(path).width > 300 for path in saved)
    photo = tmp_path / "red.png"
    Image.new("RGB", (60, 40), "red").save(photo)
    shown = [face(1, image=str(photo), labels={"age": 3}), face(2, image="gone.jpg")]
    assert draw_sheet(shown, tmp_path / "sheet.png") == 1
    sheet = Image.open(tmp_path / "sheet.png")
    assert (np.asarray(sheet) == (255, 0, 0)).all(axis=2).sum() > 1000
