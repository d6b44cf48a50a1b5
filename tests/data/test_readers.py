import logging
import shutil
from collections import defaultdict

import pytest

from facemllm.core.errors import DatasetError, RegistryError
from facemllm.data import READERS, read_dataset


def test_every_reader_reads_its_layout(any_dataset):
    name, root = any_dataset
    dataset = read_dataset(name, root, strict=True)
    assert len(dataset) > 0
    assert dataset.skipped.total == 0
    assert len({sample.id for sample in dataset}) == len(dataset)
    assert all(sample.dataset == name and sample.licence and sample.split for sample in dataset)


def test_splits_are_disjoint_and_together_everything(any_dataset):
    name, root = any_dataset
    splits = READERS.get(name).splits
    parts = []
    for split in splits:
        parts += [sample.id for sample in read_dataset(name, root, split)]
    assert sorted(parts) == sorted(sample.id for sample in read_dataset(name, root))


def test_ids_and_splits_do_not_depend_on_where_the_files_lie(any_dataset, tmp_path):
    name, root = any_dataset
    before = [(sample.id, sample.split) for sample in read_dataset(name, root)]
    moved = shutil.copytree(root, tmp_path / "elsewhere" / root.name)
    assert [(sample.id, sample.split) for sample in read_dataset(name, moved)] == before
    assert [(sample.id, sample.split) for sample in read_dataset(name, moved.parent)] == before


def test_a_folder_of_something_else_is_refused_with_the_layout(any_dataset, tmp_path):
    name, _ = any_dataset
    other = tmp_path / "other"
    other.mkdir()
    (other / "notes.txt").write_text("nothing")
    with pytest.raises(DatasetError, match="cannot find the dataset") as caught:
        read_dataset(name, other)
    assert "notes.txt" in caught.value.given
    assert caught.value.expected == READERS.get(name).layout


def test_missing_folder_unknown_split_and_unknown_name(make):
    root = make("fairface")
    with pytest.raises(DatasetError, match="does not exist"):
        read_dataset("fairface", root / "nowhere")
    with pytest.raises(DatasetError, match="no split 'test'"):
        read_dataset("fairface", root, "test")
    with pytest.raises(RegistryError, match="did you mean fairface"):
        read_dataset("fareface", root)


def test_an_empty_split_says_which_there_are(make):
    root = make("fer2013")
    shutil.rmtree(root / "test")
    with pytest.raises(DatasetError, match=r"no usable sample in split 'test'(.|\n)*train, validation"):
        read_dataset("fer2013", root, "test")
    assert len(read_dataset("fer2013", root, "val")) == 7


def test_fairface_labels_and_malformed_rows(make, caplog):
    root = make("fairface")
    first, second, _ = read_dataset("fairface", root)
    assert first.labels == {"age_bin": "20-29", "gender": "male", "ethnicity": "east asian"}
    assert first.groups["service_test"] == "true"
    assert second.labels == {"age_bin": "70+", "gender": "female", "ethnicity": "latino"}

    csv = root / "fairface_label_train.csv"
    bad = [
        "train/9.jpg,20-29,Male,White,True",
        "train/1.jpg,age,Male,White,True",
        "train/1.jpg,20-29",
        "",
        "x,1,2,3,4,5",
    ]
    csv.write_text(csv.read_text() + "\n".join(bad) + "\n")
    with caplog.at_level(logging.WARNING, "facemllm.data"):
        dataset = read_dataset("fairface", root)
    assert len(dataset) == 3
    assert dataset.skipped.reasons == {"image not found": 1, "unknown age": 1, "wrong number of fields": 2}
    assert "fairface_label_train.csv, line 5: unknown age" in caplog.text
    with pytest.raises(DatasetError, match="image not found") as caught:
        read_dataset("fairface", root, strict=True)
    assert "line 4" in caught.value.given


def test_fairface_with_other_columns_is_refused(make):
    root = make("fairface")
    (root / "fairface_label_val.csv").write_text("file,age\nval/1.jpg,20-29\n")
    with pytest.raises(DatasetError, match="lacks columns") as caught:
        read_dataset("fairface", root)
    assert "gender, race" in caught.value.expected


def test_utkface_codes_and_malformed_names(make):
    root = make("utkface")
    by_id = {sample.id: sample for sample in read_dataset("utkface", root)}
    oldest = by_id["101_1_2_20170105174739309.jpg"]
    assert oldest.labels == {"age": 101.0, "gender": "female", "ethnicity": "asian"}
    assert oldest.groups["age_bin"] == "70+"
    for name in (
        "61_3_20170109150557335.jpg.chip.jpg",
        "10_2_1_2017.jpg",
        "10_1_7_2017.jpg",
        "999_1_1_2017.jpg",
    ):
        (root / name).write_bytes(b"x")
    (root / "10_1_1_2018.jpg").write_bytes(b"")
    dataset = read_dataset("utkface", root)
    assert len(dataset) == len(by_id)
    assert sorted(dataset.skipped.reasons) == [
        "age out of range",
        "image is empty",
        "name is not [age]_[gender]_[race]_[date]",
        "unknown gender code",
        "unknown race code",
    ]


