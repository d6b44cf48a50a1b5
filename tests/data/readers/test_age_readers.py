"""AgeDB and MORPH II: names, codes and broken twins."""

from collections import defaultdict

import pytest

from facemllm.core.errors import DatasetError
from facemllm.data import read_dataset


def test_agedb_names(layout):
    dataset = read_dataset("agedb", layout("agedb"))
    first = dataset[0]
    assert first.id == "0_MariaCallas_20_f.jpg"
    assert first.labels == {"age": 20.0, "gender": "female"}
    # Names with underscores, and natural order.
    assert dataset[2].identity == "Jean_Gabin"
    assert [sample.labels["age"] for sample in dataset] == list(range(20, 32))


def test_no_person_straddles_splits(layout):
    for name in ("agedb", "morph"):
        splits = defaultdict(set)
        for sample in read_dataset(name, layout(name)):
            splits[sample.identity].add(sample.split)
        assert all(len(found) == 1 for found in splits.values())


def test_agedb_broken(layout, forge):
    root = layout("agedb")
    for name in ("100_Ada_x_f.jpg", "101_Ada_30_x.jpg", "102_Ada_130_f.jpg", "Ada.jpg"):
        forge.picture(root / name)
    (root / "103_Ada_30_f.jpg").write_bytes(b"")
    dataset = read_dataset("agedb", root)
    assert len(dataset) == 12
    assert dataset.skipped.reasons == {
        "name is not [number]_[name]_[age]_[gender]": 2,
        "unknown gender code": 1,
        "age out of range": 1,
        "image is empty": 1,
    }


def test_morph_table_adds_the_race(layout):
    found = {sample.id: sample for sample in read_dataset("morph", layout("morph"))}
    first = found["Album2/000001_0M21.JPG"]
    assert first.labels == {"age": 21.0, "gender": "male", "ethnicity": "white"}
    assert first.identity == "000001"
    unknown = found["Album2/000004_0F24.JPG"]
    assert unknown.cannot_tell == ("ethnicity",)
    assert "ethnicity" not in unknown.labels
    assert found["Album2/000005_0M25.JPG"].labels["ethnicity"] == "other"


def test_morph_names_alone(layout):
    dataset = read_dataset("morph", layout("morph, names"))
    assert len(dataset) == 29
    assert dataset[0].labels == {"age": 21.0, "gender": "female"}


def test_morph_table_that_contradicts_its_names(layout, forge):
    root = layout("morph")
    table = root / "morph_2008_nonCommercial.csv"
    dates = "1960-01-01 00:00:00,1990-01-01 00:00:00"
    good = "Album2/000001_0M21.JPG"
    bad = [
        f"2,0,{dates},W,M,,21,0,,{good}",
        f"1,0,{dates},W,F,,21,0,,{good}",
        f"1,0,{dates},Z,M,,21,0,,{good}",
    ]
    bad += [
        f"1,0,{dates},W,M,,999,0,,{good}",
        f"1,0,{dates},W,M,,21,0,,x.JPG",
        "1,0",
        f"1,9,{dates},W,M,,x,0,,{good}",
    ]
    bad += [f"1,0,{dates},W,M,,21,0,,Album2/000001_7M21.JPG"]
    forge.append(table, *bad)
    dataset = read_dataset("morph", root)
    assert len(dataset) == 10
    assert dataset.skipped.reasons == {
        "name of the photo contradicts subject or gender": 2,
        "unknown race code": 1,
        "age out of range": 2,
        "photo is not [subject]_[number][sex][age].JPG": 1,
        "wrong number of fields": 1,
        "image not found": 1,
    }
    with pytest.raises(DatasetError, match="contradicts") as caught:
        read_dataset("morph", root, strict=True)
    assert "line 12" in caught.value.given
