"""Records in tar shards as training data: divided, without a repeat, and drawn in passes."""

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from facemllm.core.errors import DatasetError, TrainingError
from facemllm.data import FaceSample, read_dataset, write_shards
from facemllm.processing.references import read_reference, reference_size
from facemllm.training import DataSource, Stage, ThreeStageRecipe, Trainer
from facemllm.training.crops import MARGIN, CropSet, Joined
from facemllm.training.features import FeatureSet
from facemllm.training.parallel import Processes
from facemllm.training.passes import Passes
from facemllm.training.questions import StageData
from facemllm.training.shards import by_shard, crops_of


@pytest.fixture
def shards(made_faces, tmp_path):
    """Eight faces in shards of three, three and two."""
    write_shards(read_dataset("utkface", made_faces), tmp_path / "shards", per_shard=3)
    return read_dataset("records", tmp_path / "shards")


def crop(name, samples, model, folder, **options):
    processor = model.checked_processor()
    return crops_of(name, samples, processor, cache=folder, processes=Processes(), progress=False, **options)


def test_crops_of_shards_are_those_of_the_pictures(shards, made_faces, small_model, tmp_path):
    def names(sample):
        return round(sample.labels["age"])

    found = crop("a", shards.samples, small_model, tmp_path / "cache")
    whole = crop("b", read_dataset("utkface", made_faces).samples, small_model, tmp_path / "whole")
    assert isinstance(found.pixels, Joined)
    assert not isinstance(whole.pixels, Joined)
    assert list(map(names, found.samples)) == list(map(names, whole.samples))
    assert np.array_equal(found.pixels[:], whole.pixels)
    made = sorted(path.name.partition("-0000")[2][:5] for path in (tmp_path / "cache").iterdir())
    assert made == ["0.tar", "1.tar", "2.tar"]


def test_a_process_crops_its_own_shards_alone(shards, small_model, tmp_path, monkeypatch):
    """What the process of rank 1 of 2 has made when the others are waited for."""

    class Stop(Exception):
        pass

    def waits(processes):
        raise Stop

    processes = Processes()
    processes.rank, processes.count = 1, 2
    monkeypatch.setattr(Processes, "gather", lambda self, value: [None, value])
    monkeypatch.setattr(Processes, "wait", waits)
    with pytest.raises(Stop):
        crops_of(
            "a", shards.samples, small_model.checked_processor(), cache=tmp_path, processes=processes,
            progress=False,
        )  # fmt: skip
    assert [path.name[:9] for path in tmp_path.iterdir() if path.name.startswith("a-")] == ["a-00001.t"]


def test_shards_that_are_done_are_not_made_again(shards, small_model, tmp_path):
    crop("a", shards.samples, small_model, tmp_path)
    folders = sorted(path for path in tmp_path.iterdir() if path.name.startswith("a-"))
    (folders[1] / "done.json").unlink()  # as of a run that was stopped in the second one
    times = [(folder / "pixels.npy").stat().st_mtime_ns for folder in folders]
    crop("a", shards.samples, small_model, tmp_path)
    again = [(folder / "pixels.npy").stat().st_mtime_ns for folder in folders]
    assert [new != old for new, old in zip(again, times, strict=True)] == [False, True, False]


def test_shards_that_were_written_again_are_made_again(made_faces, small_model, tmp_path):
    """With the same ids and, as tar files are filled up to ten kilobytes, the same size of the file."""
    faces, found, sizes = read_dataset("utkface", made_faces).samples[:2], [], []
    for quality in (60, 59):
        folder, again = tmp_path / f"of {quality}", []
        folder.mkdir()
        for face in faces:
            path = folder / f"{len(again)}.jpg"
            Image.open(face.image).save(path, quality=quality)
            again.append(face.model_copy(update={"image": str(path)}))
        shutil.rmtree(tmp_path / "shards", ignore_errors=True)
        write_shards(again, tmp_path / "shards", per_shard=1)
        samples = read_dataset("records", tmp_path / "shards").samples
        found.append(crop("a", samples, small_model, tmp_path / "cache").pixels[:])
        sizes.append([path.stat().st_size for path in sorted((tmp_path / "shards").glob("*.tar"))])
    assert sizes[0] == sizes[1]
    assert not np.array_equal(*found)


def test_a_shard_without_a_readable_picture_is_left_out(made_faces, small_model, tmp_path):
    faces = read_dataset("utkface", made_faces).samples[:4]
    broken = []
    for number in range(2):
        path = tmp_path / f"{number}.jpg"
        path.write_bytes(b"no picture")
        broken.append(FaceSample(id=path.name, image=str(path), labels={}, dataset="d", licence="t"))
    write_shards([*faces[:2], *broken, *faces[2:]], tmp_path / "shards", per_shard=2)
    samples = read_dataset("records", tmp_path / "shards").samples
    assert len(by_shard(samples)) == 3
    found = crop("a", samples, small_model, tmp_path / "cache")
    assert [sample.id for sample in found.samples] == [sample.id for sample in faces]
    write_shards(broken, tmp_path / "none", per_shard=1)
    with pytest.raises(DatasetError, match="no readable picture in a"):
        crop("a", read_dataset("records", tmp_path / "none").samples, small_model, tmp_path / "cache")