def test_utkface_keeps_copies_of_a_photo_in_one_split(make):
    root = make("utkface")
    for number in range(40):
        name = f"{number}_1_1_2018{number}.jpg"
        (root / name).write_bytes(f"photo {number}".encode())
        (root / f"{name}.chip.jpg").write_bytes(f"aligned {number}".encode())
        (root / f"{number}_0_1_2019{number}.jpg").write_bytes(f"photo {number}".encode())
    splits = defaultdict(set)
    for sample in read_dataset("utkface", root):
        if "_1_1_2018" in sample.id or "_0_1_2019" in sample.id:
            splits[sample.id.split("_")[0]].add(sample.split)
    assert len(splits) == 40
    assert all(len(found) == 1 for found in splits.values())
    assert len(set.union(*splits.values())) == 3


def test_utkface_split_depends_on_content_and_seed(make):
    root = make("utkface")
    before = {sample.id: sample.split for sample in read_dataset("utkface", root)}
    assert {sample.id: sample.split for sample in read_dataset("utkface", root, seed=3)} != before
    for image in root.iterdir():
        image.write_bytes(image.read_bytes() + b"!")
    assert {sample.id: sample.split for sample in read_dataset("utkface", root)} != before


def test_fer2013_folders(make):
    root = make("fer2013")
    (root / "train" / "angry").rename(root / "train" / "Anger")
    (root / "train" / "bored").mkdir()
    dataset = read_dataset("fer2013", root, "train")
    assert sorted(dataset.counts("expression").values()) == [1] * 7
    assert dataset.skipped.reasons == {"not a folder named after an expression": 1}


def test_pointing04_angles_box_and_persons(make):
    root = make("pointing04")
    dataset = read_dataset("pointing04", root)
    down = next(sample for sample in dataset if sample.id == "Person03/person03101-30+15.jpg")
    assert down.labels["pose"] == {"pan": 15.0, "tilt": -30.0}
    assert down.box == (80.0, 70.0, 120.0, 90.0)
    assert down.identity == "03"
    persons = {split: {s.identity for s in dataset if s.split == split} for split in ("train", "val", "test")}
    assert [len(persons[split]) for split in ("train", "val", "test")] == [9, 1, 2]
    assert len(set.union(*persons.values())) == 12


def test_pointing04_malformed(make):
    root = make("pointing04")
    folder = root / "Person01"
    (folder / "person01100+0-90.txt").write_text("person\nFace\n1\n2\n")
    (folder / "person01101-30+15.txt").unlink()
    (folder / "person02199+0+0.jpg").write_bytes(b"x")
    (folder / "portrait.jpg").write_bytes(b"x")
    dataset = read_dataset("pointing04", root)
    assert len(dataset) == 34
    assert dataset.skipped.reasons == {
        "no face box in the text file beside it": 2,
        "name and folder are of different persons": 1,
        "name is not person[digits][tilt][pan]": 1,
    }


def test_celeba_attributes_gender_and_splits(make):
    root = make("celeba")
    dataset = read_dataset("celeba", root)
    first = dataset[0]
    assert first.labels["gender"] == "male"
    assert len(first.labels["attributes"]) == 39
    assert [name for name, present in first.labels["attributes"].items() if present] == ["smiling"]
    assert first.identity == "2880"
    assert [sample.split for sample in dataset] == ["train", "train", "val", "test"]


def test_celeba_with_and_without_count_line_and_malformed(make):
    root = make("celeba")
    path = root / "list_attr_celeba.txt"
    count, *rest = path.read_text().splitlines()
    path.write_text("\n".join(rest))
    assert len(read_dataset("celeba", root, strict=True)) == 4
    bad = ["000001.jpg 1 -1", rest[1].replace(" -1", " 0", 1), rest[1].replace("000001", "000009")]
    path.write_text("\n".join([count, *rest, *bad]))
    dataset = read_dataset("celeba", root)
    assert len(dataset) == 4
    assert dataset.skipped.reasons == {
        "count line disagrees with the 7 rows that follow": 1,
        "expected 40 values": 1,
        "a value is neither 1 nor -1": 1,
        "no split in list_eval_partition.txt": 1,
    }
    path.write_text("")
    with pytest.raises(DatasetError, match="does not begin with attribute names"):
        read_dataset("celeba", root)


def test_lfw_gender_lists_and_identity_splits(make):
    root = make("lfw")
    dataset = read_dataset("lfw", root)
    assert dataset.counts("gender") == {"male": 2, "female": 1}
    splits = defaultdict(set)
    for sample in dataset:
        splits[sample.identity].add(sample.split)
    assert all(len(found) == 1 for found in splits.values())

    (root / "female_names.txt").write_text("Person_0_0001.jpg\nPerson_2_0001.jpg\nnot a name\n")
    dataset = read_dataset("lfw", root)
    assert dataset.counts("gender") == {"male": 1, "female": 1}
    assert dataset.skipped.reasons == {"picture is in both lists": 1, "not the name of a picture": 1}
