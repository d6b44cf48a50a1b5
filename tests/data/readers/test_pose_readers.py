"""300W-LP, AFLW2000 and BIWI: radians, signs and broken twins."""

import math

import numpy as np
import pytest

from facemllm.core.errors import DatasetError
from facemllm.data import read_dataset
from facemllm.data.readers.biwi import angles


def test_radians_become_degrees_in_the_order_pitch_yaw_roll(layout):
    first = read_dataset("aflw2000", layout("aflw2000"))[0]
    assert first.labels["pose"] == pytest.approx({"pan": 45, "tilt": -10, "roll": 5})
    assert first.split == "test"
    # pt2d of AFLW2000 has 21 points; the 68 are those of pt3d_68.
    assert first.landmarks.points[:2] == ((0.0, 68.0), (1.0, 69.0))


def test_300wlp_mirrored_folders_mirror_yaw_and_follow_their_photo(layout):
    dataset = read_dataset("300wlp", layout("300wlp"))
    assert len(dataset) == 24
    splits: dict = {}
    for sample in dataset:
        splits.setdefault(sample.identity, set()).add(sample.split)
    assert all(len(found) == 1 for found in splits.values())
    turned = {s.id: s.labels["pose"]["pan"] for s in dataset if s.id.endswith("1000_1_1.jpg")}
    assert turned["AFW/AFW_1000_1_1.jpg"] == pytest.approx(30)
    assert turned["AFW_Flip/AFW_1000_1_1.jpg"] == pytest.approx(-30)


def test_angles_beyond_99_degrees_are_left_out_and_counted(layout, forge):
    root = layout("aflw2000")
    for number, (pitch, yaw, roll) in enumerate(
        [(-100, 0, 0), (0, 100, 0), (0, 0, 99.5), (98, -98, 98)], start=50
    ):
        forge.picture(root / f"image{number:05d}.jpg")
        forge.mat(root / f"image{number:05d}.mat", pitch, yaw, roll)
    dataset = read_dataset("aflw2000", root)
    assert len(dataset) == 4
    assert dataset.skipped.reasons == {"an angle is beyond 99 degrees, which the protocol leaves out": 3}


def test_mat_files_broken(layout, forge):
    from scipy.io import savemat

    root = layout("aflw2000")
    for number in range(10, 14):
        forge.picture(root / f"image{number:05d}.jpg")
    (root / "image00011.mat").write_bytes(b"not MATLAB")
    savemat(root / "image00012.mat", {"pt2d": np.zeros((2, 68))})
    forge.mat(root / "image00013.mat", math.nan, 0, 0)
    dataset = read_dataset("aflw2000", root)
    assert len(dataset) == 3
    assert dataset.skipped.reasons == {
        "no .mat file beside it": 1,
        "unreadable .mat file": 1,
        "no Pose_Para in the .mat file": 1,
        "Pose_Para does not begin with three angles": 1,
    }


def test_biwi_angles_come_back_from_their_rotation(layout):
    dataset = read_dataset("biwi", layout("biwi"))
    assert dataset[0].labels["pose"] == pytest.approx({"pan": 30, "tilt": 10, "roll": -5}, abs=1e-3)
    assert dataset[1].labels["pose"] == pytest.approx({"pan": -60, "tilt": 0, "roll": 20}, abs=1e-3)
    persons = {split: {s.identity for s in dataset if s.split == split} for split in ("train", "val", "test")}
    assert [len(persons[split]) for split in ("train", "val", "test")] == [3, 1, 2]


def test_biwi_people_who_sat_twice_are_one_person_in_one_split(layout, forge):
    """Folders 15, 18, 21 and 22 show the people of 03, 05, 02 and 07: so says the dataset's own readme."""
    root = layout("biwi")
    for number in range(7, 25):
        forge.picture(root / f"{number:02d}" / "frame_00003_rgb.png")
        forge.pose_file(root / f"{number:02d}" / "frame_00003_pose.txt", 0, 0, 0)
    films: dict = {}
    for seed in range(3):
        splits: dict = {}
        for sample in read_dataset("biwi", root, seed=seed):
            films.setdefault(sample.identity, set()).add(sample.id.split("/")[0])
            splits.setdefault(sample.identity, set()).add(sample.split)
        assert len(splits) == 20
        assert all(len(found) == 1 for found in splits.values())
    twice = [sorted(found) for found in films.values() if len(found) > 1]
    assert sorted(twice) == [["02", "21"], ["03", "15"], ["05", "18"], ["07", "22"]]


@pytest.mark.parametrize("pan", [-70, 0, 40])
@pytest.mark.parametrize("tilt", [-50, 0, 30])
def test_signs_are_those_of_where_the_nose_points(forge, pan, tilt):
    """A face looks along -z of its own axes; the camera's x runs right in the image, its y down."""
    matrix = forge.rotation(pan, tilt, 0)
    x, y, _ = matrix @ np.array([0.0, 0.0, -1.0])
    found_pan, found_tilt, _ = angles(matrix.tolist())
    assert (found_pan, found_tilt) == pytest.approx((pan, tilt), abs=1e-9)
    assert np.sign(round(-x, 9)) == np.sign(pan)  # positive pan: towards the image's left
    assert np.sign(round(-y, 9)) == np.sign(tilt)  # positive tilt: up


def test_positive_roll_is_clockwise_in_the_image(forge):
    matrix = forge.rotation(0, 0, 25)
    right = matrix @ np.array([1.0, 0.0, 0.0])
    assert right[1] > 0, "the side of the face at the image's right goes down"
    assert angles(matrix.tolist())[2] == pytest.approx(25)


def test_biwi_broken(layout, forge):
    root = layout("biwi")
    folder = root / "01"
    for number in range(10, 14):
        forge.picture(folder / f"frame_{number:05d}_rgb.png")
    forge.lines(folder / "frame_00011_pose.txt", "1 0 0", "0 1 0")
    forge.lines(folder / "frame_00012_pose.txt", "1 0 0", "0 2 0", "0 0 1", "", "0 0 0")
    forge.lines(folder / "frame_00013_pose.txt", "1 0 x", "0 1 0", "0 0 1")
    dataset = read_dataset("biwi", root)
    assert len(dataset) == 12
    assert dataset.skipped.reasons == {
        "no rotation in the pose file beside it": 3,
        "pose file holds no rotation": 1,
    }
    with pytest.raises(DatasetError, match="no rotation"):
        read_dataset("biwi", root, strict=True)
