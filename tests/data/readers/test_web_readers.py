"""LAION-Face, FaceCaption-15M and LLaVA JSON: joins, references into files, pickles that are refused."""

import json

import pytest
import torch

from facemllm.core.errors import DatasetError
from facemllm.data import read_dataset, stream_dataset
from facemllm.data.readers.laionface import TWENTY_MILLION
from facemllm.data.readers.llava import json_list
from facemllm.processing.references import read_reference


def test_joined_parts_with_the_best_face(layout):
    dataset = read_dataset("laionface", layout("laionface"))
    first, second = dataset[:2]
    assert first.image == "https://example.org/0.jpg"
    assert first.size == (200, 300)
    assert first.labels == {"alt_text": "a text 0"}, "alt text is no caption of a face"
    assert first.provenance["sample_id"] == "1000"
    assert first.box is None
    assert second.box == (5, 6, 55, 66)
    assert second.landmarks.points[2] == (25, 35)


def test_parts_of_laion400m_are_joined_by_their_own_list_of_ids(layout):
    dataset = read_dataset("laionface", layout("laionface, 400m"))
    assert [sample.id for sample in dataset] == ["00000/1001", "00000/1003", "00001/1000"]


def test_parts_can_be_chosen(layout):
    root = layout("laionface, 400m")
    assert [s.id for s in stream_dataset("laionface", root, parts=[1])] == ["00001/1000"]
    assert len(TWENTY_MILLION) == 13


def test_shards_of_img2dataset(layout):
    dataset = read_dataset("laionface", layout("laionface, shards"))
    assert [sample.id for sample in dataset] == [f"00000/{number:09d}" for number in range(3)]
    assert dataset[1].size == (256, 128)
    assert dataset[1].provenance["url"] == "https://example.org/1.jpg"
    assert read_reference(dataset[1].image) == b"picture"


def test_laion_broken(layout, forge):
    root = layout("laionface")
    rows = forge.laion_rows(4)
    rows["URL"][0], rows["URL"][1], rows["SAMPLE_ID"][2] = None, "file:///etc/passwd", None
    rows["SAMPLE_ID"][3] = 1003.0
    forge.parquet(root / "laion_face_part_00001.parquet", rows)
    torch.save({1003: [("box",)]}, root / "sample2detect_1.pth")
    dataset = read_dataset("laionface", root)
    assert len(dataset) == 5
    assert dataset.skipped.reasons == {
        "no address of a picture": 2,
        "no SAMPLE_ID": 1,
        "detections are not of the form (box, points, score)": 1,
    }
    (root / "laion_face_part_00001.parquet").write_bytes(b"PAR1 but no more")
    with pytest.raises(DatasetError, match=r"cannot read laion_face_part_00001\.parquet"):
        read_dataset("laionface", root)


class Evil:
    """What a pickle of an attacker holds: a call on loading."""

    def __reduce__(self):
        return (open, ("owned", "w"))