def test_what_a_model_was_trained_on_keeps_its_name_and_terms(shards, small_model, tmp_path):
    trainer = Trainer(small_model, ThreeStageRecipe.load("tiny"), output_dir=tmp_path, progress=False)
    source = DataSource(dataset="records", path="inner/shards", split="all")
    trainer._crops[source.key] = (source, CropSet("a", shards.samples, np.zeros(8)))
    licence = shards.samples[0].licence
    assert trainer._training_data() == [
        {"dataset": "utkface", "split": "all", "samples": 8, "licence": licence, "path": "shards"}
    ]


def test_sources_in_several_folders_are_told_apart(made_faces, small_model, tmp_path):
    faces = read_dataset("utkface", made_faces).samples
    write_shards(faces[:3], tmp_path / "data" / "one", per_shard=2)
    write_shards(faces[3:], tmp_path / "data" / "inner" / "two", per_shard=2)
    options = {"output_dir": tmp_path / "run", "data_root": tmp_path / "data", "progress": False}
    trainer = Trainer(small_model, ThreeStageRecipe.load("tiny"), **options)
    found = [
        trainer.crops(DataSource(dataset="records", split="all", path=folder))
        for folder in ("one", "inner/two")
    ]
    assert [len(crops) for crops in found] == [3, 5]
    assert [crops.name for crops in found] == ["records-one-all", "records-two-all"]


def test_the_size_of_a_picture_in_a_file(shards, tmp_path):
    image = shards.samples[0].image
    assert reference_size(image) == len(read_reference(image))
    (tmp_path / "table.csv").write_text("12345")
    (tmp_path / "no.tar").write_text("no shard")
    places = ("table.csv#0", "none.tar#1.jpg", "no.tar#1.jpg", f"{Path(image.rpartition('#')[0])}#other.jpg")
    assert [reference_size(str(tmp_path / place)) for place in places] == [5, -1, -1, -1]


def test_joined_arrays_are_read_as_one():
    pieces = [np.arange(6, dtype=np.uint8).reshape(2, 3) + 10 * n for n in range(3)]
    joined, whole = Joined([*pieces[:1], pieces[0][:0], *pieces[1:]]), np.concatenate(pieces)
    assert joined.shape == whole.shape
    assert joined.nbytes == whole.nbytes
    assert all(np.array_equal(joined[row], whole[row]) for row in range(6))
    assert np.array_equal(joined[1:5], whole[1:5])
    assert np.array_equal(joined[[4, 0]], whole[[4, 0]])
    side = 4 + 2 * MARGIN
    samples = tuple(FaceSample(id=str(i), image="x", labels={}, dataset="d", licence="t") for i in range(6))
    pixels = np.random.default_rng(0).integers(0, 9, (6, side, side, 3)).astype(np.uint8)
    part, same = (CropSet("d", samples, kind).limited(4, 0) for kind in (Joined([pixels]), pixels))
    assert np.array_equal(part.pixels, same.pixels)
    assert len(part) == 4


# --- passes


@pytest.mark.parametrize(("pictures", "steps"), [(1, 40), (3, 14), (7, 9)])
def test_each_picture_comes_once_before_any_comes_again(pictures, steps):
    passes = Passes([5, 3], [2.0, 1.0], pictures=pictures, seed=1)
    drawn = [row for step in range(steps) for row in passes(step)]
    orders = set()
    for source, size in enumerate((5, 3)):
        rows = [row for of, row in drawn if of == source]
        for start in range(0, len(rows) - size + 1, size):
            assert sorted(rows[start : start + size]) == list(range(size))
            orders.add(tuple(rows[start : start + size]))
    assert len(orders) > 2  # passes are not all in one order


def test_a_step_is_the_same_wherever_one_begins():
    passes = Passes([5, 3], [2.0, 1.0], pictures=3, seed=1)
    drawn = [passes(step) for step in range(9)]
    for step in (8, 2, 0, 5):
        assert Passes([5, 3], [2.0, 1.0], pictures=3, seed=1)(step) == drawn[step]
        assert passes(step) == drawn[step]
    assert Passes([5, 3], [2.0, 1.0], pictures=3, seed=2)(0) != drawn[0]


def test_sources_are_drawn_by_weight():
    passes = Passes([50, 50], [3.0, 1.0], pictures=8, seed=0)
    counts = Counter(source for step in range(200) for source, _ in passes(step))
    assert 0.7 < counts[0] / 1600 < 0.8


def test_a_pass_in_which_nothing_can_be_asked_is_an_error(small_model):

    sample = FaceSample(
        id="1", image="x", labels={"pose": {"pan": 1.0, "tilt": 1.0}}, dataset="d", licence="t"
    )
    source = FeatureSet(CropSet("d", (sample,), None), torch.zeros(1, 1, 16, 256), torch.zeros(1, 1).bool())
    stage = Stage(
        name="s", train=("connector",), lr={"connector": 0.1}, ask="basic", steps=1, tasks=("age",),
        unknown=0.0, passes=True, data=(DataSource(dataset="d"),),
    )  # fmt: skip
    data = StageData([source], [1.0], stage, small_model.checked_processor(), 0)
    with pytest.raises(TrainingError, match="no questions for this stage"):
        data.draw(0)
