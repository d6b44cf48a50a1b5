"""What an evaluation keeps of a face is small, and nothing of the model's is kept."""

import gc
import tracemalloc

import pytest
import torch

from facemllm.data import FaceSample, read_dataset
from facemllm.data.vocabularies import CELEBA_ATTRIBUTES
from facemllm.evaluation import evaluate
from facemllm.evaluation.packed import pack, unpack

NAMES = CELEBA_ATTRIBUTES.labels[:8]
KEPT, PEAK = 1536, 8 * 1024
"""Bytes of a face of eight answers: those that stay in the report, and those at the peak."""


class Says:
    """Answers anything, and may hoard as much as it is told to for every picture."""

    fingerprint = "says"

    def __init__(self, hoard=0):
        self.hoard, self.hoarded = hoard, []

    def ask(self, image, questions):
        self.hoarded += [bytearray(self.hoard) for _ in image]
        return [
            [("Yes.", "No, not at all.")[(i + j) % 2] for j in range(len(questions))]
            for i in range(len(image))
        ]

    def choose(self, image, questions, options):
        return [
            [{"yes": 0.25 + i / 1000, "no": 0.75 - i / 1000} for _ in questions] for i in range(len(image))
        ]


def _measured(model, picture, count, folder, **options):
    """Return the bytes that a report of so many faces holds, and the peak, both as Python counts them."""
    labels = {"attributes": {name: index % 3 == 0 for index, name in enumerate(NAMES)}}
    samples = [
        FaceSample(id=f"{i}.png", image=str(picture), labels=labels, dataset="made", licence="own")
        for i in range(count)
    ]
    gc.collect()
    tracemalloc.start()
    try:
        report = evaluate(model, samples, progress=False, **options)
        report.save(folder, plots=False, faces="none")
        del samples
        gc.collect()
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(report.records) == len(NAMES) * count
    return kept, peak


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch):
    """Resampling takes time, and memory that is the same for any number of faces from 250 on."""
    monkeypatch.setattr("facemllm.evaluation.bootstrap.RESAMPLES", 20)


def _grown(picture, folder, hoard=0, **options):
    few, many = 60, 240
    _measured(Says(), picture, 2, folder, **options)  # what is loaded once is loaded
    first = _measured(Says(hoard), picture, few, folder, **options)
    second = _measured(Says(hoard), picture, many, folder, **options)
    return [(after - before) / (many - few) for before, after in zip(first, second, strict=True)]


@pytest.fixture
def picture(tmp_path):
    from PIL import Image

    Image.new("RGB", (8, 8)).save(tmp_path / "face.png")
    return tmp_path / "face.png"


def test_a_face_of_eight_answers_costs_little_memory(picture, tmp_path):
    kept, peak = _grown(picture, tmp_path / "report")
    assert kept < KEPT
    assert peak < PEAK


def test_so_do_likelihoods_and_answers_kept_on_disk(picture, tmp_path):
    kept, peak = _grown(picture, tmp_path / "report", likelihoods=True, output_dir=tmp_path / "answers")
    assert kept < KEPT  # the second run takes the answers of the first from disk
    assert peak < 2 * PEAK


def test_a_model_that_hoards_is_seen(picture, tmp_path):
    _, peak = _grown(picture, tmp_path / "report", hoard=16 * 1024)
    assert peak > PEAK


def test_the_model_keeps_nothing_of_the_pictures(built_in, faces_root):
    samples = read_dataset("utkface", faces_root / "utkface", "all")[:8]
    built_in.ask(samples[0].image, "How old is this person?", crop="none")
    remembered = built_in.trunk_cache
    assert len(remembered) == 1
    evaluate(built_in, samples[:2], batch_size=2, progress=False, likelihoods=True)  # loads and allocates
    counts = []
    for count in (2, 8):
        report = evaluate(built_in, samples[:count], batch_size=2, progress=False, likelihoods=True)
        gc.collect()
        counts.append(sum(issubclass(type(one), torch.Tensor) for one in gc.get_objects()))
        assert report.summary["samples"] == count
    assert counts[0] == counts[1]
    assert built_in.trunk_cache is remembered
    assert len(remembered) == 1


def test_packed_is_unpacked_as_it_was():
    for value in (
        {},
        "a",
        None,
        {"q": {}},
        {"q": {"yes": 0.5, "no": 0.5}, "r": "text", "s": [1, 2]},
        {"n": 1},
    ):
        assert unpack(pack(value)) == value
    assert list(unpack(pack({"b": 1.0, "a": 2.0}))) == ["b", "a"]
    assert isinstance(unpack(pack({"n": 1})), dict)
    assert type(unpack(pack({"n": 1}))["n"]) is int
