import json
import re

import pytest
from PIL import Image
from typer.testing import CliRunner

from facemllm.cli.main import app
from facemllm.core.errors import DatasetError
from facemllm.data.unknown import unknown_templates


@pytest.fixture
def run():
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.mark.parametrize("format", ["llava", "llama-factory", "ms-swift", "parquet"])
def test_export(run, tmp_path, format):
    root = tmp_path / "utkface"
    root.mkdir()
    for number in range(3):
        Image.new("RGB", (16, 16)).save(root / f"{20 + number}_1_2_2017{number}.png")
    out = tmp_path / "out"
    result = run("export", "-d", "utkface", "--root", root, "-o", out, "-f", format, "--limit", "2")
    assert result.exit_code == 0, result.exception
    assert "3 conversations" in result.stdout
    assert "terms of utkface: non-commercial research" in result.stdout
    assert json.loads((out / "LICENCES.json").read_text())["datasets"] == {"utkface": 3}
    assert any(path.stem == "utkface" for path in out.iterdir())


def test_an_unknown_format_is_refused(run, tmp_path):
    Image.new("RGB", (16, 16)).save(tmp_path / "20_1_2_2017.png")
    result = run("export", "-d", "utkface", "--root", tmp_path, "-o", tmp_path / "out", "-f", "coco")
    assert "unknown format of an export" in str(result.exception)


@pytest.mark.parametrize("limit", ["-1", "0"])
def test_a_limit_below_one_is_refused_before_anything_is_written(run, tmp_path, limit):
    Image.new("RGB", (16, 16)).save(tmp_path / "20_1_2_2017.png")
    out = tmp_path / "out"
    result = run("export", "-d", "utkface", "--root", tmp_path, "-o", out, "-f", "llava", "--limit", limit)
    assert isinstance(result.exception, DatasetError)
    assert result.exception.given == f"--limit {limit}"
    assert not out.exists()


def test_a_general_model_is_not_taught_that_it_knows_nothing_else(run, tmp_path):
    root = tmp_path / "utkface"
    root.mkdir()
    for number in range(40):
        Image.new("RGB", (16, 16)).save(root / f"30_1_2_2017{number}.png")

    def asked(*options):
        where = ("-d", "utkface", "--root", root, "-o", tmp_path / "out")
        assert run("export", *where, "-f", "ms-swift", "-t", "unknown", *options).exit_code == 0
        lines = (tmp_path / "out/utkface.jsonl").read_text().splitlines()
        messages = [json.loads(line)["messages"] for line in lines]
        assert {answer["content"] for _, answer in messages} == {"I don't know."}
        return [question["content"].removeprefix("<image>") for question, _ in messages]

    slots = (re.sub(r"\\{\w+\\}", "[A-Za-z ]+", re.escape(t)) for t in unknown_templates(private=True))
    about_person = re.compile("|".join(slot.replace(r"\ a\ [", r"\ an?\ [") for slot in slots))
    found = asked()
    assert len(found) == 40
    assert all(about_person.fullmatch(question) for question in found)
    assert not all(about_person.fullmatch(question) for question in asked("--general"))
