import hashlib
import json
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from facemllm.core.errors import ConfigError, DatasetError
from facemllm.data import (
    QA,
    FaceSample,
    Landmarks,
    SkipReport,
    read_dataset,
    read_jsonl,
    read_manifest,
    write_jsonl,
    write_shards,
)
from facemllm.processing.reading import load_image

_text = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=20).filter(str.strip)


@st.composite
def samples(draw):
    return FaceSample(
        id=draw(_text),
        image="1.jpg",
        size=draw(st.none() | st.tuples(st.integers(1, 9999), st.integers(1, 9999))),
        box=draw(st.none() | st.tuples(*[st.floats(-1e4, 0)] * 2, *[st.floats(0, 1e4)] * 2)),
        landmarks=draw(
            st.none()
            | st.builds(
                Landmarks,
                scheme=st.just("five-1"),
                points=st.tuples(*[st.tuples(st.floats(-1e4, 1e4), st.floats(-1e4, 1e4))] * 5),
            )
        ),
        labels=draw(
            st.fixed_dictionaries(
                {},
                optional={
                    "age": st.floats(0, 120),
                    "age_range": st.just((4.0, 19.0)),
                    "caption": _text,
                    "conversation": st.lists(st.tuples(_text, _text), min_size=1, max_size=3),
                    "action_units": st.dictionaries(st.sampled_from(["AU1", "AU12"]), st.booleans()),
                    "affect": st.fixed_dictionaries(
                        {"valence": st.floats(-1, 1), "arousal": st.floats(-1, 1)}
                    ),
                },
            )
        ),
        cannot_tell=draw(st.sampled_from([(), ("gender",), ("attributes/bald",)])),
        groups=draw(st.dictionaries(_text, _text, max_size=2)),
        provenance=draw(st.dictionaries(_text, _text, max_size=2)),
        dataset=draw(st.sampled_from(["mine", "utkface"])),
        licence=draw(_text),
        consent=draw(st.none() | _text),
        fold=draw(st.none() | st.integers(1, 10)),
    )


@settings(max_examples=60)
@given(found=st.lists(samples(), max_size=5))
def test_samples_survive_json_lines(tmp_path_factory, found):
    path = tmp_path_factory.mktemp("records") / "records.jsonl"
    manifest = write_jsonl(found, path)
    assert list(read_jsonl(path, strict=True)) == found
    assert manifest.records == len(found)
    assert read_manifest(path.with_name("records.manifest.json")) == manifest


@pytest.fixture
def photos(tmp_path):
    found = []
    for number, colour in enumerate(("red", "green", "blue", "white", "black")):
        path = tmp_path / "photos" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (16, 12), colour).save(path)
        sample = FaceSample(
            id=f"{number}.png",
            image=str(path),
            labels={"age": number},
            split="train",
            dataset="utkface",
            licence="non-commercial research",
            consent="not asked",
            provenance={"record": f"utkface, {number}"},
        )
        found.append(sample)
    return found


def test_shards_hold_pictures_records_and_questions(photos, tmp_path):
    def ask(sample):
        return [QA(question="How old?", answer=str(int(sample.labels["age"])), task="age")]

    manifest = write_shards(photos, tmp_path / "shards", per_shard=2, questions=ask)
    assert {name: shard["records"] for name, shard in manifest.shards.items()} == {
        "00000.tar": 2, "00001.tar": 2, "00002.tar": 1,
    }  # fmt: skip
    assert manifest.licences == {"utkface": ["non-commercial research"]}
    assert manifest.vocabularies["utkface-races"]["labels"][2] == "asian"
    again = read_dataset("records", tmp_path / "shards", strict=True)
    assert [sample.model_copy(update={"image": ""}) for sample in again] == [
        sample.model_copy(update={"image": ""}) for sample in photos
    ]
    assert load_image(again[2].image).getpixel((0, 0)) == (0, 0, 255)
    with tarfile.open(tmp_path / "shards/00000.tar") as archive:
        assert archive.getnames()[:3] == ["000000000.png", "000000000.json", "000000000.questions.json"]
        [question] = json.load(archive.extractfile("000000001.questions.json"))
    assert (question["question"], question["answer"]) == ("How old?", "1")