def test_code_in_a_pth_file_is_never_run(layout, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, file in (("laionface", "sample2detect_0.pth"), ("laionface, 400m", "laion_face_ids.pth")):
        root = layout(name)
        torch.save([Evil()], root / file)
        with pytest.raises(DatasetError, match="as plain data"):
            read_dataset("laionface", root)
        torch.save(7, root / file)
        with pytest.raises(DatasetError, match="as plain data"):
            read_dataset("laionface", root)
    assert not (tmp_path / "owned").exists()


def test_a_shard_that_is_cut_off_is_reported(layout):
    root = layout("laionface, shards")
    shard = root / "00000.tar"
    shard.write_bytes(shard.read_bytes()[:6500])  # within the header of the third picture
    dataset = read_dataset("laionface", root)
    assert len(dataset) == 1
    assert "shard is cut off" in str(dataset.skipped)


def test_facecaption_of_both_releases(layout, forge):
    root = layout("facecaption")
    forge.parquet(
        root / "FaceCaption-v1.parquet",
        {
            "url": ["https://example.org/9.jpg"],
            "face_box": [[1.0, 2.0, 3.0, 4.0]],
            "face_caption": ["A child."],
        },
    )
    old, first, second = read_dataset("facecaption", root, strict=True)
    assert (old.box, old.labels) == ((1, 2, 3, 4), {"caption": "A child."})
    assert first.image == "https://example.org/1.jpg"
    assert first.labels == {"caption": "A woman who smiles.", "alt_text": "holiday"}
    assert first.box == (10, 20, 110, 140)
    assert second.labels == {"caption": "A man with a beard."}


def test_facecaption_broken(layout, forge):
    root = layout("facecaption")
    columns = {
        "caption": [[], ["A face."], ["A face."], ["A face."]],
        "url": ["https://a.org/1.jpg", "UNKNOWN", "https://a.org/1.jpg", "https://a.org/1.jpg"],
        "box": ["[1, 2, 3, 4]", "[1, 2, 3, 4]", "[5, 2, 3, 4]", "x"],
    }
    forge.parquet(root / "FaceCaption-v2.parquet", columns)
    forge.parquet(root / "FaceCaption-v3.parquet", {"url": ["https://a.org/1.jpg"]})
    with pytest.raises(DatasetError, match="lacks columns"):
        read_dataset("facecaption", root)
    (root / "FaceCaption-v3.parquet").unlink()
    stream = stream_dataset("facecaption", root)
    assert list(stream) == []
    assert stream.skipped.reasons == {
        "no caption": 1,
        "no address of a picture": 1,
        "box is not left, top, right, bottom": 2,
    }


def test_llava_turns_without_their_image_token(layout):
    first, second = read_dataset("llava-json", layout("llava-json"), licence="CC BY 4.0")
    assert first.labels["conversation"] == (("How old?", "34"), ("And the mood?", "Happy."))
    assert second.labels["conversation"] == (("What is here?", "A face."),)
    assert first.licence == "CC BY 4.0"
    assert first.provenance["id"] == "a.jpg"


def test_llava_broken(layout, forge):
    root = layout("llava-json")
    chat = forge.conversation
    bad = [
        7,
        {"image": "a.jpg"},
        chat("z.jpg", "<image>\nHow?", "So."),
        chat("a.jpg", "How?", "So."),
        chat("a.jpg", "<image><image> How?", "So."),
        chat("a.jpg", "<image> How?"),
        chat("a.jpg", "<image> How?", ""),
        {**chat("a.jpg", "<image> How?", "So."), "image": ["a.jpg", "b.jpg"]},
    ]
    (root / "val.jsonl").write_text("\n".join([*map(json.dumps, bad), "{not json"]))
    dataset = read_dataset("llava-json", root)
    assert len(dataset) == 2
    assert dataset.skipped.reasons == {
        "no conversations": 2,
        "image not found": 1,
        "number of <image> is not the number of pictures": 2,
        "turns are not pairs of human and gpt": 1,
        "a text must not be empty": 1,
        "not about exactly one picture": 1,
        "line is not JSON": 1,
    }


def test_a_list_is_read_piece_by_piece(tmp_path, monkeypatch):
    items = [{"text": "ab\n] , [" * number, "n": [number, {}]} for number in range(40)]
    path = tmp_path / "list.json"
    path.write_text("\n " + json.dumps(items, indent=2))
    for size in (1, 7, 1000):
        monkeypatch.setattr("facemllm.data.readers.llava._CHUNK", size)
        assert list(json_list(path)) == items
    path.write_text(json.dumps(items)[:-400])
    found = []
    with pytest.raises(ValueError, match=r"."):
        found.extend(json_list(path))
    stream = json_list(path)
    assert [next(stream)["n"][0] for _ in range(30)] == list(range(30)), "what comes before the cut is read"


def test_a_cut_list_is_reported(layout):
    root = layout("llava-json")
    whole = (root / "train.json").read_text()
    (root / "train.json").write_text(whole[:-40])
    dataset = read_dataset("llava-json", root)
    assert len(dataset) == 1
    assert dataset.skipped.reasons == {"JSON breaks off or is malformed; what follows is lost": 1}
