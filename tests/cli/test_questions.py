"""The data commands as a person runs them, on small datasets in their own layouts."""

import json

import pytest
from PIL import Image
from typer.testing import CliRunner

from facemllm.cli.main import app
from facemllm.core.errors import DatasetError


@pytest.fixture
def run():
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


def photo(path, colour="red"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 30), colour).save(path)


@pytest.fixture
def utkface(tmp_path):
    root = tmp_path / "utkface"
    for number in range(6):
        photo(root / f"{20 + number}_{number % 2}_0_2017{number}.jpg.chip.jpg")
    (root / "61_3_20170109150557335.jpg.chip.jpg").write_bytes(b"x")  # a name as in the published files
    return root


def test_questions_are_written_and_what_is_skipped_is_shown(run, utkface, tmp_path):
    out = tmp_path / "questions.jsonl"
    result = run("questions", "--dataset", "utkface", "--root", utkface, "--out", out)
    assert result.exit_code == 0
    assert "skipped 1 record: 1 x name is not [age]_[gender]_[race]_[date]" in result.stdout
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert f"{len(lines)} questions about 6 faces" in result.stdout
    assert {line["task"] for line in lines} == {"age", "age_bin", "description", "unknown"}
    assert {line["licence"] for line in lines} == {"non-commercial research"}
    again = tmp_path / "again.jsonl"
    run("questions", "--dataset", "utkface", "--root", utkface, "--out", again)
    assert again.read_text() == out.read_text()


def test_strict_stops_at_the_malformed_name(run, utkface, tmp_path):
    result = run("questions", "--dataset", "utkface", "--root", utkface, "--out", tmp_path / "q", "--strict")
    assert isinstance(result.exception, DatasetError)
    assert "61_3_20170109150557335" in result.exception.given
    assert not (tmp_path / "q").exists()


def test_held_out_phrasings(run, utkface, tmp_path):
    asked = {}
    for which in ("train", "held-out"):
        out = tmp_path / f"{which}.jsonl"
        run("questions", "-d", "utkface", "--root", utkface, "-o", out, "--phrasings", which, "-t", "gender")
        asked[which] = {json.loads(line)["question"] for line in out.read_text().splitlines()}
    assert asked["train"]
    assert not asked["train"] & asked["held-out"]
    result = run("questions", "-d", "utkface", "--root", utkface, "-o", tmp_path / "x", "--phrasings", "test")
    assert "cannot choose phrasings" in str(result.exception)


def test_places_are_asked_once_the_size_of_a_picture_is_known(run, tmp_path):
    stem = tmp_path / "pose/Person01/person01100+0+0"
    photo(stem.with_name(stem.name + ".jpg"))
    stem.with_name(stem.name + ".txt").write_text("x.jpg\n\nFace\n20\n15\n20\n10\n")
    out = tmp_path / "places.jsonl"
    result = run("questions", "-d", "pointing04", "--root", tmp_path / "pose", "-o", out, "-t", "location")
    assert result.exit_code == 0
    answers = {
        line["answer"] for line in map(json.loads, out.read_text().splitlines()) if line["form"] == "open"
    }
    assert answers == {"<loc_025><loc_033><loc_075><loc_066>"}


def test_verification_is_asked_about_pairs_and_alone(run, tmp_path):
    root = tmp_path / "lfw"
    for name in ("Ada", "Ben"):
        for number in (1, 2):
            photo(root / name / f"{name}_{number:04d}.jpg")
    (root / "pairsDevTrain.txt").write_text("1\nAda\t1\t2\nAda\t1\tBen\t2\n")
    out = tmp_path / "pairs.jsonl"
    result = run("questions", "-d", "lfw", "--root", root, "-o", out, "-t", "verification")
    assert result.exit_code == 0
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(lines) == 6
    assert all(len(line["images"]) == 2 for line in lines)
    assert [line["answer"] for line in lines if line["form"] == "yes_no"] == ["yes", "no"]
    result = run("questions", "-d", "lfw", "--root", root, "-o", out, "-t", "verification", "-t", "gender")
    assert "beside other tasks" in str(result.exception)


def test_an_empty_split_is_an_error(run, utkface, tmp_path):
    for path in utkface.iterdir():
        path.unlink()
    photo(utkface / "20_0_0_2017.jpg")
    results = [
        run("questions", "-d", "utkface", "--root", utkface, "-o", tmp_path / "q", "--split", split)
        for split in ("train", "val", "test")
    ]
    assert sorted(result.exit_code for result in results) == [0, 1, 1]
    assert any("no usable sample" in str(result.exception) for result in results)


def test_a_task_without_labels_is_an_error_and_one_of_several_is_told(run, utkface, tmp_path):
    out = tmp_path / "questions.jsonl"
    out.write_text("kept\n")
    result = run("questions", "-d", "utkface", "--root", utkface, "-o", out, "-t", "pose", "-t", "expression")
    assert isinstance(result.exception, DatasetError)
    assert "no labels of what is asked" in result.exception.what
    assert "--task pose, expression of 6 faces" in result.exception.given
    assert "labels of age, ethnicity, gender" in result.exception.given
    assert out.read_text() == "kept\n"
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["questions.jsonl"]
    result = run("questions", "-d", "utkface", "--root", utkface, "-o", out, "-t", "pose", "-t", "age")
    assert result.exit_code == 0
    assert "note: no questions about pose: utkface has labels of age, ethnicity, gender" in result.stderr
    assert {json.loads(line)["task"] for line in out.read_text().splitlines()} == {"age"}
