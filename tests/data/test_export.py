import json
import random

import pytest
from PIL import Image

from facemllm.core.errors import DatasetError
from facemllm.data import EXPORT_FORMATS, FaceSample, export_dataset, read_dataset, write_questions
from facemllm.data.export import IMAGE


@pytest.fixture
def samples(tmp_path):
    found = []
    for number, (dataset, licence) in enumerate(
        [("utkface", "research"), ("fairface", "CC BY 4.0"), ("mine", "own")]
    ):
        image = tmp_path / f"{number}.png"
        Image.new("RGB", (16, 16), ("red", "green", "blue")[number]).save(image)
        labels = {"age": 30.0 + number} if number < 2 else {"alt_text": "no label"}
        found.append(
            FaceSample(id=str(number), image=str(image), labels=labels, dataset=dataset, licence=licence)
        )
    return found


def ask(sample):
    return write_questions(sample, random.Random(0), ["age"], forms=["open", "choice"])


@pytest.mark.parametrize("format", EXPORT_FORMATS)
def test_every_export_carries_the_licences_of_its_sources(samples, tmp_path, format):
    manifest = export_dataset(samples, ask, tmp_path / "out", format)
    written = json.loads((tmp_path / "out/LICENCES.json").read_text())
    assert written["licences"] == manifest.licences == {"fairface": ["CC BY 4.0"], "utkface": ["research"]}
    assert manifest.records == 2, "a sample without questions is left out, and its licence with it"


def test_llava_json_is_read_back_by_our_own_reader(samples, tmp_path):
    export_dataset(samples, ask, tmp_path / "out", "llava", name="faces")
    items = json.loads((tmp_path / "out/faces.json").read_text())
    assert [item["licence"] for item in items] == ["research", "CC BY 4.0"]
    dataset = read_dataset("llava-json", tmp_path / "out", strict=True, images=tmp_path)
    for sample, original in zip(dataset, samples, strict=False):
        assert sample.labels["conversation"] == tuple((qa.question, qa.answer) for qa in ask(original))


@pytest.mark.parametrize("format", ["llama-factory", "ms-swift"])
def test_messages_have_as_many_image_tokens_as_images(samples, tmp_path, format):
    export_dataset(samples, ask, tmp_path / "out", format, name="faces")
    if format == "llama-factory":
        items = json.loads((tmp_path / "out/faces.json").read_text())
        entry = json.loads((tmp_path / "out/dataset_info.json").read_text())["faces"]
        assert (entry["file_name"], entry["columns"]["images"]) == ("faces.json", "images")
    else:
        items = [json.loads(line) for line in (tmp_path / "out/faces.jsonl").read_text().splitlines()]
    for item in items:
        assert (
            sum(message["content"].count(IMAGE) for message in item["messages"]) == len(item["images"]) == 1
        )
        assert [message["role"] for message in item["messages"]] == ["user", "assistant"] * 2
        assert item["source"] in ("utkface", "fairface")


def test_parquet_is_read_by_datasets_with_its_pictures(samples, tmp_path):
    datasets = pytest.importorskip("datasets")
    export_dataset(samples, ask, tmp_path / "out", "parquet", name="faces")
    table = datasets.load_dataset(
        "parquet", data_files=str(tmp_path / "out/faces.parquet"), cache_dir=str(tmp_path / "cache")
    )["train"]
    assert table["licence"] == ["research", "CC BY 4.0"]
    assert table[0]["images"][0].getpixel((0, 0)) == (255, 0, 0)
    assert table[0]["messages"][1]["content"] == "30"


def test_unknown_formats_and_nothing_to_export(samples, tmp_path):
    with pytest.raises(DatasetError, match="unknown format of an export"):
        export_dataset(samples, ask, tmp_path, "coco")
    with pytest.raises(DatasetError, match="nothing to export"):
        export_dataset(samples[2:], ask, tmp_path / "out", "llava")
    assert not (tmp_path / "out").exists()
