"""A disk on which there is no room for a cache ends a run with an error, and not by a signal."""

import os
import shutil
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch import nn

from facemllm.core.errors import TrainingError
from facemllm.data import FaceSample, read_dataset
from facemllm.training import ThreeStageRecipe, Trainer
from facemllm.training.crops import MARGIN, CropSet, crop_dataset
from facemllm.training.features import encode_views
from facemllm.training.files import make_array, write_note

resource = pytest.importorskip("resource", reason="limits the size of files as Unix does")


@contextmanager
def no_file_larger_than(size):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_an_array_has_its_room_from_the_start(tmp_path):
    array = make_array(tmp_path / "folder" / "a.npy", np.float16, (1000, 1000))
    found = (tmp_path / "folder" / "a.npy").stat()
    assert found.st_size >= 2_000_000
    assert found.st_blocks * 512 >= 2_000_000
    assert not array.any()
    sparse = np.lib.format.open_memmap(tmp_path / "b.npy", mode="w+", dtype=np.float16, shape=(1000, 1000))
    assert sparse.shape == array.shape
    assert (tmp_path / "b.npy").stat().st_blocks * 512 < 2_000_000  # as it would be otherwise


def test_more_than_the_disk_has_is_refused_before_anything_is_written(tmp_path):
    free = shutil.disk_usage(tmp_path).free
    with pytest.raises(TrainingError, match=r"no room for a cache\n.*No space left on device"):
        make_array(tmp_path / "a.npy", np.uint8, (2 * free,))
    assert not (tmp_path / "a.npy").exists()


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="this system does not set room aside")
def test_room_that_another_takes_in_between_is_missed_at_once(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    with (
        no_file_larger_than(100_000),
        pytest.raises(TrainingError, match=r"no room for a cache\n.*File too large"),
    ):
        make_array(tmp_path / "a.npy", np.uint8, (200_000,))
    assert not (tmp_path / "a.npy").exists()
    assert usage.free > 200_000  # it was not for the look at the disk


def test_face_crops(made_faces, small_model, tmp_path):
    samples = read_dataset("utkface", made_faces).samples
    options = {"cache": tmp_path, "progress": False}
    with (
        no_file_larger_than(50_000),
        pytest.raises(TrainingError, match=r"no room for a cache\n.*pixels.npy"),
    ):
        crop_dataset("a", samples, small_model.checked_processor(), **options)
    assert len(crop_dataset("a", samples, small_model.checked_processor(), **options)) == 8  # room again


def test_features(tmp_path):
    class Encoder(nn.Conv2d):
        def forward(self, pixels):
            return super().forward(pixels).flatten(2).transpose(1, 2)

    torch.manual_seed(0)
    encoder, side = Encoder(3, 64, 2, 2), 8 + 2 * MARGIN
    encoder.spec = {"name": "conv"}
    samples = tuple(FaceSample(id=str(i), image="x", labels={}, dataset="d", licence="t") for i in range(40))
    crops = CropSet("d", samples, np.full((40, side, side, 3), 9, np.uint8))
    options = {
        "views": 2,
        "size": 8,
        "mean": (0.5,) * 3,
        "std": (0.5,) * 3,
        "cache": tmp_path,
        "progress": False,
    }
    with (
        no_file_larger_than(50_000),
        pytest.raises(TrainingError, match=r"no room for a cache\n.*features.npy"),
    ):
        encode_views(encoder, crops, **options)
    assert encode_views(encoder, crops, **options).features.abs().sum(dtype=torch.float32) > 0


def test_a_folder_that_cannot_be_written_to(tmp_path, made_faces):
    (tmp_path / "file").write_text("")
    options = {"output_dir": tmp_path / "run", "data_root": made_faces, "progress": False}
    data = [f"stages.{index}.data=[{{dataset: utkface, split: all}}]" for index in range(4)]
    recipe = ThreeStageRecipe.load("tiny", ("encoder_phase=null", *data))
    trainer = Trainer(None, recipe, **options)
    with pytest.raises(TrainingError, match="cannot write down how far the run is"):
        write_note(tmp_path / "file" / "note.json", "{}")
    with (
        no_file_larger_than(100),
        pytest.raises(TrainingError, match=r"cannot write down\b.*(.|\n)*recipe.yaml"),
    ):
        trainer.fit()