def test_webdataset_reads_the_shards(photos, tmp_path):
    webdataset = pytest.importorskip("webdataset")
    write_shards(photos, tmp_path / "shards", per_shard=3)
    urls = sorted(str(path) for path in (tmp_path / "shards").glob("*.tar"))
    found = list(webdataset.WebDataset(urls, shardshuffle=False))
    assert [FaceSample.model_validate_json(item["json"]).id for item in found] == [s.id for s in photos]
    assert all(item["png"].startswith(b"\x89PNG") for item in found)


def test_the_same_records_make_the_same_bytes(photos, tmp_path):
    for name in ("one", "two"):
        manifest = write_shards(photos, tmp_path / name)
        path = tmp_path / name / "00000.tar"
        assert manifest.shards["00000.tar"]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (tmp_path / "one/00000.tar").read_bytes() == (tmp_path / "two/00000.tar").read_bytes()


def test_a_moved_folder_of_json_lines_finds_its_pictures(photos, tmp_path):
    write_jsonl(photos, tmp_path / "photos/records.jsonl")
    (tmp_path / "photos").rename(tmp_path / "moved")
    assert str(tmp_path) not in (tmp_path / "moved/records.jsonl").read_text()
    dataset = read_dataset("records", tmp_path / "moved", "train")
    assert load_image(dataset[0].image).getpixel((0, 0)) == (255, 0, 0)


def test_malformed_records_are_counted(photos, tmp_path):
    path = tmp_path / "records.jsonl"
    write_jsonl(photos[:1], path)
    good = json.loads(path.read_text())
    bad = ["{", "7", {**good, "version": 2}, {**good, "labels": {"mood": "x"}}, {**good, "colour": "red"}]
    bad += [{name: value for name, value in good.items() if name != "licence"}]
    rows = [row if isinstance(row, str) else json.dumps(row) for row in bad]
    path.write_text(path.read_text() + "\n".join(rows))
    report = SkipReport()
    assert len(list(read_jsonl(path, skipped=report))) == 1
    assert [reason.partition("; known")[0] for reason in report.reasons] == [
        "record is not JSON",
        "record is not an object",
        "record is not of version 1 of the schema",
        "labels: unknown task 'mood'",
        "colour: Extra inputs are not permitted",
        "licence: Field required",
    ]
    assert report.total == 6
    assert "records.jsonl, line 2: record is not JSON" in str(report)
    with pytest.raises(DatasetError, match="record is not JSON") as caught:
        list(read_jsonl(path, strict=True))
    assert "line 2" in caught.value.given
    with pytest.raises(DatasetError, match="cannot read records"):
        list(read_jsonl(tmp_path / "none.jsonl"))


def test_pictures_that_cannot_be_read_are_left_out(photos, tmp_path):
    gone = photos[0].model_copy(update={"image": "https://example.org/1.jpg"})
    report = SkipReport()
    assert write_shards([gone, *photos], tmp_path / "shards", skipped=report).records == 5
    assert report.reasons == {"image not found": 1}
    with pytest.raises(DatasetError, match="image not found"):
        write_shards([gone], tmp_path / "strict", strict=True)
    with pytest.raises(DatasetError, match="holds records already"):
        write_shards(photos, tmp_path / "shards")


def test_broken_shards_and_manifests(photos, tmp_path):
    root = tmp_path / "shards"
    write_shards(photos, root, per_shard=3)
    whole = (root / "00001.tar").read_bytes()
    (root / "00001.tar").write_bytes(whole[:1500])
    dataset = read_dataset("records", root)
    assert len(dataset) == 3
    assert "shard is cut off" in str(dataset.skipped)
    (root / "00001.tar").unlink()
    with pytest.raises(DatasetError, match=r"shard 00001\.tar is missing"):
        read_dataset("records", root)
    manifest = json.loads((root / "manifest.json").read_text())
    (root / "manifest.json").write_text(json.dumps({**manifest, "version": 9}))
    with pytest.raises(ConfigError, match=r"manifest\.json has 1 error"):
        read_dataset("records", root)
    (root / "manifest.json").write_text("no")
    with pytest.raises(DatasetError, match="cannot read a manifest"):
        read_dataset("records", root)


def test_an_interrupted_run_leaves_no_cut_shard(photos, tmp_path):
    def stop():
        yield from photos[:3]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_shards(stop(), tmp_path / "shards", per_shard=2)
    assert sorted(path.name for path in (tmp_path / "shards").iterdir()) == ["00000.tar", "00001.tar.part"]
