"""What holds for every reader, on its exact layout."""

import shutil
from pathlib import Path

import pytest

from facemllm.core.errors import DatasetError
from facemllm.data import READERS, FaceSample, read_dataset, stream_dataset


def test_every_layout_is_read_strictly(any_layout):
    name, root = any_layout
    dataset = read_dataset(name, root, strict=True)
    assert len(dataset) > 1
    assert dataset.skipped.total == 0
    assert len({sample.id for sample in dataset}) == len(dataset)
    for sample in dataset:
        assert sample.dataset == name
        assert sample.licence
        assert sample.split in READERS.get(name).splits
        assert sample.provenance["record"]
        assert FaceSample.model_validate_json(sample.model_dump_json()) == sample


def test_nothing_of_the_machine_is_in_the_ids(any_layout, tmp_path):
    name, root = any_layout
    before = [(sample.id, sample.split, sample.labels) for sample in read_dataset(name, root)]
    moved = shutil.move(root, tmp_path / "elsewhere")
    assert [(sample.id, sample.split, sample.labels) for sample in read_dataset(name, moved)] == before
    assert not [one for one, *_ in before if str(tmp_path) in one]


def test_a_stream_gives_the_same_and_can_be_read_again(any_layout):
    name, root = any_layout
    stream = stream_dataset(name, root)
    assert list(stream) == list(stream) == list(read_dataset(name, root))
    assert stream.skipped.total == 0
    assert stream.licence == read_dataset(name, root).licence


def test_splits_are_disjoint_and_together_everything(any_layout):
    name, root = any_layout
    parts = [sample.id for split in READERS.get(name).splits for sample in stream_dataset(name, root, split)]
    assert sorted(parts) == sorted(sample.id for sample in read_dataset(name, root))


@pytest.mark.parametrize("name", READERS.names())
def test_a_folder_of_something_else_is_refused_with_the_layout(name, tmp_path):
    (tmp_path / "notes.md").write_text("nothing")
    with pytest.raises(DatasetError, match="cannot find the dataset") as caught:
        read_dataset(name, tmp_path)
    assert "notes.md" in caught.value.given
    assert caught.value.expected == READERS.get(name).layout


def test_every_name_of_the_design_has_a_reader():
    names = (
        "fairface utkface fer2013 ferplus pointing04 lfw celeba rafdb affectnet 300wlp aflw2000 biwi agedb "
        "morph disfa disfaplus bp4d laionface facecaption llava-json calfw cplfw csv folder"
    )
    assert set(names.split()) <= set(READERS.names())


def test_every_code_is_of_a_named_vocabulary():
    for name in READERS.names():
        for vocabulary in READERS.get(name).vocabularies:
            assert vocabulary.name
            assert vocabulary.version >= 1


SHEETS = Path(__file__).parents[3] / "docs" / "datasets"


@pytest.mark.skipif(not SHEETS.is_dir(), reason="docs are not beside the tests")
@pytest.mark.parametrize("name", sorted(set(READERS.names()) - {"folder", "records"}))
def test_every_dataset_has_a_datasheet(name):
    page = (SHEETS / f"{name}.md").read_text()
    licence = READERS.get(name).licence
    assert f"| terms | {licence}" in page
    for title in ("How it was labelled", "What the labels are worth", "Intended use", "Traps"):
        assert f"## {title}" in page
    for vocabulary in READERS.get(name).vocabularies:
        assert f"`{vocabulary.name}`, version {vocabulary.version}" in page
    rows = [row for row in (SHEETS / "index.md").read_text().splitlines() if f"({name}.md)" in row]
    assert [row.endswith(f"| {licence} |") for row in rows] == [True]
